//! The command line: arguments to one call, and its outcome to an exit status.
//!
//! Each command is a file below `cli`; what several need to show something is beside them.

mod check;
mod config;
mod exit;
mod healthcheck;
mod runtime;
mod serve;
mod table;
mod terminal;
mod topics;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use postlane::config::{Config, ConfigError, from_variables, kafka_from_variables};

use self::exit::Exit;

/// Delivers the e-mail events of Kafka topics by SMTP.
///
/// Configured by environment variables; `postlane config` shows what is in force.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, after_help = exit::HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Fetch, send, and commit until SIGTERM or SIGINT
    Serve,
    /// Try brokers, topics, group, templates and relay, and say what is wrong; sends nothing
    Check(check::Arguments),
    /// Print the effective configuration, secrets masked
    Config,
    /// Ask the service at `HTTP_ADDR` whether it is ready, or lives; exit with 0 or 1
    Healthcheck(healthcheck::Arguments),
    /// Look after the lanes and the dead letter topic
    #[command(subcommand)]
    Topics(topics::Command),
}

/// Runs the command that the arguments name.
pub(crate) fn run() -> ExitCode {
    let exit = match Cli::parse().command {
        Command::Serve => configured(serve::run),
        Command::Check(arguments) => check::run(&arguments, &from_variables(variables())),
        Command::Config => configured(|config| config::run(&config)),
        Command::Healthcheck(arguments) => healthcheck::run(&arguments),
        Command::Topics(command) => topics::run(&command, kafka_from_variables(variables())),
    };
    exit.into()
}

fn variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
}

/// Runs a command that needs every setting.
fn configured(command: impl FnOnce(Config) -> Exit) -> Exit {
    match from_variables(variables()) {
        Ok(config) => command(config),
        Err(error) => misconfigured(&error),
    }
}

/// Names all that is wrong.
fn misconfigured(error: &ConfigError) -> Exit {
    eprintln!("postlane: the configuration is wrong; nothing was connected.");
    for problem in &error.0 {
        eprintln!("  {problem}");
    }
    Exit::Config
}
