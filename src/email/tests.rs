use lettre::{Address, message::Mailbox};
use serde_json::{Value, json};

use super::*;
use crate::{
    compose::{Rendered, compose},
    config, event,
};

fn now() -> DateTime<Utc> {
    "2026-01-05T08:00:00.123Z".parse().expect("a time")
}

fn email() -> Email {
    Email::to("ann@example.com").template("plain")
}

fn prepared(email: Email) -> Prepared {
    email.prepare_at(&Defaults::default(), now()).expect("a good mail")
}

/// The problems as `field: text`.
fn problems(email: Email) -> Vec<String> {
    listed(email.prepare_at(&Defaults::default(), now()))
}

fn listed(result: Result<Prepared, InvalidEmail>) -> Vec<String> {
    result.expect_err("refused").problems().iter().map(ToString::to_string).collect()
}

fn value(prepared: &Prepared) -> Value {
    serde_json::from_slice(&prepared.value).expect("JSON")
}

fn header<'a>(prepared: &'a Prepared, name: &str) -> Option<&'a str> {
    prepared.headers.get(name).map(|value| std::str::from_utf8(value).expect("text"))
}

#[test]
fn the_event_says_what_the_application_said() {
    let prepared = prepared(
        Email::to("Ann <ann@example.com>")
            .and_to(("Smith, \"Bob\"", "bob@example.com"))
            .cc(vec!["c@example.com"])
            .bcc(["d@example.com".to_owned(), "e@example.com".to_owned()])
            .reply_to("help@example.com".parse::<Address>().expect("address"))
            .from(Mailbox::new(Some("Shop".into()), "shop@example.com".parse().expect("address")))
            .subject("Your link")
            .template("password-reset")
            .data(json!({ "Link": "https://example.com/reset" }))
            .header("X-Campaign", "reset")
            .priority(Priority::High)
            .kind("password_reset")
            .id("reset-1")
            .timestamp("2026-01-05T07:59:59Z".parse().expect("a time"))
            .expires_in(Duration::from_secs(900))
            .max_attempts(5),
    );
    assert_eq!(
        value(&prepared),
        json!({
            "type": "password_reset",
            "message": {
                "id": "reset-1",
                "from": "\"Shop\" <shop@example.com>",
                "to": ["\"Ann\" <ann@example.com>", "\"Smith, \\\"Bob\\\"\" <bob@example.com>"],
                "cc": "c@example.com",
                "bcc": ["d@example.com", "e@example.com"],
                "reply_to": "help@example.com",
                "subject": "Your link",
                "template": "password-reset",
                "data": { "Link": "https://example.com/reset" },
                "headers": { "X-Campaign": "reset" },
                "priority": "high",
                "timestamp": "2026-01-05T07:59:59Z",
                "expires_at": "2026-01-05T08:15:00.123Z",
                "max_retries": 5,
            },
        })
    );
    assert_eq!((prepared.id.as_str(), prepared.priority, prepared.timestamp), ("reset-1", Priority::High, now()));
    assert_eq!(prepared.message, event::decode_value(&prepared.value, DateTime::UNIX_EPOCH).expect("an event"));
    assert_eq!(prepared.message.to[1].name.as_deref(), Some("Smith, \"Bob\""));
    let headers: Vec<_> = prepared.headers.keys().map(|name| (name.as_str(), header(&prepared, name))).collect();
    assert_eq!(
        headers,
        [("priority", Some("high")), ("timestamp", Some("2026-01-05T07:59:59Z")), ("type", Some("password_reset")),]
    );
}

#[test]
fn what_is_not_said_is_not_written() {
    let first = prepared(email());
    let id = first.id.clone();
    assert_eq!(
        value(&first),
        json!({
            "type": "notification",
            "message": {
                "id": id, "to": "ann@example.com", "template": "plain", "priority": "normal",
                "timestamp": "2026-01-05T08:00:00.123Z",
            },
        })
    );
    assert_eq!(id.len(), 36);
    assert_ne!(prepared(email()).id, id, "each mail has an id of its own");
    assert_eq!(prepared(email().data(())).message.data.len(), 0);
}

