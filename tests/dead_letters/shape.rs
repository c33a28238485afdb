//! The record of a dead letter, byte for byte.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use postlane::kafka::{
    Record,
    dead_letter::{Failure, Reason, Stage, letter, stub},
};

fn record() -> Record {
    Record {
        topic: "email-queue-high".into(),
        partition: 3,
        offset: 258,
        timestamp: DateTime::from_timestamp_millis(1_700_000_000_123).unwrap(),
        arrived: DateTime::from_timestamp_millis(1_700_000_000_123).unwrap(),
        key: Some(vec![0xff, 0x00]),
        value: Some(b"{\"type\": 1}\0\xfe".to_vec()),
        headers: BTreeMap::from([
            ("traceparent".to_owned(), b"00-ab-cd-01".to_vec()),
            ("kafka_dlt-exception-fqcn".to_owned(), b"java.lang.Exception".to_vec()),
            ("kafka_dlt-original-topic".to_owned(), b"older".to_vec()),
            ("kafka_dlt-exception-message".to_owned(), b"older".to_vec()),
            ("postlane-smtp-code".to_owned(), b"421".to_vec()),
            ("postlane-smtp-enhanced-code".to_owned(), b"4.7.0".to_vec()),
            ("postlane-attempts".to_owned(), b"7".to_vec()),
            ("postlane-original-size".to_owned(), b"1".to_vec()),
        ]),
    }
}

fn malformed() -> Failure {
    Failure {
        stage: Stage::Decode,
        reason: Reason::Malformed,
        message: "expected a string\n  for <a@example.com>".into(),
        recipients: None,
        attempts: 0,
        smtp_code: None,
        smtp_enhanced: None,
        message_id: None,
    }
}

fn now() -> DateTime<Utc> {
    "2026-11-23T20:01:02.003999Z".parse().unwrap()
}

fn headers(pairs: &[(&str, &[u8])]) -> BTreeMap<String, Vec<u8>> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), value.to_vec())).collect()
}

#[test]
fn a_letter_holds_the_record_and_its_end_and_nothing_of_an_earlier_one() {
    let written = letter(&record(), &malformed(), "messaging-service-group", now());
    assert_eq!(written.key, record().key);
    assert_eq!(written.value, record().value);
    assert_eq!(written.timestamp, "2026-11-23T20:01:02.003Z".parse::<DateTime<Utc>>().unwrap());
    let expected: &[(&str, &[u8])] = &[
        ("traceparent", b"00-ab-cd-01"),
        ("kafka_dlt-exception-fqcn", b"java.lang.Exception"),
        ("kafka_dlt-original-topic", b"email-queue-high"),
        ("kafka_dlt-original-partition", &[0, 0, 0, 3]),
        ("kafka_dlt-original-offset", &[0, 0, 0, 0, 0, 0, 1, 2]),
        ("kafka_dlt-original-timestamp", &[0x00, 0x00, 0x01, 0x8b, 0xcf, 0xe5, 0x68, 0x7b]),
        ("kafka_dlt-original-consumer-group", b"messaging-service-group"),
        ("kafka_dlt-exception-message", b"expected a string   for <***@example.com>"),
        ("postlane-stage", b"decode"),
        ("postlane-reason", b"malformed"),
        ("postlane-attempts", b"0"),
        ("postlane-failed-at", b"2026-11-23T20:01:02.003Z"),
    ];
    assert_eq!(written.headers, headers(expected));
}

#[test]
fn a_refusal_by_the_relay_names_codes_recipients_attempts_and_id() {
    let failure = Failure {
        stage: Stage::Send,
        reason: Reason::Rejected,
        message: "550 5.1.1 no such user".into(),
        recipients: Some(vec![0, 2, 11]),
        attempts: 3,
        smtp_code: Some(550),
        smtp_enhanced: Some((5, 1, 1)),
        message_id: Some("550e8400-e29b-41d4-a716-446655440000".into()),
    };
    let written = letter(&record(), &failure, "g", now()).headers;
    let text = |name: &str| std::str::from_utf8(&written[name]).unwrap();
    assert_eq!(text("postlane-stage"), "send");
    assert_eq!(text("postlane-reason"), "rejected");
    assert_eq!(text("postlane-recipients"), "0,2,11");
    assert_eq!(text("postlane-attempts"), "3");
    assert_eq!(text("postlane-smtp-code"), "550");
    assert_eq!(text("postlane-smtp-enhanced-code"), "5.1.1");
    assert_eq!(text("postlane-message-id"), "550e8400-e29b-41d4-a716-446655440000");
}

#[test]
fn a_redrive_is_still_limited_to_its_recipients_when_it_dies_again() {
    let mut redriven = record();
    redriven.headers.insert("postlane-recipients".to_owned(), b"1,3".to_vec());
    redriven.headers.insert("postlane-message-id".to_owned(), b"order-1".to_vec());
    let all_of_them = letter(&redriven, &malformed(), "g", now()).headers;
    assert_eq!(all_of_them["postlane-recipients"], b"1,3");
    assert_eq!(all_of_them["postlane-message-id"], b"order-1");
    let one_of_them = Failure { recipients: Some(vec![3]), message_id: Some("order-2".to_owned()), ..malformed() };
    let one_of_them = letter(&redriven, &one_of_them, "g", now()).headers;
    assert_eq!(one_of_them["postlane-recipients"], b"3");
    assert_eq!(one_of_them["postlane-message-id"], b"order-2");
}

#[test]
fn a_letter_that_dies_again_does_not_grow() {
    let once = letter(&record(), &malformed(), "g", now());
    let again = Record { headers: once.headers.clone(), ..record() };
    assert_eq!(letter(&again, &malformed(), "g", now()).headers, once.headers);
}

#[test]
fn a_stub_has_the_key_and_the_size_and_no_value() {
    let stub = stub(&record(), &malformed(), "g", now());
    assert_eq!((stub.key, stub.value), (record().key, None));
    assert_eq!(stub.headers["postlane-original-size"], record().size().to_string().into_bytes());
    assert_eq!(stub.headers["postlane-reason"], b"malformed");
    assert_eq!(stub.headers["traceparent"], b"00-ab-cd-01");
}

#[test]
fn a_stub_drops_headers_that_are_what_is_too_large() {
    let mut record = record();
    record.headers.insert("huge".to_owned(), vec![b'x'; 5000]);
    let stub = stub(&record, &malformed(), "g", now());
    assert!(!stub.headers.contains_key("huge"));
    assert_eq!(stub.headers["kafka_dlt-original-topic"], b"email-queue-high");
}

#[test]
fn the_words_for_machines_are_those_of_the_wire_format() {
    let stages = [Stage::Decode, Stage::Template, Stage::Compose, Stage::Send, Stage::Expired];
    assert_eq!(stages.map(Stage::as_str), ["decode", "template", "compose", "send", "expired"]);
    let reasons = [
        (Reason::Malformed, "malformed"),
        (Reason::UnknownTemplate, "unknown-template"),
        (Reason::RenderFailed, "render-failed"),
        (Reason::BadAddress, "bad-address"),
        (Reason::BadHeader, "bad-header"),
        (Reason::Unsupported, "unsupported"),
        (Reason::TooLarge, "too-large"),
        (Reason::Rejected, "rejected"),
        (Reason::RetriesExhausted, "retries-exhausted"),
        (Reason::OutcomeUnknown, "outcome-unknown"),
        (Reason::Expired, "expired"),
    ];
    for (reason, word) in reasons {
        assert_eq!(reason.as_str(), word);
    }
}
