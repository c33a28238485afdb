//! What `postlane send` is told.

use std::{path::PathBuf, time::Duration};

use chrono::{DateTime, Utc};
use clap::{
    Args, ValueEnum,
    builder::{PossibleValuesParser, TypedValueParser},
};
use postlane::{Priority, config::RateLimit};

use crate::cli::arguments::{duration, rate, time};

const USAGE: &str = "\
postlane send --to <MAILBOX> --template <NAME> [OPTIONS]
       postlane send --file <FILE> [OPTIONS]";

const HELP: &str = "\
Examples:
  # One mail; then the same shown without sending it, and sent past Kafka
  postlane send --to a@example.com --template welcome --data '{\"Name\":\"Ann\"}'
  postlane send --to a@example.com -t welcome --data @ann.json --dry-run
  postlane send --to a@example.com --template welcome --data @ann.json --direct

  # A file: checked, then published; the same command again goes on with it
  postlane send --file events.ndjson --check
  postlane send --file events.ndjson --rejects bad.ndjson
  export-events | postlane send --file - --rate 1000/s

Settings:
  KAFKA_BROKERS, and what it takes to get in, is all that must be set; with
  --direct it is SMTP_HOST, and a sender (--from or MAIL_FROM); with --dry-run
  and --check nothing. TEMPLATES_DIR counts where it is set.

Templates:
  They are looked at with --check, --dry-run and --direct, and wherever
  TEMPLATES_DIR is set. Without it, the service may have others than those
  that are built in, and its word is the last.

A file of events:
  One event of the wire format a line; blank lines count for nothing. A line
  that is refused is told with its number, and the others go on; the exit
  status is 1 then. How far it is stands in FILE.postlane: the same command
  goes on there after Ctrl-C, a crash or an outage. An event without an id gets
  one from the run and its line, so that the mail has the same Message-ID if it
  is published again. What comes by a pipe cannot be gone on with: give such
  events ids of their own. Mails go out in no particular order.";

/// What is sent, and how.
#[derive(Debug, Args)]
#[command(after_help = HELP, override_usage = USAGE)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
pub(in crate::cli) struct Arguments {
    /// Check everything, templates included, and send nothing; connects to nothing
    #[arg(long, conflicts_with_all = ["direct", "dry_run"])]
    pub(super) check: bool,
    /// Show the mail as it would go out, and send nothing; connects to nothing. For a file the same as --check
    #[arg(long, conflicts_with = "direct")]
    pub(super) dry_run: bool,
    /// What --dry-run shows
    #[arg(long, value_enum, requires = "dry_run", conflicts_with = "file", value_name = "WHAT", default_value_t)]
    pub(super) format: Format,
    /// Send by SMTP straight to the relay, without Kafka and without retries
    #[arg(long, conflicts_with = "file")]
    pub(super) direct: bool,
    /// Print what became of it as one JSON object
    #[arg(long)]
    pub(super) json: bool,
    /// Print no receipt, summary or progress: errors alone
    #[arg(long, short, conflicts_with_all = ["json", "dry_run"])]
    pub(super) quiet: bool,
    // last, since their headings hold for all that follows
    #[command(flatten)]
    pub(super) mail: Mail,
    #[command(flatten)]
    pub(super) file: File,
}

/// What `--dry-run` shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum Format {
    /// Header fields and text
    #[default]
    Text,
    /// The HTML part
    Html,
    /// The exact bytes that go over SMTP
    Eml,
    /// The event that is published, in wire format
    Event,
}