#[test]
fn every_problem_is_named_at_once() {
    let wrong = Email::to("nobody")
        .and_to(["ann@example.com", "ü@example.com"])
        .cc(("A\r\nBcc: x", "a@example.com"))
        .bcc([("Name", "Other <a@example.com>")])
        .reply_to("<>")
        .from("")
        .subject("Hello\nBcc: x@example.com")
        .data([1])
        .header("Subject", "x")
        .header("X-A", "a")
        .header("x-a", "b")
        .header("X-B", "\n")
        .id("")
        .kind("")
        .template("no/template")
        .timestamp(DateTime::UNIX_EPOCH - chrono::TimeDelta::days(3_650_000))
        .expires_at(now())
        .max_attempts(0);
    assert_eq!(
        problems(wrong),
        [
            "message.from: expected a mailbox such as a@b or Name <a@b>",
            "message.to[0]: expected a mailbox such as a@b or Name <a@b>",
            "message.cc[0]: holds a control character",
            "message.bcc[0]: expected an address alone beside the name",
            "message.reply_to[0]: expected a mailbox such as a@b or Name <a@b>",
            "message.id: is empty",
            "type: is empty",
            "message.max_retries: expected 1 to 1000 attempts",
            "message.template: expected a template's name: letters, digits, '-', '_' and '.', at most 64",
            "message.timestamp: expected a time from year 2 to 9999",
            "message.data: expected an object, found a list",
            "message.expires_at: has passed already",
            "message.to[2]: the part before the @ is not ASCII",
            "message.subject: control characters",
            "message.headers.Subject: this field may not be set by an event",
            "message.headers.x-a: the field appears twice",
            "message.headers.X-B: control characters",
        ]
    );
}

#[test]
fn each_field_has_its_limits() {
    let past_the_end = now() + chrono::TimeDelta::days(8000 * 365);
    for (wrong, expected) in [
        (Email::to(Vec::<String>::new()).template("plain"), "message.to: is absent: a mail needs a recipient"),
        (Email::to("a@example.com"), "message.template: is absent"),
        (email().template(""), "message.template: is absent"),
        (email().template("layouts"), "message.template: expected a template's name"),
        (email().template(".hidden"), "message.template: expected a template's name"),
        (email().template("x".repeat(65)), "message.template: expected a template's name"),
        (email().subject(" "), "message.subject: is blank"),
        (email().subject("x".repeat(70_000)), "message: header fields of "),
        (email().id("x".repeat(1001)), "message.id: 1001 bytes, at most 1000 are taken"),
        (email().from(["a@example.com", "b@example.com"]), "message.from: expected one mailbox"),
        (email().from(Vec::<&str>::new()), "message.from: expected one mailbox"),
        (email().from("ü@example.com"), "message.from: the part before the @ is not ASCII"),
        (email().bcc(vec!["a@example.com"; 100]), "message: 101 recipients, at most 100"),
        (email().max_attempts(1001), "message.max_retries: expected 1 to 1000 attempts"),
        (email().expires_at(past_the_end), "message.expires_at: expected a time before the year 10000"),
        (email().expires_in(Duration::MAX), "message.expires_at: expected a time before the year 10000"),
        (email().expires_in(Duration::ZERO), "message.expires_at: has passed already"),
        (email().timestamp(past_the_end), "message.timestamp: expected a time from year 2 to 9999"),
        (email().data("text"), "message.data: expected an object, found text"),
        (email().data(std::collections::HashMap::from([((1, 2), 3)])), "message.data: cannot be written as JSON"),
        (email().data(json!({ "x": "y".repeat(MAX_SIZE) })), "message: the event has 1000"),
        (email().header("X Y", "z"), "message.headers[0]: the name of the field is not valid"),
        (email().header("X-Long", "x".repeat(901)), "message.headers.X-Long: a word is too long for a line"),
    ] {
        let found = problems(wrong);
        assert!(found.len() == 1 && found[0].starts_with(expected), "{found:?}, expected {expected}");
    }
    let mut deep = json!(1);
    for _ in 0..130 {
        deep = json!([deep]);
    }
    let found = problems(email().data(json!({ "x": deep })));
    assert!(found[0].starts_with("message.data: the JSON is nested deeper than 127 levels"), "{found:?}");
}

