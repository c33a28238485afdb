//! A [`Message`] to the value of a record: what [`decode`](super::decode) reads back.

use std::fmt::Write as _;

use chrono::{DateTime, SecondsFormat, Utc};
use lettre::message::Mailbox;
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::{Map, Value};

use super::Message;

/// Writes an event in the wire format.
///
/// A field that says nothing is left out; a list with a single mailbox is written as that mailbox, which producers and
/// consumers of the first days understand as well. [`Message::only_recipients`] is not part of it: it goes in a header
/// of the record.
///
/// [`decode`](super::decode) reads back the same message as long as it is one that the format can say: times from year
/// 2 to 9999, no empty text for the id or the kind, no control characters in a display name, no header field twice.
pub fn encode(message: &Message) -> Vec<u8> {
    let event = Event { kind: &message.kind, message: Fields::of(message) };
    serde_json::to_vec(&event).expect("texts, numbers and JSON values can be written")
}

/// A mailbox as an event holds it: `a@b`, or `"Name" <a@b>` with the name quoted (RFC 5322 3.2.4).
pub fn mailbox_text(mailbox: &Mailbox) -> String {
    let mut text = String::new();
    match mailbox.name.as_deref().filter(|name| !name.is_empty()) {
        Some(name) => {
            text.push('"');
            for c in name.chars() {
                if matches!(c, '"' | '\\') {
                    text.push('\\');
                }
                text.push(c);
            }
            _ = write!(text, "\" <{}>", mailbox.email);
        }
        None => text.push_str(mailbox.email.as_ref()),
    }
    text
}

#[derive(Serialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    message: Fields<'a>,
}

#[derive(Serialize)]
struct Fields<'a> {
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    #[serde(skip_serializing_if = "List::is_empty")]
    to: List,
    #[serde(skip_serializing_if = "List::is_empty")]
    cc: List,
    #[serde(skip_serializing_if = "List::is_empty")]
    bcc: List,
    #[serde(skip_serializing_if = "List::is_empty")]
    reply_to: List,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    template: &'a str,
    #[serde(skip_serializing_if = "Map::is_empty")]
    data: &'a Map<String, Value>,
    #[serde(skip_serializing_if = "Headers::is_empty")]
    headers: Headers<'a>,
    priority: String,
    timestamp: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    #[serde(skip_serializing_if = "is_zero")]
    retry_count: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_retries: Option<u32>,
}

impl<'a> Fields<'a> {
    fn of(message: &'a Message) -> Self {
        Self {
            id: &message.id,
            from: message.from.as_ref().map(mailbox_text),
            to: List::of(&message.to),
            cc: List::of(&message.cc),
            bcc: List::of(&message.bcc),
            reply_to: List::of(&message.reply_to),
            subject: message.subject.as_deref(),
            template: &message.template,
            data: &message.data,
            headers: Headers(&message.headers),
            priority: message.priority.to_string(),
            timestamp: time(message.timestamp),
            expires_at: message.expires_at.map(time),
            retry_count: message.retry_count,
            max_retries: message.max_retries,
        }
    }
}

/// A time as RFC 3339 has it, with as many digits as it needs.
pub(crate) fn time(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[derive(Serialize)]
#[serde(untagged)]
enum List {
    One(String),
    Several(Vec<String>),
}

impl List {
    fn of(mailboxes: &[Mailbox]) -> Self {
        match mailboxes {
            [mailbox] => Self::One(mailbox_text(mailbox)),
            several => Self::Several(several.iter().map(mailbox_text).collect()),
        }
    }

    fn is_empty(&self) -> bool {
        matches!(self, Self::Several(list) if list.is_empty())
    }
}

struct Headers<'a>(&'a [(String, String)]);

impl Headers<'_> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Headers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}