/// One mail.
#[derive(Debug, Args)]
#[command(next_help_heading = "One mail")]
pub(super) struct Mail {
    /// Recipient, `a@b` or `Name <a@b>`; may be repeated
    #[arg(long, value_name = "MAILBOX", required_unless_present = "file", conflicts_with = "file")]
    pub(super) to: Vec<String>,
    /// Recipient of a copy; may be repeated
    #[arg(long, value_name = "MAILBOX", conflicts_with = "file")]
    pub(super) cc: Vec<String>,
    /// Recipient whom the others do not see; may be repeated
    #[arg(long, value_name = "MAILBOX", conflicts_with = "file")]
    pub(super) bcc: Vec<String>,
    #[arg(help = "Sender; without it MAIL_FROM")]
    #[arg(long, value_name = "MAILBOX", conflicts_with = "file")]
    pub(super) from: Option<String>,
    /// Where answers go; may be repeated
    #[arg(long, value_name = "MAILBOX", conflicts_with = "file")]
    pub(super) reply_to: Vec<String>,
    /// Subject; without it the template's own
    #[arg(long, value_name = "TEXT", conflicts_with = "file")]
    pub(super) subject: Option<String>,
    /// Template
    #[arg(long, short, value_name = "NAME", required_unless_present = "file", conflicts_with = "file")]
    pub(super) template: Option<String>,
    /// Data of the template: a JSON object, @FILE, or @- for standard input
    #[arg(long, short, value_name = "JSON", conflicts_with = "file")]
    pub(super) data: Option<String>,
    /// Extra header field, `Name: value`; may be repeated
    #[arg(long, value_name = "FIELD", conflicts_with = "file")]
    pub(super) header: Vec<String>,
    /// Lane
    #[arg(long, short, value_name = "LANE", conflicts_with = "file", value_parser = priority(), ignore_case = true)]
    pub(super) priority: Option<Priority>,
    /// Identity of the mail: the same id gives the same Message-ID; without it a random one
    #[arg(long, value_name = "ID", conflicts_with = "file")]
    pub(super) id: Option<String>,
    /// Kind of the event, such as welcome; without it notification
    #[arg(long = "type", value_name = "WORD", conflicts_with = "file")]
    pub(super) kind: Option<String>,
    /// Not to be sent any more after this time: 30m, 2h, 7d
    #[arg(long, value_name = "DURATION", conflicts_with_all = ["file", "expires_at"], value_parser = duration)]
    pub(super) expires_in: Option<Duration>,
    /// Not to be sent any more from this time on, as RFC 3339 has it
    #[arg(long, value_name = "TIME", conflicts_with = "file", value_parser = time)]
    pub(super) expires_at: Option<DateTime<Utc>>,
    #[arg(help = "Attempts in all; without it RETRY_MAX_ATTEMPTS of the service")]
    #[arg(long, value_name = "NUMBER", conflicts_with = "file")]
    pub(super) max_attempts: Option<u32>,
}

/// A file of events.
#[derive(Debug, Args)]
#[command(next_help_heading = "A file of events")]
pub(super) struct File {
    /// Publish the events of this file, one a line; - for standard input
    #[arg(id = "file", long = "file", short, value_name = "FILE")]
    pub(super) path: Option<PathBuf>,
    /// Keep how far it is here, and not in FILE.postlane
    #[arg(long, value_name = "FILE", requires = "file", conflicts_with = "to")]
    pub(super) state: Option<PathBuf>,
    /// Start anew, whatever was sent of the file already
    #[arg(long, requires = "file", conflicts_with = "to")]
    pub(super) restart: bool,
    /// Append lines that are refused to this file, as they are
    #[arg(long, value_name = "FILE", requires = "file", conflicts_with = "to")]
    pub(super) rejects: Option<PathBuf>,
    /// Stop after so many refused lines
    #[arg(long, value_name = "NUMBER", requires = "file", conflicts_with = "to", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) max_errors: u64,
    /// No faster than this: 1000/s, 600/min, 50000/h
    #[arg(long, value_name = "RATE", requires = "file", conflicts_with = "to", value_parser = rate)]
    pub(super) rate: Option<RateLimit>,
    /// Wait for brokers that are away no longer than this
    #[arg(long, value_name = "DURATION", requires = "file", conflicts_with = "to", default_value = "5m", value_parser = duration)]
    pub(super) give_up_after: Duration,
}

/// The lanes by their names, which completions know.
fn priority() -> impl TypedValueParser<Value = Priority> {
    PossibleValuesParser::new(["high", "normal", "low"]).map(|name| match name.to_ascii_lowercase().as_str() {
        "high" => Priority::High,
        "low" => Priority::Low,
        _ => Priority::Normal,
    })
}
