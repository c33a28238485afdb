//! `postlane dlq list`: one line for a letter.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BinaryHeap},
    io::{self, IsTerminal as _},
    mem,
};

use chrono::{DateTime, Utc};
use clap::Args;
use postlane::{
    config::Kafka,
    dead_letters::{Desk, Error, Found, Groups, Letter, Place},
};

use super::{
    Choice, marks,
    out::{Closed, Out},
    tell_other_groups,
    view::{COLUMNS, View},
};
use crate::cli::{
    columns::{Cell, Layout},
    exit::Exit,
    terminal::{Terminal, complain},
};

/// Rows that decide how wide the columns are.
const SAMPLE: usize = 500;
/// The newest letters that are shown where nobody says how many.
const NEWEST: usize = 50;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  postlane dlq list --newest --limit 20
  postlane dlq list --reason rejected --domain example.com --since 2h
  # how many of each template are waiting, with jq
  postlane dlq list --waiting --json | jq -r .template | sort | uniq -c")]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    choice: Choice,
    /// Only letters that were not sent back yet
    #[arg(long, help_heading = "Filters")]
    waiting: bool,
    /// At most so many
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// The newest first; 50 of them unless --limit says otherwise
    #[arg(long)]
    newest: bool,
    /// Show addresses, not only their domains
    #[arg(long)]
    show_addresses: bool,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(arguments: &Arguments, kafka: &Kafka) -> Result<Exit, Error> {
    let desk = Desk::open(kafka).await?;
    let filter = arguments.choice.filter(kafka);
    let marks = marks(&desk).await;
    if marks.is_none() && arguments.waiting {
        return Ok(Exit::Failed);
    }
    let view = View { marks: marks.as_ref(), lanes: desk.lanes(), show_addresses: arguments.show_addresses };
    let mut list = List::new(view, arguments.json);
    let mut newest = arguments.newest.then(|| Newest::new(arguments.limit.unwrap_or(NEWEST)));
    let mut scan = desk.scan_for(&filter).await?;
    let (mut seen, mut others) = (0_usize, Groups::default());
    while arguments.newest || arguments.limit.is_none_or(|limit| list.count < limit) {
        let Some(found) = scan.next().await? else { break };
        let letter = match found {
            Found::Letter(letter) => letter,
            Found::Undecodable { partition, from, to, why } => {
                complain(format_args!("passing over {partition}:{from} to {partition}:{}: {why}", to - 1));
                continue;
            }
        };
        seen += 1;
        let is_back = marks.as_ref().is_some_and(|marks| marks.contains(letter.place()));
        if !filter.takes(&letter) || (arguments.waiting && is_back) {
            continue;
        }
        if let Some(group) = desk.lanes().other_group(&letter).filter(|_| !is_back) {
            others.add(group);
        }
        let row = list.render(&letter);
        if let Some(newest) = &mut newest {
            newest.add(&letter, row);
        } else if let Err(Closed(exit)) = list.add(row) {
            return Ok(exit);
        }
    }
    for row in newest.map(Newest::sorted).unwrap_or_default() {
        if let Err(Closed(exit)) = list.add(row) {
            return Ok(exit);
        }
    }
    let exit = list.end(seen).err().map_or(Exit::Done, |Closed(exit)| exit);
    tell_other_groups(&others, kafka, "which of these were is not known here");
    Ok(exit)
}

/// One letter, ready to be shown.
enum Shown {
    Json(String),
    Row(Vec<Cell>),
}

struct Row {
    shown: Shown,
    reason: String,
    is_back: bool,
}

struct List<'a> {
    view: View<'a>,
    json: bool,
    out: Out,
    /// Rows that wait until it is known how wide the columns are.
    sample: Vec<Vec<Cell>>,
    layout: Option<Layout>,
    count: usize,
    back: usize,
    reasons: BTreeMap<String, usize>,
}

