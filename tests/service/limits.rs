//! How often and until when a mail is tried.

use chrono::{Duration, Utc};
use devkit::smtp::{Action, Command, SmtpServer, on};
use postlane::event::Priority;
use serde_json::json;

use crate::{
    bed::{Bed, event_with},
    found::Found,
};

#[tokio::test]
async fn attempts_are_counted_as_the_event_says() {
    let server = SmtpServer::builder().rule(on(Command::Rcpt).recipient_contains("never").reply(450, "4.2.1", "busy"));
    let mut bed = Bed::with(server, 1).await;
    bed.set("RETRY_INITIAL_DELAY", "20ms");
    bed.set("RETRY_MAX_DELAY", "20ms");
    bed.set("RETRY_MAX_ATTEMPTS_LIMIT", 6);
    // name, fields, attempts made, attempts counted
    let cases = [
        ("default", json!({}), 3, 3),
        ("zero", json!({"max_retries": 0, "retry_count": 0}), 3, 3),
        ("one", json!({"max_retries": 1}), 1, 1),
        ("five", json!({"max_retries": 5}), 5, 5),
        ("limit", json!({"max_retries": 999}), 6, 6),
        ("begun", json!({"retry_count": 1}), 2, 3),
        ("spent", json!({"retry_count": 3, "max_retries": 3}), 1, 3),
        ("overspent", json!({"retry_count": 4_000_000_000_u32}), 1, 3),
    ];
    for (name, fields, ..) in &cases {
        bed.publish(Priority::Normal, [event_with(name, &format!("never-{name}@example.org"), fields)]).await;
    }
    let served = json!({"retry_count": 9, "max_retries": 2});
    bed.publish(Priority::Normal, [event_with("served", "served@example.org", &served)]).await;
    let found = Found::at_the_end(&bed, bed.start()).await;

    for (name, _, made, counted) in &cases {
        found.letter(name).assert_cause("send", "retries-exhausted", *counted);
        assert_eq!(found.outcomes(name).len(), *made, "attempts of {name}");
    }
    let made: usize = cases.iter().map(|(_, _, made, _)| made).sum();
    assert_eq!(found.ledger.count(Command::Rcpt), made as u64 + 1);
    found.assert_sent("served", 2, 0);
}

#[tokio::test]
async fn an_expired_mail_is_not_sent() {
    let server = SmtpServer::builder()
        .rule(on(Command::Rcpt).recipient("soon@example.org").act(Action::reply(451, "4.7.1", "greylisted")))
        .rule(on(Command::Rcpt).recipient("part@example.org").act(Action::reply(451, "4.7.1", "greylisted")));
    let mut bed = Bed::with(server, 1).await;
    bed.set("RETRY_INITIAL_DELAY", "10m");
    bed.set("RETRY_MAX_DELAY", "10m");
    let at = |time: chrono::DateTime<Utc>| json!({"expires_at": time.to_rfc3339()});
    let soon = Utc::now() + Duration::minutes(2);
    let part = json!({"to": ["part@example.org", "served@example.org"], "expires_at": soon.to_rfc3339()});
    bed.publish(
        Priority::Normal,
        [
            event_with("past", "past@example.org", &at(Utc::now() - Duration::seconds(1))),
            event_with("soon", "soon@example.org", &at(soon)),
            event_with("part", "", &part),
            event_with("later", "later@example.org", &at(Utc::now() + Duration::days(1))),
            event_with("unset", "unset@example.org", &json!({"expires_at": "0001-01-01T00:00:00Z"})),
        ],
    )
    .await;
    let found = Found::at_the_end(&bed, bed.start()).await;

    found.letter("past").assert_cause("expired", "expired", 0);
    found.letter("past").assert_headers(&["postlane-message-id"]);
    let letter = found.letter("soon");
    letter.assert_cause("expired", "expired", 1);
    letter.assert_reply("451", "4.7.1");
    let letter = found.letter("part");
    letter.assert_cause("expired", "expired", 1);
    assert_eq!(letter.recipients().as_deref(), Some("0"));
    found.assert_served_once(["served@example.org", "later@example.org", "unset@example.org"]);
    assert_eq!(found.ledger.deliveries("past@example.org"), 0);
    assert_eq!(found.letters.len(), 3);
}
