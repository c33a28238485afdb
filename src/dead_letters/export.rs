//! A letter as one line of JSON, for other tools.
//!
//! Pure. Bytes that are UTF-8 stand as text, others as Base64 in an object.

use chrono::SecondsFormat;
use data_encoding::BASE64;
use serde_json::{Map, Value, json};

use super::Letter;
use crate::{event::Message, kafka::dead_letter::headers};

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

/// The event alone, as `postlane send --file` takes it; nothing where there is no event.
///
/// With the id under which it was to be sent where it has none of its own, and without the recipients that were served.
/// That is one line, unless only blind copies are left: each of them gets its own, so that none sees the others.
pub fn event_lines(letter: &Letter) -> Vec<String> {
    let Ok(decoded) = &letter.event else { return Vec::new() };
    let value = letter.record.value.as_deref().and_then(|value| serde_json::from_slice::<Value>(value).ok());
    let Some(mut event) = value else { return Vec::new() };
    let Some(message) = event.get_mut("message").and_then(Value::as_object_mut) else { return Vec::new() };
    message.insert("id".to_owned(), decoded.id.as_str().into());
    message.remove("retry_count");
    let Some(only) = &decoded.only_recipients else { return vec![event.to_string()] };
    let mut lists = remaining(decoded, only);
    if lists[0].is_empty() {
        lists.swap(0, 1);
    }
    let mut each = Vec::new();
    if lists[0].is_empty() {
        each.extend(std::mem::take(&mut lists[2]).into_iter().map(|blind| [vec![blind], Vec::new(), Vec::new()]));
    } else {
        each.push(lists);
    }
    each.into_iter()
        .map(|lists| {
            let mut event = event.clone();
            for (field, list) in ["to", "cc", "bcc"].into_iter().zip(lists) {
                event["message"][field] = json!(list);
            }
            event.to_string()
        })
        .collect()
}

/// The mailboxes of to, cc and bcc that are among `only`.
fn remaining(message: &Message, only: &[usize]) -> [Vec<String>; 3] {
    let mut index = 0..;
    [&message.to, &message.cc, &message.bcc].map(|list| {
        let numbered = list.iter().zip(index.by_ref());
        numbered.filter(|(_, index)| only.contains(index)).map(|(mailbox, _)| mailbox.to_string()).collect()
    })
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