impl<'a> List<'a> {
    fn new(view: View<'a>, json: bool) -> Self {
        Self {
            view,
            json,
            out: Out::new(),
            sample: Vec::new(),
            layout: None,
            count: 0,
            back: 0,
            reasons: BTreeMap::new(),
        }
    }

    fn render(&self, letter: &Letter) -> Row {
        let shown = if self.json {
            Shown::Json(format!("{}\n", self.view.json(letter)))
        } else {
            Shown::Row(self.view.cells(letter))
        };
        Row {
            shown,
            reason: letter.reason.clone().unwrap_or_else(|| "not a letter of postlane".to_owned()),
            is_back: self.view.marks.is_some_and(|marks| marks.contains(letter.place())),
        }
    }

    fn add(&mut self, row: Row) -> Result<(), Closed> {
        self.count += 1;
        self.back += usize::from(row.is_back);
        // whoever has written foreign records into the topic decides about their words
        if self.reasons.len() < 100 || self.reasons.contains_key(&row.reason) {
            *self.reasons.entry(row.reason).or_default() += 1;
        }
        match (row.shown, &self.layout) {
            (Shown::Json(line), _) => self.out.put(&line),
            (Shown::Row(cells), Some(layout)) => self.out.put(&layout.row(&cells)),
            (Shown::Row(cells), None) => {
                self.sample.push(cells);
                if self.sample.len() < SAMPLE { Ok(()) } else { self.lay_out() }
            }
        }
    }

    fn lay_out(&mut self) -> Result<(), Closed> {
        let rows = mem::take(&mut self.sample);
        let layout = Layout::new(&COLUMNS, &rows, Terminal::stdout());
        self.out.put(&layout.header())?;
        for row in &rows {
            self.out.put(&layout.row(row))?;
        }
        self.layout = Some(layout);
        Ok(())
    }

    /// Counts by reason where a person reads.
    fn end(&mut self, seen: usize) -> Result<(), Closed> {
        if !self.json && self.layout.is_none() && !self.sample.is_empty() {
            self.lay_out()?;
        }
        if !self.json && io::stdout().is_terminal() {
            let text = self.summary(seen);
            self.out.put(&text)?;
        } else if !self.json && self.count == 0 {
            complain(self.summary(seen).trim_end());
        }
        self.out.end()
    }

    fn summary(&self, seen: usize) -> String {
        if self.count == 0 {
            return if seen == 0 {
                "no dead letters\n".to_owned()
            } else {
                format!("none of the {seen} letters that were looked at is meant\n")
            };
        }
        let mut reasons: Vec<_> = self.reasons.iter().collect();
        reasons.sort_by_key(|(reason, count)| (std::cmp::Reverse(**count), (*reason).clone()));
        let reasons: Vec<_> =
            reasons.iter().map(|(reason, count)| format!("{} {count}", crate::cli::columns::visible(reason))).collect();
        let noun = if self.count == 1 { "letter" } else { "letters" };
        let back = match self.back {
            0 => String::new(),
            back => format!("; sent back {back}"),
        };
        format!("\n{} {noun}: {}{back}.\n", self.count, reasons.join(", "))
    }
}

/// The newest of all letters, never more than so many.
struct Newest {
    limit: usize,
    heap: BinaryHeap<Aged>,
}

/// The oldest is the greatest, so that it leaves the heap first.
struct Aged {
    age: (DateTime<Utc>, Place),
    row: Row,
}

impl Newest {
    fn new(limit: usize) -> Self {
        Self { limit, heap: BinaryHeap::new() }
    }

    fn add(&mut self, letter: &Letter, row: Row) {
        self.heap.push(Aged { age: (letter.died(), letter.place()), row });
        if self.heap.len() > self.limit {
            self.heap.pop();
        }
    }

    fn sorted(self) -> Vec<Row> {
        self.heap.into_sorted_vec().into_iter().map(|aged| aged.row).collect()
    }
}

impl Ord for Aged {
    fn cmp(&self, other: &Self) -> Ordering {
        other.age.cmp(&self.age)
    }
}

impl PartialOrd for Aged {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Aged {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Aged {}
