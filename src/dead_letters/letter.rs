//! A record of the dead letter topic to what it says.
//!
//! Pure. Nothing here fails: what somebody else has written into the topic is a letter with flaws.

use std::{fmt, str::FromStr, sync::Arc};

use chrono::{DateTime, Utc};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::{
    event::{self, DecodeError, Message},
    kafka::{Record, dead_letter::headers},
};

/// Where a letter lies in the dead letter topic; written as `partition:offset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The partition.
    pub partition: i32,
    /// The offset in it.
    pub offset: i64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.partition, self.offset)
    }
}

impl FromStr for Place {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let expected = "expected a partition and an offset such as 0:1742";
        let (partition, offset) = text.split_once(':').ok_or(expected)?;
        let (partition, offset) = (partition.parse().ok(), offset.parse().ok());
        match (partition, offset) {
            (Some(partition), Some(offset)) if partition >= 0 && offset >= 0 => Ok(Self { partition, offset }),
            _ => Err(expected),
        }
    }
}

/// Where a record was read before it died.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Original {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// The record's timestamp in milliseconds since the epoch; 0 where the letter does not say.
    pub timestamp: i64,
}

impl fmt::Display for Original {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}:{}", self.topic, self.partition, self.offset)
    }
}

/// A dead letter: its record as it stands in the topic, and what its headers say.
///
/// Every text in it may come from a stranger.
#[derive(Debug, Clone)]
pub struct Letter {
    /// The record.
    pub record: Record,
    /// Where the record was read before it died.
    pub original: Option<Original>,
    /// The consumer group whose service gave it up.
    pub group: Option<String>,
    /// One stable word for machines.
    pub reason: Option<String>,
    /// Where it failed.
    pub stage: Option<String>,
    /// The same as the reason for people.
    pub message: Option<String>,
    /// Attempts that were made.
    pub attempts: Option<u32>,
    /// The reply code, where a server answered.
    pub smtp_code: Option<String>,
    /// The enhanced status code, where the answer had one.
    pub smtp_enhanced: Option<String>,
    /// When it was given up.
    pub failed_at: Option<DateTime<Utc>>,
    /// Indices of the recipients that are still to be served, where those are not all.
    pub recipients: Option<String>,
    /// The id under which it was to be sent.
    pub message_id: Option<String>,
    /// Size in bytes of a record that did not fit into the topic.
    pub original_size: Option<u64>,
    /// What the service would read if it came back now.
    pub event: Result<Message, DecodeError>,
    /// What is missing or cannot be read, where postlane has not written the letter.
    pub flaws: Vec<String>,
}

impl Letter {
    /// Reads a record.
    pub fn read(record: Record) -> Self {
        let mut flaws = Vec::new();
        let text = |name: &str| {
            record
                .headers
                .get(name)
                .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
                .filter(|it| !it.is_empty())
        };
        for name in [headers::STAGE, headers::REASON] {
            if text(name).is_none() {
                flaws.push(format!("it has no header {name}"));
            }
        }
        let original = original(&record, &mut flaws);
        let event = decode(&record, original.as_ref());
        Self {
            group: text(headers::ORIGINAL_GROUP),
            reason: text(headers::REASON),
            stage: text(headers::STAGE),
            message: text(headers::EXCEPTION_MESSAGE),
            attempts: text(headers::ATTEMPTS).and_then(|text| text.parse().ok()),
            smtp_code: text(headers::SMTP_CODE),
            smtp_enhanced: text(headers::SMTP_ENHANCED),
            failed_at: text(headers::FAILED_AT)
                .and_then(|text| DateTime::parse_from_rfc3339(&text).ok())
                .map(|time| time.with_timezone(&Utc)),
            recipients: text(headers::RECIPIENTS),
            message_id: text(headers::MESSAGE_ID),
            original_size: text(headers::ORIGINAL_SIZE).and_then(|text| text.parse().ok()),
            original,
            event,
            flaws,
            record,
        }
    }

    /// Where it lies.
    pub fn place(&self) -> Place {
        Place { partition: self.record.partition, offset: self.record.offset }
    }

    /// When it died: as the letter says, else when it was written.
    pub fn died(&self) -> DateTime<Utc> {
        self.failed_at.unwrap_or(self.record.timestamp)
    }

    /// Whether postlane has not written it, as far as its headers tell.
    pub fn is_foreign(&self) -> bool {
        self.stage.is_none() || self.reason.is_none()
    }

