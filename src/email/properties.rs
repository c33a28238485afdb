//! What is accepted here the service takes, and reads as it was said.

use std::collections::BTreeMap;

use chrono::TimeZone;
use lettre::{Address, message::Mailbox};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{invalid::Problems, *};
use crate::{
    compose::{Rendered, compose},
    config, event,
    kafka::Record,
};

/// Text with what does harm more often than chance would have it.
fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        6 => "[ -~]{0,12}".prop_map(String::from),
        2 => "[a-zäß漢🦆]{0,40}".prop_map(String::from),
        1 => any::<char>().prop_map(String::from),
        1 => prop::sample::select(vec![
            "\r\nBcc: x@example.net\r\n", "\n", "\0", "=?utf-8?B?eA==?=", "\u{2028}", "\u{85}", "\u{feff}", "\t", "<", ">",
            "\"", "\\", ",", ";", ":", "  ", "@", "＠", "＞", "{{ x }}", "\u{7f}", "\u{a0}",
        ]).prop_map(String::from),
    ];
    prop::collection::vec(piece, 0..4).prop_map(|pieces| pieces.concat())
}

fn address() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => "[a-z]{1,8}(\\+[a-z]{1,4})?@[a-z]{1,8}\\.example",
        1 => Just("\"a,b\"@bücher.example".to_owned()),
        1 => "[a-z.<>\" ]{1,4}@[a-z\\[\\].ü:0-9-]{1,10}",
        1 => text(),
    ]
}

/// All the ways in which an application can name somebody.
fn mailboxes() -> impl Strategy<Value = Mailboxes> {
    let one = (0..4, text(), address()).prop_map(|(way, name, address)| match way {
        0 => Mailboxes::from(address),
        1 => Mailboxes::from(format!("{name} <{address}>")),
        2 => Mailboxes::from((name, address)),
        _ => {
            let (user, domain) = address.rsplit_once('@').unwrap_or(("a", "example.com"));
            let name = Some(name).filter(|name| !name.contains(['\r', '\n']));
            Mailboxes::from(Mailbox { name, email: Address::new_dangerous(user, domain) })
        }
    });
    prop::collection::vec(one, 0..3).prop_map(|all| all.into_iter().collect())
}

/// Without fractions, which lose their last digit on the way through JSON.
fn data() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    let value = leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(text(), inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect::<Map<_, _>>())),
        ]
    });
    prop_oneof![
        8 => prop::collection::btree_map(text(), value.clone(), 0..4)
            .prop_map(|map| Value::Object(map.into_iter().collect::<Map<_, _>>())),
        1 => value,
    ]
}

fn time() -> impl Strategy<Value = DateTime<Utc>> {
    let seconds = prop_oneof![3 => 0..4_000_000_000_i64, 1 => -70_000_000_000..300_000_000_000_i64];
    (seconds, 0..2_000_000_000_u32).prop_map(|(seconds, nanos)| {
        // a leap second is one only at the end of a minute
        let nanos = if seconds.rem_euclid(60) == 59 { nanos } else { nanos % 1_000_000_000 };
        Utc.timestamp_opt(seconds, nanos).single().expect("a time")
    })
}

fn rarely<T: std::fmt::Debug + Clone>(strategy: impl Strategy<Value = T>) -> impl Strategy<Value = Option<T>> {
    prop::option::weighted(0.3, strategy)
}

/// One mail; most of them have nothing nasty about them but one or two of their fields.
fn emails() -> impl Strategy<Value = Email> {
    let people = (address(), rarely(mailboxes()), rarely(mailboxes()), rarely(mailboxes()), rarely(mailboxes()));
    let texts = (rarely(text()), rarely(text()), rarely(text()), rarely(mailboxes()));
    let template = prop_oneof![9 => "[a-z-]{1,10}".prop_map(String::from), 1 => text()];
    let name = prop_oneof![4 => "X-[A-Za-z]{1,20}".prop_map(String::from), 1 => text()];
    let rest = (
        rarely(data()),
        rarely(prop::collection::vec((name, text()), 0..3)),
        prop::sample::select(Priority::ALL.to_vec()),
        (rarely(time()), rarely(time())),
        rarely(0..1100_u32),
    );
    (people, texts, template, rest).prop_map(|(people, texts, template, rest)| {
        let mut email = Email::to(people.0).template(template).priority(rest.2);
        if let Some(mailboxes) = people.1 {
            email = email.and_to(mailboxes);
        }
        if let Some(mailboxes) = people.2 {
            email = email.cc(mailboxes);
        }
        if let Some(mailboxes) = people.3 {
            email = email.bcc(mailboxes);
        }
        if let Some(mailboxes) = people.4 {
            email = email.reply_to(mailboxes);
        }
        (email.kind, email.id, email.subject, email.from) = texts;
        if let Some(data) = rest.0 {
            email = email.data(data);
        }
        email.headers = rest.1.unwrap_or_default();
        email.timestamp = rest.3.0;
        if let Some(at) = rest.3.1 {
            email = email.expires_at(at);
        }
        email.max_attempts = rest.4;
        email
    })
}

