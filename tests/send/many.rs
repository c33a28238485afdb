//! A file of events: every line once, bad ones told, and what cannot be gone on with.

use postlane::event::Priority;
use serde_json::json;

use crate::bed::{Bed, Program, event, events, ids};

#[tokio::test]
async fn a_file_is_published_once_however_often_it_is_sent() {
    let bed = Bed::new().await;
    let file = bed.program.write("events", &events(1..=5000));
    let ended = bed.program.run(&["send", "--file", &file]).await;
    assert!(ended.assert(0).out.starts_with("Published: 5,000 mails in "), "{}", ended.out);
    assert_eq!(ended.err, "", "nothing but a summary in a pipe");
    bed.assert_once(Priority::Normal, ids(1..=5000)).await;
    let ended = bed.program.run(&["send", "--file", &file, "--json"]).await;
    let object = ended.assert(0).json();
    assert_eq!(
        (&object["result"], &object["published"], &object["published_in_all"]),
        (&json!("published"), &json!(0), &json!(5000))
    );

    // what was appended is new; what was put in before is another file
    bed.program.append("events", &events(5001..=5100));
    bed.program.run(&["send", "--file", &file]).await.assert(0);
    bed.assert_once(Priority::Normal, ids(1..=5100)).await;
    bed.program.write("events", &events(0..=5200));
    let ended = bed.program.run(&["send", "--file", &file]).await;
    assert!(ended.assert(1).err.contains("--restart"), "{}", ended.err);
    bed.assert_once(Priority::Normal, ids(1..=5100)).await;
    bed.program.run(&["send", "--file", &file, "--restart", "--quiet"]).await.assert(0);
    assert_eq!(bed.ids(Priority::Normal).await.len(), 5201);
}

#[tokio::test]
async fn lines_go_to_their_lanes_and_keep_their_bytes() {
    let bed = Bed::new().await;
    let lines = [
        r#"{ "message": {"id":"h","to":"a@example.com","template":"plain","priority":"high"},"unknown":[1.50] }"#,
        r#"{"message":{"id":"n","to":"a@example.com","template":"plain"}}"#,
        r#"{"message":{"id":"l","to":"a@example.com","template":"plain","priority":"LOW"}}"#,
    ];
    let input = format!("\u{feff}{}\r\n\n{}\n \t\n{}", lines[0], lines[1], lines[2]);
    let ended = bed.program.run_with(&["send", "--file", "-", "--json"], &input).await;
    assert_eq!(ended.assert(0).json()["published"], 3);
    for (lane, line) in Priority::ALL.into_iter().zip(lines) {
        assert_eq!(bed.records(lane).await[0].text(), line);
    }
}

#[tokio::test]
async fn events_without_an_id_get_one_from_the_run_and_the_line() {
    let bed = Bed::new().await;
    let file = bed
        .program
        .write("events", "{\"message\":{\"to\":\"a@example.com\",\"template\":\"plain\"}}\n".repeat(3).as_str());
    bed.program.run(&["send", "--file", &file]).await.assert(0);
    let run = bed.program.state()["run"].as_str().expect("a name").to_owned();
    let of = |run: &str| (1..=3).map(|number| format!("{run}-{number}")).collect::<Vec<_>>();
    bed.assert_once(Priority::Normal, of(&run)).await;
    // meant to go out again: other mails
    bed.program.run(&["send", "--file", &file, "--restart"]).await.assert(0);
    let again = bed.program.state()["run"].as_str().expect("a name").to_owned();
    assert_ne!(run, again);
    bed.assert_once(Priority::Normal, of(&run).into_iter().chain(of(&again))).await;
}

