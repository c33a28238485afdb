//! Records that cannot become a mail: one reason each, their bytes untouched, and the mails around them flow.

use devkit::{
    kafka::Record,
    smtp::{Command, SmtpServer},
};
use postlane::event::Priority;
use serde_json::{Value, json};

use crate::{
    bed::{Bed, event, event_with},
    found::Found,
};

/// Stands in every record where its value would be seen if a message quoted it.
const SECRET: &str = "hunter2token";
const LOCAL_PART: &str = "confidential.person";

struct Case {
    name: &'static str,
    stage: &'static str,
    reason: &'static str,
    value: Option<Vec<u8>>,
}

fn bytes(name: &'static str, value: &[u8]) -> Case {
    Case { name, stage: "decode", reason: "malformed", value: Some(value.to_vec()) }
}

/// A proper event but for these fields; a null takes the field out.
fn fields(name: &'static str, stage: &'static str, reason: &'static str, fields: &Value) -> Case {
    let mut event = event_with(name, &format!("{LOCAL_PART}@example.org"), &json!({"data": {"body": SECRET}}));
    let message = event["message"].as_object_mut().expect("an object");
    for (name, value) in fields.as_object().expect("an object") {
        if value.is_null() {
            message.remove(name);
        } else {
            message.insert(name.clone(), value.clone());
        }
    }
    Case { name, stage, reason, value: Some(event.to_string().into_bytes()) }
}

fn malformed() -> Vec<Case> {
    let deep = format!("{{\"message\":{}{}}}", "[".repeat(5000), "]".repeat(5000));
    let wrong = |name, value: Value| fields(name, "decode", "malformed", &value);
    vec![
        Case { name: "null value", stage: "decode", reason: "malformed", value: None },
        bytes("empty", b""),
        bytes("no JSON", format!("to {LOCAL_PART}@example.org: {SECRET}").as_bytes()),
        bytes("cut", format!("{{\"message\":{{\"to\":\"{LOCAL_PART}@example.org\",\"{SECRET}").as_bytes()),
        bytes("no UTF-8", b"{\"type\":\"\xff\xfe\"}"),
        bytes("list", b"[]"),
        bytes("number", b"42"),
        bytes("no message", b"{\"type\":\"welcome\"}"),
        bytes("null message", b"{\"message\":null}"),
        bytes("empty message", b"{\"message\":{}}"),
        bytes("two values", b"{\"message\":{}} {}"),
        bytes("deep", deep.as_bytes()),
        bytes("type", b"{\"type\":7,\"message\":{}}"),
        wrong("to", json!({"to": 5})),
        wrong("no to", json!({"to": null})),
        wrong("empty to", json!({"to": []})),
        wrong("to entry", json!({"to": [null]})),
        wrong("data", json!({"data": [SECRET]})),
        wrong("headers", json!({"headers": {"X-A": 1}})),
        wrong("template", json!({"template": null})),
        wrong("time", json!({"expires_at": "tomorrow"})),
        wrong("count", json!({"retry_count": -1})),
        Case { stage: "compose", ..wrong("subject", json!({"subject": null})) },
    ]
}

fn others() -> Vec<Case> {
    let address = |name, value: &str| fields(name, "decode", "bad-address", &json!({"to": value}));
    let header = |name, value: Value| fields(name, "compose", "bad-header", &value);
    let recipients: Vec<String> = (0..101).map(|number| format!("{LOCAL_PART}{number}@example.org")).collect();
    vec![
        fields("unknown", "template", "unknown-template", &json!({"template": "no-such"})),
        fields("climbing", "template", "unknown-template", &json!({"template": "../plain"})),
        fields("undefined", "template", "render-failed", &json!({"data": {}})),
        fields("null data", "template", "render-failed", &json!({"data": {"body": null}})),
        fields(
            "unsafe link",
            "template",
            "render-failed",
            &json!({"template": "password-reset", "data": {"Link": format!("javascript:{SECRET}")}}),
        ),
        address("no address", LOCAL_PART),
        address("two addresses", &format!("{LOCAL_PART}@example.org, b@example.org")),
        address("line break", &format!("{LOCAL_PART}@example.org\r\nBcc: x@example.org")),
        address("name", &format!("A\nB <{LOCAL_PART}@example.org>")),
        fields("from", "decode", "bad-address", &json!({"from": format!("{LOCAL_PART}@")})),
        fields("cc", "decode", "bad-address", &json!({"cc": ["ok@example.org", "\u{2028}@example.org"]})),
        fields("local part", "compose", "bad-address", &json!({"to": "j\u{f6}rg@example.org"})),
        header("subject break", json!({"subject": format!("A\r\nBcc: {LOCAL_PART}@example.org")})),
        header("subject NUL", json!({"subject": "A\u{0}"})),
        header("subject separator", json!({"subject": "A\u{2029}B"})),
        header("bcc", json!({"headers": {"bcc": format!("{LOCAL_PART}@example.org")}})),
        header("received", json!({"headers": {"Received": SECRET}})),
        header("content", json!({"headers": {"Content-Type": "text/html"}})),
        header("header break", json!({"headers": {"X-A": format!("a\r\n\r\n{SECRET}")}})),
        header("header name", json!({"headers": {format!("X-A: {SECRET}\r\nX-B"): "b"}})),
        fields("attachments", "decode", "unsupported", &json!({"attachments": [{"content": SECRET}]})),
        fields("send at", "decode", "unsupported", &json!({"send_at": "2030-01-01T00:00:00Z"})),
        fields("large", "compose", "too-large", &json!({"data": {"body": SECRET.repeat(5000)}})),
        fields("many", "compose", "too-large", &json!({"to": recipients})),
    ]
}

