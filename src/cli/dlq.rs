//! `postlane dlq`: the dead letters, looked at, handed out and sent back.
//!
//! Owns the arguments that several of these commands have, and what an error means for the exit status.

mod export;
mod list;
mod out;
mod redrive;
mod show;
mod view;

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand, builder::PossibleValuesParser};
use postlane::{
    config::{ConfigError, Kafka},
    dead_letters::{Desk, Error, Filter, Groups, Marks, Place},
    event::Priority,
    failure::{Reason, Stage},
};

use super::{arguments, columns::visible, exit::Exit, misconfigured, runtime, terminal::complain};

/// What to do with the dead letters.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the dead letters, oldest first, with what each died of
    List(list::Arguments),
    /// Show letters whole: why, headers, the event, the mail as it would look now
    Show(show::Arguments),
    /// Send letters back to the lanes that they came from, each once
    Redrive(redrive::Arguments),
    /// Print letters for other tools, one JSON object a line
    Export(export::Arguments),
}

/// Every stage and every reason that a letter of ours can have.
const STAGES: [Stage; 5] = [Stage::Decode, Stage::Template, Stage::Compose, Stage::Send, Stage::Expired];
const REASONS: [Reason; 11] = [
    Reason::Malformed,
    Reason::UnknownTemplate,
    Reason::RenderFailed,
    Reason::BadAddress,
    Reason::BadHeader,
    Reason::Unsupported,
    Reason::TooLarge,
    Reason::Rejected,
    Reason::RetriesExhausted,
    Reason::OutcomeUnknown,
    Reason::Expired,
];

fn words(words: &[&'static str]) -> PossibleValuesParser {
    PossibleValuesParser::new(words.iter().copied())
}

/// Which letters are meant.
#[derive(Debug, Args)]
struct Choice {
    /// Only these letters, by partition and offset in the dead letter topic, such as 0:1742
    #[arg(value_name = "PARTITION:OFFSET")]
    places: Vec<Place>,
    /// Only letters of this reason; may be given several times
    #[arg(long, value_name = "WORD", value_parser = words(&REASONS.map(Reason::as_str)), help_heading = "Filters")]
    reason: Vec<String>,
    /// Only letters that failed at this stage
    #[arg(long, value_name = "WORD", value_parser = words(&STAGES.map(Stage::as_str)), help_heading = "Filters")]
    stage: Vec<String>,
    /// Only mails of this template
    #[arg(long, value_name = "NAME", help_heading = "Filters")]
    template: Vec<String>,
    /// Only mails to recipients of this domain that were not served yet
    #[arg(long, value_name = "DOMAIN", help_heading = "Filters")]
    domain: Vec<String>,
    /// Only letters from this lane
    #[arg(long, value_name = "LANE", value_parser = words(&["high", "normal", "low"]), help_heading = "Filters")]
    lane: Vec<String>,
    /// Only letters from this topic, also one that is no lane any more
    #[arg(long, value_name = "NAME", conflicts_with = "lane", help_heading = "Filters")]
    topic: Vec<String>,
    /// Only the mail with this id
    #[arg(long, value_name = "ID", help_heading = "Filters")]
    id: Vec<String>,
    /// Only letters of then and later: a time such as 2026-01-05T08:00:00Z, or 2h or 3d for so long ago
    #[arg(long, value_name = "TIME", value_parser = moment, help_heading = "Filters")]
    since: Option<DateTime<Utc>>,
    /// Only letters from before then
    #[arg(long, value_name = "TIME", value_parser = moment, help_heading = "Filters")]
    until: Option<DateTime<Utc>>,
}

impl Choice {
    fn filter(&self, kafka: &Kafka) -> Filter {
        let topic = |lane: &String| match lane.as_str() {
            "high" => kafka.topic_high.clone(),
            "normal" => kafka.topic_normal.clone(),
            // there is no fourth
            _ => kafka.topic_low.clone(),
        };
        Filter {
            reasons: self.reason.clone(),
            stages: self.stage.clone(),
            templates: self.template.clone(),
            domains: self.domain.clone(),
            topics: self.lane.iter().map(topic).chain(self.topic.iter().cloned()).collect(),
            ids: self.id.clone(),
            since: self.since,
            until: self.until,
            places: self.places.iter().copied().collect(),
        }
    }
}

/// A time, or how long ago it was.
fn moment(text: &str) -> Result<DateTime<Utc>, &'static str> {
    if let Ok(ago) = arguments::duration(text) {
        return Utc::now()
            .checked_sub_signed(chrono::TimeDelta::from_std(ago).map_err(|_| "too long ago")?)
            .ok_or("too long ago");
    }
    arguments::time(text).map_err(|_| "expected a time such as 2026-01-05T08:00:00Z, or 30m, 2h or 3d for so long ago")
}

pub(super) fn run(command: &Command, kafka: Result<Kafka, ConfigError>) -> Exit {
    let kafka = match kafka {
        Ok(kafka) => kafka,
        Err(error) => return misconfigured(&error),
    };
    let outcome = match command {
        Command::List(arguments) => runtime::block_on(list::run(arguments, &kafka)),
        Command::Show(arguments) => runtime::block_on(show::run(arguments, &kafka)),
        Command::Redrive(arguments) => runtime::block_on(redrive::run(arguments, &kafka)),
        Command::Export(arguments) => runtime::block_on(export::run(arguments, &kafka)),
    };
    match outcome {
        Ok(Ok(exit)) | Err(exit) => exit,
        Ok(Err(error)) => failed(error),
    }
}

/// Says what went wrong.
fn failed(error: Error) -> Exit {
    let exit = match &error {
        Error::Tls(_) => Exit::Config,
        error if error.is_passing() => Exit::Later,
        _ => Exit::Failed,
    };
    complain(format_args!("{:#}", anyhow::Error::new(error)));
    exit
}

/// What was sent back until now; where nobody tells, that is said, and the letters can be looked at all the same.
async fn marks(desk: &Desk) -> Option<Marks> {
    match desk.marks().await {
        Ok(marks) => Some(marks),
        Err(error) => {
            complain(format_args!("which letters were sent back is not known: {:#}", anyhow::Error::new(error)));
            None
        }
    }
}

/// Says that the group that is asked is not that of the letters.
fn tell_other_groups(groups: &Groups, kafka: &Kafka, so: &str) {
    let names: Vec<_> = groups.names().map(visible).collect();
    let letters = match groups.letters() {
        0 => return,
        1 => "1 letter was".to_owned(),
        count => format!("{count} letters were"),
    };
    complain(format_args!(
        "{letters} given up by consumer group {}, and KAFKA_GROUP_ID is {}. What was sent back is remembered for each \
         group by itself: {so}",
        names.join(", "),
        kafka.group_id
    ));
}

/// Names of lanes in front of their topics.
fn lane_of(kafka: &Kafka, topic: &str) -> Option<Priority> {
    let topics = [&kafka.topic_high, &kafka.topic_normal, &kafka.topic_low];
    Priority::ALL.into_iter().find(|lane| topics[lane.index()] == topic)
}
