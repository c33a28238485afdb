//! The documentation against what is scraped.

use std::collections::{BTreeMap, BTreeSet};

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};

use super::*;
use crate::health::{Facts, tests::facts};

#[derive(Debug)]
struct Fixed(Facts);

impl Collector for Fixed {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        state::encode(&self.0, encoder)
    }
}

fn exposition() -> (Metrics, Exposition) {
    let mut registry = Registry::default();
    let metrics = Metrics::new(&mut registry, ["h", "n", "l"], ["plain", "welcome"]);
    registry.register_collector(Box::new(Fixed(facts())));
    (metrics, Exposition::new(registry))
}

/// A metric as it is scraped.
#[derive(Default)]
struct Scraped {
    kind: String,
    help: String,
    labels: BTreeMap<String, BTreeSet<String>>,
}

fn scrape(text: &str) -> BTreeMap<String, Scraped> {
    let mut metrics: BTreeMap<String, Scraped> = BTreeMap::new();
    for line in text.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            let before = metrics.insert(name.to_owned(), Scraped { help: help.to_owned(), ..Scraped::default() });
            assert!(before.is_none(), "{name} is described twice");
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            kind.clone_into(&mut metrics.get_mut(name).expect("described").kind);
        } else {
            let (name, labels) = line.split_once('{').unwrap_or((line.split(' ').next().unwrap_or_default(), ""));
            let own = ["_bucket", "_sum", "_count"].iter().filter_map(|suffix| name.strip_suffix(suffix));
            let name = own.chain([name]).find(|name| metrics.contains_key(*name)).expect("described").to_owned();
            for (label, value) in labels
                .split_once('}')
                .map_or("", |(labels, _)| labels)
                .split(',')
                .filter_map(|label| label.split_once('='))
            {
                if label != "le" {
                    let values = metrics.get_mut(&name).expect("described").labels.entry(label.to_owned()).or_default();
                    values.insert(value.trim_matches('"').to_owned());
                }
            }
        }
    }
    metrics
}

/// The row of a metric in the documentation. Where the values of a label stand in the code, they stand there too.
fn row(name: &str, metric: &Scraped) -> String {
    let elsewhere = ["lane", "topic", "partition", "template", "version"];
    let labels: Vec<String> = metric
        .labels
        .iter()
        .map(|(label, values)| {
            if elsewhere.contains(&label.as_str()) {
                return format!("`{label}`");
            }
            let values: Vec<String> = values.iter().map(|value| format!("`{value}`")).collect();
            format!("`{label}`: {}", values.join(" "))
        })
        .collect();
    format!("| `{name}` | {} | {} | {} |", metric.kind, labels.join("; "), metric.help)
}

#[test]
fn the_documentation_has_every_metric_as_it_is_scraped() {
    let (_, exposition) = exposition();
    let rows: BTreeSet<String> =
        scrape(&exposition.text(false)).iter().map(|(name, metric)| row(name, metric)).collect();
    let document = include_str!("../../docs/metrics.md");
    let documented: BTreeSet<String> = document
        .lines()
        .filter(|line| line.starts_with("| `postlane_") || line.starts_with("| `process_"))
        .map(str::to_owned)
        .collect();
    let missing: Vec<&String> = rows.difference(&documented).collect();
    let wrong: Vec<&String> = documented.difference(&rows).collect();
    assert!(missing.is_empty() && wrong.is_empty(), "docs/metrics.md lacks\n{missing:#?}\nand wrongly has\n{wrong:#?}");
}

#[test]
fn both_formats_have_the_same_samples() {
    let (metrics, exposition) = exposition();
    metrics.sent(Priority::High, Utc::now());
    let samples = |text: &str| {
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.starts_with("process_"));
        lines.map(str::to_owned).collect::<BTreeSet<_>>()
    };
    let (open, classic) = (exposition.text(true), exposition.text(false));
    assert_eq!(samples(&open), samples(&classic));
    assert!(open.ends_with("# EOF\n") && !classic.contains("# EOF") && !classic.contains("# UNIT"));
    assert!(open.contains("# TYPE postlane_mails counter\n"));
    assert!(classic.contains("# TYPE postlane_mails_total counter\n"));
    assert!(classic.contains("postlane_mails_total{lane=\"high\",outcome=\"sent\"} 1\n"));
    assert!(classic.contains("postlane_smtp_rate_limit +Inf\n"), "{classic}");
}

#[test]
fn what_happens_is_counted_once() {
    let (metrics, exposition) = exposition();
    let reply = || crate::smtp::Reply { code: 250, enhanced: None, text: String::new() };
    let classes = [Class::Sent(reply()), Class::Deferred(reply()), Class::Sent(reply())];
    metrics.attempted(Priority::Low, &classes);
    metrics.interrupted(Priority::Low);
    let waiting = (metrics.retry_waits(Priority::Normal), metrics.retry_waits(Priority::Normal));
    drop(waiting.0);
    for name in ["plain", "plain", "no such\"\n template", "other"] {
        metrics.template_failed(name);
    }
    metrics.sent(Priority::Normal, Utc::now() + chrono::Duration::hours(1));
    metrics.phase(Phase::FinalDot, Duration::from_secs(700));
    let text = exposition.text(false);
    for line in [
        "postlane_attempts_total{lane=\"low\",class=\"sent\"} 1",
        "postlane_attempts_total{lane=\"low\",class=\"deferred\"} 1",
        "postlane_attempts_total{lane=\"low\",class=\"interrupted\"} 1",
        "postlane_retries_waiting{lane=\"normal\"} 1",
        "postlane_template_errors_total{template=\"plain\"} 2",
        "postlane_template_errors_total{template=\"(unknown)\"} 2",
        "postlane_publish_to_sent_seconds_sum{lane=\"normal\"} 0.0",
        "postlane_publish_to_sent_seconds_bucket{le=\"0.01\",lane=\"normal\"} 1",
        "postlane_smtp_phase_seconds_bucket{le=\"600.0\",phase=\"final_dot\"} 0",
        "postlane_smtp_phase_seconds_bucket{le=\"+Inf\",phase=\"final_dot\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} not in\n{text}");
    }
    drop(waiting.1);
    assert!(exposition.text(false).contains("postlane_retries_waiting{lane=\"normal\"} 0\n"));
}

#[test]
fn every_end_of_a_mail_has_its_series_from_the_start() {
    let (metrics, exposition) = exposition();
    let series = |text: &str| text.lines().filter(|line| line.starts_with("postlane_dead_letters_total")).count();
    let before = series(&exposition.text(false));
    for (stage, reasons) in DEAD_LETTERS {
        for reason in reasons {
            let failure = Failure {
                stage,
                reason: *reason,
                message: String::new(),
                recipients: None,
                attempts: 0,
                smtp_code: None,
                smtp_enhanced: None,
                message_id: None,
            };
            metrics.dead_letter_written(Priority::High, &failure);
        }
    }
    assert_eq!(series(&exposition.text(false)), before);
}
