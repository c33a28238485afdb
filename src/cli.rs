//! The command line: arguments to one call.

mod config;
mod serve;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Delivers the e-mail events of Kafka topics by SMTP.
///
/// Configured by environment variables; `postlane config` shows what is in force.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Fetch, send, and commit until SIGTERM or SIGINT
    Serve,
    /// Print the effective configuration, secrets masked
    Config,
}

/// The configuration is wrong (`EX_CONFIG` of sysexits.h).
const EX_CONFIG: u8 = 78;
/// It may go well later (`EX_TEMPFAIL` of sysexits.h): the group is in use by another program.
const EX_TEMPFAIL: u8 = 75;

/// Runs the command that the arguments name.
pub(crate) fn run() -> ExitCode {
    let cli = Cli::parse();
    let config = match load() {
        Ok(config) => config,
        Err(code) => return code,
    };
    match cli.command {
        Command::Serve => serve::run(config),
        Command::Config => config::run(&config),
    }
}

fn load() -> Result<postlane::config::Config, ExitCode> {
    let variables = std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()));
    postlane::config::from_variables(variables).map_err(|error| {
        eprintln!("postlane: the configuration is wrong; nothing was connected.");
        for problem in &error.0 {
            eprintln!("  {problem}");
        }
        ExitCode::from(EX_CONFIG)
    })
}
