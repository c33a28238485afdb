//! docs/event.schema.json: what it accepts and refuses, and that it names what the service reads.

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use boon::{Compiler, Schemas};
use postlane::{Email, Priority, email, event::Problem};
use serde_json::{Value, json};

use crate::{decode, read, table};

const FILE: &str = "docs/event.schema.json";

/// A schema of the documents, compiled.
pub(crate) struct Validator(Schemas, boon::SchemaIndex);

impl Validator {
    pub(crate) fn new(schema: Value) -> Self {
        let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
        compiler.enable_format_assertions();
        compiler.add_resource("urn:test:schema", schema).expect("a schema");
        let index = compiler.compile("urn:test:schema", &mut schemas).expect("a valid schema");
        Self(schemas, index)
    }

    pub(crate) fn of_events() -> Self {
        Self::new(schema())
    }

    pub(crate) fn problem(&self, value: &Value) -> Option<String> {
        self.0.validate(value, self.1).err().map(|error| format!("{error:#}"))
    }
}

fn schema() -> Value {
    serde_json::from_str(&read(FILE)).expect("JSON")
}

fn good(validator: &Validator, event: &Value, what: &str) {
    if let Some(problem) = validator.problem(event) {
        panic!("{what}: {problem}");
    }
    assert!(decode(event).is_ok(), "{what}: {:?}", decode(event));
}

/// An event that is good but for the changes to `message`.
fn event(changes: &Value) -> Value {
    let mut event = json!({ "message": { "to": "a@example.com", "template": "plain" } });
    let message = event["message"].as_object_mut().expect("an object");
    message.extend(changes.as_object().expect("an object").clone());
    event
}

#[test]
fn it_is_written_in_its_dialect() {
    let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
    let dialect = schema()["$schema"].as_str().expect("a dialect").to_owned();
    assert_eq!(dialect, "https://json-schema.org/draft/2020-12/schema");
    let index = compiler.compile(&dialect, &mut schemas).expect("the dialect's own schema");
    assert!(schemas.validate(&schema(), index).is_ok());
}

