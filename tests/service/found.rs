//! What a test finds when all is settled: dead letters, log and ledger, in a form that is easy to ask.

use std::collections::BTreeSet;

use devkit::{
    kafka::StoredRecord,
    service::Service,
    smtp::{Ledger, Mail},
};
use serde_json::Value;

use crate::bed::{Bed, end};

/// Headers that every dead letter has.
const ALWAYS: [&str; 10] = [
    "kafka_dlt-original-topic",
    "kafka_dlt-original-partition",
    "kafka_dlt-original-offset",
    "kafka_dlt-original-timestamp",
    "kafka_dlt-original-consumer-group",
    "kafka_dlt-exception-message",
    "postlane-stage",
    "postlane-reason",
    "postlane-attempts",
    "postlane-failed-at",
];

/// A dead letter.
#[derive(Debug)]
pub(crate) struct Letter(pub(crate) StoredRecord);

impl Letter {
    /// The id of its event, empty where it has none.
    pub(crate) fn id(&self) -> String {
        let event: Value = serde_json::from_str(&self.0.text()).unwrap_or_default();
        event["message"]["id"].as_str().unwrap_or_default().to_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<String> {
        self.0.header_text(name)
    }

    /// Stage, reason and attempts.
    pub(crate) fn cause(&self) -> (String, String, u32) {
        let text = |name| self.header(name).unwrap_or_else(|| panic!("{name} is absent in {self:?}"));
        let attempts = text("postlane-attempts").parse().expect("a number");
        (text("postlane-stage"), text("postlane-reason"), attempts)
    }

    pub(crate) fn assert_cause(&self, stage: &str, reason: &str, attempts: u32) {
        assert_eq!(self.cause(), (stage.to_owned(), reason.to_owned(), attempts), "{self:?}");
    }

    /// Asserts code and enhanced code; `""` stands for none.
    pub(crate) fn assert_reply(&self, code: &str, enhanced: &str) {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        assert_eq!(self.header("postlane-smtp-code"), some(code), "{self:?}");
        assert_eq!(self.header("postlane-smtp-enhanced-code"), some(enhanced), "{self:?}");
    }

    pub(crate) fn recipients(&self) -> Option<String> {
        self.header("postlane-recipients")
    }

    /// Asserts that it has these headers of ours beside those of every dead letter, and no other.
    pub(crate) fn assert_headers(&self, further: &[&str]) {
        let names: BTreeSet<&str> = self.0.headers.keys().map(String::as_str).collect();
        let expected: BTreeSet<&str> = ALWAYS.iter().chain(further).copied().collect();
        assert_eq!(names, expected);
    }

    pub(crate) fn int64(&self, name: &str) -> i64 {
        let bytes = self.0.headers.get(name).unwrap_or_else(|| panic!("{name} is absent"));
        i64::from_be_bytes(bytes.as_slice().try_into().expect("eight bytes"))
    }

    pub(crate) fn int32(&self, name: &str) -> i32 {
        let bytes = self.0.headers.get(name).unwrap_or_else(|| panic!("{name} is absent"));
        i32::from_be_bytes(bytes.as_slice().try_into().expect("four bytes"))
    }
}

/// What is there once nothing is left to do.
pub(crate) struct Found {
    pub(crate) letters: Vec<Letter>,
    pub(crate) log: String,
    pub(crate) ledger: Ledger,
}

impl Found {
    /// Waits until all is committed, ends the service, and looks; the server must have seen nothing that RFC 5321
    /// forbids.
    pub(crate) async fn at_the_end(bed: &Bed, mut service: Service) -> Self {
        bed.wait_for_no_lag(&mut service).await;
        let log = end(service).await;
        let letters = bed.dead_letters_now().await.into_iter().map(Letter).collect();
        let ledger = bed.smtp.ledger();
        assert!(ledger.violations().is_empty(), "{:?}", ledger.violations());
        Self { letters, log, ledger }
    }

    /// The one dead letter of the event with this id.
    pub(crate) fn letter(&self, id: &str) -> &Letter {
        let mut letters = self.letters.iter().filter(|letter| letter.id() == id);
        let letter = letters.next().unwrap_or_else(|| panic!("no dead letter of {id}:\n{}", self.log));
        assert!(letters.next().is_none(), "two dead letters of {id}");
        letter
    }

    pub(crate) fn assert_no_letters(&self) {
        assert!(self.letters.is_empty(), "{:?}\n{}", self.letters, self.log);
    }

    /// The fields of the log lines of this mail's outcomes, in their order.
    pub(crate) fn outcomes(&self, id: &str) -> Vec<Value> {
        let lines = self.log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|fields| fields["id"] == id).collect()
    }

    /// Asserts that the mail was sent with its attempt of this number, and how often it was put off before.
    pub(crate) fn assert_sent(&self, id: &str, attempts: u64, put_off: usize) {
        let outcomes = self.outcomes(id);
        let words: Vec<&str> = outcomes.iter().filter_map(|fields| fields["outcome"].as_str()).collect();
        let expected: Vec<&str> = std::iter::repeat_n("deferred", put_off).chain(["sent"]).collect();
        assert_eq!(words, expected, "of {id}:\n{}", self.log);
        assert_eq!(outcomes.last().expect("an outcome")["attempts"], attempts, "of {id}");
    }

    /// Asserts that each of these addresses was served once.
    pub(crate) fn assert_served_once<'a>(&self, recipients: impl IntoIterator<Item = &'a str>) {
        for recipient in recipients {
            assert_eq!(self.ledger.deliveries(recipient), 1, "deliveries to {recipient}");
        }
    }

    /// The accepted mails to this recipient.
    pub(crate) fn mails_to<'a>(&'a self, recipient: &'a str) -> impl Iterator<Item = &'a Mail> {
        let to = move |mail: &&Mail| mail.recipients.iter().any(|address| address == recipient);
        self.ledger.accepted().iter().map(AsRef::as_ref).filter(to)
    }

    pub(crate) fn count_lines(&self, part: &str) -> usize {
        self.log.lines().filter(|line| line.contains(part)).count()
    }
}
