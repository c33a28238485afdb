//! The dashboard: what a browser would show late is found here early.

use std::{collections::BTreeSet, fmt::Write as _, fs};

use serde_json::Value;

use crate::{promtool, read, text};

const DASHBOARD: &str = "deploy/grafana/dashboards/postlane.json";

fn dashboard() -> Value {
    serde_json::from_str(&read(DASHBOARD)).expect("JSON")
}

/// All panels but the rows.
fn panels(dashboard: &Value) -> Vec<&Value> {
    let panels = dashboard["panels"].as_array().expect("panels");
    panels.iter().filter(|panel| panel["type"] != "row").collect()
}

/// What Grafana puts in place of its variables.
fn expanded(expression: &str) -> String {
    let values =
        [("$__rate_interval", "1m"), ("$__range_s", "10800"), ("$__range", "3h"), ("$job", ".+"), ("$instance", ".+")];
    let text = values.iter().fold(expression.to_owned(), |text, (name, value)| text.replace(name, value));
    assert!(!text.contains('$'), "a variable that the dashboard does not have: {expression}");
    text
}

#[test]
fn each_query_is_valid() {
    let dashboard = dashboard();
    let mut expressions: Vec<&str> = Vec::new();
    for panel in panels(&dashboard) {
        let targets = panel["targets"].as_array().expect("targets");
        assert!(!targets.is_empty(), "{}", panel["title"]);
        for target in targets {
            let expression = target["expr"].as_str().expect("an expression");
            assert!(
                expression.contains(r#"job=~"$job", instance=~"$instance""#),
                "{}: not limited to what was chosen: {expression}",
                panel["title"]
            );
            expressions.push(expression);
        }
    }
    for annotation in dashboard["annotations"]["list"].as_array().expect("annotations") {
        let Some(expression) = annotation["expr"].as_str() else { continue };
        for label in ["job", "instance"] {
            assert!(
                expression.contains(&format!(r#"{label}=~"${label}"#)),
                "not limited to what was chosen: {expression}"
            );
        }
        expressions.push(expression);
    }
    let mut rules = "groups:\n- name: dashboard\n  rules:\n".to_owned();
    for (number, expression) in expressions.iter().enumerate() {
        let expression = Value::from(expanded(expression));
        writeln!(rules, "  - record: query:{number}\n    expr: {expression}").expect("a String takes every write");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("queries.yml");
    fs::write(&file, rules).expect("written");
    promtool(&["check", "rules", text(&file)], "");
}

#[test]
fn each_panel_explains_itself() {
    let dashboard = dashboard();
    let mut titles = BTreeSet::new();
    for panel in panels(&dashboard) {
        let title = panel["title"].as_str().expect("a title");
        assert!(panel["description"].as_str().is_some_and(|text| text.ends_with('.')), "{title} has no description");
        assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{title} has no unit");
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        titles.insert((title, panel["type"].as_str()));
    }
    assert_eq!(titles.len(), panels(&dashboard).len(), "a title twice");
}

#[test]
fn the_panels_stand_side_by_side() {
    let dashboard = dashboard();
    let mut ids = BTreeSet::new();
    let mut taken = BTreeSet::new();
    for panel in dashboard["panels"].as_array().expect("panels") {
        assert!(ids.insert(panel["id"].as_u64().expect("an id")), "an id twice: {}", panel["title"]);
        let place = |name: &str| panel["gridPos"][name].as_u64().expect("a place");
        assert!(place("x") + place("w") <= 24, "{} is too wide", panel["title"]);
        for x in place("x")..place("x") + place("w") {
            for y in place("y")..place("y") + place("h") {
                assert!(taken.insert((x, y)), "{} covers another panel", panel["title"]);
            }
        }
    }
}

#[test]
fn the_variables_are_those_of_the_queries() {
    let dashboard = dashboard();
    let variables = dashboard["templating"]["list"].as_array().expect("variables");
    let names: Vec<&str> = variables.iter().filter_map(|variable| variable["name"].as_str()).collect();
    assert_eq!(names, ["datasource", "job", "instance"]);
}