#[test]
fn a_message_tells_nothing_of_people() {
    let wrong = Email::to("secret nobody").cc(("Secret\n", "secret@example.com")).header("secret@example.com", "x");
    let error = wrong.clone().data(["secret"]).check().expect_err("wrong");
    assert!(!format!("{error} {error:?} {wrong:?}").contains("ecret"), "{error}");
    let by_address = email().id("reset-ann@example.com").kind("ann@example.com").template("ann@example.com");
    assert!(!format!("{by_address:?}").contains("ann@"), "{by_address:?}");
    assert!(!format!("{:?}", prepared(email().id("ann@example.com").data(json!({ "a": "secret" })))).contains("ann@"));
}

#[test]
fn the_sender_may_come_from_the_settings() {
    let from = Some("\"Shop, The\" <shop@example.com>".parse().expect("mailbox"));
    let defaults = Defaults { from, from_needed: true, ..Defaults::default() };
    let mail = email().prepare_at(&defaults, now()).expect("good");
    assert_eq!(value(&mail)["message"]["from"], "\"Shop, The\" <shop@example.com>");
    let own = email().from("me@example.com").prepare_at(&defaults, now()).expect("good");
    assert_eq!(value(&own)["message"]["from"], "me@example.com");
    let needed = Defaults { from_needed: true, ..Defaults::default() };
    assert_eq!(listed(email().prepare_at(&needed, now())), ["message.from: is absent and MAIL_FROM is not set"]);
    assert!(email().prepare_at(&Defaults::default(), now()).is_ok(), "the service may know one");
    let read = |defaults| Prepared::from_event_at(mail_without_sender(), defaults, now());
    assert_eq!(value(&read(&defaults).expect("good"))["message"]["from"], "\"Shop, The\" <shop@example.com>");
    assert_eq!(listed(read(&needed)), ["message.from: is absent and MAIL_FROM is not set"]);
}

fn mail_without_sender() -> Vec<u8> {
    br#"{"message":{"id":"x","to":"a@example.com","template":"plain"}}"#.to_vec()
}

