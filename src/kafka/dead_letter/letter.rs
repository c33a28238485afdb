//! A record and its failure to the record of the dead letter topic.

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat, SubsecRound, Utc};

use super::{
    Failure,
    headers::{
        ATTEMPTS, EXCEPTION_MESSAGE, FAILED_AT, MESSAGE_ID, NAMES, ORIGINAL_GROUP, ORIGINAL_OFFSET, ORIGINAL_PARTITION,
        ORIGINAL_SIZE, ORIGINAL_TIMESTAMP, ORIGINAL_TOPIC, REASON, RECIPIENTS, SMTP_CODE, SMTP_ENHANCED, STAGE,
    },
};
use crate::{kafka::Record, mask};

/// Bytes of the exception message at the most.
const MESSAGE_LIMIT: usize = 1000;

/// Bytes of foreign headers that a stub keeps at the most.
const STUB_HEADERS_LIMIT: usize = 4096;

/// The dead letter of `record`: its key and value byte for byte, its headers, and what became of it.
///
/// Headers of the names that dead letters use are taken out first, so none survives from an earlier death; whom it was
/// redriven to and its id are said again where this failure does not say them.
pub fn letter(record: &Record, failure: &Failure, group: &str, now: DateTime<Utc>) -> rskafka::record::Record {
    let mut headers = foreign_headers(record);
    headers.extend(own_headers(record, failure, group, now));
    rskafka::record::Record {
        key: record.key.clone(),
        value: record.value.clone(),
        headers,
        // rskafka adds time differences up to batch timestamps in whole milliseconds.
        timestamp: now.trunc_subsecs(3),
    }
}

/// The dead letter of a record that the broker does not take whole: no value, the key, and the size of what is missing.
///
/// Foreign headers stay unless they are what makes it large (4 KiB). The record itself stays where it was read.
pub fn stub(record: &Record, failure: &Failure, group: &str, now: DateTime<Utc>) -> rskafka::record::Record {
    let mut headers = foreign_headers(record);
    if headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() > STUB_HEADERS_LIMIT {
        headers.clear();
    }
    headers.extend(own_headers(record, failure, group, now));
    headers.insert(ORIGINAL_SIZE.to_owned(), record.size().to_string().into_bytes());
    rskafka::record::Record { key: record.key.clone(), value: None, headers, timestamp: now.trunc_subsecs(3) }
}

