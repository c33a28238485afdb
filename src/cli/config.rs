//! `postlane config`: what is in force.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use postlane::config::Config;

pub(super) fn run(config: &Config) -> ExitCode {
    let mut out = io::stdout().lock();
    match config.effective().into_iter().try_for_each(|(name, value)| writeln!(out, "{name}={value}")) {
        Ok(()) => ExitCode::SUCCESS,
        // whoever read it has seen enough
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("postlane: {error}");
            ExitCode::FAILURE
        }
    }
}
