//! `postlane topics describe`: the lanes and the dead letters as they are now.

use std::fmt::Write as _;

use clap::Args;
use postlane::{
    config::Kafka,
    dead_letters::Desk,
    kafka::{
        client::Connector,
        topics::{self, Overview, PartitionView, Role, TopicView, overview},
    },
};
use serde_json::{Value, json};

use crate::cli::{
    columns::{Cell, Column, Layout},
    exit::Exit,
    runtime,
    table::Tone,
    terminal::{Terminal, complain, print},
};

const TOPICS: [Column; 8] = [
    Column::text("TOPIC", 20, 0),
    Column::text("FOR", 8, 0),
    Column::number("PARTITIONS", 2),
    Column::number("REPLICAS", 4),
    Column::number("RECORDS", 1),
    Column::number("LAG", 0),
    Column::text("OF GROUP", 12, 3),
    Column::text("KEPT FOR", 8, 5),
];

const PARTITIONS: [Column; 8] = [
    Column::text("TOPIC", 20, 0),
    Column::number("PARTITION", 0),
    Column::text("LEADER", 6, 1),
    Column::number("START", 3),
    Column::number("END", 2),
    Column::number("COMMITTED", 2),
    Column::number("LAG", 0),
    Column::text("OF GROUP", 12, 4),
];

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  postlane topics describe
  postlane topics describe --partitions
  # the lag of the lanes together
  postlane topics describe --json | jq '[.topics[0:3][].lag] | add'")]
pub(in crate::cli) struct Arguments {
    /// One line for each partition
    #[arg(long)]
    partitions: bool,
    /// Print one JSON object, partitions and all
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments, kafka: &Kafka) -> Exit {
    let connector = match Connector::new(kafka) {
        Ok(connector) => connector,
        Err(error) => {
            complain(format_args!("{:#}", anyhow::Error::new(error)));
            return Exit::Config;
        }
    };
    let seen = match runtime::block_on(look(&connector, kafka)) {
        Ok(Ok(seen)) => seen,
        Ok(Err(error)) => return super::failed(error),
        Err(exit) => return exit,
    };
    let bad = seen.topics.iter().any(|topic| topic.missing.is_some()) || !seen.untold.is_empty();
    let exit = if bad { Exit::Failed } else { Exit::Done };
    if arguments.json {
        return print(&format!("{:#}\n", object(&seen, kafka)), exit);
    }
    let text = table(&seen, arguments.partitions, kafka, Terminal::stdout());
    let exit = print(&text, exit);
    for why in &seen.untold {
        complain(format_args!("not told: {why}"));
    }
    exit
}

/// The topics, and of the dead letters what our own notes say: Kafka counts all from the first that still waits.
async fn look(connector: &Connector, kafka: &Kafka) -> Result<Overview, topics::Error> {
    let mut seen = overview(connector, kafka).await?;
    let marks = match Desk::open(kafka).await {
        Ok(desk) => desk.marks().await.ok(),
        // it was said why already
        Err(_) => None,
    };
    for topic in seen.topics.iter_mut().filter(|topic| topic.role == Role::DeadLetters) {
        for partition in &mut topic.partitions {
            if let (Some(marks), Some((start, end))) = (&marks, partition.ends) {
                partition.lag = Some(marks.waiting(partition.index, start, end));
            }
        }
    }
    Ok(seen)
}

fn lane(kafka: &Kafka, topic: &TopicView) -> &'static str {
    let name = &*topic.name;
    match topic.role {
        Role::DeadLetters => "dead letters",
        Role::Lane if name == kafka.topic_high => "high lane",
        Role::Lane if name == kafka.topic_low => "low lane",
        Role::Lane => "normal lane",
    }
}

fn number(number: Option<impl ToString>) -> Cell {
    number.map_or_else(|| Cell::new("?"), |number| Cell::new(number.to_string()))
}

fn lag(lag: Option<i64>) -> Cell {
    match lag {
        Some(0) | None => number(lag),
        Some(_) => number(lag).toned(Tone::Doubtful),
    }
}

