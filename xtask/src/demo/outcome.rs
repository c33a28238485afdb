//! What came of the events: read from the mail server's ledger, the dead letters and the service's log.
//!
//! Owns joining the three and comparing them with what was expected. Shows nothing.

use std::collections::BTreeMap;

use anyhow::Result;
use devkit::{kafka::StoredRecord, smtp::Ledger};
use postlane::mask;
use serde_json::Value;

use super::events::Event;

/// A mail that the server has accepted.
pub(super) struct Mail {
    /// Names its files, `0001.eml` and `0001.html`.
    pub(super) sequence: u64,
    pub(super) id: String,
    pub(super) lane: String,
    pub(super) subject: String,
    /// Recipients that were accepted, masked.
    pub(super) to: String,
    pub(super) attempts: u64,
    /// The server's name for it, where the log has it.
    pub(super) queue_id: String,
    pub(super) has_html: bool,
}

/// A dead letter, as its headers have it.
pub(super) struct Letter {
    pub(super) reason: String,
    pub(super) stage: String,
    pub(super) attempts: String,
    /// Code and enhanced code of the server's answer; empty where there was none.
    pub(super) code: String,
    /// Topic, partition and offset of the record.
    pub(super) origin: String,
    pub(super) key: String,
    pub(super) message: String,
    /// Whether it is about some of the recipients alone, and the others got the mail.
    pub(super) is_partial: bool,
}

/// All that came of the events.
pub(super) struct Outcome {
    events: Vec<Event>,
    pub(super) mails: Vec<Mail>,
    pub(super) letters: Vec<Letter>,
    /// What `kafka-consumer-groups --describe` wrote, as it is.
    pub(super) lag: String,
    oddities: Vec<String>,
}

impl Outcome {
    /// Reads all of them.
    ///
    /// # Errors
    /// When the log has a line that is no JSON.
    pub(super) fn new(
        events: Vec<Event>,
        ledger: &Ledger,
        letters: &[StoredRecord],
        log: &str,
        lag: String,
    ) -> Result<Self> {
        let ends = ends(log)?;
        let unknown = Value::Null;
        let mails = ledger.accepted().iter().map(|mail| {
            let id = mail.message_id().unwrap_or_default();
            let end = ends.get(id).unwrap_or(&unknown);
            let decoded = mail.decoded();
            let to: Vec<String> = mail.recipients.iter().map(|recipient| mask::text(recipient)).collect();
            Mail {
                sequence: mail.sequence,
                id: text(end, "id"),
                lane: text(end, "lane"),
                subject: decoded.as_ref().map(|decoded| decoded.subject.clone()).unwrap_or_default(),
                to: to.join(", "),
                attempts: end.get("attempts").and_then(Value::as_u64).unwrap_or_default(),
                queue_id: text(end, "reply").split_once("queued as ").map(|(_, id)| id.to_owned()).unwrap_or_default(),
                has_html: decoded.is_some_and(|decoded| decoded.html.is_some()),
            }
        });
        let mut oddities: Vec<String> = ledger.violations().to_vec();
        oddities.extend(ledger.duplicates().into_iter().map(|(id, copies)| format!("{copies} copies of {id}")));
        Ok(Self { mails: mails.collect(), letters: letters.iter().map(Letter::new).collect(), events, lag, oddities })
    }

    /// What is not as it should be.
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = self.oddities.clone();
        for event in self.events.iter().filter(|event| event.is_delivered()) {
            let arrived: Vec<u64> =
                self.mails.iter().filter(|mail| mail.id == event.key).map(|mail| mail.attempts).collect();
            if arrived != [event.attempts] {
                problems.push(format!(
                    "{} should have arrived once, after {} attempts, and has arrived after {arrived:?}",
                    event.key, event.attempts
                ));
            }
        }
        let delivered = self.events.iter().filter(|event| event.is_delivered()).count();
        if self.mails.len() != delivered {
            problems.push(format!("{} mails instead of {delivered}", self.mails.len()));
        }
        let mut expected: Vec<_> =
            self.events.iter().filter_map(|event| Some((event.key, event.dead_letter?))).collect();
        let mut written: Vec<_> =
            self.letters.iter().map(|letter| (letter.key.as_str(), letter.reason.as_str())).collect();
        expected.sort_unstable();
        written.sort_unstable();
        if written != expected {
            problems.push(format!("dead letters {written:?} instead of {expected:?}"));
        }
        problems
    }
}

