//! What is listed, shown and exported: filters, records that are no letters, pipes.

use std::process::Stdio;

use devkit::kafka::Record;
use postlane::dead_letters::{Desk, Place};
use serde_json::{Value, json};

use crate::{
    bed::{Bed, event_with},
    letters::{bury, counts, dlq, letter, lines, mail, of, quiet, redrive, sent, settings},
};

async fn places(bed: &Bed, filter: &[&str]) -> Vec<String> {
    let all: Vec<&str> = ["list", "--json"].iter().chain(filter).copied().collect();
    lines(bed, &all).await.iter().map(|line| line["place"].as_str().expect("a place").to_owned()).collect()
}

#[tokio::test]
async fn filters_choose_and_all_of_them_must_hold() {
    let bed = quiet().await;
    let with = |record: Record, name: &str, value: &str| {
        let mut record = record;
        record.headers.retain(|(own, _)| own != name);
        record.header(name, value)
    };
    let template = letter(&bed, 1, &event_with("m1", "x@Example.COM", &json!({"template": "welcome"})));
    let template = with(with(template, "postlane-stage", "template"), "postlane-reason", "unknown-template");
    let late = with(letter(&bed, 2, &mail(2)), "postlane-failed-at", "2026-01-06T08:00:00Z");
    let low = of(&bed.names.low, 3, event_with("m3", "x@bücher.example", &json!({})).to_string());
    bury(&bed, vec![letter(&bed, 0, &mail(0)), template, late, low]).await;
    for (filter, expected) in [
        (&[][..], &["0:0", "0:1", "0:2", "0:3"][..]),
        (&["--reason", "unknown-template"], &["0:1"]),
        (&["--reason", "unknown-template", "--reason", "rejected"], &["0:0", "0:1", "0:2", "0:3"]),
        (&["--stage", "send", "--template", "welcome"], &[]),
        (&["--template", "welcome"], &["0:1"]),
        (&["--domain", "example.com"], &["0:0", "0:1", "0:2"]),
        (&["--domain", "xn--bcher-kva.example"], &["0:3"]),
        (&["--lane", "low"], &["0:3"]),
        (&["--topic", &bed.names.normal], &["0:0", "0:1", "0:2"]),
        (&["--id", "mail-2"], &["0:2"]),
        (&["--since", "2026-01-06T08:00:00Z"], &["0:2"]),
        (&["--until", "2026-01-06T08:00:00Z"], &["0:0", "0:1", "0:3"]),
        (&["--since", "1h"], &[]),
        (&["0:2", "0:0", "0:77", "4:0"], &["0:0", "0:2"]),
        (&["--limit", "2"], &["0:0", "0:1"]),
        (&["--newest", "--limit", "2"], &["0:2", "0:3"]),
    ] {
        assert_eq!(places(&bed, filter).await, expected, "{filter:?}");
    }
    for (option, wrong, words) in [
        ("--stage", "sent", "decode, template, compose, send, expired"),
        ("--reason", "refused", "malformed, unknown-template"),
        ("--lane", "hihg", "high, normal, low"),
    ] {
        for command in [&["list"][..], &["redrive", "--yes"], &["export"]] {
            let (_, said) = dlq(&bed, &[command, &[option, wrong]].concat(), 2).await;
            assert!(said.contains(words) && said.contains(wrong), "{said}");
        }
    }
    let (out, said) = dlq(&bed, &["list", "--topic", "hihg"], 0).await;
    assert!(out.is_empty() && said.contains("none of the 4"), "{said}");
    let (_, said) = dlq(&bed, &["list", "--since", "yesterday"], 2).await;
    assert!(said.contains("2h or 3d"), "{said}");
}

#[tokio::test]
async fn no_letter_and_one_letter_are_said() {
    let bed = quiet().await;
    assert_eq!(dlq(&bed, &["list"], 0).await, (String::new(), "postlane: no dead letters\n".to_owned()));
    assert_eq!(dlq(&bed, &["list", "--json"], 0).await, (String::new(), String::new()));
    bury(&bed, vec![letter(&bed, 1, &mail(1))]).await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("out").display().to_string();
    let (_, said) = dlq(&bed, &["export", "--output", &file], 0).await;
    assert!(said.contains("1 letter is in"), "{said}");
}

