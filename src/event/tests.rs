#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{collections::BTreeMap, sync::Arc};

use chrono::TimeZone;
use serde_json::{Value, json};

use super::*;
use crate::kafka::Record;

fn record(value: impl Into<Vec<u8>>) -> Record {
    Record {
        topic: Arc::from("email-queue"),
        partition: 2,
        offset: 77,
        timestamp: Utc.timestamp_millis_opt(1_700_000_000_123).unwrap(),
        arrived: Utc.timestamp_millis_opt(1_700_000_000_123).unwrap(),
        key: None,
        value: Some(value.into()),
        headers: BTreeMap::new(),
    }
}

/// The least that is a mail, with changes to `message`; `null` takes a field out.
fn event(changes: &Value) -> Record {
    let mut event = json!({"message": {"to": "a@example.com", "template": "plain"}});
    let message = event["message"].as_object_mut().unwrap();
    for (name, value) in changes.as_object().unwrap() {
        message.insert(name.clone(), value.clone());
    }
    record(event.to_string())
}

fn fails(record: &Record) -> (Problem, String) {
    let error = decode(record).unwrap_err();
    (error.problem, error.field)
}

#[test]
fn the_oldest_producer_is_understood() {
    let message = decode(&record(include_str!("../../tests/fixtures/events/seed-password-reset.json"))).unwrap();
    assert_eq!(message.kind, "password_reset");
    assert_eq!(message.id, "550e8400-e29b-41d4-a716-446655440000");
    assert_eq!(message.from.unwrap().to_string(), "noreply@usualstore.com");
    assert_eq!(message.to[0].to_string(), "user@example.com");
    assert_eq!(message.subject.as_deref(), Some("Password Reset Request"));
    assert_eq!(message.template, "password-reset");
    assert_eq!(message.data["Link"], "https://usualstore.com/reset?token=abc123");
    assert_eq!(message.priority, Priority::High);
    assert_eq!(message.timestamp.to_rfc3339(), "2025-12-25T20:00:00+00:00");
    assert_eq!((message.retry_count, message.max_retries), (0, Some(3)));
}

#[test]
fn zero_values_are_absent_values() {
    let message = decode(&record(include_str!("../../tests/fixtures/events/seed-go-zero-values.json"))).unwrap();
    assert_eq!(message.max_retries, None);
    assert_eq!(message.timestamp.timestamp_subsec_nanos(), 123_456_789);
    let zero = decode(&event(&json!({
        "id": "", "from": "", "subject": "", "priority": "", "timestamp": "0001-01-01T00:00:00Z",
        "expires_at": "0001-01-01T00:00:00Z", "data": null, "cc": "", "bcc": null, "reply_to": [], "headers": null,
        "attachments": [], "send_at": "0001-01-01T00:00:00Z", "error_msg": "", "retry_count": 0, "max_retries": 0,
    })))
    .unwrap();
    let absent = decode(&event(&json!({}))).unwrap();
    assert_eq!(zero, absent);
    assert_eq!(absent.id, "email-queue-2-77-1700000000123");
    assert_eq!(absent.kind, "notification");
    assert_eq!(absent.priority, Priority::Normal);
    assert_eq!(absent.timestamp.timestamp_millis(), 1_700_000_000_123);
    assert_eq!(absent.expires_at, None);
}

#[test]
fn new_fields_are_read() {
    let message = decode(&record(include_str!("../../tests/fixtures/events/new-fields.json"))).unwrap();
    assert_eq!(message.from.unwrap().name.as_deref(), Some("Usual Store"));
    assert_eq!(message.to[0].name.as_deref(), Some("Café Zürich"));
    assert_eq!(message.cc[0].email.to_string(), "copy@example.com");
    assert_eq!(message.bcc[0].email.to_string(), "audit@example.com");
    assert_eq!(message.reply_to[0].email.to_string(), "help@usualstore.com");
    assert_eq!(message.headers, [("X-Campaign".to_owned(), "orders".to_owned())]);
    assert_eq!(message.priority, Priority::Low);
    assert_eq!(message.expires_at.unwrap().to_rfc3339(), "2036-01-05T08:00:00+00:00");
}

