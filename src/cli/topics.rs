//! `postlane topics`: the lanes and the dead letter topic, made by hand or by a deployment.

mod describe;

use clap::Subcommand;
use postlane::{
    config::{ConfigError, Kafka},
    kafka::{client::Connector, topics},
};

use super::{
    exit::Exit,
    misconfigured, runtime,
    table::{self, Line, Tone},
    terminal::{Terminal, complain, print},
};

/// What to do with the topics.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make the topics that are missing, and say where the others differ from the settings; changes none that exists
    #[command(after_help = "\
Examples:
  postlane topics create
  KAFKA_TOPIC_PARTITIONS=12 postlane topics create")]
    Create,
    /// Show the lanes and the dead letter topic: partitions, records, what waits, and where settings differ
    Describe(describe::Arguments),
}

pub(super) fn run(command: &Command, kafka: Result<Kafka, ConfigError>) -> Exit {
    let kafka = match kafka {
        Ok(kafka) => kafka,
        Err(error) => return misconfigured(&error),
    };
    match command {
        Command::Create => create(&kafka),
        Command::Describe(arguments) => describe::run(arguments, &kafka),
    }
}

/// The brokers were asked as a whole in vain.
fn failed(error: topics::Error) -> Exit {
    let exit = if error.is_passing() { Exit::Later } else { Exit::Failed };
    complain(format_args!("{:#}", anyhow::Error::new(error)));
    exit
}

fn create(kafka: &Kafka) -> Exit {
    let connector = match Connector::new(kafka) {
        Ok(connector) => connector,
        Err(error) => {
            complain(format_args!("{:#}", anyhow::Error::new(error)));
            return Exit::Config;
        }
    };
    let made = match runtime::block_on(topics::ensure(&connector, &topics::Wanted::all(kafka))) {
        Ok(Ok(made)) => made,
        Ok(Err(error)) => return failed(error),
        Err(exit) => return exit,
    };
    let texts: Vec<String> = made.iter().map(topics::Made::to_string).collect();
    let lines: Vec<Line<'_>> = made
        .iter()
        .zip(&texts)
        .map(|(made, text)| {
            let (result, tone) = match made.state {
                topics::State::Created => ("created", Tone::Good),
                topics::State::Exists => ("exists", Tone::Good),
                topics::State::Differs(_) => ("differs", Tone::Doubtful),
                topics::State::Refused(_) => ("FAILED", Tone::Bad),
            };
            Line { result, tone, name: &made.topic, text, advice: None }
        })
        .collect();
    let failed = made.iter().any(|made| matches!(made.state, topics::State::Refused(_)));
    let exit = if failed { Exit::Failed } else { Exit::Done };
    print(&table::render(&lines, Terminal::stdout()), exit)
}