#[tokio::test]
async fn bad_lines_are_told_in_order_and_kept_and_the_others_go_out() {
    let bed = Bed::new().await;
    let mut text = String::new();
    for number in 1..=300 {
        let line = match number {
            100 => "{\"message\":\n".to_owned(),
            200 => event("bad", "nobody") + "\n",
            250 => format!("{}\n", "x".repeat(2_000_000)),
            _ => events([number]),
        };
        text.push_str(&line);
    }
    let file = bed.program.write("events", &text);
    let checked = bed.program.run(&["send", "--file", &file, "--check"]).await;
    let sent = bed.program.run(&["send", "--file", &file, "--rejects", "bad"]).await;
    for ended in [&checked, &sent] {
        let lines: Vec<&str> = ended.assert(1).err.lines().collect();
        assert_eq!(lines.len(), 3, "{}", ended.err);
        for (line, told) in lines.iter().zip([
            ":100: the JSON ends too early",
            ":200: message.to: expected a mailbox",
            ":250: 2000000 bytes are too long for an event",
        ]) {
            assert!(line.starts_with(&format!("postlane: {file}{told}")), "{line}");
        }
    }
    assert!(checked.out.starts_with("Sound: 297 mails"), "{}", checked.out);
    assert!(sent.out.ends_with("; refused: 3 lines.\n"), "{}", sent.out);
    let good = (1..=300).filter(|number| ![100, 200, 250].contains(number));
    bed.assert_once(Priority::Normal, ids(good)).await;

    // repaired and sent by themselves
    let rejects = bed.program.read("bad");
    assert_eq!(rejects.lines().count(), 2, "what is too long is not read: {rejects}");
    let repaired =
        bed.program.write("repaired", &rejects.lines().last().expect("one").replace("nobody", "b@example.com"));
    bed.program.run(&["send", "--file", &repaired]).await.assert(0);
    assert_eq!(bed.ids(Priority::Normal).await.get("bad"), Some(&1));
    // the file as a whole is still not sent
    let again = bed.program.run(&["send", "--file", &file, "--json"]).await;
    assert_eq!(again.assert(1).json()["result"], "refused");
    assert!(again.err.contains("lines 100, 200, 250 were refused by an earlier run"), "{}", again.err);
}

/// Its line is settled: whoever repaired it in place must not believe that it went out.
#[tokio::test]
async fn a_line_that_is_repaired_in_place_is_told_with_its_number() {
    let bed = Bed::new().await;
    let bad = event("m600", "nobody*example.com");
    for lines in [1000, 610] {
        let text = events(1..=lines).replace(events([600]).trim_end(), &bad);
        let file = bed.program.write("events", &text);
        bed.program.run(&["send", "--file", &file, "--quiet", "--restart"]).await.assert(1);
        bed.program.write("events", &text.replace("nobody*", "nobody@"));
        let ended = bed.program.run(&["send", "--file", &file, "--quiet"]).await;
        let told =
            "line 600 was refused by an earlier run and will not be tried again: what is repaired goes into a file";
        assert!(ended.assert(1).err.contains(told), "{}", ended.err);
        assert!(ended.err.contains("--restart"), "{}", ended.err);
    }
    assert_eq!(bed.ids(Priority::Normal).await.get("m600"), None);
}

#[tokio::test]
async fn a_file_of_something_else_is_given_up_soon() {
    let bed = Bed::new().await;
    let file = bed.program.write("events", &"name,address\n".repeat(50_000));
    let ended = bed.program.run(&["send", "--file", &file, "--max-errors", "5", "--json"]).await;
    let object = ended.assert(1).json();
    assert_eq!(object["result"], "too-many-errors");
    assert!(object["refused"].as_u64().is_some_and(|refused| refused < 10_000), "{object}");
    assert!(ended.err.contains("--max-errors"), "{}", ended.err);
    assert!(bed.records(Priority::Normal).await.is_empty());
}

#[tokio::test]
async fn a_check_needs_no_setting_and_knows_the_templates() {
    let program = Program::new();
    let unknown = event("m2", "a@example.com").replace("plain", "nope");
    let incomplete = event("m3", "a@example.com").replace("plain", "password-reset");
    let file = program.write("events", &format!("{}{unknown}\n{incomplete}\n", events([1])));
    for option in ["--check", "--dry-run"] {
        let ended = program.run(&["send", "--file", &file, option]).await;
        assert!(ended.assert(1).err.contains(":2: message.template: there is no template \"nope\""), "{}", ended.err);
        assert!(ended.err.contains(":3: ") && ended.err.contains("Link"), "{}", ended.err);
        assert!(ended.out.starts_with("Sound: 1 mail "), "{}", ended.out);
    }
    assert!(!program.path("events.postlane").exists(), "nothing is kept");
    program.run(&["send", "--file", &program.write("sound", &events(1..=9)), "--check"]).await.assert(0);
}