fn record(prepared: &Prepared) -> Record {
    Record {
        topic: "email-queue".into(),
        partition: 0,
        offset: 0,
        timestamp: prepared.timestamp,
        arrived: prepared.timestamp,
        key: Some(prepared.id.clone().into_bytes()),
        value: Some(prepared.value.clone()),
        headers: prepared.headers.clone(),
    }
}

fn now() -> DateTime<Utc> {
    "2026-01-05T08:00:00.123Z".parse().expect("a time")
}

fn service() -> config::Mail {
    config::Mail {
        from: Some("Default <default@example.com>".parse().expect("mailbox")),
        envelope_from: None,
        redirect_to: None,
        max_size: 10_000_000,
        subject_templates: false,
        templates_dir: None,
    }
}

fn composes(prepared: &Prepared) -> Result<(), TestCaseError> {
    let read = event::decode(&record(prepared)).map_err(|error| TestCaseError::fail(format!("decode: {error}")))?;
    prop_assert_eq!(&read, &prepared.message);
    let rendered = Rendered { subject: Some("Subject".into()), text: Some("x".into()), html: None };
    let mail =
        compose(&read, rendered, &service()).map_err(|error| TestCaseError::fail(format!("compose: {error}")))?;
    prop_assert!(read.expires_at.is_none_or(|at| at > prepared.timestamp));
    prop_assert!(!mail.recipients.is_empty());
    Ok(())
}

/// The mailboxes as said: names without the blanks around them, which no field shows.
fn said(mailboxes: &Mailboxes) -> Vec<Mailbox> {
    mailboxes.parsed().map(|mailbox| mailbox.expect("was accepted")).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_accepted_can_be_sent_as_it_was_said(email in emails()) {
        match email.clone().prepare_at(&Defaults::default(), now()) {
            Ok(prepared) => {
                composes(&prepared)?;
                let read = &prepared.message;
                prop_assert_eq!(&read.kind, email.kind.as_deref().unwrap_or("notification"));
                prop_assert_eq!(&read.id, email.id.as_ref().unwrap_or(&prepared.id));
                prop_assert_eq!(&read.from.clone().into_iter().collect::<Vec<_>>(), &email.from.as_ref().map(said).unwrap_or_default());
                prop_assert_eq!(&read.to, &said(&email.to));
                prop_assert_eq!(&read.cc, &said(&email.cc));
                prop_assert_eq!(&read.bcc, &said(&email.bcc));
                prop_assert_eq!(&read.reply_to, &said(&email.reply_to));
                prop_assert_eq!(&read.subject, &email.subject);
                prop_assert_eq!(Some(&read.template), email.template.as_ref());
                let data = email.data.clone().expect("was accepted");
                prop_assert_eq!(&Value::Object(read.data.clone()), if data.is_null() { &json!({}) } else { &data });
                let sorted: BTreeMap<_, _> = email.headers.iter().cloned().collect();
                prop_assert_eq!(&read.headers, &sorted.into_iter().collect::<Vec<_>>());
                prop_assert_eq!((read.priority, prepared.priority), (email.priority, email.priority));
                prop_assert_eq!(read.timestamp, email.timestamp.unwrap_or_else(now));
                let expires = match email.expires { Expiry::At(at) => Some(at), _ => None };
                prop_assert_eq!((read.expires_at, read.max_retries), (expires, email.max_attempts));
            }
            Err(error) => prop_assert!(!error.to_string().contains(|c: char| c.is_control()), "{error}"),
        }
    }

    #[test]
    fn an_event_that_is_accepted_can_be_sent(email in emails(), cut in any::<prop::sample::Index>()) {
        // any event that an application can ask for, right or wrong
        let mut problems = Problems::default();
        let message = email.into_message(&Defaults::default(), now(), &mut problems);
        let mut value = event::encode(&message);
        if let Ok(prepared) = Prepared::from_event_at(value.clone(), &Defaults::default(), now()) {
            composes(&prepared)?;
        }
        let mut nameless: Value = serde_json::from_slice(&value).expect("JSON");
        nameless["message"].as_object_mut().expect("an object").remove("id");
        let pretty = serde_json::to_vec_pretty(&nameless).expect("JSON");
        let named = Prepared::from_event_at(value.clone(), &Defaults::default(), now());
        match Prepared::from_event_at(pretty, &Defaults::default(), now()) {
            Ok(prepared) => {
                composes(&prepared)?;
                prop_assert!(named.is_ok() && prepared.id.len() == 36);
                nameless["message"]["id"] = prepared.id.into();
                prop_assert_eq!(serde_json::from_slice::<Value>(&prepared.value).expect("JSON"), nameless);
            }
            Err(_) => prop_assert!(named.is_err()),
        }
        value.truncate(cut.index(value.len()));
        prop_assert!(Prepared::from_event_at(value, &Defaults::default(), now()).is_err());
    }
}
