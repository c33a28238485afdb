//! The alert rules: valid, tested, and each with its page.

use std::{collections::BTreeSet, fs};

use crate::{RULES, files, path, promtool, read, text};

/// One rule, as the text between `- alert:` and the next rule.
struct Alert {
    name: String,
    body: String,
}

impl Alert {
    fn field(&self, name: &str) -> &str {
        let prefix = format!("{name}: ");
        let found = self.body.lines().find_map(|line| line.trim().strip_prefix(&prefix));
        found.unwrap_or_else(|| panic!("{} has no {name}", self.name))
    }
}

fn alerts() -> Vec<Alert> {
    let rules = read(RULES);
    let alerts: Vec<Alert> = rules
        .split("\n      - ")
        .filter_map(|rule| {
            let (name, body) = rule.strip_prefix("alert: ")?.split_once('\n')?;
            Some(Alert { name: name.to_owned(), body: body.to_owned() })
        })
        .collect();
    assert_eq!(alerts.len(), rules.matches("alert: ").count(), "rules in another form than the others");
    alerts
}

#[test]
fn the_rules_are_valid() {
    promtool(&["check", "rules", text(&path(RULES))], "");
    // as compose.yaml has them loaded
    promtool(&["check", "config", text(&path("deploy/prometheus/prometheus.yml"))], "");
}

#[test]
fn each_alert_fires_where_it_should_and_only_there() {
    for file in files("deploy/prometheus/tests", "yml") {
        promtool(&["test", "rules", text(&file)], "");
    }
}

#[test]
fn each_alert_has_both_tests() {
    let tests: String =
        files("deploy/prometheus/tests", "yml").iter().map(|file| fs::read_to_string(file).expect("text")).collect();
    for Alert { name, .. } in alerts() {
        let fires = format!("alertname: {name}\n        exp_alerts:\n          - exp_labels");
        assert!(tests.contains(&fires), "no test lets {name} fire");
        assert!(tests.contains(&format!("alertname: {name}, exp_alerts: [] }}")), "no test keeps {name} silent");
    }
}

#[test]
fn each_alert_says_what_whoever_is_called_needs() {
    for alert in alerts() {
        let name = &alert.name;
        assert!(["critical", "warning"].contains(&alert.field("severity")), "severity of {name}");
        let wait = alert.field("for");
        assert!(wait.ends_with('m'), "{name}: for: {wait}");
        for field in ["summary", "description"] {
            assert!(alert.field(field).len() > 1, "{field} of {name}");
        }
        assert_eq!(alert.field("runbook_url"), format!("docs/runbook.md#{}", name.to_lowercase()));
    }
}

#[test]
fn each_alert_has_its_page_and_each_page_its_alert() {
    let runbook = read("docs/runbook.md");
    let pages: Vec<&str> = runbook.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let pages: BTreeSet<&str> = pages.into_iter().filter(|title| title.starts_with("Postlane")).collect();
    let alerts = alerts();
    let alerts: BTreeSet<&str> = alerts.iter().map(|alert| alert.name.as_str()).collect();
    assert_eq!(pages, alerts);
    for page in runbook.split("\n## ").filter(|page| page.starts_with("Postlane")) {
        for part in ["**Means.**", "**Look.**", "**Do.**", "**Do not.**"] {
            assert_eq!(page.matches(part).count(), 1, "{part} in the page\n{page}");
        }
    }
}
