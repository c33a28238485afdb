//! `postlane config`: what is in force.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use postlane::config::Config;

pub(super) fn run(config: &Config) -> ExitCode {
    let lines: String = config.effective().into_iter().map(|(name, value)| format!("{name}={value}\n")).collect();
    match io::stdout().write_all(lines.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        // whoever read it has seen enough
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("postlane: {error}");
            ExitCode::FAILURE
        }
    }
}
