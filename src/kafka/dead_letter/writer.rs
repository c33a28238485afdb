//! The writer that the pipeline hands its dead records to.
//!
//! Owns the lanes, one for each partition of the dead letter topic, and the bound of what they hold.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI32, Ordering},
    },
    time::Duration,
};

use chrono::Utc;
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    time::{sleep, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{error, warn};

use super::{
    Failure,
    health::{Health, Part},
    lane::{Lane, Order, Outcome},
    letter, stub,
};
use crate::{
    delay::Delays,
    kafka::{Record, SharedClient, shared_client::PartitionLink},
};

/// Letters that wait in one lane at the most.
const LANE_LETTERS: usize = 1024;

/// Bytes of letters that one lane holds, in KiB; a single letter may be larger.
const LANE_KIB: u32 = 4 * 1024;

/// Delays and limits of the writer.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// First delay after a failure; each further one is twice as long.
    pub retry_initial: Duration,
    /// Longest delay after a failure.
    pub retry_max: Duration,
    /// Longest delay after a letter was refused.
    pub refused_max: Duration,
    /// Time for the answer to a write; above the 30 seconds that the broker has for its replicas.
    pub answer: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            retry_initial: Duration::from_millis(100),
            // readiness is to tell within ten seconds that letters can be written again
            retry_max: Duration::from_secs(5),
            refused_max: Duration::from_secs(30),
            answer: Duration::from_secs(40),
        }
    }
}

/// The writer's tasks have ended, because it was dropped or one of them has panicked. The record is not settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the writer of dead letters has ended")]
pub struct Stopped;

/// What the lanes share.
pub(super) struct Context {
    pub(super) shared: SharedClient,
    pub(super) topic: Arc<str>,
    pub(super) timing: Timing,
    pub(super) health: Health,
    /// 0 while it is not known.
    pub(super) partition_count: AtomicI32,
}

/// Writes dead letters.
pub struct DeadLetters {
    context: Arc<Context>,
    group: String,
    lanes: Mutex<HashMap<i32, LaneHandle>>,
    asking: tokio::sync::Mutex<()>,
    stop: CancellationToken,
    _stop_on_drop: DropGuard,
}

#[derive(Clone)]
struct LaneHandle {
    queue: mpsc::Sender<Order>,
    budget: Arc<Semaphore>,
}

impl DeadLetters {
    /// Connects only when the first letter comes. `group` is the consumer group that letters name.
    pub fn new(shared: SharedClient, topic: impl Into<Arc<str>>, group: impl Into<String>, timing: Timing) -> Self {
        let stop = CancellationToken::new();
        Self {
            context: Arc::new(Context {
                shared,
                topic: topic.into(),
                timing,
                health: Health::default(),
                partition_count: AtomicI32::new(0),
            }),
            group: group.into(),
            lanes: Mutex::default(),
            asking: tokio::sync::Mutex::default(),
            _stop_on_drop: stop.clone().drop_guard(),
            stop,
        }
    }

    /// Whether letters can be written, as far as the last attempts have shown.
    pub fn healthy(&self) -> bool {
        self.context.health.is_good()
    }

    /// Writes the dead letter of `record`; returns when the in-sync replicas have acknowledged it.
    ///
    /// Until then it tries on without end: through outages, a missing topic, too few replicas. Where the broker calls
    /// the letter too large or invalid, a stub without the value is written in its place. Dropping the future gives up;
    /// the letter may still be written then. A letter can be written twice when an answer is lost.
    ///
    /// # Errors
    ///
    /// [`Stopped`] when the writer's own tasks are gone: the process should end.
    pub async fn write(&self, record: &Record, failure: &Failure) -> Result<(), Stopped> {
        let timing = self.context.timing;
        let mut delays = Delays::doubling(timing.retry_initial, timing.refused_max);
        let mut whole = true;
        let mut said = false;
        loop {
            let (for_good, detail) = match self.attempt(record, failure, whole).await? {
                Outcome::Written => return Ok(()),
                Outcome::Refused { for_good, detail } => (for_good, detail),
            };
            let (topic, partition, offset, size) = (&record.topic, record.partition, record.offset, record.size());
            if whole && for_good {
                warn!(
                    %topic, partition, offset, size, detail,
                    "the broker refuses the dead letter; writing a stub without the value, which stays where it was read"
                );
                whole = false;
                continue;
            }
            if !said || delays.at_limit() {
                error!(
                    %topic, partition, offset, size, whole, detail,
                    "the broker refuses the dead letter; its record stays uncommitted; trying again"
                );
                said = true;
            }
            sleep(delays.advance()).await;
        }
    }

    async fn attempt(&self, record: &Record, failure: &Failure, whole: bool) -> Result<Outcome, Stopped> {
        let count = self.partition_count().await;
        let lane = self.lane(record.partition.rem_euclid(count));
        let kib = u32::try_from(record.size() / 1024 + 1).unwrap_or(u32::MAX).min(LANE_KIB);
        let _room = lane.budget.acquire_many(kib).await.map_err(|_| Stopped)?;
        let make = if whole { letter } else { stub };
        let letter = make(record, failure, &self.group, Utc::now());
        let (done, outcome) = oneshot::channel();
        lane.queue.send(Order { letter, done }).await.map_err(|_| Stopped)?;
        outcome.await.map_err(|_| Stopped)
    }

    fn lane(&self, index: i32) -> LaneHandle {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let lane = lanes.entry(index).or_insert_with(|| {
            let (queue, orders) = mpsc::channel(LANE_LETTERS);
            let lane = Lane::new(Arc::clone(&self.context), index, orders);
            let stop = self.stop.clone();
            tokio::spawn(async move { stop.run_until_cancelled(lane.run()).await });
            LaneHandle { queue, budget: Arc::new(Semaphore::new(LANE_KIB as usize)) }
        });
        lane.clone()
    }

    /// Number of the topic's partitions; waits until there is a topic.
    async fn partition_count(&self) -> i32 {
        let known = || Some(self.context.partition_count.load(Ordering::Relaxed)).filter(|count| *count > 0);
        if let Some(count) = known() {
            return count;
        }
        let _one_asks = self.asking.lock().await;
        let Context { shared, topic, timing, health, partition_count } = &*self.context;
        let _attempt = health.attempt(Part::Topic);
        let mut link = PartitionLink::new(shared.clone(), Arc::clone(topic));
        let mut delays = Delays::doubling(timing.retry_initial, timing.retry_max);
        loop {
            if let Some(count) = known() {
                return count;
            }
            let outcome = timeout(timing.answer, link.partition_count()).await;
            match link.settle(timing.answer, outcome) {
                Ok(count) => {
                    partition_count.store(count, Ordering::Relaxed);
                    health.recovered(topic, Part::Topic);
                }
                Err(error) => {
                    health.failing(topic, Part::Topic, &error);
                    sleep(delays.advance()).await;
                }
            }
        }
    }
}
