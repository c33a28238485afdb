//! `postlane dlq redrive`: letters back to their lanes.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use clap::Args;
use postlane::{
    config::{Kafka, RateLimit},
    dead_letters::{Desk, Error, Letter, Options, Plan, Progress, Redrive, Skip, Stop, Summary, Target},
};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{
    Choice, lane_of,
    out::{Closed, Out},
    tell_other_groups,
    view::time,
};
use crate::cli::{
    arguments,
    columns::{Cell, Column, Layout, visible},
    exit::Exit,
    table::Tone,
    terminal::{Terminal, complain},
};

/// Rows that decide how wide the columns are.
const SAMPLE: usize = 500;

/// The columns of `--dry-run`.
const COLUMNS: [Column; 6] = [
    Column::whole("PLACE", 0),
    Column::whole("FAILED AT (UTC)", 3),
    Column::text("REASON", 16, 2),
    Column::text("TEMPLATE", 12, 1),
    Column::text("GOES TO", 12, 0),
    Column::text("NOTE", 30, 0),
];

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  # what would go where
  postlane dlq redrive --template welcome --dry-run
  postlane dlq redrive --template welcome
  postlane dlq redrive 0:1742 2:88
  postlane dlq redrive --all --rate 50/s --yes")]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    choice: Choice,
    /// All letters that were not sent back yet
    #[arg(long, conflicts_with = "places")]
    all: bool,
    /// Say what would go where, and send nothing
    #[arg(long)]
    dry_run: bool,
    /// At most so many, the oldest first
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// At most so fast, such as 50/s or 600/min
    #[arg(long, value_name = "RATE", value_parser = arguments::rate)]
    rate: Option<RateLimit>,
    /// Also letters that were sent back already
    #[arg(long)]
    again: bool,
    /// Also letters that another consumer group gave up: by its name they may have been sent back already
    #[arg(long)]
    any_group: bool,
    /// Do not ask; needed where nobody can be asked
    #[arg(long, short)]
    yes: bool,
    /// Print JSON: a line for each letter with --dry-run, one for the outcome otherwise
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(arguments: &Arguments, kafka: &Kafka) -> Result<Exit, Error> {
    let filter = arguments.choice.filter(kafka);
    if filter.is_empty() && !arguments.all {
        complain("which letters? Name them, give a filter, or say --all (postlane dlq redrive --help)");
        return Ok(Exit::Usage);
    }
    if !arguments.dry_run && !arguments.yes && !io::stdin().is_terminal() {
        complain("nobody can be asked here: add --yes to send, or --dry-run to look");
        return Ok(Exit::Usage);
    }
    let options = Options {
        filter,
        limit: arguments.limit,
        rate: arguments.rate.as_ref().map(RateLimit::per_second),
        again: arguments.again,
        any_group: arguments.any_group,
    };
    let mut redrive = Redrive::open(Desk::open(kafka).await?, options).await?;
    let mut table = Table::new(arguments, kafka);
    let plan = redrive.plan(|letter, verdict| table.add(letter, verdict)).await?;
    if let Err(Closed(exit)) = table.end() {
        return Ok(exit);
    }
    for place in &plan.missing {
        complain(format_args!("there is no letter at {place}"));
    }
    // who names a letter wants that one
    let named = !arguments.choice.places.is_empty();
    let refused = plan.skipped.keys().any(|word| *word != Skip::SentBack.word());
    let stays = plan.other_groups.letters() > 0 || plan.skipped.contains_key("no-topic");
    let incomplete = if stays || (named && (refused || !plan.missing.is_empty())) { Exit::Failed } else { Exit::Done };
    if !(arguments.json && arguments.dry_run) {
        tell(&plan, arguments);
        let so = "these may have gone already and stay. Set KAFKA_GROUP_ID to theirs, or say --any-group";
        tell_other_groups(&plan.other_groups, kafka, so);
    }
    if !plan.fits {
        complain(
            "not all of it could be remembered: there are too many letters between those that are meant. Choose fewer with \
             --limit or --until, the oldest first, or send the others back as well",
        );
        return Ok(Exit::Failed);
    }
    if arguments.dry_run || plan.chosen == 0 {
        if arguments.json && !arguments.dry_run {
            return Ok(report(&Summary::default(), &plan, &Stop::End).map_or_else(|Closed(exit)| exit, |()| incomplete));
        }
        return Ok(incomplete);
    }
    if !arguments.yes && !confirmed(plan.chosen) {
        complain("nothing was sent");
        return Ok(Exit::Done);
    }
    let stop = CancellationToken::new();
    let signals = stop_on_signals(&stop);
    let mut bar = Bar::new();
    let (summary, end) = redrive.send(&stop, |progress| bar.show(progress)).await;
    bar.clear();
    let exit = outcome(&summary, &plan, end, signals.as_ref().ok().and_then(|it| it.get().copied()), arguments.json);
    Ok(if exit == Exit::Done { incomplete } else { exit })
}

