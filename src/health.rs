//! Whether the service is alive, and whether it is ready.
//!
//! Owns both judgements, and the [`Facts`] that they and the metrics are made of. Facts are taken anew for each
//! question from what the parts know already: nothing is asked of a broker or of the relay, and nobody who is asked
//! for them can hold up the work.

mod liveness;
mod readiness;
#[cfg(test)]
pub(crate) mod tests;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::Utc;
use tokio::time::Instant;

use self::liveness::Judge;
pub use self::{
    liveness::{Crew, Limits, Station},
    readiness::{Check, Readiness},
};
use crate::{
    config,
    event::Priority,
    kafka::assignment::status::{self, Status},
    pipeline::{Pipeline, Vitals},
    smtp::relay,
};

/// The topics of the service.
#[derive(Debug, Clone)]
pub struct Topics {
    /// The lanes', high to low.
    pub lanes: [Arc<str>; 3],
    /// The dead letters'.
    pub dead_letters: Arc<str>,
}

/// How one partition fares.
#[derive(Debug, Clone)]
pub struct PartitionFacts {
    /// Its topic.
    pub topic: Arc<str>,
    /// Its number in the topic.
    pub number: i32,
    /// The lane of its topic.
    pub lane: Priority,
    /// How it fares.
    pub vitals: Vitals,
}

/// All that is known at one moment.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The topics of the service.
    pub topics: Topics,
    /// Whether a shutdown has begun.
    pub draining: bool,
    /// How the work on partitions fares.
    pub assignment: status::Report,
    /// The partitions that are worked on, in the order of their topics and numbers.
    pub partitions: Vec<PartitionFacts>,
    /// What is known of the relay.
    pub relay: relay::Report,
    /// Mails that wait for a session, by lane.
    pub waiting: [usize; 3],
    /// Whether one of them could be taken now.
    pub takeable: bool,
    /// Whether the last dead letters could be written.
    pub letters_written: bool,
    /// Spans that no collector has got.
    pub spans_dropped: u64,
    /// Time after which a fetch without an answer means that the broker is gone.
    pub fetch_patience: Duration,
}

impl Facts {
    /// The partitions that are there, and so is their topic.
    pub fn present_partitions(&self) -> impl Iterator<Item = &PartitionFacts> {
        let missing = |topic| self.assignment.topics.get(topic) == Some(&status::Topic::Missing);
        self.partitions.iter().filter(move |partition| !partition.vitals.gone && !missing(&partition.topic))
    }

    /// Time since all that was settled was committed, while something is due.
    pub fn commit_age(&self) -> Duration {
        let due = self.assignment.due || self.present_partitions().any(|partition| partition.vitals.due);
        if due { self.assignment.clean } else { Duration::ZERO }
    }
}

/// Answers for the service. Cheap to clone.
#[derive(Clone)]
pub struct Health {
    pipeline: Arc<Pipeline>,
    status: Arc<Status>,
    topics: Topics,
    fetch_max_wait: Duration,
    limits: Limits,
    judge: Arc<Mutex<Judge>>,
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Health")
    }
}

impl Health {
    /// Watches these parts of a service with these settings.
    pub fn of(kafka: &config::Kafka, pipeline: Arc<Pipeline>, status: Arc<Status>) -> Self {
        Self {
            pipeline,
            status,
            topics: Topics {
                lanes: [&kafka.topic_high, &kafka.topic_normal, &kafka.topic_low].map(|topic| topic.as_str().into()),
                dead_letters: kafka.topic_dead_letters.as_str().into(),
            },
            fetch_max_wait: kafka.fetch_max_wait,
            limits: Limits::new(kafka),
            judge: Arc::default(),
        }
    }

    /// What is known now.
    pub fn facts(&self) -> Facts {
        let time = Utc::now();
        let mut partitions: Vec<PartitionFacts> = self
            .pipeline
            .partitions()
            .iter()
            .map(|partition| PartitionFacts {
                topic: Arc::clone(partition.topic()),
                number: partition.number(),
                lane: partition.lane(),
                vitals: partition.vitals(time),
            })
            .collect();
        partitions.sort_by(|a, b| (&a.topic, a.number).cmp(&(&b.topic, b.number)));
        Facts {
            topics: self.topics.clone(),
            draining: self.pipeline.shutdown.drain.is_cancelled(),
            assignment: self.status.report(),
            partitions,
            relay: self.pipeline.relay.report(),
            waiting: Priority::ALL.map(|lane| self.pipeline.lanes.waiting(lane)),
            takeable: self.pipeline.lanes.is_ready(),
            letters_written: self.pipeline.dead_letters.healthy(),
            spans_dropped: self.pipeline.traces.dropped(),
            fetch_patience: self.fetch_max_wait + readiness::PATIENCE,
        }
    }

    /// Whether all is in order.
    pub fn readiness(&self) -> Readiness {
        self.facts().readiness()
    }

    /// What stands still that should not; empty where the service is alive.
    pub fn standstills(&self) -> Vec<String> {
        let facts = self.facts();
        let mut judge = self.judge.lock().unwrap_or_else(PoisonError::into_inner);
        judge.standstills(&facts, &self.pipeline.crew, self.limits, Instant::now())
    }
}
