//! Dead letters that no service had to write, and what the commands say.

use std::collections::BTreeMap;

use devkit::kafka::{Compression, Record, StoredRecord};
use serde_json::{Value, json};

use crate::bed::{Bed, event};

/// A bed on which no mail is sent.
pub(crate) async fn quiet() -> Bed {
    Bed::new().await
}

/// A letter as the service would have written it of a record at this offset of the normal lane.
pub(crate) fn letter(bed: &Bed, offset: i64, value: &Value) -> Record {
    of(&bed.names.normal, offset, value.to_string().into_bytes())
}

/// The same of another topic, with any value.
pub(crate) fn of(topic: &str, offset: i64, value: impl Into<Vec<u8>>) -> Record {
    Record::new(value)
        .key(format!("key-{offset}"))
        .header("type", "notification")
        .header("kafka_dlt-original-topic", topic)
        .header("kafka_dlt-original-partition", 0_i32.to_be_bytes())
        .header("kafka_dlt-original-offset", offset.to_be_bytes())
        .header("kafka_dlt-original-timestamp", (1_700_000_000_000 + offset).to_be_bytes())
        .header("kafka_dlt-exception-message", "550 no such user")
        .header("postlane-stage", "send")
        .header("postlane-reason", "rejected")
        .header("postlane-attempts", "3")
        .header("postlane-smtp-code", "550")
        .header("postlane-failed-at", "2026-01-05T08:00:00.000Z")
}

/// A usual event with this number.
pub(crate) fn mail(number: usize) -> Value {
    event(&format!("mail-{number}"), &format!("user{number}@example.com"))
}

/// Writes letters into the first partition.
pub(crate) async fn bury(bed: &Bed, letters: Vec<Record>) -> Vec<i64> {
    bed.cluster.produce_compressed(&bed.names.dead_letters, 0, letters, Compression::Gzip).await.expect("written")
}

/// What lies in a lane, by event id: how often.
pub(crate) async fn in_lane(bed: &Bed) -> (BTreeMap<String, usize>, Vec<StoredRecord>) {
    let mut found = Vec::new();
    for topic in bed.names.lanes() {
        found.extend(bed.cluster.read_all(topic).await.expect("records"));
    }
    let mut copies = BTreeMap::new();
    for record in &found {
        let event: Value = serde_json::from_str(&record.text()).unwrap_or_default();
        *copies.entry(event["message"]["id"].as_str().unwrap_or("?").to_owned()).or_default() += 1;
    }
    (copies, found)
}

/// Runs `postlane dlq` with these arguments and demands an exit status.
pub(crate) async fn dlq(bed: &Bed, arguments: &[&str], status: i32) -> (String, String) {
    let all: Vec<&str> = ["dlq"].iter().chain(arguments).copied().collect();
    let (code, out, err) = bed.run(&all).await;
    assert_eq!(code, Some(status), "{arguments:?}\n{out}\n{err}");
    (out, err)
}

/// The lines of JSON that a command prints.
pub(crate) async fn lines(bed: &Bed, arguments: &[&str]) -> Vec<Value> {
    let (out, err) = dlq(bed, arguments, 0).await;
    assert_eq!(err, "");
    out.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

/// The outcome of `dlq redrive --yes --json` with these arguments.
pub(crate) async fn redrive(bed: &Bed, arguments: &[&str], status: i32) -> Value {
    let all: Vec<&str> = ["redrive", "--yes", "--json"].iter().chain(arguments).copied().collect();
    let (out, err) = dlq(bed, &all, status).await;
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}\n{err}"))
}

/// How many were chosen and sent.
pub(crate) fn sent(outcome: &Value) -> (u64, u64) {
    (outcome["chosen"].as_u64().expect("a count"), outcome["sent"].as_u64().expect("a count"))
}

/// `{"a": 1}` of pairs.
pub(crate) fn counts(pairs: &[(&str, usize)]) -> Value {
    pairs.iter().fold(json!({}), |mut object, (name, count)| {
        object[*name] = json!(count);
        object
    })
}

/// The settings that the commands have.
pub(crate) fn settings(bed: &Bed) -> postlane::config::Kafka {
    let command = bed.command(&[]);
    let variables = command.as_std().get_envs();
    let text = |text: &std::ffi::OsStr| text.to_str().expect("UTF-8").to_owned();
    let variables: Vec<_> = variables.map(|(name, value)| (text(name), text(value.expect("it is set")))).collect();
    postlane::config::kafka_from_variables(variables).expect("settings")
}
