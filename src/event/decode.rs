//! A record's value to a [`Message`]: absent, zero and foreign values as the wire format has them.

use std::fmt;

use chrono::{DateTime, Datelike, Utc};
use lettre::{Address, message::Mailbox};
use serde_json::{Map, Value};

use super::{Message, Priority};
use crate::kafka::Record;

/// Largest event that is read, in bytes. Brokers refuse records far below it unless told otherwise.
pub const MAX_EVENT_SIZE: usize = 64 << 20;

/// Longest `message.id` in bytes: it is repeated in logs and in dead letters.
const MAX_ID_SIZE: usize = 1000;

/// Header of every dead letter: an event that comes with it was sent back, and its attempts start anew.
const STAGE_HEADER: &str = "postlane-stage";
/// Header of a redriven dead letter: the recipients that are still to be served.
const RECIPIENTS_HEADER: &str = "postlane-recipients";
/// Header of a redriven dead letter: the id under which it was to be sent.
const MESSAGE_ID_HEADER: &str = "postlane-message-id";

/// Why a record cannot become a mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    /// Not an event of the wire format.
    Malformed,
    /// A mailbox that is none.
    BadAddress,
    /// Asks for something that is not built.
    Unsupported,
    /// Above [`MAX_EVENT_SIZE`].
    TooLarge,
}

/// A record that cannot become a mail: the field, and what was expected there. Holds no value of the record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct DecodeError {
    /// What kind of failure it is.
    pub problem: Problem,
    /// Path of the field, such as `message.to[1]`; empty for the record as a whole.
    pub field: String,
    /// What is wrong there.
    pub detail: String,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field.is_empty() { f.write_str(&self.detail) } else { write!(f, "{}: {}", self.field, self.detail) }
    }
}

fn malformed(field: &str, detail: impl Into<String>) -> DecodeError {
    DecodeError { problem: Problem::Malformed, field: field.to_owned(), detail: detail.into() }
}

type Object = Map<String, Value>;

/// Reads a record as an event.
///
/// # Errors
///
/// [`DecodeError`] naming the first field that is wrong.
pub fn decode(record: &Record) -> Result<Message, DecodeError> {
    let value = record.value.as_deref().ok_or_else(|| malformed("", "the record's value is null"))?;
    let mut message = decode_value(value, record.written())?;
    if message.id.is_empty() {
        message.id = id_of(record);
    }
    if record.headers.contains_key(STAGE_HEADER) {
        message.retry_count = 0;
    }
    let recipients = message.to.len() + message.cc.len() + message.bcc.len();
    message.only_recipients = only_recipients(record, recipients)?;
    Ok(message)
}

/// Reads the value of a record that was written at that time, without what its headers and its place say: an absent id
/// is empty.
pub(crate) fn decode_value(value: &[u8], written: DateTime<Utc>) -> Result<Message, DecodeError> {
    if value.len() > MAX_EVENT_SIZE {
        let detail = format!("{} bytes, at most {MAX_EVENT_SIZE} are read", value.len());
        return Err(DecodeError { problem: Problem::TooLarge, field: String::new(), detail });
    }
    let json = std::str::from_utf8(value)
        .map_err(|error| malformed("", format!("the value is not UTF-8 from byte {}", error.valid_up_to())))?;
    let event: Value = serde_json::from_str(json).map_err(|error| malformed("", json_problem(&error)))?;
    let Value::Object(event) = event else {
        return Err(malformed("", format!("expected a JSON object, found {}", kind_of(&event))));
    };
    let kind = optional_text(&event, "type", "type")?.unwrap_or("notification").to_owned();
    let message = match event.get("message") {
        Some(Value::Object(message)) => message,
        Some(other) => return Err(malformed("message", format!("expected an object, found {}", kind_of(other)))),
        None => return Err(malformed("message", "is absent")),
    };
    let to = mailboxes(message, "to")?;
    if to.is_empty() {
        return Err(malformed("message.to", "is absent: a mail needs a recipient"));
    }
    let (cc, bcc) = (mailboxes(message, "cc")?, mailboxes(message, "bcc")?);
    for field in ["attachments", "send_at"] {
        if message.get(field).is_some_and(|value| !is_zero(value)) {
            let detail = "is reserved and not supported yet".to_owned();
            return Err(DecodeError { problem: Problem::Unsupported, field: path(field), detail });
        }
    }
    Ok(Message {
        kind,
        id: id(message)?.unwrap_or_default().to_owned(),
        from: from(message)?,
        to,
        cc,
        bcc,
        reply_to: mailboxes(message, "reply_to")?,
        subject: text(message, "subject")?.map(str::to_owned),
        template: text(message, "template")?
            .map(str::to_owned)
            .ok_or_else(|| malformed("message.template", "is absent"))?,
        data: object(message, "data")?.cloned().unwrap_or_default(),
        headers: headers(message)?,
        priority: priority(message)?,
        timestamp: time(message, "timestamp")?.unwrap_or(written),
        expires_at: time(message, "expires_at")?,
        retry_count: number(message, "retry_count")?.unwrap_or(0),
        max_retries: number(message, "max_retries")?.filter(|number| *number > 0),
        only_recipients: None,
    })
}

