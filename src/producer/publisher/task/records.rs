//! Which records go in a batch, and what becomes of a batch whose answer has come.
//!
//! Owns the numbers that an idempotent producer gives its records: a batch that may be stored keeps its own until its fate
//! is known, one that is surely not stored gives them back.

use kafka_protocol::{ResponseError, messages::ProduceResponse};
use tokio::time::Instant;
use tracing::{debug, warn};

use super::{
    super::{
        NotStored, Published, Trouble,
        batch::{Batch, Identity, Stamp},
        verdict::{Verdict, in_words, verdict},
    },
    FIRST_PAUSE, Known, MAX_PAUSE, Task,
};
use crate::{delay::Delays, foreign::clean};

/// Most bytes for one partition in a request; topics take batches of 1 MiB unless they are set otherwise.
pub(super) const BATCH_BYTES: usize = 256 * 1024;
/// Least of them after a topic has refused batches as too large.
const LEAST_BATCH_BYTES: usize = 8 * 1024;
/// Most bytes in a request, unless a single record has more.
const REQUEST_BYTES: usize = 1024 * 1024;

/// What is to be known of a partition beside its records.
pub(super) struct Partition {
    /// A batch that may be stored, and is to go again before all others.
    pub(super) in_doubt: Option<Batch>,
    /// A batch is on its way: no other one goes before its fate is known, to whatever broker.
    pub(super) busy: bool,
    /// Identity of the last batch, and the number that follows its last record.
    next: Option<(Identity, i32)>,
    pub(super) not_before: Instant,
    delays: Delays,
}

impl Partition {
    /// The stamp of the next batch, of so many records.
    fn stamp(&mut self, identity: Option<Identity>, count: usize) -> Option<Stamp> {
        let identity = identity?;
        let sequence = self.next.filter(|(of, _)| *of == identity).map_or(0, |(_, next)| next);
        let after = sequence.checked_add(i32::try_from(count).ok()?)?;
        self.next = Some((identity, after));
        Some(Stamp { identity, sequence })
    }
}

impl Task {
    fn partition(&mut self, index: i32, now: Instant) -> &mut Partition {
        self.partitions.entry(index).or_insert_with(|| Partition {
            in_doubt: None,
            busy: false,
            next: None,
            not_before: now,
            delays: Delays::doubling(FIRST_PAUSE, MAX_PAUSE),
        })
    }

    /// What goes to these partitions next. All of it counts as on the wire from now on.
    pub(in crate::producer::publisher) fn batches(&mut self, partitions: &[i32], now: Instant) -> Vec<Batch> {
        let start = partitions.partition_point(|partition| *partition < self.turn);
        let (mut batches, mut room) = (Vec::new(), REQUEST_BYTES);
        for &index in partitions[start..].iter().chain(&partitions[..start]) {
            self.turn = index;
            if room == 0 {
                break;
            }
            let limit = self.batch_bytes.min(room);
            if let Some(batch) = self.batch(index, limit, now) {
                self.partition(index, now).busy = true;
                room = room.saturating_sub(batch.size());
                batches.push(batch);
            }
        }
        batches
    }

    fn batch(&mut self, index: i32, limit: usize, now: Instant) -> Option<Batch> {
        let identity = match self.known {
            Known::As(identity) => Some(identity),
            Known::Unknown | Known::Nobody(_) => None,
        };
        let partition = self.partition(index, now);
        if partition.busy {
            return None;
        }
        // with its stamp the same records go again, and the broker stores them once
        if let Some(mut batch) = partition.in_doubt.take() {
            if batch.stamp.is_none() {
                batch.keep_awaited(now);
                batch.restamp(partition.stamp(identity, batch.orders.len()));
            }
            return Some(batch);
        }
        let orders = self.topic.queue.take(index, limit, now);
        if orders.is_empty() {
            return None;
        }
        let stamp = self.partition(index, now).stamp(identity, orders.len());
        if stamp.is_none() && identity.is_some() {
            // two thousand million records have gone by
            self.known = Known::Unknown;
        }
        match Batch::new(index, orders, stamp) {
            Ok(batch) => Some(batch),
            Err((orders, why)) => {
                self.partition(index, now).next = stamp.map(|stamp| (stamp.identity, stamp.sequence));
                let refused = Published::NotStored(NotStored::Refused(Trouble::passing(why)));
                for (_, order) in orders {
                    order.answer(refused.clone());
                }
                None
            }
        }
    }

