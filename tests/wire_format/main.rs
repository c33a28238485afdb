//! The documents that describe the topics to producers, held against what the code reads and writes.

mod asyncapi;
mod schema;

use std::{collections::BTreeMap, fs, path::Path};

use postlane::{
    event::{self, DecodeError, Message},
    kafka::Record,
};
use serde_json::Value;

/// A file of the repository.
fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// What the service makes of an event.
fn decode(event: &Value) -> Result<Message, DecodeError> {
    event::decode(&record(event.to_string().into_bytes()))
}

fn record(value: Vec<u8>) -> Record {
    Record {
        topic: "email-queue".into(),
        partition: 0,
        offset: 0,
        timestamp: chrono::DateTime::UNIX_EPOCH,
        arrived: chrono::DateTime::UNIX_EPOCH,
        key: None,
        value: Some(value),
        headers: BTreeMap::new(),
    }
}

/// The names in the first column of the table in docs/wire-format.md that is headed by these words.
fn table(head: &str) -> Vec<String> {
    let text = read("docs/wire-format.md");
    let rows = text.lines().skip_while(|line| !line.starts_with(&format!("| {head} |"))).skip(2);
    let cells = rows.take_while(|line| line.starts_with('|')).filter_map(|line| line.split('|').nth(1));
    let mut names: Vec<String> = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).map(str::to_owned).collect();
    assert!(!names.is_empty(), "no table headed {head:?}");
    names.sort();
    names
}
