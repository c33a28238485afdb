//! `postlane dlq export`: letters for other tools.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::PathBuf,
};

use clap::Args;
use postlane::{
    config::Kafka,
    dead_letters::{Desk, Error, Found, Groups, event_lines, exported},
};

use super::{
    Choice, marks,
    out::{Closed, Out},
    tell_other_groups,
};
use crate::cli::{exit::Exit, terminal::complain};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  postlane dlq export --reason rejected --output rejected.ndjson
  # put the events right by hand, and send them anew
  postlane dlq export --events --reason bad-address > events.ndjson
  postlane send --file events.ndjson")]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    choice: Choice,
    /// Only letters that were not sent back yet
    #[arg(long, help_heading = "Filters")]
    waiting: bool,
    /// At most so many
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Only the events, as `postlane send --file` takes them: for the recipients that are still to be served
    #[arg(long)]
    events: bool,
    /// Write to this file, which must not be there yet
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) async fn run(arguments: &Arguments, kafka: &Kafka) -> Result<Exit, Error> {
    let desk = Desk::open(kafka).await?;
    let filter = arguments.choice.filter(kafka);
    let marks = if arguments.waiting {
        match marks(&desk).await {
            Some(marks) => Some(marks),
            None => return Ok(Exit::Failed),
        }
    } else {
        None
    };
    let mut to = match &arguments.output {
        None => Destination::Stdout(Out::new()),
        Some(path) => match File::create_new(path) {
            Ok(file) => Destination::File(BufWriter::new(file)),
            Err(error) => {
                complain(format_args!("cannot make {}: {error}", path.display()));
                return Ok(Exit::Failed);
            }
        },
    };
    let mut scan = desk.scan_for(&filter).await?;
    let (mut count, mut without, mut others) = (0_usize, 0_usize, Groups::default());
    while arguments.limit.is_none_or(|limit| count < limit) {
        let Some(found) = scan.next().await? else { break };
        let letter = match found {
            Found::Letter(letter) => letter,
            Found::Undecodable { partition, from, to, why } => {
                complain(format_args!("passing over {partition}:{from} to {partition}:{}: {why}", to - 1));
                continue;
            }
        };
        if !filter.takes(&letter) || marks.as_ref().is_some_and(|marks| marks.contains(letter.place())) {
            continue;
        }
        let lines = if arguments.events { event_lines(&letter) } else { vec![exported(&letter).to_string()] };
        if lines.is_empty() {
            complain(format_args!("{} holds no event that could be sent", letter.place()));
            without += 1;
            continue;
        }
        count += 1;
        if let Some(group) = desk.lanes().other_group(&letter).filter(|_| arguments.waiting) {
            others.add(group);
        }
        for line in lines {
            if let Err(Closed(exit)) = to.put(&format!("{line}\n")) {
                return Ok(exit);
            }
        }
    }
    if let Err(Closed(exit)) = to.end() {
        return Ok(exit);
    }
    tell_other_groups(&others, kafka, "which of these were is not known here");
    if let Some(path) = &arguments.output {
        let what = if count == 1 { "1 letter is".to_owned() } else { format!("{count} letters are") };
        complain(format_args!("{what} in {}", path.display()));
    }
    Ok(if without > 0 { Exit::Failed } else { Exit::Done })
}

enum Destination {
    Stdout(Out),
    File(BufWriter<File>),
}

impl Destination {
    fn put(&mut self, line: &str) -> Result<(), Closed> {
        match self {
            Self::Stdout(out) => out.put(line),
            Self::File(file) => file.write_all(line.as_bytes()).map_err(|error| unwritten(&error)),
        }
    }

    fn end(&mut self) -> Result<(), Closed> {
        match self {
            Self::Stdout(out) => out.end(),
            Self::File(file) => {
                file.flush().and_then(|()| file.get_ref().sync_all()).map_err(|error| unwritten(&error))
            }
        }
    }
}

fn unwritten(error: &io::Error) -> Closed {
    complain(format_args!("the file cannot be written: {error}"));
    Closed(Exit::Failed)
}
