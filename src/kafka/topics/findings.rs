//! What is wrong with topics that exist: settings under which mails or dead letters can be lost.
//!
//! Pure: sees what the brokers told, and decides.

use std::{fmt, sync::Arc};

use super::{Configs, Role};

/// Replicas that should have a record before it counts as written, where there is more than one broker.
const SAFE_REPLICAS: usize = 2;

/// A topic that exists, as far as the brokers tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its name.
    pub name: Arc<str>,
    /// What it is for.
    pub role: Role,
    /// Replicas of the partition that has the fewest.
    pub replication: usize,
    /// Its settings.
    pub configs: Configs,
}

/// One thing that is wrong; prints as one sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The topic.
    pub topic: Arc<str>,
    /// What it is for.
    pub role: Role,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Compacted,
    OneReplica,
    MinInsync,
    /// The dead letters' limit of bytes, and a lane that keeps more.
    RetentionBytes(u64, Arc<str>, Option<u64>),
    /// The same in milliseconds.
    RetentionTime(u64, Arc<str>, Option<u64>),
    /// The largest record of the dead letters, and a lane that takes larger ones.
    MessageBytes(u64, Arc<str>, u64),
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { topic, role, kind } = self;
        let what = match role {
            Role::Lane => "topic",
            Role::DeadLetters => "dead letter topic",
        };
        write!(f, "{what} {topic} ")?;
        match kind {
            Kind::Compacted => {
                write!(f, "is compacted: Kafka deletes all but the newest of the records that share a key")
            }
            Kind::OneReplica => write!(f, "has one replica: what it holds is lost with a broker"),
            Kind::MinInsync => {
                write!(f, "has min.insync.replicas=1: what is acknowledged may be on one broker alone")
            }
            Kind::RetentionBytes(own, lane, theirs) => {
                write!(f, "keeps {own} bytes a partition (retention.bytes), and {lane} ")?;
                match theirs {
                    Some(limit) => write!(f, "{limit}"),
                    None => f.write_str("has no limit"),
                }
            }
            Kind::RetentionTime(own, lane, theirs) => {
                write!(f, "keeps records for {} (retention.ms), and {lane} for ", Span(*own))?;
                match theirs {
                    Some(limit) => Span(*limit).fmt(f),
                    None => f.write_str("ever"),
                }
            }
            Kind::MessageBytes(own, lane, theirs) => {
                write!(f, "takes records of {own} bytes (max.message.bytes), and {lane} of {theirs}")
            }
        }
    }
}

impl Finding {
    /// What to do about it.
    pub fn advice(&self) -> &'static str {
        match self.kind {
            Kind::Compacted => "set cleanup.policy=delete on it",
            Kind::OneReplica => "give it three replicas and min.insync.replicas=2",
            Kind::MinInsync => "set min.insync.replicas=2 on it",
            Kind::RetentionBytes(..) => "set retention.bytes=-1 on it",
            Kind::RetentionTime(..) => "raise its retention.ms",
            Kind::MessageBytes(..) => {
                "raise its max.message.bytes: a larger dead letter is written without its content"
            }
        }
    }
}

/// Milliseconds in the largest unit that leaves no rest.
struct Span(u64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 4] = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s")];
        match UNITS.iter().find(|(unit, _)| self.0 >= *unit && self.0.is_multiple_of(*unit)) {
            Some((unit, name)) => write!(f, "{}{name}", self.0 / unit),
            None => write!(f, "{}ms", self.0),
        }
    }
}

/// All that is wrong with these topics on a cluster of so many brokers, in the order of the topics.
pub fn findings(topics: &[Seen], brokers: usize) -> Vec<Finding> {
    let lanes: Vec<&Seen> = topics.iter().filter(|topic| topic.role == Role::Lane).collect();
    let mut found = Vec::new();
    for topic in topics {
        let mut add = |kind| found.push(Finding { topic: Arc::clone(&topic.name), role: topic.role, kind });
        if topic.configs.compacted {
            add(Kind::Compacted);
        }
        if brokers > 1 && topic.replication < SAFE_REPLICAS {
            add(Kind::OneReplica);
        } else if brokers > 1 && topic.configs.min_insync < SAFE_REPLICAS {
            add(Kind::MinInsync);
        }
        if topic.role == Role::DeadLetters {
            against_lanes(&topic.configs, &lanes).into_iter().for_each(&mut add);
        }
    }
    found
}

fn against_lanes(own: &Configs, lanes: &[&Seen]) -> Vec<Kind> {
    // no limit counts as the greatest one
    let longest = |limit: fn(&Configs) -> Option<u64>| {
        lanes.iter().map(|lane| (limit(&lane.configs).unwrap_or(u64::MAX), &lane.name)).max_by_key(|(limit, _)| *limit)
    };
    let said = |limit: u64| (limit != u64::MAX).then_some(limit);
    let mut kinds = Vec::new();
    if let (Some(own), Some((lane, name))) = (own.retention_bytes, longest(|it| it.retention_bytes))
        && own < lane
    {
        kinds.push(Kind::RetentionBytes(own, Arc::clone(name), said(lane)));
    }
    if let (Some(own), Some((lane, name))) = (own.retention_ms, longest(|it| it.retention_ms))
        && own < lane
    {
        kinds.push(Kind::RetentionTime(own, Arc::clone(name), said(lane)));
    }
    if let Some((lane, name)) = longest(|it| Some(it.max_message_bytes))
        && own.max_message_bytes < lane
        && lane != u64::MAX
    {
        kinds.push(Kind::MessageBytes(own.max_message_bytes, Arc::clone(name), lane));
    }
    kinds
}