#[tokio::test]
async fn every_reason_is_a_dead_letter_with_its_bytes_untouched() {
    let mut bed = Bed::with(SmtpServer::builder(), 1).await;
    bed.set("MAIL_MAX_SIZE", "40000");
    bed.set("RUST_LOG", "debug,rskafka=error");
    let mut cases = malformed();
    cases.extend(others());
    let made = chrono::DateTime::from_timestamp_millis(chrono::Utc::now().timestamp_millis() - 5_000).expect("a time");
    let mut records = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        let mut record = if let Some(value) = &case.value { Record::new(value.clone()) } else { Record::null() };
        record = record.key([case.name.as_bytes(), b"\x00\xff"].concat()).timestamp(made);
        record =
            record.header("traceparent", "00-1-2-01").header("binary", b"\x00\x80\xff".to_vec()).header("empty", "");
        records.push(record);
        records.push(Record::new(event(&format!("good{number}"), &format!("good{number}@example.org")).to_string()));
    }
    bed.publish_records(Priority::Normal, records).await;
    let found = Found::at_the_end(&bed, bed.start()).await;

    for number in 0..cases.len() {
        found.assert_sent(&format!("good{number}"), 1, 0);
    }
    assert_eq!(found.ledger.count(Command::Mail), cases.len() as u64);
    assert_eq!(found.letters.len(), cases.len());
    for (number, case) in cases.iter().enumerate() {
        let name = case.name;
        let key = [name.as_bytes(), b"\x00\xff"].concat();
        let letter = found.letters.iter().find(|letter| letter.0.key.as_ref() == Some(&key));
        let letter = letter.unwrap_or_else(|| panic!("no dead letter of {name}"));
        assert_eq!(letter.cause(), (case.stage.to_owned(), case.reason.to_owned(), 0), "{name}: {letter:?}");
        assert_eq!(letter.0.value, case.value, "{name}");
        let further = ["traceparent", "binary", "empty"];
        if case.stage == "decode" {
            letter.assert_headers(&further);
        } else {
            letter.assert_headers(&[&further[..], &["postlane-message-id"]].concat());
            assert_eq!(letter.header("postlane-message-id").as_deref(), Some(name));
        }
        for (header, value) in [("traceparent", &b"00-1-2-01"[..]), ("binary", b"\x00\x80\xff"), ("empty", b"")] {
            assert_eq!(letter.0.headers[header], value, "{name}");
        }
        assert_eq!(letter.header("kafka_dlt-original-topic").as_deref(), Some(bed.topic(Priority::Normal)));
        assert_eq!(letter.int32("kafka_dlt-original-partition"), 0);
        assert_eq!(letter.int64("kafka_dlt-original-offset"), i64::try_from(number * 2).expect("small"));
        assert_eq!(letter.int64("kafka_dlt-original-timestamp"), made.timestamp_millis());
        assert!(letter.0.timestamp > made, "a dead letter is of now: retention would take an old one at once");
        let failed = letter.header("postlane-failed-at").expect("a time");
        assert!(chrono::DateTime::parse_from_rfc3339(&failed).is_ok_and(|time| time > made), "{failed}");
        let message = letter.header("kafka_dlt-exception-message").expect("a message");
        assert!(!message.is_empty() && message.len() <= 1000, "{name}: {message}");
        assert!(!message.contains(['\r', '\n', '\0', '\u{2028}', '\u{2029}']), "{name}: {message:?}");
        for secret in [SECRET, LOCAL_PART] {
            assert!(!message.contains(secret), "{name}: {message}");
        }
    }
    for secret in [SECRET, LOCAL_PART] {
        assert!(!found.log.contains(secret), "{secret} is in the log");
    }
}

#[tokio::test]
async fn nothing_from_an_event_adds_a_header_a_recipient_or_a_part() {
    let bed = Bed::new().await;
    let mail = event_with(
        "plain",
        "\"Doe, \\\"J\\\" <x@example.net>\" <to@example.org>",
        &json!({
            "from": "\"Shop; =?utf-8?q?x?=\" <shop@example.com>",
            "subject": "S \u{20ac} =?utf-8?q?=0d=0aBcc:_a@example.org?=",
            "bcc": "hidden@example.org",
            "data": {"body": "one\r.\r\ntwo\r\n.\r\nMAIL FROM:<a@example.org>\r\n.\r\nQUIT\u{0}\rthree\n.\n"},
        }),
    );
    bed.publish(Priority::Normal, [mail]).await;
    let found = Found::at_the_end(&bed, bed.start()).await;

    found.assert_no_letters();
    let [mail] = found.ledger.accepted() else { panic!("not one mail") };
    assert_eq!(mail.recipients, ["to@example.org", "hidden@example.org"]);
    for header in ["Bcc", "To", "From", "Subject"] {
        let count = mail.headers().filter(|(name, _)| name.eq_ignore_ascii_case(header)).count();
        assert_eq!(count, usize::from(header != "Bcc"), "{header}: {}", mail.text());
    }
    assert!(!mail.text().contains("hidden@"));
    assert!(mail.raw.split(|byte| *byte == b'\n').all(|line| line.len() <= 999));
    let decoded = mail.decoded().expect("MIME");
    let text = decoded.text.expect("text").replace("\r\n", "\n");
    assert!(text.contains("one\n.\ntwo\n.\nMAIL FROM:<a@example.org>\n.\nQUIT\nthree\n."), "{text}");
    assert!(decoded.subject.starts_with("S \u{20ac} "), "{}", decoded.subject);
}
