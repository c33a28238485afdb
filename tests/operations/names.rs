//! The names of metrics: those in the code, and those that others use.

use std::{collections::BTreeSet, fs};

use crate::{RULES, files, path, read};

/// What Prometheus adds to the name that the code registers.
const SUFFIXES: [&str; 6] = ["_total", "_info", "_bucket", "_sum", "_count", ""];

/// Names of metrics in a text, recording rules left out: their names have colons.
pub(crate) fn in_text(text: &str) -> BTreeSet<String> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    text.split(|c| !word(c))
        .filter(|name| name.starts_with("postlane_") || name.starts_with("process_"))
        .filter(|name| !name.contains(':') && !name.ends_with('_'))
        .map(str::to_owned)
        .collect()
}

/// Names that the code registers, as they stand there in quotes.
fn in_code() -> BTreeSet<String> {
    let mut code = read("src/metrics.rs");
    for file in files("src/metrics", "rs") {
        code += &fs::read_to_string(file).expect("a file of the crate");
    }
    let quoted = code.split('"').skip(1).step_by(2);
    quoted.filter(|name| in_text(name).contains(*name)).map(str::to_owned).collect()
}

/// Whether a series of this name can come from the code.
pub(crate) fn unknown(used: &BTreeSet<String>) -> Vec<&String> {
    let registered = in_code();
    assert!(registered.len() > 30, "these cannot be all: {registered:?}");
    let known = |name: &str| {
        SUFFIXES.iter().any(|suffix| name.strip_suffix(suffix).is_some_and(|base| registered.contains(base)))
    };
    used.iter().filter(|name| !known(name)).collect()
}

/// Whether the recorded scrapes have series of this name; they have all that the service had when they were recorded.
fn is_recorded(name: &str, recorded: &str) -> bool {
    recorded.lines().any(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])))
}

#[test]
fn every_metric_that_is_used_is_there() {
    let recorded = read("tests/fixtures/metrics/well.prom");
    for file in [RULES, "deploy/grafana/dashboards/postlane.json", "docs/runbook.md", "docs/on-call.md"] {
        let used = in_text(&read(file));
        assert!(!used.is_empty(), "no metric in {file}");
        assert_eq!(unknown(&used), Vec::<&String>::new(), "{file} names metrics that the code does not have");
        let odd: Vec<&String> = used.iter().filter(|name| !is_recorded(name, &recorded)).collect();
        assert_eq!(odd, Vec::<&String>::new(), "{file}: no series has this name; is it a _total?");
    }
}

#[test]
fn what_was_recorded_is_still_there() {
    for file in files("tests/fixtures/metrics", "prom") {
        let text = fs::read_to_string(&file).expect("text");
        let described: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
        let names = in_text(&described.join("\n"));
        assert_eq!(unknown(&names), Vec::<&String>::new(), "{}: record it anew: cargo xtask metrics", file.display());
    }
}

#[test]
fn links_to_the_runbook_and_the_dashboard_lead_somewhere() {
    for file in ["docs/runbook.md", "docs/on-call.md", "docs/monitoring.md", "docs/metrics.md"] {
        assert!(path(file).exists(), "{file}");
    }
    let readme = read("README.md");
    for link in ["docs/runbook.md", "docs/on-call.md", "docs/monitoring.md"] {
        assert!(readme.contains(&format!("({link})")), "README.md does not lead to {link}");
    }
}
