//! Puts fields into an event that lack there, and leaves every other byte of a value as it is.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// An object of JSON in its order, its values as they stand.
struct Entries<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Entries<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Entries<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

/// Sets fields of `message` to texts.
///
/// # Errors
///
/// If the event is no JSON object with an object `message`.
pub(super) fn set(event: &[u8], fields: &[(&str, String)]) -> Result<Vec<u8>, serde_json::Error> {
    let Entries(mut entries) = serde_json::from_slice(event)?;
    // of a name that appears twice the last value counts
    let last = entries.iter().rposition(|(name, _)| name == "message");
    let Entries(mut message) = serde_json::from_str(last.map_or("", |at| entries[at].1.get()))?;
    message.retain(|(name, _)| fields.iter().all(|(field, _)| field != name));
    let mut values = Vec::new();
    for (name, text) in fields {
        values.push((*name, serde_json::value::to_raw_value(text)?));
    }
    message.extend(values.iter().map(|(name, value)| ((*name).to_owned(), &**value)));
    let message = RawValue::from_string(object(&message)?)?;
    if let Some(at) = last {
        entries[at].1 = &message;
    }
    Ok(object(&entries)?.into_bytes())
}

fn object(entries: &[(String, &RawValue)]) -> Result<String, serde_json::Error> {
    let entries: Result<Vec<String>, _> = entries
        .iter()
        .map(|(name, value)| serde_json::to_string(name).map(|name| format!("{name}:{}", value.get())))
        .collect();
    Ok(format!("{{{}}}", entries?.join(",")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(event: &str) -> String {
        let value = set(event.as_bytes(), &[("id", "a\"b".to_owned())]).expect("an event");
        String::from_utf8(value).expect("UTF-8")
    }

    #[test]
    fn a_field_is_put_in_and_the_rest_stays() {
        assert_eq!(
            filled(
                r#"{ "z": 1.0000000000000000001, "message" : { "to" :"a" , "id":null,"data":{"b":1,"a":[ 1 ]} }, "a":-0 }"#
            ),
            r#"{"z":1.0000000000000000001,"message":{"to":"a","data":{"b":1,"a":[ 1 ]},"id":"a\"b"},"a":-0}"#
        );
        assert_eq!(filled(r#"{"message":{}}"#), r#"{"message":{"id":"a\"b"}}"#);
    }

    #[test]
    fn the_last_of_two_counts() {
        assert_eq!(
            filled(r#"{"message":{"a":1},"message":{"id":"","\u0069d":null}}"#),
            r#"{"message":{"a":1},"message":{"id":"a\"b"}}"#
        );
    }

    #[test]
    fn what_is_no_event_is_an_error() {
        for event in ["", "[]", "{}", r#"{"message":1}"#] {
            assert!(set(event.as_bytes(), &[]).is_err(), "{event}");
        }
    }
}