/// What serde says, less the part of the text that it may quote.
fn json_problem(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        serde_json::error::Category::Eof => "ends too early",
        _ if error.to_string().starts_with("recursion limit") => "is nested deeper than 127 levels",
        _ => "is not valid",
    };
    format!("the JSON {what} at line {} column {}", error.line(), error.column())
}

fn path(field: &str) -> String {
    format!("message.{field}")
}

pub(crate) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// What a producer writes for a field that it leaves empty.
fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty() || parse_time(text).is_some_and(is_zero_time),
        Value::Array(list) => list.is_empty(),
        Value::Object(object) => object.is_empty(),
    }
}

fn optional_text<'a>(object: &'a Object, field: &str, path: &str) -> Result<Option<&'a str>, DecodeError> {
    match object.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
        Some(other) => Err(malformed(path, format!("expected text, found {}", kind_of(other)))),
    }
}

fn text<'a>(message: &'a Object, field: &str) -> Result<Option<&'a str>, DecodeError> {
    optional_text(message, field, &path(field))
}

fn object<'a>(message: &'a Object, field: &str) -> Result<Option<&'a Object>, DecodeError> {
    match message.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(object)) => Ok(Some(object)),
        Some(other) => Err(malformed(&path(field), format!("expected an object, found {}", kind_of(other)))),
    }
}

fn id(message: &Object) -> Result<Option<&str>, DecodeError> {
    let id = text(message, "id")?;
    match id.map(str::len).filter(|size| *size > MAX_ID_SIZE) {
        Some(size) => Err(malformed("message.id", format!("{size} bytes, at most {MAX_ID_SIZE} are taken"))),
        None => Ok(id),
    }
}

/// The identity of a mail that names none: the one that its dead letter kept, or the place of its record.
fn id_of(record: &Record) -> String {
    let kept = record.headers.get(MESSAGE_ID_HEADER).and_then(|bytes| std::str::from_utf8(bytes).ok());
    kept.filter(|id| (1..=MAX_ID_SIZE).contains(&id.len())).map_or_else(
        || format!("{}-{}-{}-{}", record.topic, record.partition, record.offset, record.timestamp.timestamp_millis()),
        str::to_owned,
    )
}

fn from(message: &Object) -> Result<Option<Mailbox>, DecodeError> {
    text(message, "from")?.map(|text| mailbox("message.from", text)).transpose()
}

fn mailboxes(message: &Object, field: &str) -> Result<Vec<Mailbox>, DecodeError> {
    match message.get(field) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::String(text)) if text.is_empty() => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(vec![mailbox(&path(field), text)?]),
        Some(Value::Array(list)) => list
            .iter()
            .enumerate()
            .map(|(index, entry)| {
                let path = format!("message.{field}[{index}]");
                match entry {
                    Value::String(text) => mailbox(&path, text),
                    other => Err(malformed(&path, format!("expected a mailbox, found {}", kind_of(other)))),
                }
            })
            .collect(),
        Some(other) => {
            Err(malformed(&path(field), format!("expected a mailbox or a list of them, found {}", kind_of(other))))
        }
    }
}

/// Characters that could end a header line or a command.
fn is_control(c: char) -> bool {
    c.is_control() || c == '\u{2028}' || c == '\u{2029}'
}

