//! A letter as one line of JSON, for other tools.
//!
//! Pure. Bytes that are UTF-8 stand as text, others as Base64 in an object.

use chrono::SecondsFormat;
use data_encoding::BASE64;
use serde_json::{Map, Value, json};

use super::Letter;
use crate::kafka::dead_letter::headers;

/// The letter with all that is in it: place, key, value and headers.
pub fn exported(letter: &Letter) -> Value {
    let record = &letter.record;
    json!({
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": record.timestamp.to_rfc3339_opts(SecondsFormat::Millis, true),
        "key": record.key.as_deref().map(bytes),
        "value": record.value.as_deref().map(bytes),
        "headers": record.headers.iter().map(|(name, value)| (name.clone(), header(name, value))).collect::<Map<_, _>>(),
    })
}

/// The event alone on one line, as `postlane send --file` takes it; nothing where there is no JSON.
///
/// With the id under which it was to be sent where it has none of its own, and without the recipients that were served.
pub fn event_line(letter: &Letter) -> Option<String> {
    let mut event: Value = serde_json::from_slice(letter.record.value.as_deref()?).ok()?;
    let id = letter.event.as_ref().ok().map(|message| message.id.clone());
    let message = event.get_mut("message")?.as_object_mut()?;
    let has_id = message.get("id").and_then(Value::as_str).is_some_and(|id| !id.is_empty());
    if let Some(id) = id.filter(|_| !has_id) {
        message.insert("id".to_owned(), id.into());
    }
    if let Some(only) = letter.event.as_ref().ok().and_then(|message| message.only_recipients.as_ref()) {
        let mut index = 0;
        for field in ["to", "cc", "bcc"] {
            let Some(value) = message.get_mut(field) else { continue };
            keep(value, only, &mut index);
        }
    }
    Some(event.to_string())
}

/// Takes out the mailboxes that are not among `only`; the first of them is number `index`.
fn keep(value: &mut Value, only: &[usize], index: &mut usize) {
    let mut wanted = || {
        *index += 1;
        only.contains(&(*index - 1))
    };
    match value {
        Value::String(text) if text.is_empty() || wanted() => {}
        Value::String(_) => *value = json!([]),
        Value::Array(list) => list.retain(|_| wanted()),
        _ => {}
    }
}

/// A header as a reader understands it: those of dead letters hold numbers.
pub fn header(name: &str, value: &[u8]) -> Value {
    let number = match name {
        headers::ORIGINAL_PARTITION => value.try_into().ok().map(|it| i64::from(i32::from_be_bytes(it))),
        headers::ORIGINAL_OFFSET | headers::ORIGINAL_TIMESTAMP => value.try_into().ok().map(i64::from_be_bytes),
        _ => None,
    };
    number.map_or_else(|| bytes(value), Value::from)
}

fn bytes(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => Value::from(text),
        Err(_) => json!({ "base64": BASE64.encode(bytes) }),
    }
}