#[tokio::test]
async fn the_rate_is_kept() {
    let bed = Bed::new().await;
    let file = bed.program.write("events", &events(1..=300));
    let ended = bed.program.run(&["send", "--file", &file, "--rate", "200/s", "--json"]).await;
    let seconds = ended.assert(0).json()["seconds"].as_f64().expect("a number");
    assert!((1.4..4.0).contains(&seconds), "{seconds}");
}

#[tokio::test]
async fn what_cannot_be_done_is_said() {
    let program = Program::new();
    let file = program.write("events", &events([1]));
    let folder = program.folder.path().to_str().expect("UTF-8");
    let mut unreachable = Program::new();
    unreachable.set("KAFKA_BROKERS", "127.0.0.1:1");
    let ended = unreachable.run(&["send", "--file", &file, "--state", "/proc/x"]).await;
    assert!(ended.assert(1).err.contains("/proc/x cannot be written"), "{}", ended.err);
    assert!(ended.err.ends_with("; nothing was published\n"), "{}", ended.err);
    for (arguments, status, told) in [
        (&["send", "--file", "missing"][..], 1, "missing: No such file"),
        (&["send", "--file", folder], 1, "is a folder"),
        (&["send", "--file", "-", "--state", "s"], 2, "cannot be read again"),
        (&["send", "--file", "-", "--restart"], 2, "cannot be read again"),
        (&["send", "--file", &file], 78, "KAFKA_BROKERS is not set"),
        (&["send", "--file", &file, "--state", &file], 1, "is no state of `postlane send`"),
        (&["send", "--file", &file, "--state", &file, "--restart"], 1, "is no state of `postlane send`"),
        (&["send", "--file", &file, "--state", "/nowhere/s"], 78, "KAFKA_BROKERS"),
        (&["send", "--file", &file, "--check", "--rejects", "/nowhere/r"], 1, "/nowhere/r cannot be written"),
        (&["send", "--file", &file, "--check", "--rejects", &file], 2, "is the file that is sent"),
        (&["send", "--file", &file, "--rejects", "events.postlane"], 78, "KAFKA_BROKERS"),
        (&["send", "--file", "/dev/null/x"], 1, "/dev/null/x"),
        (&["send", "--file", &file, "--rate", "fast"], 2, "expected a rate"),
        (&["send", "--file", &file, "--max-errors", "0"], 2, "--max-errors"),
        (&["send", "--restart", "--to", "a@b", "--template", "plain"], 2, "cannot be used with"),
        (&["send", "--restart"], 2, "--file"),
        (&["send"], 2, "--to"),
    ] {
        let ended = program.run(arguments).await;
        assert!(ended.assert(status).err.contains(told), "{arguments:?}: {}", ended.err);
        assert_eq!(ended.out, "");
    }
    assert_eq!(program.read("events"), events([1]), "nothing was written over it");
}

#[tokio::test]
async fn settings_for_single_mails_do_not_turn_a_file_away_from_kafka() {
    let mut bed = Bed::new().await;
    let relay = devkit::smtp::SmtpServer::builder().start().await;
    for (name, value) in [
        ("KAFKA_ENABLED", "false"),
        ("FALLBACK", "smtp"),
        ("PUBLISH_WHEN_FULL", "error"),
        ("PUBLISH_BUFFER_RECORDS", "1"),
        ("SMTP_HOST", "127.0.0.1"),
        ("SMTP_ENCRYPTION", "none"),
        ("MAIL_FROM", "shop@example.com"),
    ] {
        bed.program.set(name, value);
    }
    bed.program.set("SMTP_PORT", relay.port());
    let file = bed.program.write("events", &events(1..=500));
    bed.program.run(&["send", "--file", &file]).await.assert(0);
    bed.assert_once(Priority::Normal, ids(1..=500)).await;
    assert!(relay.ledger().accepted().is_empty());
}