impl Letter {
    fn new(record: &StoredRecord) -> Self {
        let header = |name: &str| record.header_text(name).unwrap_or_default();
        let number = |name: &str| {
            let bytes = record.headers.get(name).map(Vec::as_slice).unwrap_or_default();
            bytes.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte))
        };
        let origin = format!(
            "{} {}@{}",
            header("kafka_dlt-original-topic"),
            number("kafka_dlt-original-partition"),
            number("kafka_dlt-original-offset")
        );
        let code = format!("{} {}", header("postlane-smtp-code"), header("postlane-smtp-enhanced-code"));
        Self {
            reason: header("postlane-reason"),
            stage: header("postlane-stage"),
            attempts: header("postlane-attempts"),
            code: code.trim().to_owned(),
            origin,
            key: record.key.as_deref().map(|key| String::from_utf8_lossy(key).into_owned()).unwrap_or_default(),
            message: header("kafka_dlt-exception-message"),
            is_partial: record.headers.contains_key("postlane-recipients"),
        }
    }
}

/// The last line of the log about each mail, which tells its end, by Message-ID.
fn ends(log: &str) -> Result<BTreeMap<String, Value>> {
    let mut ends = BTreeMap::new();
    for line in log.lines().filter(|line| line.starts_with('{')) {
        let line: Value = serde_json::from_str(line)?;
        if line.get("outcome").is_some() && line.get("message_id").is_some() {
            ends.insert(text(&line, "message_id"), line);
        }
    }
    Ok(ends)
}

fn text(line: &Value, name: &str) -> String {
    line.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::{super::events, *};

    fn letter(key: &str, reason: &str) -> StoredRecord {
        let headers = [
            ("postlane-reason", reason.as_bytes()),
            ("postlane-smtp-code", b"550"),
            ("kafka_dlt-original-topic", b"mail"),
            ("kafka_dlt-original-partition", &[0, 0, 0, 2]),
            ("kafka_dlt-original-offset", &[0, 0, 0, 0, 0, 0, 1, 3]),
        ];
        StoredRecord {
            partition: 0,
            offset: 0,
            key: Some(key.as_bytes().to_vec()),
            value: None,
            headers: headers.map(|(name, value)| (name.to_owned(), value.to_vec())).into(),
            timestamp: "2026-11-23T20:01:02Z".parse().expect("a time"),
        }
    }

    fn outcome(letters: &[StoredRecord]) -> Outcome {
        Outcome::new(events::all(), &Ledger::default(), letters, "", String::new()).expect("an outcome")
    }

    #[test]
    fn a_letter_shows_where_its_record_stands() {
        let letter = Letter::new(&letter("a", "rejected"));
        assert_eq!((letter.origin.as_str(), letter.code.as_str(), letter.is_partial), ("mail 2@259", "550", false));
    }

    #[test]
    fn what_is_missing_is_told() {
        let problems = outcome(&[]).problems().join("\n");
        for event in events::all() {
            assert!(problems.contains(event.key), "{} is not in {problems}", event.key);
        }
    }

    #[test]
    fn a_dead_letter_for_another_reason_is_told() {
        let with = |reason| {
            outcome(
                &[("truncated", reason), ("report-7", "rejected"), ("survey-1", "unknown-template")]
                    .map(|(key, reason)| letter(key, reason)),
            )
            .problems()
        };
        let told = |problems: Vec<String>| problems.iter().any(|problem| problem.starts_with("dead letters"));
        assert!(!told(with("malformed")));
        assert!(told(with("expired")));
    }

    #[test]
    fn mails_are_joined_with_what_the_log_says_last() {
        let lines = "postlane: not JSON\n{\"outcome\":\"deferred\",\"message_id\":\"<a@b>\",\"attempts\":1}\n\
                     {\"outcome\":\"sent\",\"message_id\":\"<a@b>\",\"attempts\":2,\"reply\":\"250 ok\"}";
        let ends = ends(lines).expect("JSON");
        assert_eq!(ends.len(), 1);
        assert_eq!(ends["<a@b>"]["attempts"], 2);
    }
}
