//! What the alerts make of scrapes that were recorded from the service in trouble.
//!
//! `cargo xtask metrics` records them. Each is stretched over a span: its gauges stand as they were recorded, ages go on,
//! counters grow from zero to what was recorded.

use std::{fmt::Write as _, fs};

use serde_json::json;

use crate::{RULES, files, path, promtool, text};

/// Minutes of a recorded situation.
const SPAN: u32 = 25;

/// The alerts that are due in each situation, with their severity.
const DUE: &[(&str, &[(&str, &str)])] = &[
    ("broker-away", &[("PostlaneBrokerAway", "critical"), ("PostlaneCommitsStale", "critical")]),
    ("lane-missing", &[("PostlaneNotReady", "critical")]),
    ("login-refused", &[("PostlaneRelayDown", "critical")]),
    (
        "malformed-flood",
        &[
            ("PostlaneDeadLetterBurst", "warning"),
            ("PostlaneDeadLetterShare", "critical"),
            ("PostlaneDeadLetterShare", "warning"),
        ],
    ),
    ("no-dead-letter-topic", &[("PostlaneDeadLettersNotWritable", "critical")]),
    ("records-lost", &[("PostlaneRecordsLost", "critical")]),
    ("relay-down", &[("PostlaneRelayDown", "critical")]),
    (
        "template-broken",
        &[
            ("PostlaneDeadLetterShare", "critical"),
            ("PostlaneDeadLetterShare", "warning"),
            ("PostlaneTemplateErrors", "critical"),
        ],
    ),
    ("well", &[]),
];

/// One series of a scrape with job and instance, and its values over the span.
fn series(line: &str, counters: &[&str]) -> (String, String) {
    let (name, value) = line.rsplit_once(' ').expect("name and value");
    let (metric, labels) = match name.split_once('{') {
        Some((metric, labels)) => (metric, format!(", {}", labels.trim_end_matches('}'))),
        None => (name, String::new()),
    };
    let series = format!("{metric}{{job=\"postlane\", instance=\"recorded:8081\"{labels}}}");
    let is_counter = counters.iter().any(|counter| {
        metric.strip_prefix(counter).is_some_and(|suffix| ["", "_bucket", "_sum", "_count"].contains(&suffix))
    });
    let value = value.parse::<f64>().expect("a number");
    let mut values = String::new();
    for minute in 0..=SPAN {
        let now = if is_counter {
            value * f64::from(minute) / f64::from(SPAN)
        } else if metric.ends_with("_age_seconds") && value > 0.0 {
            value + 60.0 * f64::from(minute)
        } else {
            value
        };
        let now = if now.is_infinite() { "Inf".to_owned() } else { now.to_string() };
        write!(values, "{now} ").expect("a String takes every write");
    }
    (series, values)
}

#[test]
fn the_alerts_know_each_recorded_situation() {
    let files = files("tests/fixtures/metrics", "prom");
    let situations: Vec<&str> =
        files.iter().map(|file| file.file_stem().and_then(|stem| stem.to_str()).expect("a name")).collect();
    let expected: Vec<&str> = DUE.iter().map(|(situation, _)| *situation).collect();
    assert_eq!(situations, expected);
    let folder = tempfile::tempdir().expect("a folder");
    for (file, (situation, due)) in files.iter().zip(DUE) {
        let scrape = fs::read_to_string(file).expect("text");
        let counters: Vec<&str> = scrape
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE ")?.rsplit_once(' '))
            .filter(|(_, kind)| ["counter", "histogram"].contains(kind))
            .map(|(name, _)| name)
            .collect();
        let lines = scrape.lines().filter(|line| !line.starts_with('#'));
        let mut input: Vec<_> = lines.map(|line| series(line, &counters)).collect();
        input.push(series("up 1", &[]));
        let input: Vec<_> =
            input.into_iter().map(|(series, values)| json!({"series": series, "values": values})).collect();
        let samples: Vec<_> = due
            .iter()
            .map(|(alert, severity)| json!({"labels": format!("{{alertname=\"{alert}\", severity=\"{severity}\"}}"), "value": 1}))
            .collect();
        let test = json!({
            "rule_files": [path(RULES)],
            "evaluation_interval": "1m",
            "tests": [{
                "name": situation,
                "interval": "1m",
                "input_series": input,
                "promql_expr_test": [{
                    "expr": "group by (alertname, severity) (ALERTS{alertstate=\"firing\"})",
                    "eval_time": format!("{SPAN}m"),
                    "exp_samples": samples,
                }],
            }],
        });
        // JSON is YAML
        let test_file = folder.path().join(format!("{situation}.yml"));
        fs::write(&test_file, test.to_string()).expect("written");
        promtool(&["test", "rules", text(&test_file)], "");
    }
}

#[test]
fn what_is_scraped_has_sound_names() {
    for file in files("tests/fixtures/metrics", "prom") {
        promtool(&["check", "metrics"], &fs::read_to_string(file).expect("text"));
    }
}
