//! The topics that postlane works with, and how they are made where it may make them.

use std::{fmt, sync::Arc};

use crate::config;

/// From this number of replicas on, a record can be on two of them while one is away.
const ENOUGH_REPLICAS: i16 = 3;

/// What a topic is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Events are read from it.
    Lane,
    /// Dead letters are written to it.
    DeadLetters,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lane => "lane",
            Self::DeadLetters => "dead letters",
        })
    }
}

/// A topic that should be there, and how it is made if it is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Its name.
    pub name: Arc<str>,
    /// What it is for.
    pub role: Role,
    /// Partitions, 1 and up.
    pub partitions: i32,
    /// Replicas of each partition; -1 leaves it to the brokers.
    pub replication: i16,
    /// Settings that differ from, or must not depend on, the brokers' defaults.
    pub configs: Vec<(&'static str, String)>,
}

impl Wanted {
    /// The lanes from high to low, then the dead letters.
    pub fn all(settings: &config::Kafka) -> Vec<Self> {
        let lanes = [&settings.topic_high, &settings.topic_normal, &settings.topic_low];
        let topics = &settings.topics;
        let make = |name: &str, role: Role| {
            // a broker whose default is to compact would delete mails that share a key
            let mut configs = vec![("cleanup.policy", "delete".to_owned())];
            if topics.replication >= ENOUGH_REPLICAS {
                configs.push(("min.insync.replicas", "2".to_owned()));
            }
            if role == Role::DeadLetters {
                configs.push(("retention.ms", topics.dead_letter_retention.as_millis().to_string()));
                configs.push(("retention.bytes", "-1".to_owned()));
            }
            let (partitions, replication) = (topics.partitions, topics.replication);
            Self { name: Arc::from(name), role, partitions, replication, configs }
        };
        lanes
            .into_iter()
            .map(|lane| make(lane, Role::Lane))
            .chain([make(&settings.topic_dead_letters, Role::DeadLetters)])
            .collect()
    }
}
