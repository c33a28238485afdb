//! How the program ends: the one place that gives an exit status its meaning.

use std::{fmt::Write as _, process::ExitCode};

/// The end of a command. Those from 64 to 78 are named in `sysexits.h`; above 128 stands the signal that ended it, as shells
/// count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Exit {
    /// All is well.
    Done = 0,
    /// Something did not work, and will not by doing it again.
    Failed = 1,
    /// The arguments are wrong. clap ends with it as well.
    Usage = 2,
    /// It may go well later (`EX_TEMPFAIL`); it was not done.
    Later = 75,
    /// Nobody knows whether it was done (`EX_PROTOCOL`).
    Unknown = 76,
    /// The configuration is wrong (`EX_CONFIG`).
    Config = 78,
    /// SIGINT cut it short.
    Interrupted = 130,
    /// SIGTERM cut it short.
    Terminated = 143,
}

impl Exit {
    /// Every status, in the order in which they are explained.
    pub(super) const ALL: [Self; 8] = [
        Self::Done,
        Self::Failed,
        Self::Usage,
        Self::Later,
        Self::Unknown,
        Self::Config,
        Self::Interrupted,
        Self::Terminated,
    ];

    /// What it means for whoever called.
    pub(super) fn meaning(self) -> &'static str {
        match self {
            Self::Done => "done; serve was ended by one signal",
            Self::Failed => "it failed, or for some: a check, a line refused, not ready",
            Self::Usage => "the command line is wrong; nothing was done",
            Self::Later => "not done, later it may go well: brokers or relay away, file in use",
            Self::Unknown => "nobody knows whether it was done: an answer never came",
            Self::Config => "the configuration is wrong; nothing was connected",
            Self::Interrupted => "cut short by SIGINT (Ctrl-C); what was begun is told",
            Self::Terminated => "cut short by SIGTERM; what was begun is told",
        }
    }

    /// All of them as `--help` and the manual page have them.
    pub(super) fn help() -> String {
        Self::ALL.iter().fold("Exit status:".to_owned(), |mut text, exit| {
            let _ = write!(text, "\n  {:<5}{}", *exit as u8, exit.meaning());
            text
        })
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_in_the_help_and_in_the_documents() {
        let (help, page) = (Exit::help(), include_str!("../../docs/command-line.md"));
        for exit in Exit::ALL {
            let number = exit as u8;
            assert!(help.lines().any(|line| line.trim_start().starts_with(&format!("{number} "))), "{number}");
            assert!(page.contains(&format!("| {number} | ")), "{number}");
        }
        assert!(help.lines().all(|line| line.len() <= 80), "{help}");
    }
}