type Caught = std::sync::Arc<std::sync::OnceLock<Exit>>;

/// The first signal stops; the second one ends the program at once.
fn stop_on_signals(stop: &CancellationToken) -> io::Result<Caught> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let (stop, caught) = (stop.clone(), Caught::default());
    let kept = Caught::clone(&caught);
    tokio::spawn(async move {
        let exit = tokio::select! {
            _ = interrupt.recv() => Exit::Interrupted,
            _ = terminate.recv() => Exit::Terminated,
        };
        let _ = kept.set(exit);
        stop.cancel();
        complain("stopping: what is on its way is still finished");
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        std::process::exit(i32::from(exit as u8));
    });
    Ok(caught)
}

/// What would be done.
fn tell(plan: &Plan, arguments: &Arguments) {
    let mut lines = Vec::new();
    let letters = |count: usize| if count == 1 { "1 letter".to_owned() } else { format!("{count} letters") };
    match plan.chosen {
        0 => lines.push("nothing to send back".to_owned()),
        count => {
            let targets: Vec<String> = plan.targets.iter().map(|(topic, count)| format!("{topic} {count}")).collect();
            let verb = if arguments.dry_run { "would go" } else { "to send" };
            lines.push(format!("{verb}: {} to {}", letters(count), targets.join(", ")));
        }
    }
    // of those whose group is another one more is said
    let differs = |word: &str| word == "group-differs";
    for (word, count) in plan.skipped.iter().filter(|(word, _)| !differs(word)) {
        lines.push(format!("not sent: {}, {}", letters(*count), Skip::of_several(word)));
    }
    if plan.undecodable > 0 {
        lines.push(format!("passed over: {} offsets of which nothing can be read", plan.undecodable));
    }
    for line in lines {
        complain(line);
    }
}

fn confirmed(count: usize) -> bool {
    let _ = write!(io::stderr(), "Send {count} back? [y/N] ");
    let _ = io::stderr().flush();
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).is_ok() && matches!(answer.trim(), "y" | "Y" | "yes" | "Yes")
}

/// What was done, and how the program ends.
fn outcome(summary: &Summary, plan: &Plan, end: Stop, caught: Option<Exit>, json: bool) -> Exit {
    if json {
        // where that cannot be written, it was said; what was done is told below, and the status is that of the work
        let _ = report(summary, plan, &end);
    }
    let targets: Vec<String> = summary.targets.iter().map(|(topic, count)| format!("{topic} {count}")).collect();
    let to = if targets.is_empty() { String::new() } else { format!(": {}", targets.join(", ")) };
    complain(format_args!("sent back {} of {}{to}", summary.sent, plan.chosen));
    for (place, why) in &summary.refused {
        complain(format_args!("{place} was refused by the brokers: {}", visible(why)));
    }
    if summary.refusals > summary.refused.len() {
        complain(format_args!("and {} more were refused", summary.refusals - summary.refused.len()));
    }
    if summary.unknown > 0 {
        complain(format_args!(
            "of {} nobody knows whether they went: the brokers gave no answer. They are not remembered as sent",
            summary.unknown
        ));
    }
    if summary.forgotten > 0 {
        complain(format_args!(
            "{} were sent and could not be remembered: the next redrive sends them again",
            summary.forgotten
        ));
    }
    match end {
        _ if summary.unknown > 0 || summary.forgotten > 0 => {
            if let Stop::Error(error) = end {
                complain(format_args!("{:#}", anyhow::Error::new(error)));
            }
            Exit::Unknown
        }
        Stop::Interrupted => caught.unwrap_or(Exit::Interrupted),
        Stop::End if summary.refusals > 0 => Exit::Failed,
        Stop::End => Exit::Done,
        Stop::Full => {
            complain("no more can be remembered: there are too many letters between those that were sent");
            Exit::Failed
        }
        Stop::Brokers(why) => {
            complain(format_args!("the brokers do not take the rest now: {}", visible(&why)));
            Exit::Later
        }
        Stop::Error(error) => super::failed(error),
    }
}

