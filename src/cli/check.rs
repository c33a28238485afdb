//! `postlane check`: what works, what does not, and what to do.

use clap::Args;
use postlane::{
    check::{self, Options, Outcome, Report},
    config::{Config, ConfigError},
};

use super::{
    exit::Exit,
    runtime,
    table::{self, Line, Tone},
    terminal::{Terminal, print},
};

const EXAMPLES: &str = "\
Examples:
  postlane check                  # a table, with what to do about it
  postlane check --mail-from      # ask the relay for our sender as well
  postlane check --json | jq '.checks[] | select(.result == \"fail\")'";

/// How to check, and how to tell.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
    /// Also ask the relay whether it takes our sender (MAIL FROM, then RSET); no mail is sent
    #[arg(long)]
    mail_from: bool,
}

pub(super) fn run(arguments: &Arguments, config: &Result<Config, ConfigError>) -> Exit {
    let report = match config {
        Ok(config) => {
            let options = Options { mail_from: arguments.mail_from };
            match runtime::block_on(check::run(config, options)) {
                Ok(report) => report,
                Err(exit) => return exit,
            }
        }
        Err(error) => check::misconfigured(error),
    };
    let exit = match report.result {
        _ if report.misconfigured => Exit::Config,
        Outcome::Fail => Exit::Failed,
        Outcome::Skip | Outcome::Ok | Outcome::Warn => Exit::Done,
    };
    let text = if arguments.json {
        let mut text = serde_json::to_string_pretty(&report).expect("a report is texts alone");
        text.push('\n');
        text
    } else {
        show(&report, Terminal::stdout())
    };
    print(&text, exit)
}

fn show(report: &Report, terminal: Terminal) -> String {
    let lines: Vec<Line<'_>> = report
        .checks
        .iter()
        .map(|row| {
            let (result, tone) = match row.outcome {
                Outcome::Ok => ("ok", Tone::Good),
                Outcome::Warn => ("warn", Tone::Doubtful),
                Outcome::Fail => ("FAIL", Tone::Bad),
                Outcome::Skip => ("-", Tone::Quiet),
            };
            Line { result, tone, name: &row.check, text: &row.detail, advice: row.advice.as_deref() }
        })
        .collect();
    let count = |outcome| report.checks.iter().filter(|row| row.outcome == outcome).count();
    let verdict = match (count(Outcome::Fail), count(Outcome::Warn)) {
        (0, 0) => "All is well.".to_owned(),
        (0, warnings) => format!("It works; warnings: {warnings}."),
        (failures, warnings) => format!("Failed: {failures}, warnings: {warnings}."),
    };
    format!("{}\n{verdict}\n", table::render(&lines, terminal))
}
