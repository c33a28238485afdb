//! `postlane templates check`: all that is wrong, with file and line, in one go.

use clap::Args;
use postlane::template::{Part, Survey};
use serde_json::json;

use super::{
    super::{
        exit::Exit,
        table::{self, Line, Tone},
        terminal::{Terminal, print},
    },
    Source,
    findings::{self, Finding, Severity},
    unknown,
};

/// What to check, and how to tell.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  postlane templates check
  # in an application's CI: warnings fail as well
  postlane templates check --strict --dir mail/templates
  postlane templates check welcome --json | jq -r '.findings[].detail'")]
pub(in crate::cli) struct Arguments {
    /// Only these templates, with the layouts that they use
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    source: Source,
    /// Let warnings fail as well
    #[arg(long)]
    strict: bool,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Exit {
    let settings = match arguments.source.settings() {
        Ok(settings) => settings,
        Err(exit) => return exit,
    };
    let survey = Survey::load(settings.templates_dir.as_deref());
    if let Some(name) = arguments.names.iter().find(|name| !survey.contains(name)) {
        return unknown(&survey, name);
    }
    let names: Vec<&str> = survey
        .names()
        .filter(|name| arguments.names.is_empty() || arguments.names.iter().any(|wanted| wanted == name))
        .collect();
    let found = findings::all(&survey, &settings, &arguments.names);
    let worst = found.iter().map(|finding| finding.severity).max();
    let exit = match worst {
        Some(Severity::Fail) => Exit::Failed,
        Some(Severity::Warn) if arguments.strict => Exit::Failed,
        Some(Severity::Warn | Severity::Note) | None => Exit::Done,
    };
    let text = if arguments.json {
        let result = match worst {
            None | Some(Severity::Note) => "ok",
            Some(Severity::Warn) => "warn",
            Some(Severity::Fail) => "fail",
        };
        format!("{:#}\n", json!({ "result": result, "templates": names, "findings": found }))
    } else {
        show(&survey, &names, &found, Terminal::stdout())
    };
    print(&text, exit)
}

fn show(survey: &Survey, names: &[&str], found: &[Finding], terminal: Terminal) -> String {
    let mut rows: Vec<(Severity, String, Option<&str>)> = Vec::new();
    let sound = names.iter().filter(|name| {
        survey.problems_of(name).next().is_none()
            && !found.iter().any(|finding| finding.template.as_deref() == Some(name))
    });
    let sound: Vec<String> = sound
        .map(|name| {
            let parts: Vec<&str> = survey.parts(name).into_iter().map(Part::name).collect();
            format!("{name}: {}", parts.join(", "))
        })
        .collect();
    rows.extend(
        found.iter().map(|one| (one.severity, format!("{}: {}", one.place(), one.detail), one.advice.as_deref())),
    );
    // the worst stands last, where the terminal ends
    rows.sort_by_key(|(severity, ..)| *severity);
    let line = |(severity, text, advice)| {
        let (result, tone) = match severity {
            Severity::Note => ("note", Tone::Quiet),
            Severity::Warn => ("warn", Tone::Doubtful),
            Severity::Fail => ("FAIL", Tone::Bad),
        };
        Line { result, tone, name: "", text, advice }
    };
    let good = sound.iter().map(|text| Line { result: "ok", tone: Tone::Good, name: "", text, advice: None });
    let lines: Vec<Line<'_>> =
        good.chain(rows.iter().map(|(severity, text, advice)| line((*severity, text.as_str(), *advice)))).collect();
    let count = |severity| found.iter().filter(|finding| finding.severity == severity).count();
    let verdict = match (count(Severity::Fail), count(Severity::Warn)) {
        (0, 0) => "All is well.".to_owned(),
        (0, warnings) => format!("It works; warnings: {warnings}."),
        (failures, warnings) => format!("Failed: {failures}, warnings: {warnings}."),
    };
    format!("{}\n{verdict}\n", table::render(&lines, terminal))
}