#[test]
fn what_is_no_event_says_where() {
    use Problem::{BadAddress, Malformed, Unsupported};
    assert_eq!(fails(&Record { value: None, ..record("") }), (Malformed, String::new()));
    for value in ["", "{", "[]", "7", "null", "{\"message\":", "\u{feff}{}"] {
        assert_eq!(fails(&record(value)), (Malformed, String::new()), "{value}");
    }
    assert_eq!(fails(&record(b"{\"type\":\"\xff\"}".to_vec())), (Malformed, String::new()));
    assert_eq!(fails(&record("{}")), (Malformed, "message".to_owned()));
    assert_eq!(fails(&record(r#"{"message":[]}"#)), (Malformed, "message".to_owned()));
    assert_eq!(fails(&record(r#"{"type":1,"message":{}}"#)), (Malformed, "type".to_owned()));
    for (changes, problem, field) in [
        (json!({"to": null}), Malformed, "message.to"),
        (json!({"to": []}), Malformed, "message.to"),
        (json!({"to": 3}), Malformed, "message.to"),
        (json!({"to": ["a@example.com", 3]}), Malformed, "message.to[1]"),
        (json!({"to": ["a@example.com", "nobody"]}), BadAddress, "message.to[1]"),
        (json!({"to": "a@example.com, b@example.com"}), BadAddress, "message.to"),
        (json!({"to": "a@example.com\r\nBcc: b@example.com"}), BadAddress, "message.to"),
        (json!({"from": "N\u{2028}N <a@example.com>"}), BadAddress, "message.from"),
        (json!({"from": "\n"}), BadAddress, "message.from"),
        (json!({"cc": ""  , "bcc": "<>"}), BadAddress, "message.bcc"),
        (json!({"id": "x".repeat(1001)}), Malformed, "message.id"),
        (json!({"template": null}), Malformed, "message.template"),
        (json!({"template": ["plain"]}), Malformed, "message.template"),
        (json!({"data": []}), Malformed, "message.data"),
        (json!({"data": "text"}), Malformed, "message.data"),
        (json!({"headers": {"X-A": 1}}), Malformed, "message.headers"),
        (json!({"priority": 1}), Malformed, "message.priority"),
        (json!({"timestamp": "yesterday"}), Malformed, "message.timestamp"),
        (json!({"expires_at": "2026-01-05"}), Malformed, "message.expires_at"),
        (json!({"retry_count": -1}), Malformed, "message.retry_count"),
        (json!({"max_retries": "3"}), Malformed, "message.max_retries"),
        (json!({"attachments": [{}]}), Unsupported, "message.attachments"),
        (json!({"send_at": "2036-01-05T08:00:00Z"}), Unsupported, "message.send_at"),
    ] {
        assert_eq!(fails(&event(&changes)), (problem, field.to_owned()), "{changes}");
    }
}

#[test]
fn nesting_is_bounded() {
    let deep = |levels: usize| {
        format!(
            r#"{{"message":{{"to":"a@example.com","template":"plain","data":{{"x":{}{}}}}}}}"#,
            "[".repeat(levels),
            "]".repeat(levels)
        )
    };
    assert!(decode(&record(deep(100))).is_ok());
    assert!(decode(&record(deep(130))).unwrap_err().detail.contains("nested"));
    assert!(decode(&record("[".repeat(5_000_000))).is_err());
}

#[test]
fn an_error_does_not_repeat_the_record() {
    let error = decode(&event(&json!({"to": "not-an-address-but-secret"}))).unwrap_err();
    assert!(!error.to_string().contains("secret"));
    let error = decode(&record(r#"{"secret"#)).unwrap_err();
    assert!(!error.to_string().contains("secret"));
}

#[test]
fn priorities() {
    for (word, priority) in [
        ("high", Priority::High),
        ("HIGH", Priority::High),
        ("Low", Priority::Low),
        ("normal", Priority::Normal),
        ("urgent", Priority::Normal),
    ] {
        assert_eq!(decode(&event(&json!({"priority": word}))).unwrap().priority, priority);
    }
}

#[test]
fn names_may_be_quoted() {
    let name = |text: &str| decode(&event(&json!({"to": text}))).unwrap().to[0].name.clone();
    assert_eq!(name("a@example.com"), None);
    assert_eq!(name("<a@example.com>"), None);
    assert_eq!(name("\"Doe, Jane \\\"JD\\\"\" <a@example.com>").as_deref(), Some("Doe, Jane \"JD\""));
    assert_eq!(name("Doe, Jane <a@example.com>").as_deref(), Some("Doe, Jane"));
}

#[test]
fn a_redriven_event_goes_to_the_recipients_that_failed() {
    let mut redriven = event(&json!({"to": ["a@example.com", "b@example.com"], "cc": "c@example.com"}));
    redriven.headers.insert("postlane-recipients".to_owned(), b"1,2".to_vec());
    redriven.headers.insert("postlane-message-id".to_owned(), b"email-queue-0-5-1".to_vec());
    let message = decode(&redriven).unwrap();
    assert_eq!(message.only_recipients, Some(vec![1, 2]));
    let mut tried = event(&json!({"retry_count": 2}));
    assert_eq!(decode(&tried).unwrap().retry_count, 2);
    tried.headers.insert("postlane-stage".to_owned(), b"send".to_vec());
    assert_eq!(decode(&tried).unwrap().retry_count, 0, "its attempts start anew");
    assert_eq!(message.id, "email-queue-0-5-1");
    redriven.headers.insert("postlane-recipients".to_owned(), b"3".to_vec());
    assert_eq!(fails(&redriven).0, Problem::Malformed);
}

proptest::proptest! {
    #[test]
    fn any_bytes_give_a_message_or_an_error(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
        let _ = decode(&record(bytes));
    }

    #[test]
    fn any_mailbox_text_gives_a_name_without_controls(text in "\\PC{0,20}[<\\r\\n\"]?\\PC{0,20}@example.com>?") {
        if let Ok(message) = decode(&event(&json!({"to": text}))) {
            assert!(!message.to[0].name.as_deref().unwrap_or_default().chars().any(char::is_control));
        }
    }
}
