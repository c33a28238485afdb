//! How the program ends: the one place that gives an exit status its meaning.

use std::process::ExitCode;

/// What `--help` says about it.
pub(super) const HELP: &str = "\
Exit status:
  0   done; for serve: ended by one signal
  1   failed; a check found something that does not work; the service is not ready
  2   the command line is wrong
  75  the group is in use by another program: later it may go well
  78  the configuration is wrong";

/// The end of a command. Those of 64 and up are named in `sysexits.h`; 2 is clap's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Exit {
    /// All is well.
    Done = 0,
    /// Something did not work.
    Failed = 1,
    /// It may go well later (`EX_TEMPFAIL`).
    Later = 75,
    /// The configuration is wrong (`EX_CONFIG`).
    Config = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
