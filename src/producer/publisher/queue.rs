//! What waits to be written to one topic, shared between those who hand records over and the task that writes them.
//!
//! Owns the order of the records, and the line between what can still be withdrawn and what is on its way: a record is
//! in the queue, or it is the task's.

use std::{
    collections::BTreeMap,
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, oneshot},
    time::Instant,
};

use super::{NotStored, Published, Trouble};
use crate::producer::partitions::partition;

/// Partition under which records wait for as long as it is not known how many there are.
const UNKNOWN: i32 = -1;

/// A record that waits or is on its way, and who waits for it.
pub(super) struct Order {
    pub(super) hash: u32,
    pub(super) record: Content,
    pub(super) deadline: Instant,
    /// Records in the largest batch that it may be in: half of one that the broker has refused.
    pub(super) company: usize,
    pub(super) reply: oneshot::Sender<Published>,
    /// Its place in the buffer.
    pub(super) _room: Room,
}

impl Order {
    /// Nobody may be waiting any more.
    pub(super) fn answer(self, published: Published) {
        let _ = self.reply.send(published);
    }

    /// Whether nobody waits for the answer any more.
    pub(super) fn is_abandoned(&self, now: Instant) -> bool {
        self.deadline <= now || self.reply.is_closed()
    }
}

/// What stands in the topic in the end.
#[derive(Debug, Clone)]
pub(super) struct Content {
    pub(super) key: Bytes,
    pub(super) value: Bytes,
    pub(super) headers: Vec<(String, Bytes)>,
    /// Milliseconds since the epoch.
    pub(super) timestamp: i64,
    /// Bytes that it takes in a batch, about.
    pub(super) size: usize,
}

/// A record's share of the buffer, given back when this is dropped.
pub(super) struct Room {
    pub(super) _record: OwnedSemaphorePermit,
    pub(super) _bytes: OwnedSemaphorePermit,
}

/// The queue of one topic.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// Something has come, or somebody wants the task to look.
    pub(super) wake: Notify,
}

#[derive(Default)]
struct State {
    next: u64,
    /// Partitions of the topic; 0 while that is not known.
    count: u32,
    /// By partition and in the order in which they came.
    waiting: BTreeMap<(i32, u64), Order>,
    /// Whether there is a task that empties the queue.
    served: bool,
    /// Why nothing is written now.
    trouble: Option<Trouble>,
    /// Those who want to know when all connections stand.
    readiness: Vec<oneshot::Sender<Result<(), NotStored>>>,
}

impl State {
    fn place(&self, hash: u32, number: u64) -> (i32, u64) {
        (if self.count == 0 { UNKNOWN } else { partition(hash, self.count) }, number)
    }
}

impl Queue {
    /// Returns the record's number, and whether a task has to be started.
    pub(super) fn put(&self, order: Order) -> (u64, bool) {
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        let place = state.place(order.hash, number);
        state.waiting.insert(place, order);
        let start = !mem::replace(&mut state.served, true);
        drop(state);
        self.wake.notify_one();
        (number, start)
    }

    /// Takes a record back that is not on its way yet.
    pub(super) fn withdraw(&self, hash: u32, number: u64) -> Option<Order> {
        let mut state = self.lock();
        let place = state.place(hash, number);
        state.waiting.remove(&place)
    }

    /// Puts back what the broker has surely not stored, before all that came later.
    pub(super) fn put_back(&self, orders: impl IntoIterator<Item = (u64, Order)>) {
        let mut state = self.lock();
        for (number, order) in orders {
            let place = state.place(order.hash, number);
            state.waiting.insert(place, order);
        }
    }

    /// Says how many partitions there are.
    pub(super) fn set_count(&self, count: u32) {
        let mut state = self.lock();
        if mem::replace(&mut state.count, count) != count {
            let waiting = mem::take(&mut state.waiting);
            state.waiting =
                waiting.into_iter().map(|((_, number), order)| (state.place(order.hash, number), order)).collect();
        }
    }

    /// The partitions that have records waiting.
    pub(super) fn partitions(&self) -> Vec<i32> {
        let state = self.lock();
        let mut found = Vec::new();
        let mut from = (i32::MIN, 0);
        while let Some(((partition, _), _)) = state.waiting.range(from..).next() {
            found.push(*partition);
            from = (partition + 1, 0);
        }
        found
    }

    /// The next records of a partition, of at most `limit` bytes together unless a single one is larger. Those whose
    /// time is up are answered on the way.
    pub(super) fn take(&self, partition: i32, limit: usize, now: Instant) -> Vec<(u64, Order)> {
        let mut state = self.lock();
        let (mut taken, mut size, mut company) = (Vec::<(u64, Order)>::new(), 0, usize::MAX);
        while let Some((&place, order)) = state.waiting.range((partition, 0)..(partition + 1, 0)).next() {
            let abandoned = order.is_abandoned(now);
            if !abandoned {
                size += order.record.size;
                company = company.min(order.company);
                if !taken.is_empty() && (size > limit || taken.len() >= company) {
                    break;
                }
            }
            let Some(order) = state.waiting.remove(&place) else { break };
            if abandoned {
                let trouble = state.trouble.clone();
                order.answer(Published::NotStored(NotStored::Late { trouble }));
            } else {
                taken.push((place.1, order));
            }
        }
        taken
    }

    /// Answers all whose time is up although nobody has asked for them: their callers look elsewhere.
    pub(super) fn sweep(&self, now: Instant) {
        let mut state = self.lock();
        let late: Vec<_> =
            state.waiting.iter().filter(|(_, order)| order.is_abandoned(now)).map(|(place, _)| *place).collect();
        for place in late {
            if let Some(order) = state.waiting.remove(&place) {
                order.answer(Published::NotStored(NotStored::Late { trouble: state.trouble.clone() }));
            }
        }
    }

    /// Answers all that wait, and those who wait for readiness.
    pub(super) fn refuse_all(&self, why: &NotStored) {
        let mut state = self.lock();
        let (waiting, readiness) = (mem::take(&mut state.waiting), mem::take(&mut state.readiness));
        drop(state);
        for order in waiting.into_values() {
            order.answer(Published::NotStored(why.clone()));
        }
        for asked in readiness {
            let _ = asked.send(Err(why.clone()));
        }
    }

    /// Waits for readiness; says whether a task has to be started.
    pub(super) fn ask_readiness(&self, asked: oneshot::Sender<Result<(), NotStored>>) -> bool {
        let mut state = self.lock();
        state.readiness.retain(|asked| !asked.is_closed());
        state.readiness.push(asked);
        let start = !mem::replace(&mut state.served, true);
        drop(state);
        self.wake.notify_one();
        start
    }

    pub(super) fn readiness_is_asked(&self) -> bool {
        self.lock().readiness.iter().any(|asked| !asked.is_closed())
    }

    pub(super) fn is_ready(&self) {
        let asked = mem::take(&mut self.lock().readiness);
        for asked in asked {
            let _ = asked.send(Ok(()));
        }
    }

    pub(super) fn len(&self) -> usize {
        self.lock().waiting.len()
    }

    pub(super) fn trouble(&self) -> Option<Trouble> {
        self.lock().trouble.clone()
    }

    pub(super) fn set_trouble(&self, trouble: impl Into<Option<Trouble>>) {
        self.lock().trouble = trouble.into();
    }

    /// The task is gone: whoever comes next starts another.
    pub(super) fn leave(&self) {
        self.lock().served = false;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
