//! `postlane templates list`: which templates there are.

use clap::Args;
use postlane::template::{Origin, Part, Survey};
use serde::Serialize;

use super::{
    super::{
        exit::Exit,
        table::{self, Line, Tone},
        terminal::{Terminal, print},
    },
    Source,
};

/// What to list, and how to tell.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  postlane templates list
  postlane templates list --dir mail/templates --json")]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    source: Source,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Row<'a> {
    name: &'a str,
    parts: Vec<&'static str>,
    /// `built-in`, `folder` or `overridden`.
    from: &'static str,
    /// Whether it has sample data.
    sample: bool,
    /// Whether the service would start with it.
    sound: bool,
}

pub(super) fn run(arguments: &Arguments) -> Exit {
    let settings = match arguments.source.settings() {
        Ok(settings) => settings,
        Err(exit) => return exit,
    };
    let survey = Survey::load(settings.templates_dir.as_deref());
    let rows: Vec<Row<'_>> = survey
        .names()
        .map(|name| Row {
            name,
            parts: survey.parts(name).into_iter().map(Part::name).collect(),
            from: survey.origin(name).as_str(),
            sample: survey.sample_text(name).is_some(),
            sound: survey.problems_of(name).next().is_none(),
        })
        .collect();
    let text = if arguments.json {
        let list = serde_json::json!({ "dir": settings.templates_dir, "templates": rows });
        format!("{list:#}\n")
    } else {
        show(&rows, Terminal::stdout())
    };
    print(&text, Exit::Done)
}

fn show(rows: &[Row<'_>], terminal: Terminal) -> String {
    let texts: Vec<String> = rows
        .iter()
        .map(|row| {
            let parts = if row.parts.is_empty() { "no part".to_owned() } else { row.parts.join(", ") };
            let sample = if row.sample { "with sample data" } else { "no sample data" };
            format!("{parts}; {}; {sample}", from(row.from))
        })
        .collect();
    let lines: Vec<Line<'_>> = rows
        .iter()
        .zip(&texts)
        .map(|(row, text)| Line {
            result: if row.sound { "ok" } else { "FAIL" },
            tone: if row.sound { Tone::Good } else { Tone::Bad },
            name: row.name,
            text,
            advice: (!row.sound).then_some("`postlane templates check` says what is wrong"),
        })
        .collect();
    table::render(&lines, terminal)
}

fn from(origin: &str) -> &str {
    match origin {
        origin if origin == Origin::BuiltIn.as_str() => "built in",
        origin if origin == Origin::Folder.as_str() => "from the folder",
        _ => "built in, overridden by the folder",
    }
}