#[tokio::test]
async fn what_is_no_letter_is_shown_as_such_and_stops_nothing() {
    let bed = quiet().await;
    let null = |record: Record| Record { value: None, ..record };
    let records = vec![
        Record::new("\x1b[2J not ours"),
        Record::null(),
        letter(&bed, 1, &mail(1)),
        null(letter(&bed, 2, &mail(2))).header("postlane-original-size", "5000000"),
        null(letter(&bed, 3, &mail(3))),
        Record::new(b"\xff\xfe".to_vec()).header("postlane-stage", "x\x1b]0;evil\x07").header("postlane-reason", "y"),
        letter(&bed, 4, &json!("no object")),
        letter(&bed, 5, &event_with("m5", "a@b.c", &json!({"expires_at": "2026-01-01T00:00:00Z"}))),
        of("elsewhere", 6, mail(6).to_string()).header("kafka_dlt-original-consumer-group", "another"),
        of("renamed", 7, event_with("m7", "a@b.c", &json!({"priority": "high"})).to_string()),
    ];
    bury(&bed, records).await;
    // rskafka fails on it; a batch of its own
    let undecodable = [letter(&bed, 8, &mail(8)).null_header("trace")];
    bed.cluster.produce_raw(&bed.names.dead_letters, 0, &undecodable).await.expect("written");
    bury(&bed, vec![letter(&bed, 9, &mail(9))]).await;

    let (out, said) = dlq(&bed, &["list"], 0).await;
    assert_eq!(out.lines().count(), 1 + 10 + 1, "{out}");
    assert!(!out.contains(|c: char| c.is_control() && c != '\n'), "{out:?}");
    assert!(said.contains("0:10"), "{said}");
    for place in 0..10 {
        let place = format!("0:{place}");
        let (page, _) = dlq(&bed, &["show", &place], 0).await;
        assert!(!page.contains(|c: char| c.is_control() && c != '\n'), "{page:?}");
        let (object, _) = dlq(&bed, &["show", &place, "--json"], 0).await;
        serde_json::from_str::<Value>(&object).expect("one JSON object");
    }
    let (_, said) = dlq(&bed, &["show", "0:77"], 1).await;
    assert!(said.contains("from 0 to 11"), "{said}");
    let exported = {
        let (out, _) = dlq(&bed, &["export"], 0).await;
        out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect::<Vec<Value>>()
    };
    assert_eq!(exported[5]["value"], json!({"base64": "//4="}));
    assert_eq!(exported[2]["headers"]["kafka_dlt-original-offset"], 1);

    let outcome = redrive(&bed, &["--all"], 0).await;
    assert_eq!(sent(&outcome), (3, 3), "{outcome}");
    let skipped = counts(&[
        ("expired", 1),
        ("foreign", 2),
        ("no-value", 1),
        ("other-group", 1),
        ("too-large", 1),
        ("unreadable", 2),
    ]);
    assert_eq!(outcome["skipped"], skipped);
    let marks = Desk::open(&settings(&bed)).await.expect("a topic").marks().await.expect("told");
    let waiting: Vec<i64> = (0..12).filter(|offset| !marks.contains(Place { partition: 0, offset: *offset })).collect();
    assert_eq!(waiting, [0, 1, 3, 4, 5, 6, 7, 8, 10], "what was not sent is not remembered, decodable or not");
    assert_eq!(outcome["targets"], counts(&[(&bed.names.normal, 2), (&bed.names.high, 1)]));
}

#[tokio::test]
async fn a_reader_that_has_seen_enough_is_no_failure() {
    let bed = quiet().await;
    bury(&bed, (0..3000).map(|number| letter(&bed, number, &mail(0))).collect()).await;
    for command in ["list", "list --json", "export", "export --events"] {
        let script = format!("set -o pipefail; {} dlq {command} | head -1", env!("CARGO_BIN_EXE_postlane"));
        let template = bed.command(&["dlq"]);
        let mut bash = tokio::process::Command::new("bash");
        bash.env_clear();
        for (name, value) in template.as_std().get_envs() {
            bash.env(name, value.expect("it is set"));
        }
        bash.env("PATH", "/usr/bin:/bin");
        let output = bash.arg("-c").arg(script).stdin(Stdio::null()).output().await.expect("bash");
        assert_eq!(output.status.code(), Some(0), "{command}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{command}");
        assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 1);
    }
}

#[tokio::test]
async fn without_a_choice_or_an_answer_nothing_is_sent() {
    let bed = quiet().await;
    bury(&bed, vec![letter(&bed, 1, &mail(1))]).await;
    let (_, said) = dlq(&bed, &["redrive"], 2).await;
    assert!(said.contains("--all"), "{said}");
    let (_, said) = dlq(&bed, &["redrive", "--all"], 2).await;
    assert!(said.contains("--yes"), "{said}");
    dlq(&bed, &["redrive", "--all", "0:1", "--yes"], 2).await;
    let (_, said) = dlq(&bed, &["redrive", "0:5", "--yes"], 1).await;
    assert!(said.contains("no letter at 0:5"), "{said}");
    assert_eq!(crate::letters::in_lane(&bed).await.1.len(), 0);
}

#[tokio::test]
async fn the_topics_are_described_with_what_waits() {
    let bed = quiet().await;
    bury(&bed, (1..=3).map(|number| letter(&bed, number, &mail(0))).collect()).await;
    // the first still waits, and what comes after it was sent back: Kafka itself would count all three
    redrive(&bed, &["0:2"], 0).await;
    let (code, out, _) = bed.run(&["topics", "describe", "--json"]).await;
    assert_eq!(code, Some(0), "{out}");
    let seen: Value = serde_json::from_str(&out).expect("JSON");
    let topics = seen["topics"].as_array().expect("a list");
    let told: Vec<_> =
        topics.iter().map(|it| (it["topic"].as_str(), it["records"].as_i64(), it["lag"].as_i64())).collect();
    let names = &bed.names;
    assert_eq!(
        told,
        [
            (Some(names.high.as_str()), Some(0), Some(0)),
            (Some(names.normal.as_str()), Some(1), Some(1)),
            (Some(names.low.as_str()), Some(0), Some(0)),
            (Some(names.dead_letters.as_str()), Some(3), Some(2)),
        ]
    );
    let (_, table, _) = bed.run(&["topics", "describe", "--partitions"]).await;
    assert_eq!(table.lines().filter(|line| line.starts_with(&names.normal)).count(), 4, "{table}");
    bed.cluster.delete_topic(&names.low).await.expect("deleted");
    let (code, table, _) = bed.run(&["topics", "describe"]).await;
    assert_eq!(code, Some(1));
    assert!(table.contains("does not exist"), "{table}");
}

#[tokio::test]
async fn an_outcome_that_cannot_be_written_is_told_all_the_same() {
    let bed = quiet().await;
    bury(&bed, vec![letter(&bed, 1, &mail(1))]).await;
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
    let mut command = bed.command(&["dlq", "redrive", "--all", "--yes", "--json"]);
    let output = command.stdout(full).output().await.expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("sent back 1 of 1"), "{said}");
}
