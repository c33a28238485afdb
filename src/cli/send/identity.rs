//! An id for an event that has none, so that a repeat of it is the same mail.
//!
//! Changes nothing else of the event's bytes, and nothing at all of what is no event: whoever checks it says so better.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

#[derive(Deserialize)]
struct Outer<'a> {
    #[serde(borrow)]
    message: &'a RawValue,
}

#[derive(Deserialize)]
struct Inner<'a> {
    #[serde(borrow, default = "absent")]
    id: &'a RawValue,
}

fn absent() -> &'static RawValue {
    RawValue::NULL
}

/// The event with this id where it has none: absent, null and empty are the same (wire format).
pub(super) fn with_id(event: &[u8], id: impl FnOnce() -> String) -> Cow<'_, [u8]> {
    let Some((place, before, after)) = place(event) else { return Cow::Borrowed(event) };
    let quoted = serde_json::Value::String(id()).to_string();
    let mut whole = Vec::with_capacity(event.len() + quoted.len() + 8);
    whole.extend_from_slice(&event[..place.start]);
    whole.extend_from_slice(before.as_bytes());
    whole.extend_from_slice(quoted.as_bytes());
    whole.extend_from_slice(after.as_bytes());
    whole.extend_from_slice(&event[place.end..]);
    Cow::Owned(whole)
}

/// What an id replaces, and what stands before and behind it; `None` where the event has one, or is none.
fn place(event: &[u8]) -> Option<(std::ops::Range<usize>, &'static str, &'static str)> {
    // serde would take a list for a struct as well
    let object = |text: &&str| text.trim_start().starts_with('{');
    let text = std::str::from_utf8(event).ok().filter(object)?;
    let message = Some(serde_json::from_str::<Outer<'_>>(text).ok()?.message.get()).filter(object)?;
    let id = serde_json::from_str::<Inner<'_>>(message).ok()?.id.get();
    let offset = |part: &str| (part.as_ptr() as usize).checked_sub(text.as_ptr() as usize);
    match (id, offset(id).filter(|start| start + id.len() <= text.len())) {
        ("null" | "\"\"", Some(start)) => Some((start..start + id.len(), "", "")),
        ("null", None) => {
            let inside = offset(message)? + 1;
            let empty = message[1..message.len() - 1].trim().is_empty();
            Some((inside..inside, "\"id\":", if empty { "" } else { "," }))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_without_an_id_gets_one_and_keeps_the_rest() {
        for (event, expected) in [
            (r#"{"message":{"to":"a@b"}}"#, r#"{"message":{"id":"x-1","to":"a@b"}}"#),
            (r#"{"message": { }, "type":"t"}"#, r#"{"message": {"id":"x-1" }, "type":"t"}"#),
            (r#"{"message":{"to":"a@b","id":""}}"#, r#"{"message":{"to":"a@b","id":"x-1"}}"#),
            (r#"{"message":{"id": null ,"n":1e300}}"#, r#"{"message":{"id": "x-1" ,"n":1e300}}"#),
            (
                r#"{"id":"outer","message":{"data":{"id":"inner"}}}"#,
                r#"{"id":"outer","message":{"id":"x-1","data":{"id":"inner"}}}"#,
            ),
        ] {
            let event = with_id(event.as_bytes(), || "x-1".to_owned());
            assert_eq!(String::from_utf8_lossy(&event), expected);
        }
    }

    #[test]
    fn what_has_one_or_is_no_event_stays_as_it_is() {
        for event in [
            r#"{"message":{"id":"own","to":"a@b"}}"#,
            r#"{"message":{"id":17}}"#,
            r#"{"message":[]}"#,
            r#"{"message":{"id":"a","id":""}}"#,
            r#"{"message":{}"#,
            r#"{"mess":{}}"#,
            "[]",
            "{",
            "\u{feff}{}",
        ] {
            let same = with_id(event.as_bytes(), || panic!("{event} needs none"));
            assert_eq!(String::from_utf8_lossy(&same), event);
        }
        assert_eq!(&*with_id(b"\xff", || panic!("no text")), b"\xff");
    }
}
