//! The way through Kafka: records in, the in-sync replicas' answers out.
//!
//! Owns the bounds of what waits, the time that a record has, and the line between "surely not stored" and "may be
//! stored": a record that is not on the wire when its time is up or its caller goes away is taken back. Knows nothing
//! of mail. One task for each topic ([`task`]) does the writing.
//!
//! It speaks to brokers over connections of our own instead of rskafka's: they write at once (no Nagle), they show what
//! has gone out, and a batch bears the stamp of an idempotent producer (KIP-98), so that a batch that is repeated
//! because an answer was lost is stored once.

mod batch;
mod link;
mod queue;
mod task;
#[cfg(test)]
mod tests;
mod verdict;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicBool},
    time::Duration,
};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use tokio::{
    sync::{Notify, Semaphore, oneshot},
    time::{Instant, timeout_at},
};

use self::{
    queue::{Content, Order, Queue, Room},
    task::Task,
};
use super::partitions;
use crate::{
    chain::chain,
    kafka::{client::Connector, wire},
};

/// Bytes that a record takes in a batch beside key, value and headers, about.
const OVERHEAD: usize = 64;
/// Bytes that a header takes beside its name and value.
const HEADER_OVERHEAD: usize = 8;

/// Limits of a publisher.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Longest time for which the callers of a large request are waited for before the next one goes.
    pub(crate) linger: Duration,
    /// Records that wait or are on their way, 1 and up.
    pub(crate) records: usize,
    /// Their bytes.
    pub(crate) bytes: usize,
    /// A record that finds no room is refused at once, and does not wait for its time.
    pub(crate) refuse_when_full: bool,
}

/// A record to be written.
#[derive(Debug, Clone)]
pub(crate) struct Outgoing {
    pub(crate) topic: Arc<str>,
    pub(crate) key: Vec<u8>,
    pub(crate) value: Vec<u8>,
    pub(crate) headers: BTreeMap<String, Vec<u8>>,
    pub(crate) timestamp: DateTime<Utc>,
}

/// What became of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Published {
    /// All in-sync replicas have it.
    Stored {
        /// Where.
        topic: Arc<str>,
        /// Its partition there.
        partition: i32,
        /// Its offset; -1 where the broker knows only that it is stored.
        offset: i64,
        /// An earlier try may have been stored as well.
        repeated: bool,
    },
    /// It is surely not in the topic and will not be.
    NotStored(NotStored),
    /// It was on the wire, and no answer came in time.
    Unknown(Unknown),
}

/// Why a record is surely not stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NotStored {
    /// The buffer is full.
    Full,
    /// Its time was up, or its caller went away, before it was on the wire.
    Late {
        /// What keeps us from writing.
        trouble: Option<Trouble>,
    },
    /// The brokers do not take it.
    Refused(Trouble),
}

/// What keeps records from being written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) why: Arc<str>,
    /// It lasts until somebody changes something about the cluster or our settings.
    pub(crate) setup: bool,
}

impl Trouble {
    pub(super) fn passing(why: impl Into<Arc<str>>) -> Self {
        Self { why: why.into(), setup: false }
    }

    fn setup(why: impl Into<Arc<str>>) -> Self {
        Self { why: why.into(), setup: true }
    }
}

impl From<wire::Error> for Trouble {
    fn from(error: wire::Error) -> Self {
        Self { why: chain(&error).into(), setup: !error.is_retriable() }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl fmt::Display for NotStored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("the buffer is full"),
            Self::Late { trouble: Some(trouble) } => write!(f, "not written in time: {trouble}"),
            Self::Late { trouble: None } => {
                f.write_str("not written in time: earlier records were not acknowledged yet")
            }
            Self::Refused(trouble) => trouble.fmt(f),
        }
    }
}

/// Why it is not known whether a record is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unknown {
    /// No answer came in time.
    Late {
        /// What was seen last.
        trouble: Option<Trouble>,
    },
    /// The runtime in which it was written has ended.
    Stopped,
}

impl Unknown {
    /// What was seen last.
    pub(crate) fn trouble(&self) -> Option<&Trouble> {
        match self {
            Self::Late { trouble } => trouble.as_ref(),
            Self::Stopped => None,
        }
    }
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Late { trouble: Some(trouble) } => write!(f, "written, but not acknowledged in time: {trouble}"),
            Self::Late { trouble: None } => f.write_str("written, but not acknowledged in time"),
            Self::Stopped => f.write_str("written, but the runtime ended before the answer came"),
        }
    }
}

/// A topic that is written to.
struct Topic {
    name: Arc<str>,
    connector: Connector,
    linger: Duration,
    queue: Queue,
    stop: Notify,
    /// Whether it was said that the brokers sort out no repetitions for us.
    told: Arc<AtomicBool>,
}

/// Writes records; share it by reference.
pub(crate) struct Publisher {
    connector: Connector,
    limits: Limits,
    records: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    byte_permits: u32,
    told: Arc<AtomicBool>,
    topics: Mutex<HashMap<Arc<str>, Arc<Topic>>>,
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.close();
    }
}