/// The same for programs.
fn report(summary: &Summary, plan: &Plan, end: &Stop) -> Result<(), Closed> {
    let report = serde_json::json!({
        "chosen": plan.chosen,
        "sent": summary.sent,
        "targets": summary.targets,
        "skipped": plan.skipped,
        "refused": summary.refusals,
        "refusals": summary.refused.iter().map(|(place, why)| serde_json::json!({"place": place.to_string(), "why": why})).collect::<Vec<_>>(),
        "unknown": summary.unknown,
        "not_remembered": summary.forgotten,
        "end": match end {
            Stop::End => "end",
            Stop::Interrupted => "interrupted",
            Stop::Full => "full",
            Stop::Brokers(_) => "brokers",
            Stop::Error(_) => "error",
        },
    });
    let mut out = Out::new();
    out.put(&format!("{report}\n"))?;
    out.end()
}

/// The table of `--dry-run`.
struct Table<'a> {
    arguments: &'a Arguments,
    kafka: &'a Kafka,
    out: Out,
    rows: Vec<Vec<Cell>>,
    layout: Option<Layout>,
    closed: Result<(), Closed>,
}

impl<'a> Table<'a> {
    fn new(arguments: &'a Arguments, kafka: &'a Kafka) -> Self {
        Self { arguments, kafka, out: Out::new(), rows: Vec::new(), layout: None, closed: Ok(()) }
    }

    fn add(&mut self, letter: &Letter, verdict: &Result<Target, Skip>) {
        if !self.arguments.dry_run || self.closed.is_err() {
            return;
        }
        let add = || -> Result<(), Closed> {
            if self.arguments.json {
                let line = serde_json::json!({
                    "place": letter.place().to_string(),
                    "reason": letter.reason,
                    "template": letter.template(),
                    "id": letter.id(),
                    "topic": verdict.as_ref().ok().map(|target| &*target.topic),
                    "skip": verdict.as_ref().err().map(Skip::word),
                    "why": verdict.as_ref().err().map(ToString::to_string),
                });
                return self.out.put(&format!("{line}\n"));
            }
            // where nobody has named it, it is no news
            if *verdict == Err(Skip::SentBack) && self.arguments.choice.places.is_empty() {
                return Ok(());
            }
            let row = self.row(letter, verdict);
            if let Some(layout) = &self.layout {
                return self.out.put(&layout.row(&row));
            }
            self.rows.push(row);
            if self.rows.len() < SAMPLE { Ok(()) } else { self.lay_out() }
        };
        let mut add = add;
        self.closed = add();
    }

    fn row(&self, letter: &Letter, verdict: &Result<Target, Skip>) -> Vec<Cell> {
        let (goes, note, tone) = match verdict {
            Ok(target) => {
                let lane = lane_of(self.kafka, &target.topic).map(|lane| format!("{lane} lane"));
                let note = match target.instead_of.as_deref() {
                    None => lane.unwrap_or_default(),
                    Some("") => format!("{}, by its priority", lane.unwrap_or_default()),
                    Some(topic) => format!("{}, by its priority: {topic} is no lane", lane.unwrap_or_default()),
                };
                (target.topic.to_string(), note, None)
            }
            Err(skip) => ("-".to_owned(), skip.to_string(), Some(Tone::Quiet)),
        };
        let cells = [
            letter.place().to_string(),
            time(letter.died()),
            letter.reason.clone().unwrap_or_default(),
            letter.template().unwrap_or_default(),
            goes,
            note,
        ];
        cells.into_iter().map(Cell::new).map(|cell| tone.map_or(cell.clone(), |tone| cell.toned(tone))).collect()
    }

    fn lay_out(&mut self) -> Result<(), Closed> {
        let rows = std::mem::take(&mut self.rows);
        let layout = Layout::new(&COLUMNS, &rows, Terminal::stdout());
        self.out.put(&layout.header())?;
        for row in &rows {
            self.out.put(&layout.row(row))?;
        }
        self.layout = Some(layout);
        Ok(())
    }

    fn end(&mut self) -> Result<(), Closed> {
        self.closed?;
        if !self.rows.is_empty() {
            self.lay_out()?;
        }
        self.out.end()
    }
}

/// How far it is, on one line of a terminal.
struct Bar {
    shown: bool,
    is_terminal: bool,
}

impl Bar {
    fn new() -> Self {
        Self { shown: false, is_terminal: io::stderr().is_terminal() }
    }

    fn show(&mut self, progress: Progress) {
        if self.is_terminal {
            self.shown = true;
            let _ = write!(io::stderr(), "\rpostlane: sent back {} of {} ", progress.sent, progress.of);
            let _ = io::stderr().flush();
        }
    }

    fn clear(&mut self) {
        if self.shown {
            let _ = write!(io::stderr(), "\r{:40}\r", "");
        }
    }
}
