//! Dead letters that are sent back: to whom, under which id, and what becomes of their headers.

use devkit::{
    kafka::Record,
    smtp::{Action, Command, SmtpServer, on},
};
use postlane::event::Priority;
use serde_json::{Value, json};

use crate::{
    bed::{Bed, event_with},
    found::{Found, Letter},
};

/// The record that a redrive makes of a dead letter: as it stands there.
fn back(letter: &Letter) -> Record {
    let mut record = Record::new(letter.0.value.clone().expect("a value"));
    record.key.clone_from(&letter.0.key);
    for (name, value) in &letter.0.headers {
        record = record.header(name, value.clone());
    }
    record
}

fn without_id(mut event: Value) -> Value {
    event["message"].as_object_mut().expect("an object").remove("id");
    event
}

#[tokio::test]
async fn a_redrive_reaches_those_who_failed_under_the_same_id() {
    let refuse = || Action::reply(550, "5.1.1", "no such user");
    let server = SmtpServer::builder()
        .rule(on(Command::Rcpt).recipient("b@example.org").times(2, refuse()))
        .rule(on(Command::Rcpt).recipient("c@example.org").times(2, refuse()));
    let bed = Bed::with(server, 1).await;
    let list = json!({"to": ["a@example.org", "b@example.org"], "bcc": ["c@example.org", "d@example.org"]});
    let value = without_id(event_with("", "", &list)).to_string();
    let first =
        Record::new(value).key(b"k\xff".to_vec()).header("traceparent", "00-abc").header("type", "notification");
    bed.publish_records(Priority::Normal, [first.clone()]).await;

    let mut letters = Vec::new();
    let mut id = None;
    for round in 1..=2 {
        let found = Found::at_the_end(&bed, bed.start()).await;
        letters = found.letters;
        assert_eq!(letters.len(), round);
        let letter = &letters[round - 1];
        letter.assert_cause("send", "rejected", 1);
        assert_eq!(
            letter.recipients().as_deref(),
            Some("1,2"),
            "the same two, although now they are all that was tried"
        );
        // none of the headers of the first death is there twice or left over
        let own = ["postlane-recipients", "postlane-smtp-code", "postlane-smtp-enhanced-code", "postlane-message-id"];
        letter.assert_headers(&[&own[..], &["traceparent", "type"]].concat());
        assert_eq!(letter.0.key.as_deref(), Some(&b"k\xff"[..]));
        assert_eq!(letter.0.value, first.value);
        assert_eq!(letter.header("traceparent").as_deref(), Some("00-abc"));
        assert_eq!(letter.int64("kafka_dlt-original-offset"), i64::try_from(round).expect("small") - 1);
        let this = letter.header("postlane-message-id");
        assert!(this.is_some() && (id.is_none() || id == this), "{id:?} became {this:?}");
        id = this;
        bed.publish_records(Priority::Normal, [back(letter)]).await;
    }
    let found = Found::at_the_end(&bed, bed.start()).await;
    assert_eq!(found.letters.len(), letters.len());
    found.assert_served_once(["a@example.org", "b@example.org", "c@example.org", "d@example.org"]);
    let [first, last] = found.ledger.accepted() else { panic!("not two mails") };
    assert_eq!(last.recipients, ["b@example.org", "c@example.org"]);
    assert_eq!(first.message_id(), last.message_id());
    assert_eq!(first.raw, last.raw, "the same mail, byte for byte");
}

#[tokio::test]
async fn a_redriven_record_that_dies_early_keeps_its_recipients_and_its_id() {
    let bed = Bed::new().await;
    let value = |fields: Value| without_id(event_with("", "a@example.org", &fields)).to_string();
    let redriven = |key: &str, value: String| {
        Record::new(value)
            .key(key)
            .header("postlane-recipients", "1")
            .header("postlane-message-id", "kept")
            .header("postlane-smtp-code", "550")
    };
    let cc = |fields: Value| {
        let mut fields = fields;
        fields["cc"] = json!("b@example.org");
        value(fields)
    };
    bed.publish_records(
        Priority::Normal,
        [
            redriven("template", cc(json!({"template": "gone"}))),
            redriven("compose", cc(json!({"headers": {"Bcc": "x@example.org"}}))),
            redriven("expired", cc(json!({"expires_at": "2001-01-01T00:00:00Z"}))),
            redriven("decode", cc(json!({"data": 5}))),
            redriven("sent", cc(json!({}))),
        ],
    )
    .await;
    let found = Found::at_the_end(&bed, bed.start()).await;
    assert_eq!(found.letters.len(), 4);
    for letter in &found.letters {
        letter.assert_headers(&["postlane-recipients", "postlane-message-id"]);
        assert_eq!(letter.recipients().as_deref(), Some("1"), "{letter:?}");
        assert_eq!(letter.header("postlane-message-id").as_deref(), Some("kept"), "{letter:?}");
    }
    let [mail] = found.ledger.accepted() else { panic!("not one mail") };
    assert_eq!(mail.recipients, ["b@example.org"]);
    assert_eq!(mail.message_id(), Some(postlane::compose::message_id("kept", "example.com").as_str()));
}

#[tokio::test]
async fn recipients_that_cannot_be_read_are_no_reason_to_send_to_all() {
    let bed = Bed::new().await;
    let event = event_with("two", "", &json!({"to": ["a@example.org", "b@example.org"]})).to_string();
    let wrong: [&[u8]; 5] = [b"2", b"x", b"", b"-1", b"\xff"];
    bed.publish_records(
        Priority::Normal,
        wrong.map(|value| Record::new(event.clone()).header("postlane-recipients", value)),
    )
    .await;
    let found = Found::at_the_end(&bed, bed.start()).await;
    assert_eq!(found.letters.len(), wrong.len());
    for letter in &found.letters {
        letter.assert_cause("decode", "malformed", 0);
    }
    assert_eq!(found.ledger.count(Command::Mail), 0);
}