    /// The batches are on their way no more.
    pub(super) fn back_from_wire(&mut self, batches: &[Batch]) {
        for batch in batches {
            if let Some(partition) = self.partitions.get_mut(&batch.partition) {
                partition.busy = false;
            }
        }
    }

    pub(super) fn answered(&mut self, batch: Batch, response: &ProduceResponse, now: Instant) {
        let mut answers = response.responses.iter().flat_map(|topic| &topic.partition_responses);
        let Some(answer) = answers.find(|answer| answer.index == batch.partition) else {
            return self.doubt(batch, now);
        };
        let Some(code) = ResponseError::try_from_code(answer.error_code) else {
            self.topic.queue.set_trouble(None);
            let partition = self.partition(batch.partition, now);
            partition.delays.reset();
            self.ask_delays.reset();
            return batch.stored(&self.topic.name, answer.base_offset);
        };
        let said = answer.error_message.as_ref().map_or_else(|| in_words(code), |text| clean(text, &[]));
        let why = format!("topic {} partition {}: {said}", self.topic.name, batch.partition);
        debug!(why, code = answer.error_code, "the broker refuses a batch");
        match verdict(code) {
            Verdict::Stored => batch.stored(&self.topic.name, -1),
            Verdict::Moved => {
                self.topic.queue.set_trouble(Trouble::passing(why));
                self.stale = true;
                self.doubt(batch, now);
            }
            Verdict::Later => {
                self.topic.queue.set_trouble(Trouble::passing(why));
                self.back(batch, now);
            }
            Verdict::Doubt => {
                self.topic.queue.set_trouble(Trouble::passing(why));
                self.doubt(batch, now);
            }
            Verdict::Stamp => {
                warn!(why, "the broker has lost track of what we wrote; going on under a new producer id");
                self.forget(batch.partition, batch.stamp);
                let mut batch = batch;
                batch.stamp = None;
                self.back(batch, now);
            }
            Verdict::Content if batch.orders.len() > 1 && !batch.doubtful => {
                if matches!(code, ResponseError::MessageTooLarge | ResponseError::RecordListTooLarge) {
                    self.batch_bytes = (batch.size() / 2).max(LEAST_BATCH_BYTES);
                }
                let mut batch = batch;
                for (_, order) in &mut batch.orders {
                    order.alone = true;
                }
                self.unwritten(batch);
            }
            refused @ (Verdict::Content | Verdict::Denied) => {
                self.roll_back(&batch);
                let trouble = Trouble { why: why.into(), setup: refused == Verdict::Denied };
                batch.refused(&NotStored::Refused(trouble));
            }
        }
    }

    /// It was not stored by this try and goes again after a while.
    pub(super) fn back(&mut self, batch: Batch, now: Instant) {
        let partition = self.partition(batch.partition, now);
        partition.not_before = now + partition.delays.advance();
        if batch.doubtful {
            partition.in_doubt = Some(batch);
        } else {
            self.unwritten(batch);
        }
    }

    /// It was never stored: its records can be withdrawn again.
    fn unwritten(&mut self, batch: Batch) {
        self.roll_back(&batch);
        self.topic.queue.put_back(batch.orders);
    }

    /// The broker has not counted this batch, the last one of its partition.
    fn roll_back(&mut self, batch: &Batch) {
        if let (Some(stamp), Some(partition)) = (batch.stamp, self.partitions.get_mut(&batch.partition))
            && !batch.doubtful
            && partition.next.is_some_and(|(identity, _)| identity == stamp.identity)
        {
            partition.next = Some((stamp.identity, stamp.sequence));
        }
    }

    /// It may be stored.
    pub(super) fn doubt(&mut self, mut batch: Batch, now: Instant) {
        batch.doubtful = true;
        self.back(batch, now);
    }

    /// Gives up an identity with which numbers may be missing.
    fn forget(&mut self, partition: i32, stamp: Option<Stamp>) {
        if let Some(partition) = self.partitions.get_mut(&partition) {
            partition.next = None;
        }
        if matches!(self.known, Known::As(identity) if stamp.is_none_or(|stamp| stamp.identity == identity)) {
            self.known = Known::Unknown;
        }
    }

    /// Lets go of batches in doubt for which nobody waits any more.
    pub(super) fn drop_abandoned(&mut self, now: Instant) {
        let mut abandoned = Vec::new();
        for (index, partition) in &mut self.partitions {
            if let Some(batch) = partition.in_doubt.take_if(|batch| batch.deadline(now).is_none()) {
                abandoned.push((*index, batch.stamp));
            }
        }
        for (index, stamp) in abandoned {
            self.forget(index, stamp);
        }
    }
}