impl Publisher {
    /// Connects only when it is first used.
    pub(crate) fn new(connector: Connector, limits: Limits) -> Self {
        let byte_permits = u32::try_from(limits.bytes.min(Semaphore::MAX_PERMITS)).unwrap_or(u32::MAX);
        Self {
            connector,
            limits,
            records: Arc::new(Semaphore::new(limits.records.min(Semaphore::MAX_PERMITS))),
            bytes: Arc::new(Semaphore::new(byte_permits as usize)),
            byte_permits,
            told: Arc::default(),
            topics: Mutex::default(),
        }
    }

    /// Writes a record, and returns when all in-sync replicas have it, or at the deadline.
    ///
    /// A call that is dropped takes its record back, unless it is on the wire.
    pub(crate) async fn publish(&self, record: Outgoing, deadline: Instant) -> Published {
        let topic = self.topic(&record.topic);
        let hash = partitions::hash(&record.key);
        let record = Content::new(record);
        let Some(room) = self.room(record.size, deadline).await else {
            return Published::NotStored(NotStored::Full);
        };
        let (reply, answer) = oneshot::channel();
        let order = Order { hash, record, deadline, alone: false, reply, _room: room };
        let (number, start) = topic.queue.put(order);
        if start {
            topic.start();
        }
        Ticket { topic, hash, number, answer }.answer(deadline).await
    }

    /// Opens the connections to the leaders of these topics.
    ///
    /// # Errors
    ///
    /// When they do not stand at the deadline.
    pub(crate) async fn ready(&self, topics: &[Arc<str>], deadline: Instant) -> Result<(), NotStored> {
        let asked: Vec<_> = topics
            .iter()
            .map(|name| {
                let topic = self.topic(name);
                let (asked, answer) = oneshot::channel();
                if topic.queue.ask_readiness(asked) {
                    topic.start();
                }
                (topic, answer)
            })
            .collect();
        for (topic, answer) in asked {
            match timeout_at(deadline, answer).await {
                Ok(Ok(outcome)) => outcome?,
                Ok(Err(_)) | Err(_) => return Err(NotStored::Late { trouble: topic.queue.trouble() }),
            }
        }
        Ok(())
    }

    /// Ends the connections. What waits then is not written.
    pub(crate) fn close(&self) {
        for topic in self.topics.lock().unwrap_or_else(PoisonError::into_inner).values() {
            topic.stop.notify_one();
        }
    }

    /// Records that wait or are on their way, and their bytes.
    pub(crate) fn buffered(&self) -> (usize, usize) {
        let records = self.limits.records.min(Semaphore::MAX_PERMITS).saturating_sub(self.records.available_permits());
        (records, (self.byte_permits as usize).saturating_sub(self.bytes.available_permits()))
    }

    async fn room(&self, size: usize, deadline: Instant) -> Option<Room> {
        // a single record may be larger than the whole buffer, and then has it for itself
        let bytes = u32::try_from(size).unwrap_or(u32::MAX).min(self.byte_permits);
        let (record_room, byte_room) = (Arc::clone(&self.records), Arc::clone(&self.bytes));
        let at_once = record_room.clone().try_acquire_owned().ok();
        if let Some(record) = at_once
            && let Ok(bytes) = byte_room.clone().try_acquire_many_owned(bytes)
        {
            return Some(Room { _record: record, _bytes: bytes });
        }
        if self.limits.refuse_when_full {
            return None;
        }
        let wait = async {
            let record = record_room.acquire_owned().await.ok()?;
            Some(Room { _record: record, _bytes: byte_room.acquire_many_owned(bytes).await.ok()? })
        };
        timeout_at(deadline, wait).await.ok().flatten()
    }

    fn topic(&self, name: &Arc<str>) -> Arc<Topic> {
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        let topic = topics.entry(Arc::clone(name)).or_insert_with(|| {
            Arc::new(Topic {
                name: Arc::clone(name),
                connector: self.connector.clone(),
                linger: self.limits.linger,
                queue: Queue::default(),
                stop: Notify::new(),
                told: Arc::clone(&self.told),
            })
        });
        Arc::clone(topic)
    }
}

impl Topic {
    fn start(self: &Arc<Self>) {
        tokio::spawn(Task::new(Arc::clone(self)).run());
    }
}

impl Content {
    fn new(record: Outgoing) -> Self {
        let headers = record.headers.iter().map(|(name, value)| name.len() + value.len() + HEADER_OVERHEAD);
        let size = record.key.len() + record.value.len() + headers.sum::<usize>() + OVERHEAD;
        Self {
            key: record.key.into(),
            value: record.value.into(),
            headers: record.headers.into_iter().map(|(name, value)| (name, Bytes::from(value))).collect(),
            timestamp: record.timestamp.timestamp_millis(),
            size,
        }
    }
}

/// A record that was handed over; takes it back when it is dropped.
struct Ticket {
    topic: Arc<Topic>,
    hash: u32,
    number: u64,
    answer: oneshot::Receiver<Published>,
}

impl Ticket {
    async fn answer(mut self, deadline: Instant) -> Published {
        if let Ok(answer) = timeout_at(deadline, &mut self.answer).await {
            return answer.unwrap_or(Published::Unknown(Unknown::Stopped));
        }
        let trouble = self.topic.queue.trouble();
        if self.topic.queue.withdraw(self.hash, self.number).is_some() {
            return Published::NotStored(NotStored::Late { trouble });
        }
        self.answer.try_recv().unwrap_or(Published::Unknown(Unknown::Late { trouble }))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.topic.queue.withdraw(self.hash, self.number);
    }
}