#[test]
fn fixtures_and_examples_are_good() {
    let validator = Validator::of_events();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/events");
    let mut count = 0;
    for entry in fs::read_dir(fixtures).expect("a folder") {
        let path = entry.expect("an entry").path();
        let text = fs::read_to_string(&path).expect("a file");
        good(&validator, &serde_json::from_str(&text).expect("JSON"), &path.display().to_string());
        count += 1;
    }
    assert!(count >= 3);
    for example in schema()["examples"].as_array().expect("examples") {
        good(&validator, example, "an example of the schema");
        assert!(email::check_event(example.to_string()).is_ok(), "{example}");
    }
    let text = read("docs/wire-format.md");
    let example = text.split("```json\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
    good(&validator, &serde_json::from_str(example).expect("JSON"), "the example of docs/wire-format.md");
}

#[test]
fn what_an_email_becomes_is_good() {
    let validator = Validator::of_events();
    let least = Email::to("ann@example.com").template("plain");
    let most = Email::to(["ann@example.com", "Bob <bob@example.com>"])
        .cc("c@bücher.example")
        .bcc(("Smith, \"D\"", "d@example.com"))
        .reply_to(["e@example.com", "f@example.com"])
        .from("g@example.com")
        .subject("Grüße 🦆")
        .template("password-reset")
        .data(json!({ "Link": null }))
        .header("List-Unsubscribe", "")
        .priority(Priority::Low)
        .kind("any")
        .id("ü".repeat(500))
        .timestamp("0002-01-01T00:00:00.000000001Z".parse().expect("a time"))
        .expires_in(Duration::from_secs(1))
        .max_attempts(1000);
    for email in [least, most] {
        let value = email.to_event().expect("a good mail");
        good(&validator, &serde_json::from_slice(&value).expect("JSON"), "an Email");
    }
}

/// A value of every sort that a producer may write, right or wrong.
fn values() -> Vec<Value> {
    let mut values = vec![
        json!(null),
        json!(true),
        json!(false),
        json!(0),
        json!(1),
        json!(-1),
        json!(1.5),
        json!(4_294_967_295_u64),
        json!([]),
        json!([null]),
        json!([1]),
        json!([""]),
        json!(["x"]),
        json!([["a@example.com"]]),
        json!([{}]),
        json!({}),
        json!({ "a": 1 }),
        json!({ "a": null }),
        json!({ "X-A": "b" }),
        json!({ "X-A": "" }),
        json!({ "X-A": "b\n" }),
        json!({ "X A": "b" }),
        json!({ "": "b" }),
        json!({ "X:": "b" }),
        json!({ "Xä": "b" }),
        json!(["a@example.com"]),
        json!(["a@example.com", "B <b@example.com>"]),
        json!(["a@example.com", "b\n@example.com"]),
    ];
    for text in [
        "",
        " ",
        "x",
        "high",
        "URGENT",
        "3",
        "a\nb",
        "a\u{7f}",
        "a\u{2028}",
        "a\u{85}",
        "password-reset",
        "layouts",
        "a/b",
        ".a",
        "a b",
        "a@example.com",
        "<a@example.com>",
        "A B <a@example.com>",
        "\"A, B\" <a@example.com>",
        "a@",
        "@b",
        "a@b@c",
        "a@example.com\n",
        "A\u{85} <a@example.com>",
        "a@example.com, b@example.com",
        "\"a@b\"@example.com",
        "Ü <a@bücher.example>",
        "a@[127.0.0.1]",
        "2026-01-05T08:00:00Z",
        "2036-01-05T08:00:00.5+02:00",
        "2026-01-05",
        "2026-13-05T08:00:00Z",
        "yesterday",
        "0001-01-01T00:00:00Z",
        "2026-01-05T08:00:00",
    ] {
        values.push(json!(text));
    }
    values.push(json!("x".repeat(1000)));
    values.push(json!("x".repeat(1001)));
    for name in [
        "From",
        "Sender",
        "TO",
        "cc",
        "Bcc",
        "Reply-To",
        "Subject",
        "DATE",
        "Message-ID",
        "mime-version",
        "Content-Type",
        "content-x",
        "Received",
        "Return-Path",
        "DKIM-Signature",
        "ARC-Seal",
        "Resent-To",
        "Auto-Submitted",
        "X-Postlane-To",
        "To-Do",
        "Content",
        "X-From",
    ] {
        values.push(json!({ name: "b" }));
    }
    values.push(json!({ "X".repeat(76): "b" }));
    values.push(json!({ "X".repeat(77): "b" }));
    values
}

fn fields() -> BTreeSet<String> {
    let schema = schema();
    let names = schema["$defs"]["message"]["properties"].as_object().expect("properties").keys();
    names.cloned().collect()
}

/// Every field with every value: what the service calls malformed or unsupported the schema refuses, and what may be
/// sent it accepts.
#[test]
fn it_judges_as_the_service_does() {
    let validator = Validator::of_events();
    let (mut accepted, mut refused) = (0, 0);
    let mut compare = |event: &Value| {
        let verdict = validator.problem(event);
        match decode(event) {
            Err(error) if error.problem != Problem::BadAddress => {
                refused += 1;
                assert!(verdict.is_some(), "accepted, but {error}: {event}");
            }
            _ => {}
        }
        if email::check_event(event.to_string()).is_ok() {
            accepted += 1;
            assert_eq!(verdict, None, "refused, but good: {event}");
        }
    };
    for value in values() {
        for field in fields() {
            compare(&event(&json!({ field: value })));
        }
        compare(&json!({ "type": value, "message": event(&json!({}))["message"] }));
        compare(&json!({ "message": value }));
        compare(&value);
    }
    for absent in ["to", "template"] {
        let mut event = event(&json!({}));
        event["message"].as_object_mut().expect("an object").remove(absent);
        compare(&event);
    }
    assert!(accepted > 300 && refused > 500, "{accepted} accepted, {refused} refused");
}

/// The controls of a subject and of header values are no matter of decoding, but of the mail.
#[test]
fn it_refuses_what_could_not_become_a_mail() {
    let validator = Validator::of_events();
    for changes in [
        json!({ "subject": "a\nBcc: b@example.com" }),
        json!({ "headers": { "X-A": "a\r\n" } }),
        json!({ "headers": { "Bcc": "b@example.com" } }),
        json!({ "headers": { "x-postlane-to": "b@example.com" } }),
        json!({ "template": "../layouts" }),
        json!({ "template": "layouts" }),
        json!({ "to": "nobody" }),
        json!({ "to": "A\n <a@example.com>" }),
        json!({ "to": vec!["a@example.com"; 101] }),
    ] {
        let event = event(&changes);
        assert!(email::check_event(event.to_string()).is_err(), "{changes}");
        assert!(validator.problem(&event).is_some(), "{changes}");
    }
}

/// Fields that `decode` looks up in `message`, as its source has them.
fn fields_of_the_decoder() -> BTreeSet<String> {
    let source = read("src/event/decode.rs");
    let mut names = BTreeSet::new();
    for call in ["(message, \"", "[\""] {
        for rest in source.split(call).skip(1) {
            let name = rest.split('"').next().expect("a name");
            names.insert(name.to_owned());
        }
    }
    names.extend(["send_at".to_owned()].into_iter().filter(|name| source.contains(&format!("\"{name}\"]"))));
    names
}

#[test]
fn it_has_the_fields_that_the_service_reads_and_no_others() {
    let ignored = ["status", "error_msg"].map(str::to_owned);
    let mut read = fields_of_the_decoder();
    read.extend(ignored.clone());
    assert_eq!(fields(), read);
    let documented: BTreeSet<String> =
        table("field").iter().filter_map(|name| name.strip_prefix("message.")).map(str::to_owned).collect();
    let mut described = fields();
    described.retain(|name| !ignored.contains(name));
    assert_eq!(documented, described, "docs/wire-format.md");
    // each of them is really read: a value of no use to it is an error, or changes the message
    let plain = decode(&event(&json!({}))).expect("good");
    for field in fields() {
        let seen = [json!({ "x": 1 }), json!([1]), json!("low")].into_iter().any(|value| {
            decode(&event(&json!({ &*field: value })))
                .map_or_else(|error| error.field.contains(&field), |it| it != plain)
        });
        assert_eq!(seen, !ignored.contains(&field), "{field}");
    }
}