    /// Name of its template, also of an event that cannot be read as a whole.
    pub fn template(&self) -> Option<String> {
        match &self.event {
            Ok(message) => Some(message.template.clone()),
            Err(_) => self.field("template").and_then(|value| value.as_str().map(str::to_owned)),
        }
    }

    /// The id of the mail: of the event, else as the letter says.
    pub fn id(&self) -> Option<String> {
        match &self.event {
            Ok(message) => Some(message.id.clone()),
            Err(_) => self
                .field("id")
                .and_then(|value| value.as_str().map(str::to_owned))
                .filter(|id| !id.is_empty())
                .or_else(|| self.message_id.clone()),
        }
    }

    /// Addresses of the recipients that are still to be served, in to, cc, bcc order. Of an event that cannot be read as a
    /// whole it is whatever stands there.
    pub fn addresses(&self) -> Vec<String> {
        match &self.event {
            Ok(message) => {
                let all = message.to.iter().chain(&message.cc).chain(&message.bcc).enumerate();
                let wanted =
                    all.filter(|(index, _)| message.only_recipients.as_ref().is_none_or(|only| only.contains(index)));
                wanted.map(|(_, mailbox)| mailbox.email.to_string()).collect()
            }
            Err(_) => {
                ["to", "cc", "bcc"].iter().filter_map(|name| self.field(name)).flat_map(|it| texts(&it)).collect()
            }
        }
    }

    /// Domains of [`addresses`](Self::addresses), each once, lower case.
    pub fn domains(&self) -> Vec<String> {
        let mut domains: Vec<String> = Vec::new();
        for address in self.addresses() {
            let Some((_, domain)) = address.rsplit_once('@') else { continue };
            let domain = domain.trim_end_matches('>').trim().to_lowercase();
            if !domain.is_empty() && !domains.contains(&domain) {
                domains.push(domain);
            }
        }
        domains
    }

    /// What tells this death from all others: the same of two letters that were written of one.
    ///
    /// The original's timestamp is in it, because a topic that was made anew has the same offsets again.
    pub fn identity(&self) -> Option<u128> {
        let original = self.original.as_ref()?;
        let mut hash = Sha256::new();
        hash.update(original.topic.as_bytes());
        hash.update([0]);
        hash.update(original.partition.to_be_bytes());
        hash.update(original.offset.to_be_bytes());
        hash.update(original.timestamp.to_be_bytes());
        let digest = hash.finalize();
        let first = digest.first_chunk().expect("SHA-256 has 32 bytes");
        Some(u128::from_be_bytes(*first))
    }

    fn field(&self, name: &str) -> Option<Value> {
        let event: Value = serde_json::from_slice(self.record.value.as_deref()?).ok()?;
        Some(event.get("message")?.get(name)?.clone())
    }
}

/// The texts in a value that is one or a list of them.
fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(list) => list.iter().filter_map(|it| it.as_str().map(str::to_owned)).collect(),
        _ => Vec::new(),
    }
}

fn original(record: &Record, flaws: &mut Vec<String>) -> Option<Original> {
    let topic = record.headers.get(headers::ORIGINAL_TOPIC)?;
    let mut missing = |name: &str| flaws.push(format!("its header {name} cannot be read"));
    let Ok(topic) = String::from_utf8(topic.clone()) else {
        missing(headers::ORIGINAL_TOPIC);
        return None;
    };
    let partition = number::<4>(record, headers::ORIGINAL_PARTITION).map(i32::from_be_bytes);
    let offset = number::<8>(record, headers::ORIGINAL_OFFSET).map(i64::from_be_bytes);
    let timestamp = number::<8>(record, headers::ORIGINAL_TIMESTAMP).map_or(0, i64::from_be_bytes);
    match (partition, offset) {
        (Some(partition), Some(offset)) => Some(Original { topic, partition, offset, timestamp }),
        (None, _) => {
            missing(headers::ORIGINAL_PARTITION);
            None
        }
        (_, None) => {
            missing(headers::ORIGINAL_OFFSET);
            None
        }
    }
}

fn number<const SIZE: usize>(record: &Record, name: &str) -> Option<[u8; SIZE]> {
    record.headers.get(name)?.as_slice().try_into().ok()
}

/// The event as the service would read it: an id that is derived comes from the original place.
fn decode(record: &Record, original: Option<&Original>) -> Result<Message, DecodeError> {
    match original {
        Some(original) => event::decode(&Record {
            topic: Arc::from(original.topic.as_str()),
            partition: original.partition,
            offset: original.offset,
            timestamp: DateTime::from_timestamp_millis(original.timestamp).unwrap_or(record.timestamp),
            ..record.clone()
        }),
        None => event::decode(record),
    }
}
