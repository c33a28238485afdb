//! The command line: arguments to one call.

mod config;
mod healthcheck;
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
    /// Ask the service at `HTTP_ADDR` whether it is ready; exit with 0 or 1
    Healthcheck,
}

/// The configuration is wrong (`EX_CONFIG` of sysexits.h).
const EX_CONFIG: u8 = 78;
/// It may go well later (`EX_TEMPFAIL` of sysexits.h): the group is in use by another program.
const EX_TEMPFAIL: u8 = 75;

/// Runs the command that the arguments name.
pub(crate) fn run() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Serve => load().map(serve::run),
        Command::Config => load().map(|config| config::run(&config)),
        Command::Healthcheck => Ok(healthcheck::run()),
    };
    outcome.unwrap_or_else(|code| code)
}

/// The environment, as far as it is text.
fn variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
}

fn load() -> Result<postlane::config::Config, ExitCode> {
    postlane::config::from_variables(variables()).map_err(|error| {
        eprintln!("postlane: the configuration is wrong; nothing was connected.");
        for problem in &error.0 {
            eprintln!("  {problem}");
        }
        ExitCode::from(EX_CONFIG)
    })
}