#[test]
fn an_event_stays_as_it_is() {
    let read = |event: &str| Prepared::from_event_at(event.as_bytes().to_vec(), &Defaults::default(), now());
    let event = r#" {"x": 1.00, "type":"welcome","message":{"data":{"b":2,"a":1e400000},"to":"a@example.com"} }"#;
    assert!(read(event).is_err(), "a number that nothing can hold");
    let event =
        r#" {"x": 1.00,"message":{"to":"a@example.com","template":"plain","id":"7","priority":"LOW"},"type":"w" }"#;
    let kept = read(event).expect("good");
    assert_eq!(kept.value, event.as_bytes());
    assert_eq!((kept.id.as_str(), kept.priority, kept.message.timestamp), ("7", Priority::Low, now()));
    assert_eq!((header(&kept, "type"), header(&kept, "priority")), (Some("w"), Some("low")));
    for id in ["", r#","id":null"#, r#","id":"""#] {
        let event = format!(r#"{{"message":{{"to":"a@example.com","template":"plain"{id}}}}}"#);
        let filled = read(&event).expect("good");
        assert_eq!(filled.id.len(), 36);
        assert_eq!((&value(&filled)["message"]["id"], &filled.message.id), (&json!(filled.id), &filled.id));
    }
}

#[test]
fn a_wrong_event_names_its_field() {
    let read = |event: &str| listed(Prepared::from_event_at(event.as_bytes().to_vec(), &Defaults::default(), now()));
    for (event, expected) in [
        ("", "the JSON ends too early at line 1 column 0"),
        ("[]", "expected a JSON object, found a list"),
        (r#"{"message":{"to":["a@example.com","x"],"template":"plain"}}"#, "message.to[1]: expected a mailbox"),
        (r#"{"message":{"to":"a@example.com","template":"a b"}}"#, "message.template: expected a template's name"),
        (r#"{"message":{"to":"a@-","template":"plain"}}"#, "message.to: expected a mailbox"),
        (r#"{"message":{"to":"a@b","template":"plain","attachments":[1]}}"#, "message.attachments: is reserved"),
        (
            r#"{"message":{"to":"a@b","template":"plain","expires_at":"2026-01-05T08:00:00Z"}}"#,
            "message.expires_at: has passed already",
        ),
    ] {
        let found = read(event);
        assert!(found.len() == 1 && found[0].starts_with(expected), "{found:?}, expected {expected}");
    }
    let several = r#"{"message":{"to":"a@b","template":"a b","subject":"a\n","headers":{"To":"x"}}}"#;
    assert_eq!(read(several).len(), 3);
    let large = format!(r#"{{"message":{{"to":"a@b","template":"plain","data":{{"x":"{}"}}}}}}"#, "x".repeat(MAX_SIZE));
    assert!(read(&large)[0].starts_with("message: the event has 1000"), "{:?}", read(&large));
}

#[test]
fn somebody_can_be_named_in_many_ways() {
    let all = |mailboxes: Mailboxes| prepared(Email::to(mailboxes).template("plain")).message.to;
    let address: Address = "a@example.com".parse().expect("address");
    let mailbox = Mailbox::new(None, address.clone());
    let one = vec![mailbox.clone()];
    let text = "a@example.com".to_owned();
    for to in [
        all("a@example.com".into()),
        all((&text).into()),
        all(text.clone().into()),
        all((&mailbox).into()),
        all(mailbox.clone().into()),
        all(address.into()),
        all(("", "a@example.com").into()),
        all(["a@example.com"].into()),
        all((&["a@example.com"]).into()),
        all((&one).into()),
        all(one.as_slice().into()),
        all(vec!["a@example.com"].into()),
        all(std::iter::once("<a@example.com>").collect()),
    ] {
        assert_eq!(to, one);
    }
}

#[test]
fn a_header_that_is_just_small_enough_is_so_for_every_sender() {
    let accepted = |size: usize| email().subject("x ".repeat(size) + "x").prepare_at(&Defaults::default(), now());
    let (mut good, mut bad) = (0, 40_000);
    while bad - good > 1 {
        let middle = usize::midpoint(good, bad);
        if accepted(middle).is_ok() { good = middle } else { bad = middle }
    }
    assert!(good > 30_000, "{good}");
    let message = accepted(good).expect("good").message;
    let labels = format!("{}.{}.{}.{}", "b".repeat(63), "b".repeat(63), "b".repeat(63), "b".repeat(61));
    let sender = Address::new_dangerous("a".repeat(64), labels);
    let settings = config::Mail { from: Some(Mailbox::new(None, sender)), ..render::settings() };
    let rendered = Rendered { subject: None, text: Some("x".into()), html: None };
    let composed = compose(&message, rendered, &settings);
    assert!(composed.is_ok(), "{:?}", composed.err());
}

#[test]
fn the_largest_event_fits() {
    let sized = |size: usize| {
        let bare = prepared(email().id("x").data(json!({ "x": "" }))).size();
        let data = json!({ "x": "y".repeat(size - bare) });
        email().id("x").data(data).prepare_at(&Defaults::default(), now())
    };
    assert_eq!(sized(MAX_SIZE).expect("good").size(), MAX_SIZE);
    assert!(sized(MAX_SIZE + 1).is_err());
}

#[test]
fn a_trace_goes_into_the_headers() {
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let traced = prepared(email().trace_parent(parent).trace_state("rojo=1"));
    assert_eq!((header(&traced, "traceparent"), header(&traced, "tracestate")), (Some(parent), Some("rojo=1")));
}

#[cfg(feature = "service")]
#[test]
fn the_service_allows_no_more_attempts_than_can_be_asked_for() {
    let variables = |limit: u32| {
        let pairs = [
            ("KAFKA_BROKERS", "localhost:9092".to_owned()),
            ("SMTP_HOST", "localhost".to_owned()),
            ("RETRY_MAX_ATTEMPTS_LIMIT", limit.to_string()),
        ];
        crate::config::from_variables(pairs.map(|(name, value)| (name.to_owned(), value)))
    };
    assert!(variables(MAX_ATTEMPTS).is_ok());
    assert!(variables(MAX_ATTEMPTS + 1).is_err());
}
