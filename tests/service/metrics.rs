//! `/metrics`: what was done is counted, what stands still is seen, and no event can blow it up.

#![expect(clippy::float_cmp, reason = "counts are exact")]

use std::time::Duration;

use devkit::{
    kafka::Record,
    smtp::{Action, Command, SmtpServer, on},
};
use postlane::event::Priority;
use serde_json::json;

use crate::{
    bed::{Bed, SOON, end, event, event_with},
    operator::{Metrics, Operator},
    watch::mails,
};

#[tokio::test]
async fn what_was_done_is_counted() {
    let server = SmtpServer::builder()
        .rule(on(Command::Rcpt).recipient("nobody@example.com").reply(550, "5.1.1", "unknown"))
        .rule(on(Command::Rcpt).recipient("later@example.com").once(Action::reply(450, "4.2.0", "greylisted")));
    let bed = Bed::with(server, 1).await;
    bed.publish(Priority::Normal, mails("n", 0..3)).await;
    bed.publish(Priority::High, [event("later", "later@example.com"), event("no", "nobody@example.com")]).await;
    bed.publish_records(Priority::Low, [Record::new("rubbish")]).await;
    bed.publish(Priority::Low, [event_with("t", "t@example.com", &json!({"template": "wellcome"}))]).await;
    let mut service = bed.start();
    let operator = Operator::of(&mut service).await;
    let settled = |metrics: &Metrics| metrics.sum("postlane_records_settled_total") >= 7.0;
    operator.wait_for_metrics("all are settled", settled).await;
    bed.wait_for_no_lag(&mut service).await;
    let metrics = operator
        .wait_for_metrics("nothing is left to be done", |metrics| {
            metrics.sum("postlane_lag_records") == 0.0 && metrics.value("postlane_commit_age_seconds") == 0.0
        })
        .await;
    let topics = &bed.names;
    for (series, value) in [
        (format!("postlane_records_fetched_total{{topic=\"{}\"}}", topics.normal), 3.0),
        (format!("postlane_records_fetched_total{{topic=\"{}\"}}", topics.high), 2.0),
        (format!("postlane_records_fetched_total{{topic=\"{}\"}}", topics.low), 2.0),
        (format!("postlane_in_flight_records{{lane=\"high\",topic=\"{}\",partition=\"0\"}}", topics.high), 0.0),
        (
            format!("postlane_oldest_unsettled_age_seconds{{lane=\"high\",topic=\"{}\",partition=\"0\"}}", topics.high),
            0.0,
        ),
        (format!("postlane_partition_halted{{lane=\"low\",topic=\"{}\",partition=\"0\"}}", topics.low), 0.0),
    ] {
        assert_eq!(metrics.value(&series), value, "{series}");
    }
    for (series, value) in [
        (r#"postlane_records_settled_total{lane="normal"}"#, 3.0),
        (r#"postlane_mails_total{lane="normal",outcome="sent"}"#, 3.0),
        (r#"postlane_mails_total{lane="high",outcome="sent"}"#, 1.0),
        (r#"postlane_mails_total{lane="high",outcome="dead_letter"}"#, 1.0),
        (r#"postlane_mails_total{lane="low",outcome="dead_letter"}"#, 2.0),
        (r#"postlane_attempts_total{lane="normal",class="sent"}"#, 3.0),
        (r#"postlane_attempts_total{lane="high",class="sent"}"#, 1.0),
        (r#"postlane_attempts_total{lane="high",class="deferred"}"#, 1.0),
        (r#"postlane_attempts_total{lane="high",class="refused"}"#, 1.0),
        (r#"postlane_dead_letters_total{lane="high",stage="send",reason="rejected"}"#, 1.0),
        (r#"postlane_dead_letters_total{lane="low",stage="decode",reason="malformed"}"#, 1.0),
        (r#"postlane_dead_letters_total{lane="low",stage="template",reason="unknown-template"}"#, 1.0),
        (r#"postlane_template_errors_total{template="(unknown)"}"#, 1.0),
        (r#"postlane_publish_to_sent_seconds_count{lane="normal"}"#, 3.0),
        (r#"postlane_retries_waiting{lane="high"}"#, 0.0),
        (r#"postlane_commits_total{outcome="failed"}"#, 0.0),
        ("postlane_dead_letters_pending", 0.0),
        ("postlane_relay_up", 1.0),
        ("postlane_broker_up", 1.0),
        ("postlane_ready", 1.0),
        ("postlane_smtp_sessions_limit", 16.0),
        ("postlane_smtp_rate_limit", f64::INFINITY),
        ("postlane_throttled_total", 0.0),
    ] {
        assert_eq!(metrics.value(series), value, "{series}");
    }
    assert_eq!(metrics.sum("postlane_dead_letters_total"), 3.0);
    assert!(metrics.value(r#"postlane_commits_total{outcome="ok"}"#) >= 1.0);
    assert!(metrics.value("postlane_smtp_sessions") >= 1.0);
    assert!(metrics.value("process_resident_memory_bytes") > 1e6);
    for phase in ["connect", "greeting", "envelope", "data", "body", "final_dot"] {
        let count = metrics.value(&format!("postlane_smtp_phase_seconds_count{{phase=\"{phase}\"}}"));
        assert!(count >= 1.0, "{phase}");
    }
    assert_eq!(metrics.value(r#"postlane_smtp_phase_seconds_count{phase="final_dot"}"#), 4.0);
    assert_eq!(metrics.value(r#"postlane_smtp_phase_seconds_count{phase="envelope"}"#), 6.0);
    end(service).await;
}

#[tokio::test]
async fn a_backlog_that_waits_for_the_relay_is_seen_as_it_grows_and_goes() {
    let mut bed = Bed::new().await;
    // far less than what waits: the rest stays in Kafka
    bed.set("KAFKA_BUFFER_RECORDS", 3);
    bed.set("RETRY_MAX_DELAY", "1s");
    bed.smtp.stop().await;
    bed.publish(Priority::Normal, mails("n", 0..20)).await;
    let mut service = bed.start();
    let operator = Operator::of(&mut service).await;
    let lag = format!("postlane_lag_records{{lane=\"normal\",topic=\"{}\",partition=\"0\"}}", bed.names.normal);
    let age = format!(
        "postlane_oldest_unsettled_age_seconds{{lane=\"normal\",topic=\"{}\",partition=\"0\"}}",
        bed.names.normal
    );
    let lags = |wanted: f64| {
        let lag = lag.clone();
        move |metrics: &Metrics| metrics.series().contains(&&lag) && metrics.value(&lag) == wanted
    };
    operator.wait_for_metrics("all of it lags", lags(20.0)).await;
    let down = |metrics: &Metrics| metrics.value("postlane_relay_up") == 0.0 && metrics.value(&age) > 1.0;
    let metrics = operator.wait_for_metrics("down, and older than a second", down).await;
    assert_eq!(metrics.value("postlane_relay_down_total"), 1.0);
    assert_eq!(metrics.value("postlane_ready"), 0.0);
    assert_eq!(metrics.sum("postlane_attempts_total"), 0.0, "an outage is no attempt");
    assert_eq!(metrics.value("postlane_smtp_sessions"), 0.0);
    // the buffer is full, and still it is seen how the backlog grows
    bed.publish(Priority::Normal, mails("n", 20..35)).await;
    let metrics = operator.wait_for_metrics("the new ones lag", lags(35.0)).await;
    assert!(metrics.value(r#"postlane_ready_mails{lane="normal"}"#) <= 3.0);
    let waiting =
        format!("postlane_in_flight_records{{lane=\"normal\",topic=\"{}\",partition=\"0\"}}", bed.names.normal);
    assert!(metrics.value(&waiting) <= 5.0, "the buffer, and the record that waits for a place in it");
    bed.smtp.start_again().await.expect("the same port");
    bed.smtp.wait_for_mails(35, SOON).await.expect("all of them");
    let metrics = operator.wait_for_metrics("nothing lags", lags(0.0)).await;
    assert_eq!(metrics.value(&age), 0.0);
    assert_eq!(metrics.value("postlane_relay_up"), 1.0);
    let sent = r#"postlane_publish_to_sent_seconds_count{lane="normal"}"#;
    assert_eq!(metrics.value(sent), 35.0);
    assert!(metrics.value(r#"postlane_publish_to_sent_seconds_bucket{le="0.5",lane="normal"}"#) < 35.0);
    end(service).await;
}

#[tokio::test]
async fn retries_and_throttling_are_seen_while_they_last() {
    let server = SmtpServer::builder()
        .rule(on(Command::Rcpt).recipient("later@example.com").reply(450, "4.2.0", "greylisted"))
        .rule(on(Command::Mail).once(Action::reply(452, "4.3.1", "slower")))
        .rule(on(Command::Dot).recipient("lost@example.com").once(Action::HangUp));
    let mut bed = Bed::with(server, 1).await;
    bed.set("RETRY_INITIAL_DELAY", "20s");
    bed.set("RETRY_MAX_DELAY", "20s");
    bed.publish(Priority::Low, [event("later", "later@example.com"), event("lost", "lost@example.com")]).await;
    let mut service = bed.start();
    let operator = Operator::of(&mut service).await;
    let waiting = |metrics: &Metrics| metrics.value(r#"postlane_retries_waiting{lane="low"}"#) == 2.0;
    let metrics = operator.wait_for_metrics("both wait", waiting).await;
    assert_eq!(metrics.value("postlane_throttled_total"), 1.0);
    assert_eq!(metrics.value(r#"postlane_attempts_total{lane="low",class="throttled"}"#), 1.0);
    assert!(metrics.value("postlane_smtp_rate_limit") <= 10.0);
    let lag = format!("postlane_lag_records{{lane=\"low\",topic=\"{}\",partition=\"0\"}}", bed.names.low);
    assert_eq!(metrics.value(&lag), 2.0, "what waits is not settled");
    // nothing is settled, so nothing is due
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(operator.metrics().await.value("postlane_commit_age_seconds"), 0.0);
    end(service).await;
}

#[tokio::test]
async fn no_event_adds_a_series() {
    let bed = Bed::new().await;
    bed.publish(Priority::Normal, mails("n", 0..1)).await;
    let mut service = bed.start();
    let operator = Operator::of(&mut service).await;
    let settled = |count: f64| move |metrics: &Metrics| metrics.sum("postlane_records_settled_total") >= count;
    operator.wait_for_metrics("the first is settled", settled(1.0)).await;
    let lags_known = |metrics: &Metrics| {
        metrics.series().iter().filter(|series| series.starts_with("postlane_lag_records{")).count() == 3
    };
    let before = operator.wait_for_metrics("the lags are known", lags_known).await;
    let hostile =
        ["\"} 1\nevil_total 666\n", "plain\u{0}", "../../etc/passwd", "a\\", "läng", "other", "{lane=\"high\"}"];
    let events = hostile.iter().enumerate().map(|(number, text)| {
        let id = format!("id-{number}-{text}");
        event_with(&id, "x@example.com", &json!({"template": text, "subject": text, "priority": text}))
    });
    bed.publish(Priority::Normal, events).await;
    let many = (0..200).map(|number| {
        let fields = json!({"template": format!("template-{number}")});
        event_with(&format!("m{number}"), &format!("m{number}@example.com"), &fields)
    });
    bed.publish(Priority::High, many).await;
    bed.publish_records(Priority::Low, [Record::new("\"} 1\nevil_total 1\n").key("evil\nkey")]).await;
    let after = operator.wait_for_metrics("all are settled", settled(209.0)).await;
    let known = before.series();
    let new: Vec<_> = after.series().into_iter().filter(|series| !known.contains(series)).collect();
    assert!(new.is_empty(), "{new:?}");
    assert!(after.value(r#"postlane_template_errors_total{template="(unknown)"}"#) >= 200.0);
    end(service).await;
}
