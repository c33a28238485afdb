//! The project's chores: `cargo xtask <command>`.
//!
//! Owns the list of commands; each is one module beside this one, a function that takes its arguments.

mod bench;
mod kafka;

use anyhow::Result;
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
    /// Measure mails a second beside smtp-source, or the memory that a backlog takes
    Bench(bench::Arguments),
    /// Start a Kafka broker in the foreground, until Ctrl-C
    Kafka(kafka::Arguments),
}

#[tokio::main]
async fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Bench(arguments) => bench::run(arguments).await,
        Command::Kafka(arguments) => kafka::run(arguments).await,
    }
}