fn mailbox(path: &str, text: &str) -> Result<Mailbox, DecodeError> {
    let bad =
        |detail: &str| DecodeError { problem: Problem::BadAddress, field: path.to_owned(), detail: detail.to_owned() };
    parse_mailbox(text).map_err(bad)
}

/// Reads `a@b`, `<a@b>`, `Name <a@b>` or `"Name, with more" <a@b>`; a name may hold any text without controls.
///
/// # Errors
///
/// What is wrong, without the text. Unlike lettre's own parser it leaves nothing of the text unread.
pub fn parse_mailbox(text: &str) -> Result<Mailbox, &'static str> {
    if text.chars().any(is_control) {
        return Err("holds a control character");
    }
    let text = text.trim();
    let (name, address) = match text.strip_suffix('>').and_then(|rest| rest.rsplit_once('<')) {
        Some((name, address)) => (unquote(name.trim()), address.trim()),
        None => (None, text),
    };
    let address: Address = address.parse().map_err(|_| "expected a mailbox such as a@b or Name <a@b>")?;
    Ok(Mailbox { name, email: address })
}

/// A display name without its quotes (RFC 5322 3.2.4).
fn unquote(name: &str) -> Option<String> {
    let inner = name.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let name = match inner {
        None => name.to_owned(),
        Some(quoted) => {
            let mut plain = String::with_capacity(quoted.len());
            let mut characters = quoted.chars();
            while let Some(c) = characters.next() {
                plain.extend(if c == '\\' { characters.next() } else { Some(c) });
            }
            plain
        }
    };
    Some(name).filter(|name| !name.is_empty())
}

fn headers(message: &Object) -> Result<Vec<(String, String)>, DecodeError> {
    let Some(headers) = object(message, "headers")? else { return Ok(Vec::new()) };
    headers
        .iter()
        .map(|(name, value)| match value {
            Value::String(value) => Ok((name.clone(), value.clone())),
            other => Err(malformed("message.headers", format!("expected text in each, found {}", kind_of(other)))),
        })
        .collect()
}

/// A word that is no priority says nothing about the lane: it is no reason not to deliver a mail.
fn priority(message: &Object) -> Result<Priority, DecodeError> {
    let word = text(message, "priority")?.unwrap_or_default().trim().to_ascii_lowercase();
    Ok(match word.as_str() {
        "high" => Priority::High,
        "low" => Priority::Low,
        _ => Priority::Normal,
    })
}

fn parse_time(text: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(text).ok().map(|time| time.with_timezone(&Utc))
}

/// Go writes the year 1 for a time that was never set.
pub(crate) fn is_zero_time(time: DateTime<Utc>) -> bool {
    time.year() <= 1
}

fn time(message: &Object, field: &str) -> Result<Option<DateTime<Utc>>, DecodeError> {
    let Some(text) = text(message, field)? else { return Ok(None) };
    let time = parse_time(text)
        .ok_or_else(|| malformed(&path(field), "expected a time as RFC 3339 has it, such as 2026-01-05T08:00:00Z"))?;
    Ok(Some(time).filter(|time| !is_zero_time(*time)))
}

/// A count; one above the range of `u32` is its largest value.
fn number(message: &Object, field: &str) -> Result<Option<u32>, DecodeError> {
    match message.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Number(number)) if number.is_u64() => {
            Ok(number.as_u64().map(|number| u32::try_from(number).unwrap_or(u32::MAX)))
        }
        Some(other) => {
            Err(malformed(&path(field), format!("expected a whole number from 0, found {}", kind_of(other))))
        }
    }
}

fn only_recipients(record: &Record, recipients: usize) -> Result<Option<Vec<usize>>, DecodeError> {
    let Some(bytes) = record.headers.get(RECIPIENTS_HEADER) else { return Ok(None) };
    let indices: Option<Vec<usize>> = std::str::from_utf8(bytes).ok().and_then(|text| {
        text.split(',').map(|part| part.trim().parse().ok().filter(|index| *index < recipients)).collect()
    });
    indices.map(Some).ok_or_else(|| {
        malformed(
            &format!("header {RECIPIENTS_HEADER}"),
            format!("expected indices below {recipients}, separated by commas"),
        )
    })
}
