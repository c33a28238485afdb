//! What rows make of a report. That each broken thing has its row is tested on the whole program in `tests/service`.

use std::time::Instant;

use super::*;
use crate::config::from_variables;

fn config(broker: &str, relay_port: u16) -> Config {
    let variables = [
        ("KAFKA_BROKERS", broker),
        ("SMTP_HOST", "127.0.0.1"),
        ("SMTP_PORT", &relay_port.to_string()),
        ("SMTP_ENCRYPTION", "none"),
    ];
    from_variables(variables.map(|(name, value)| (name.to_owned(), value.to_owned()))).expect("settings")
}

#[test]
fn the_worst_outcome_is_the_result() {
    let (ok, skip) = (Row::ok("a", ""), Row::skip("b", ""));
    let (warn, fail) = (Row::warn("c", "", ""), Row::fail("d", "", ""));
    assert_eq!(Report::new(vec![ok.clone(), skip.clone()]).result, Outcome::Ok);
    assert_eq!(Report::new(vec![ok.clone(), warn.clone()]).result, Outcome::Warn);
    assert_eq!(Report::new(vec![fail, ok, warn, skip]).result, Outcome::Fail);
}

#[test]
fn each_wrong_variable_has_a_row() {
    let error = from_variables([("SMTP_PORT".to_owned(), "smtp".to_owned())]).expect_err("wrong");
    let report = misconfigured(&error);
    let names: Vec<&str> = report.checks.iter().map(|row| row.check.as_str()).collect();
    assert_eq!(names, ["KAFKA_BROKERS", "SMTP_HOST", "SMTP_PORT", "everything else"]);
    assert_eq!(report.checks[2].detail, "holds \"smtp\"");
    assert!(report.misconfigured && report.result == Outcome::Fail);
}

#[tokio::test]
async fn what_swallows_everything_is_told_within_half_a_minute() {
    // accepted by the system, and never answered
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = silent.local_addr().expect("an address");
    tokio::time::pause();
    let (started, virtually) = (Instant::now(), tokio::time::Instant::now());
    let report = run(&config(&address.to_string(), address.port()), Options::default()).await;
    assert!(virtually.elapsed() <= Duration::from_secs(30), "{:?}", virtually.elapsed());
    assert!(started.elapsed() < Duration::from_secs(20));
    let row = |name: &str| report.checks.iter().find(|row| row.check.starts_with(name)).expect(name);
    assert_eq!(row("broker").outcome, Outcome::Fail, "{:?}", report.checks);
    assert!(row("broker").detail.contains("did not answer"), "{:?}", report.checks);
    assert_eq!(row("topics").outcome, Outcome::Skip);
    assert_eq!(row("relay EHLO").outcome, Outcome::Fail);
    assert_eq!(row("relay connection").outcome, Outcome::Ok);
}
