//! One partition in the pipeline: its tracker, its window, and the tickets of its records.
//!
//! The window bounds what is unsettled; a partition whose window is full stops fetching, the others go on.

mod vitals;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::vitals::Watched;
pub use self::vitals::{Reading, Vitals};

use super::Pipeline;
use crate::{
    event::Priority,
    kafka::{
        Record,
        fetch::{Halt, Sink},
        offsets::{Position, Seen, Tracker},
    },
};

/// A bound on records and on their bytes.
#[derive(Debug, Clone)]
pub struct Room {
    records: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    most_bytes: u32,
}

/// A place in a [`Room`]; free when dropped.
#[derive(Debug)]
pub struct Place {
    _one: OwnedSemaphorePermit,
    _size: OwnedSemaphorePermit,
}

impl Room {
    /// Room for so many records and so many bytes; a record larger than all the bytes takes all of them.
    pub fn new(records: usize, bytes: usize) -> Self {
        let most_bytes = u32::try_from(bytes.min(Semaphore::MAX_PERMITS)).unwrap_or(u32::MAX);
        Self {
            records: Arc::new(Semaphore::new(records.min(Semaphore::MAX_PERMITS))),
            bytes: Arc::new(Semaphore::new(most_bytes as usize)),
            most_bytes,
        }
    }

    /// Waits for a place for a record of `size` bytes.
    pub async fn take(&self, size: usize) -> Place {
        let size = u32::try_from(size).unwrap_or(u32::MAX).clamp(1, self.most_bytes);
        Place {
            _one: Arc::clone(&self.records).acquire_owned().await.expect("never closed"),
            _size: Arc::clone(&self.bytes).acquire_many_owned(size).await.expect("never closed"),
        }
    }
}

/// One partition of a lane's topic.
pub struct Partition {
    topic: Arc<str>,
    number: i32,
    lane: Priority,
    tracker: Mutex<Tracker>,
    window: Room,
    watched: Mutex<Watched>,
}

impl Partition {
    /// A partition that goes on where `tracker` stands.
    pub fn new(topic: Arc<str>, number: i32, lane: Priority, tracker: Tracker, window: Room) -> Self {
        let watched = Mutex::new(Watched::new(tracker.position()));
        Self { topic, number, lane, tracker: Mutex::new(tracker), window, watched }
    }

    /// Its topic.
    pub fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    /// Its number in the topic.
    pub fn number(&self) -> i32 {
        self.number
    }

    /// The lane of its topic.
    pub fn lane(&self) -> Priority {
        self.lane
    }

    /// What is to be committed, with at most `limit` bytes of metadata.
    pub fn commit(&self, limit: usize) -> Position {
        self.tracker().commit(limit)
    }

    fn tracker(&self) -> MutexGuard<'_, Tracker> {
        // the tracker's methods leave it whole even where one of them panics
        self.tracker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Partition({}-{})", self.topic, self.number)
    }
}

/// One unsettled record. Settling consumes it; one that is dropped stays unsettled.
#[derive(Debug)]
#[must_use = "a ticket that is dropped leaves its record unsettled"]
pub struct Ticket {
    partition: Arc<Partition>,
    generation: u32,
    offset: i64,
    _window: Place,
}

impl Ticket {
    /// The record is sent, or its dead letter is written.
    pub fn settle(self) {
        self.partition.tracker().settle(self.generation, self.offset);
        self.partition.watched().settled(self.generation, self.offset);
    }
}

/// Where a partition's loop delivers.
pub struct Source {
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) partition: Arc<Partition>,
    /// Lane of the topic.
    pub(super) lane: Priority,
    /// What waits for its first attempt, for the whole topic.
    pub(super) buffer: Room,
    /// Counts what is read.
    pub(super) fetched: Counter,
}

#[async_trait]
impl Sink for Source {
    async fn room(&self) {
        // `deliver` waits for each record
    }

    fn asking(&self) {
        self.partition.watched().asks();
    }

    fn answered(&self, high_watermark: Option<i64>) {
        self.partition.watched().answered(high_watermark);
    }

    async fn deliver(&self, record: Record) {
        self.fetched.inc();
        let begun = self.pipeline.traces.begin();
        let (seen, generation) = {
            let mut tracker = self.partition.tracker();
            (tracker.see(record.offset), tracker.generation())
        };
        if seen == Seen::Settled {
            return;
        }
        self.partition.watched().seen(generation, record.offset, record.written());
        let size = record.size();
        let window = self.partition.window.take(size).await;
        let ticket =
            Ticket { partition: Arc::clone(&self.partition), generation, offset: record.offset, _window: window };
        let buffer = self.buffer.take(size).await;
        let trace = self.pipeline.traces.of(&record, begun);
        self.pipeline.accept(record, self.lane, ticket, buffer, trace);
    }

    fn advanced(&self, next_offset: i64, _high_watermark: i64) {
        self.partition.tracker().advance(next_offset);
        self.partition.watched().advanced(next_offset);
    }

    fn lost_to_retention(&self, from: i64, to: i64) {
        let lost = u64::try_from(to - from).unwrap_or(0);
        self.partition.watched().lost(lost);
        self.partition.tracker().advance(to);
    }

    fn log_restarted(&self, _from: i64, to: i64) {
        let generation = {
            let mut tracker = self.partition.tracker();
            tracker.restart(to);
            tracker.generation()
        };
        self.partition.watched().restarted(generation, to);
    }

    fn halted(&self, why: Halt) {
        self.partition.watched().halted(Some(why));
    }

    fn resumed(&self) {
        self.partition.watched().halted(None);
    }
}