fn table(seen: &Overview, partitions: bool, kafka: &Kafka, terminal: Terminal) -> String {
    let there = seen.topics.iter().filter(|topic| topic.missing.is_none());
    let (columns, rows): (&[Column], Vec<Vec<Cell>>) = if partitions {
        let rows = there.flat_map(|topic| topic.partitions.iter().map(|it| partition_row(topic, it)));
        (&PARTITIONS, rows.collect())
    } else {
        (&TOPICS, there.map(|topic| topic_row(topic, kafka)).collect())
    };
    let mut text = String::new();
    if !rows.is_empty() {
        let layout = Layout::new(columns, &rows, terminal);
        text.push_str(&layout.header());
        text.extend(rows.iter().map(|row| layout.row(row)));
    }
    for topic in &seen.topics {
        let remarks = topic.missing.iter().chain(&topic.remarks);
        for remark in remarks {
            let (start, end) = if terminal.colours { ("\x1b[33m", "\x1b[0m") } else { ("", "") };
            // a finding names its topic itself
            let named = if remark.contains(&*topic.name) { String::new() } else { format!("{}: ", topic.name) };
            let _ = writeln!(text, "{start}note{end}  {named}{remark}");
        }
    }
    text
}

fn topic_row(topic: &TopicView, kafka: &Kafka) -> Vec<Cell> {
    let leaderless = topic.partitions.iter().filter(|it| it.leader.is_none()).count();
    let partitions = match leaderless {
        0 => topic.partitions.len().to_string(),
        some => format!("{} ({some} without a leader)", topic.partitions.len()),
    };
    vec![
        Cell::new(&topic.name),
        Cell::new(lane(kafka, topic)),
        Cell::new(partitions),
        Cell::new(topic.replicas.to_string()),
        number(topic.records()),
        lag(topic.lag()),
        Cell::new(&topic.group),
        Cell::new(topic.configs.as_ref().map(|configs| kept(configs.retention_ms)).unwrap_or_default()),
    ]
}

fn kept(millis: Option<u64>) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s")];
    let Some(millis) = millis else { return "ever".to_owned() };
    let unit = UNITS.iter().find(|(unit, _)| millis >= *unit && millis.is_multiple_of(*unit));
    unit.map_or_else(|| format!("{millis}ms"), |(unit, name)| format!("{}{name}", millis / unit))
}

fn partition_row(topic: &TopicView, partition: &PartitionView) -> Vec<Cell> {
    vec![
        Cell::new(&topic.name),
        Cell::new(partition.index.to_string()),
        partition.leader.map_or_else(|| Cell::new("none").toned(Tone::Bad), |leader| Cell::new(leader.to_string())),
        number(partition.ends.map(|(start, _)| start)),
        number(partition.ends.map(|(_, end)| end)),
        partition.committed.map_or_else(|| Cell::new("-"), |offset| Cell::new(offset.to_string())),
        lag(partition.lag),
        Cell::new(&topic.group),
    ]
}

fn object(seen: &Overview, kafka: &Kafka) -> Value {
    let topics = seen.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|it| {
            json!({
                "partition": it.index,
                "leader": it.leader,
                "start": it.ends.map(|(start, _)| start),
                "end": it.ends.map(|(_, end)| end),
                "committed": it.committed,
                "lag": it.lag,
            })
        });
        json!({
            "topic": &*topic.name,
            "role": if topic.role == Role::Lane { "lane" } else { "dead-letters" },
            "for": lane(kafka, topic),
            "group": &*topic.group,
            "missing": topic.missing,
            "replicas": topic.replicas,
            "records": topic.records(),
            "lag": topic.lag(),
            "settings": topic.configs.as_ref().map(|it| json!({
                "retention_ms": it.retention_ms,
                "retention_bytes": it.retention_bytes,
                "max_message_bytes": it.max_message_bytes,
                "min_insync_replicas": it.min_insync,
                "compacted": it.compacted,
            })),
            "remarks": topic.remarks,
            "partitions": partitions.collect::<Vec<_>>(),
        })
    });
    json!({
        "brokers": seen.brokers.iter().map(|it| json!({"id": it.id, "address": it.address})).collect::<Vec<_>>(),
        "topics": topics.collect::<Vec<_>>(),
        "untold": seen.untold,
    })
}
