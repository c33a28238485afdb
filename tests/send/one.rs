//! One mail: published, shown, checked, refused.

use std::time::Duration;

use devkit::process::Signal;
use postlane::event::Priority;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::bed::{Bed, Program};

const WELCOME: [&str; 5] = ["send", "--to", "ann@example.com", "--template", "welcome"];

fn welcome<'a>(more: &[&'a str]) -> Vec<&'a str> {
    WELCOME.into_iter().chain(more.iter().copied()).collect()
}

#[tokio::test]
async fn a_mail_with_everything_is_published() {
    let bed = Bed::new().await;
    let data = bed.program.write("data.json", r#"{"Name": "Ann"}"#);
    let data = format!("@{data}");
    let ended = bed
        .program
        .run(&welcome(&[
            "--to",
            "Bob <bob@example.com>",
            "--cc",
            "cc@example.com",
            "--bcc",
            "bcc@example.com",
            "--from",
            "s@example.com",
            "--reply-to",
            "help@example.com",
            "--subject",
            "Hi",
            "--data",
            &data,
            "--header",
            "X-Campaign: spring: 1",
            "--priority",
            "HIGH",
            "--id",
            "order-1",
            "--type",
            "welcome",
            "--expires-in",
            "2h",
            "--max-attempts",
            "5",
            "--json",
        ]))
        .await;
    let receipt = ended.assert(0).json();
    let records = bed.records(Priority::High).await;
    assert_eq!(records.len(), 1);
    let record = &records[0];
    assert_eq!(receipt["result"], "published");
    assert_eq!(receipt["topic"], bed.topic(Priority::High));
    assert_eq!((&receipt["partition"], &receipt["offset"]), (&json!(record.partition), &json!(record.offset)));
    assert_eq!(receipt["id"], "order-1");
    assert_eq!(record.key.as_deref(), Some(b"order-1".as_slice()));
    let event: Value = serde_json::from_str(&record.text()).expect("an event");
    let message = &event["message"];
    assert_eq!(event["type"], "welcome");
    assert_eq!(message["data"], json!({"Name": "Ann"}));
    assert_eq!(message["headers"], json!({"X-Campaign": "spring: 1"}));
    assert_eq!((&message["subject"], &message["max_retries"]), (&json!("Hi"), &json!(5)));
    for address in ["ann@", "bob@", "cc@", "bcc@", "s@", "help@"] {
        assert!(record.text().contains(&format!("{address}example.com")), "{address} in {}", record.text());
    }
    assert!(message["expires_at"].is_string());
}

#[tokio::test]
async fn a_person_is_told_where_it_is() {
    let bed = Bed::new().await;
    let ended = bed.program.run_with(&welcome(&["--data", "@-", "--id", "w1"]), "{\"Name\": \"Ann\"}").await;
    let record = &bed.records(Priority::Normal).await[0];
    let topic = bed.topic(Priority::Normal);
    assert_eq!(
        ended.assert(0).out,
        format!("w1 is in {topic}, partition {}, offset {}\n", record.partition, record.offset)
    );
    assert_eq!(ended.err, "");
    let quiet = bed.program.run(&welcome(&["--quiet"])).await;
    assert_eq!((quiet.assert(0).out.as_str(), quiet.err.as_str()), ("", ""));
}

#[tokio::test]
async fn what_is_wrong_is_named_by_its_option_and_nothing_is_sent() {
    let mut program = Program::new();
    // whoever connects to it has to wait
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    program.set("KAFKA_BROKERS", listener.local_addr().expect("an address"));
    program.set("PUBLISH_TIMEOUT", "60s");
    for (options, told) in [
        (&["--to", "nobody"][..], "--to (2): expected a mailbox"),
        (&["--cc", "a@b, c@d"], "--cc"),
        (&["--from", "Shop"], "--from: expected a mailbox"),
        (&["--subject", "a\nBcc: b@example.com"], "--subject: control characters"),
        (&["--header", "From: x@example.com"], "--header: "),
        (&["--header", "no colon"], "--header (1): expected a header field"),
        (&["--data", "[1]"], "--data: expected a JSON object"),
        (&["--data", "{"], "--data: expected a JSON object"),
        (&["--data", "@missing.json"], "--data: @missing.json: "),
        (&["--priority", "urgent"], "--priority <LANE>'"),
        (&["--expires-in", "soon"], "--expires-in <DURATION>': expected a duration"),
        (&["--expires-at", "tomorrow"], "--expires-at <TIME>': expected a time"),
        (&["--max-attempts", "0"], "--max-attempts: "),
        (&["--id", ""], "--id: "),
        (&["--check", "--template", "nope"], "--template"),
        (&["--file", "x"], "cannot be used with"),
        (&["--format", "eml"], "--dry-run"),
    ] {
        let ended = program.run(&welcome(options)).await;
        assert!(ended.assert(2).err.contains(told), "{options:?}: {}", ended.err);
        assert_eq!(ended.out, "", "{options:?}");
        assert!(!ended.err.contains("example.com"), "no address is told: {}", ended.err);
    }
    let all = ["--cc", "x", "--data", "[1]", "--header", "X-A: a", "--header", "no colon", "--max-attempts", "0"];
    let ended = program.run(&welcome(&all)).await;
    for told in ["--cc (1): ", "--data: expected", "--header (2): expected", "--max-attempts: "] {
        assert!(ended.assert(2).err.contains(told), "{told} in {}", ended.err);
    }
    let problems = program.run(&welcome(&[&all[..], &["--json"]].concat())).await.assert(2).json();
    assert_eq!(problems["problems"].as_array().map(Vec::len), Some(4), "{problems}");
    let object = program.run(&welcome(&["--cc", "x", "--json"])).await.assert(2).json();
    assert_eq!((&object["result"], &object["problems"][0]["field"]), (&json!("invalid"), &json!("message.cc[0]")));
    let nobody = tokio::time::timeout(Duration::from_millis(1), listener.accept()).await;
    assert!(nobody.is_err(), "nothing was connected");
}

#[tokio::test]
async fn a_dry_run_shows_the_mail_and_needs_no_setting() {
    let program = Program::new();
    let mail =
        ["--from", "Shop <s@example.com>", "--data", r#"{"Name":"Ann"}"#, "--bcc", "b@example.com", "--id", "w1"];
    let shown = async |more: &[&str]| program.run(&welcome(&[&mail, &["--dry-run"][..], more].concat())).await;

    let ended = shown(&[]).await;
    for part in ["To: ann@example.com\n", "Subject: Welcome, Ann\n", "\n\nWelcome, Ann\n", "b@example.com)"] {
        assert!(ended.assert(0).out.contains(part), "{part} in {}", ended.out);
    }
    let object = shown(&["--json"]).await.assert(0).json();
    assert_eq!(object["subject"], "Welcome, Ann");
    assert_eq!(object["envelope"], json!({"from": "s@example.com", "to": ["ann@example.com", "b@example.com"]}));
    assert!(shown(&["--format", "html"]).await.assert(0).out.contains("<p"));

    let eml = shown(&["--format", "eml"]).await.assert(0).out.clone();
    assert_eq!(eml.matches('\n').count(), eml.matches("\r\n").count(), "as it goes over SMTP");
    assert!(eml.contains(&format!("Message-ID: {}\r\n", object["message_id"].as_str().expect("text"))), "{eml}");
    assert!(!eml.contains("b@example.com"), "{eml}");

    let event: Value = shown(&["--format", "event"]).await.assert(0).json();
    assert_eq!((&event["message"]["id"], &event["message"]["template"]), (&json!("w1"), &json!("welcome")));

    // the sender of the service is not known here
    let named = ["--data", r#"{"Name":"Ann"}"#, "--id", "w1", "--dry-run"];
    let ended = program.run(&welcome(&named)).await;
    assert!(
        ended.assert(0).out.starts_with("From: (MAIL_FROM of the service)\nTo: ann@example.com\n"),
        "{}",
        ended.out
    );
    assert!(!ended.out.contains("Message-ID") && !ended.out.contains("noreply"), "{}", ended.out);
    let object = program.run(&welcome(&[&named[..], &["--json"]].concat())).await.assert(0).json();
    for field in ["/from", "/message_id", "/envelope/from"] {
        assert_eq!(object.pointer(field), Some(&Value::Null), "{object}");
    }
    let ended = program.run(&welcome(&[&named[..], &["--format", "eml"]].concat())).await;
    assert!(ended.assert(0).err.contains("its MAIL_FROM, for which noreply@example.com stands"), "{}", ended.err);
    let ended = program.run(&welcome(&["--direct", "--data", r#"{"Name":"Ann"}"#])).await;
    assert!(ended.assert(2).err.contains("--from: is absent and MAIL_FROM is not set"), "{}", ended.err);
}

#[tokio::test]
async fn templates_are_looked_at_where_they_are_known() {
    let mut bed = Bed::new().await;
    let unknown = ["send", "--to", "ann@example.com", "--template", "theirs"];
    bed.program.run(&unknown).await.assert(0);
    let ended = bed.program.run(&[&unknown[..], &["--check"]].concat()).await;
    assert!(ended.assert(2).err.contains("--template: there is no template \"theirs\""), "{}", ended.err);
    let ended = bed.program.run(&welcome(&["--check"])).await;
    assert_eq!(ended.assert(0).out, "The mail is sound; nothing was sent.\n");

    let folder = bed.program.path("templates");
    std::fs::create_dir_all(folder.join("theirs")).expect("a folder");
    std::fs::write(folder.join("theirs/text.txt.j2"), "{{ Name }}").expect("written");
    std::fs::write(folder.join("theirs/subject.txt.j2"), "Hi").expect("written");
    bed.program.set("TEMPLATES_DIR", folder.display());
    let ended = bed.program.run(&unknown).await;
    assert!(ended.assert(2).err.contains("Name"), "{}", ended.err);
    bed.program.run(&[&unknown[..], &["--data", r#"{"Name":"Ann"}"#]].concat()).await.assert(0);
    assert_eq!(bed.records(Priority::Normal).await.len(), 2);
}

#[tokio::test]
async fn the_status_tells_what_to_do() {
    let bed = Bed::new().await;
    let mut program = Program::new();
    let ended = program.run(&welcome(&[])).await;
    assert!(ended.assert(78).err.contains("KAFKA_BROKERS is not set"), "{}", ended.err);

    program.set("KAFKA_BROKERS", bed.cluster.bootstrap());
    program.set("KAFKA_TOPIC", devkit::kafka::unique("missing"));
    let ended = program.run(&welcome(&[])).await;
    assert!(ended.assert(1).err.contains("missing"), "{}", ended.err);

    program.set("KAFKA_BROKERS", "127.0.0.1:1");
    program.set("PUBLISH_TIMEOUT", "300ms");
    let ended = program.run(&welcome(&[])).await;
    assert!(ended.assert(75).err.contains("the mail was not sent"), "{}", ended.err);
    assert_eq!(ended.out, "");
}

#[tokio::test]
async fn a_signal_before_the_answer_says_that_nobody_knows() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let mut program = Program::new();
    program.set("KAFKA_BROKERS", listener.local_addr().expect("an address"));
    program.set("PUBLISH_TIMEOUT", "60s");
    for (signal, status) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let mut running = program.start(&welcome(&["--id", "order-7"]));
        let (_connection, _) = listener.accept().await.expect("a connection");
        running.process.signal(signal).expect("a signal");
        assert_eq!(running.wait().await, Some(status), "{}", running.log());
        assert!(running.log().contains("--id order-7"), "{}", running.log());
    }
}