fn foreign_headers(record: &Record) -> BTreeMap<String, Vec<u8>> {
    let foreign = record.headers.iter().filter(|(name, _)| !NAMES.contains(&name.as_str()));
    foreign.map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn own_headers(record: &Record, failure: &Failure, group: &str, now: DateTime<Utc>) -> Vec<(String, Vec<u8>)> {
    let mut headers: Vec<(&str, Vec<u8>)> = vec![
        (ORIGINAL_TOPIC, record.topic.as_bytes().to_vec()),
        (ORIGINAL_PARTITION, record.partition.to_be_bytes().to_vec()),
        (ORIGINAL_OFFSET, record.offset.to_be_bytes().to_vec()),
        (ORIGINAL_TIMESTAMP, record.timestamp.timestamp_millis().to_be_bytes().to_vec()),
        (ORIGINAL_GROUP, group.as_bytes().to_vec()),
        (EXCEPTION_MESSAGE, presentable(&failure.message).into_bytes()),
        (STAGE, failure.stage.as_str().into()),
        (REASON, failure.reason.as_str().into()),
        (ATTEMPTS, failure.attempts.to_string().into_bytes()),
        (FAILED_AT, now.to_rfc3339_opts(SecondsFormat::Millis, true).into_bytes()),
    ];
    let indices = |recipients: &Vec<usize>| recipients.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
    let recipients = failure.recipients.as_ref().map(|recipients| indices(recipients).into_bytes());
    // a redriven mail that fails for all that it was to be sent to: the others were served before its first death
    if let Some(recipients) = recipients.or_else(|| kept(record, RECIPIENTS)) {
        headers.push((RECIPIENTS, recipients));
    }
    if let Some(code) = failure.smtp_code {
        headers.push((SMTP_CODE, code.to_string().into_bytes()));
    }
    if let Some((class, subject, detail)) = failure.smtp_enhanced {
        headers.push((SMTP_ENHANCED, format!("{class}.{subject}.{detail}").into_bytes()));
    }
    let id = failure.message_id.as_ref().map(|id| id.clone().into_bytes());
    // of a record that could not be read this time the id of its first death is known
    if let Some(id) = id.or_else(|| kept(record, MESSAGE_ID)) {
        headers.push((MESSAGE_ID, id));
    }
    headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// A header of an earlier death, unless it is none of ours: what is too long to be one could make a stub too large as well.
fn kept(record: &Record, name: &str) -> Option<Vec<u8>> {
    record.headers.get(name).filter(|value| value.len() <= MESSAGE_LIMIT).cloned()
}

/// One line of at most [`MESSAGE_LIMIT`] bytes without controls, addresses and queries of URLs.
fn presentable(message: &str) -> String {
    let line: String = message.chars().map(|c| if breaks_line(c) { ' ' } else { c }).collect();
    let mut masked = mask::text(&mask_queries(&line));
    let mut end = masked.len().min(MESSAGE_LIMIT);
    while !masked.is_char_boundary(end) {
        end -= 1;
    }
    masked.truncate(end);
    masked
}

fn breaks_line(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')
}

/// Replaces what follows the first `?` or `#` of a URL: that is where reset tokens stand.
fn mask_queries(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for word in text.split_inclusive(' ') {
        let query = word.find("://").and_then(|scheme| Some(scheme + word[scheme..].find(['?', '#'])?));
        match query {
            Some(at) => {
                out.push_str(&word[..=at]);
                out.push_str("***");
                out.push_str(if word.ends_with(' ') { " " } else { "" });
            }
            None => out.push_str(word),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses_are_masked_and_domains_stay() {
        for (text, masked) in [
            ("550 5.1.1 <user@example.com>: user unknown", "550 5.1.1 <***@example.com>: user unknown"),
            ("a@b.c", "***@b.c"),
            ("to=o'brien+tag@example.com,x.y@z", "***@example.com,***@z"),
            ("\"john doe\"@example.com failed", "***@example.com failed"),
            (r#"to "a \" b"@example.com"#, "to ***@example.com"),
            ("user @ example.com", "***@ example.com"),
            ("no \"such\" address", "no \"such\" address"),
            ("SRS0=HH=TT=orig.org=alice@relay.net", "***@relay.net"),
            ("jörg@exämple.de", "***@exämple.de"),
            ("a@b@c", "***@***@c"),
            ("smtp://user:pass@relay.example", "smtp://user:***@relay.example"),
            ("link mailto:bob%40example.com", "link mailto:***%40example.com"),
            ("at the end@", "at the ***@"),
        ] {
            assert_eq!(presentable(text), masked);
        }
    }

    #[test]
    fn queries_of_urls_are_masked() {
        assert_eq!(
            presentable("bad link https://usualstore.com/reset?token=abc123 in line 3, why?"),
            "bad link https://usualstore.com/reset?*** in line 3, why?"
        );
        assert_eq!(presentable("x://h/#access_token=1"), "x://h/#***");
    }

    #[test]
    fn a_message_is_one_line_of_at_most_a_thousand_bytes_cut_between_characters() {
        assert_eq!(presentable("a\r\nb\0c\u{2028}d\u{85}e\tf"), "a  b c d e f");
        let cut = presentable(&format!("{}€uro", "x".repeat(998)));
        assert_eq!(cut, "x".repeat(998));
        assert_eq!(presentable(&"x".repeat(5000)).len(), 1000);
    }

    #[test]
    fn an_address_at_the_cut_does_not_show() {
        let message = format!("{} somebody@example.com", "x".repeat(990));
        assert_eq!(presentable(&message), format!("{} ***@examp", "x".repeat(990)));
    }

    #[test]
    fn whom_a_redriven_record_was_for_is_said_again() {
        use crate::kafka::dead_letter::{Reason, Stage};
        let old = [(RECIPIENTS, "1,2"), (MESSAGE_ID, "kept"), (SMTP_CODE, "550")];
        let record = Record {
            topic: "t".into(),
            partition: 0,
            offset: 0,
            timestamp: DateTime::UNIX_EPOCH,
            arrived: DateTime::UNIX_EPOCH,
            key: None,
            value: None,
            headers: old.map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec())).into(),
        };
        let mut failure = Failure {
            stage: Stage::Decode,
            reason: Reason::Malformed,
            message: String::new(),
            recipients: None,
            attempts: 0,
            smtp_code: None,
            smtp_enhanced: None,
            message_id: None,
        };
        let headers = letter(&record, &failure, "g", DateTime::UNIX_EPOCH).headers;
        assert_eq!((&headers[RECIPIENTS], &headers[MESSAGE_ID]), (&b"1,2".to_vec(), &b"kept".to_vec()));
        assert!(!headers.contains_key(SMTP_CODE));
        failure.recipients = Some(vec![2]);
        failure.message_id = Some("other".to_owned());
        let headers = letter(&record, &failure, "g", DateTime::UNIX_EPOCH).headers;
        assert_eq!((&headers[RECIPIENTS], &headers[MESSAGE_ID]), (&b"2".to_vec(), &b"other".to_vec()));
    }

    proptest! {
        #[test]
        fn any_text_becomes_a_short_line_without_local_parts(text in "(\\PC|[\\x00-\\x20@<>\":?]){0,1500}") {
            let line = presentable(&text);
            prop_assert!(line.len() <= MESSAGE_LIMIT);
            prop_assert!(!line.contains(breaks_line));
            for (at, _) in line.match_indices('@') {
                prop_assert!(line[..at].ends_with("***"));
            }
        }
    }
}
