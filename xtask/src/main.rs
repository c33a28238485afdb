//! The project's chores: `cargo xtask <command>`.
//!
//! Owns the list of commands; each is one module beside this one, a function that takes its arguments.

mod bench;
mod cargo;
mod container;
mod demo;
mod interrupt;
mod kafka;
mod metrics;
mod progress;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The project's chores.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the whole way of a mail: a real broker, a mail server, postlane between them
    Demo(demo::Arguments),
    /// Run all tests on a real broker
    Test(test::Arguments),
    /// Measure mails a second beside smtp-source, the memory that a backlog takes, or what idling takes
    Bench(bench::Arguments),
    /// Build the image and deliver a mail from a container of it
    Container(container::Arguments),
    /// Start a Kafka broker in the foreground, until Ctrl-C
    Kafka(kafka::Arguments),
    /// Record what /metrics says of the service in trouble, for the tests of the alert rules
    Metrics,
}

#[tokio::main]
async fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Demo(arguments) => demo::run(arguments).await,
        Command::Test(arguments) => test::run(arguments).await,
        Command::Bench(arguments) => bench::run(arguments).await.map(|()| ExitCode::SUCCESS),
        Command::Container(arguments) => container::run(arguments).await,
        Command::Kafka(arguments) => kafka::run(arguments).await.map(|()| ExitCode::SUCCESS),
        Command::Metrics => metrics::run().await,
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
