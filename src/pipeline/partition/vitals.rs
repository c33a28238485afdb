//! How one partition fares: what its reading does right now, how far it is behind, how old its oldest record is.
//!
//! Written by the partition's own loop and tickets, read for readiness and metrics.

use std::{
    collections::BTreeMap,
    sync::{MutexGuard, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use tokio::time::Instant;

use super::Partition;
use crate::kafka::fetch::Halt;

/// What the loop of a partition does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// It has not begun.
    Starting,
    /// It waits for the broker since so long.
    Asking(Duration),
    /// The broker has answered; what it sent is being handed on.
    Answered,
}

/// How a partition fares at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Vitals {
    /// What its loop does.
    pub reading: Reading,
    /// Why it makes no progress, and since when.
    pub halted: Option<(Halt, Duration)>,
    /// Records that are read and not settled.
    pub in_flight: usize,
    /// Records of the log that are not settled; `None` before the broker has told where the log ends.
    pub lag: Option<u64>,
    /// Whether something is settled that is not committed.
    pub due: bool,
    /// Age of the lowest unsettled record; zero where there is none and nothing is left to be read.
    pub oldest: Duration,
    /// Records that retention took before they were read.
    pub lost: u64,
    /// The brokers list no such partition any more.
    pub gone: bool,
}

/// What is noted as it happens.
#[derive(Debug)]
pub(super) struct Watched {
    asked: Option<Instant>,
    begun: bool,
    halted: Option<(Halt, Instant)>,
    high_watermark: Option<i64>,
    committed: Option<i64>,
    /// The next offset to read.
    position: i64,
    /// Since when the log holds more than was read.
    behind: Option<Instant>,
    /// The log that `timestamps` are from.
    generation: u32,
    /// When the unsettled records were written, in milliseconds, by offset.
    timestamps: BTreeMap<i64, i64>,
    lost: u64,
    gone: bool,
}

impl Watched {
    /// Reading begins at `position`.
    pub(super) fn new(position: i64) -> Self {
        Self {
            asked: None,
            begun: false,
            halted: None,
            high_watermark: None,
            committed: None,
            position,
            behind: None,
            generation: 0,
            timestamps: BTreeMap::new(),
            lost: 0,
            gone: false,
        }
    }

    /// The broker is asked, or was asked again.
    pub(super) fn asks(&mut self) {
        self.begun = true;
        self.asked = Some(Instant::now());
    }

    pub(super) fn answered(&mut self, high_watermark: Option<i64>) {
        self.asked = None;
        self.high_watermark = high_watermark.or(self.high_watermark);
        self.look_behind();
    }

    pub(super) fn advanced(&mut self, next_offset: i64) {
        self.position = next_offset;
        self.look_behind();
    }

    pub(super) fn seen(&mut self, generation: u32, offset: i64, timestamp: DateTime<Utc>) {
        if generation != self.generation {
            self.generation = generation;
            self.timestamps.clear();
        }
        self.position = offset + 1;
        self.timestamps.insert(offset, timestamp.timestamp_millis());
    }

    /// The log was made anew: what is in flight belongs to the old one.
    pub(super) fn restarted(&mut self, generation: u32, position: i64) {
        self.generation = generation;
        self.timestamps.clear();
        self.position = position;
        self.look_behind();
    }

    pub(super) fn settled(&mut self, generation: u32, offset: i64) {
        if generation == self.generation {
            self.timestamps.remove(&offset);
        }
    }

    pub(super) fn halted(&mut self, why: Option<Halt>) {
        self.halted = why.map(|why| (why, Instant::now()));
    }

    pub(super) fn lost(&mut self, records: u64) {
        self.lost += records;
    }

    pub(super) fn committed(&mut self, offset: i64) {
        self.committed = Some(offset);
    }

    fn look_behind(&mut self) {
        let behind = self.high_watermark.is_some_and(|end| self.position < end);
        self.behind = behind.then(|| self.behind.unwrap_or_else(Instant::now));
    }
}

impl Partition {
    /// How it fares now, which is `time` by the clock of those who wrote its records.
    pub fn vitals(&self, time: DateTime<Utc>) -> Vitals {
        let (lowest, in_flight) = {
            let tracker = self.tracker();
            (tracker.lowest(), tracker.in_flight())
        };
        let watched = self.watched();
        let now = Instant::now();
        let since = |at: Instant| now.duration_since(at);
        let oldest = match watched.timestamps.first_key_value() {
            Some((_, millis)) => {
                Duration::from_millis(u64::try_from(time.timestamp_millis().saturating_sub(*millis)).unwrap_or(0))
            }
            None => watched.behind.map(since).unwrap_or_default(),
        };
        Vitals {
            reading: match watched.asked {
                Some(at) => Reading::Asking(since(at)),
                None if watched.begun => Reading::Answered,
                None => Reading::Starting,
            },
            halted: watched.halted.map(|(why, at)| (why, since(at))),
            in_flight,
            lag: watched.high_watermark.map(|end| u64::try_from(end.saturating_sub(lowest)).unwrap_or(0)),
            due: watched.committed.is_some_and(|committed| committed != lowest),
            oldest,
            lost: watched.lost,
            gone: watched.gone,
        }
    }

    /// Notes what the broker has stored.
    pub(crate) fn note_committed(&self, offset: i64) {
        self.watched().committed(offset);
    }

    /// Notes whether the brokers list it.
    pub(crate) fn note_listed(&self, listed: bool) {
        self.watched().gone = !listed;
    }

    pub(super) fn watched(&self) -> MutexGuard<'_, Watched> {
        // no method panics between two changes that belong together
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use chrono::TimeDelta;
    use tokio::time::advance;

    use super::*;
    use crate::{
        event::Priority,
        kafka::offsets::Tracker,
        pipeline::{Room, Ticket},
    };

    fn partition() -> Arc<Partition> {
        let window = Room::new(10, 1000);
        Arc::new(Partition::new("t".into(), 0, Priority::Low, Tracker::new(5), window))
    }

    /// What the source does with a record.
    async fn read(partition: &Arc<Partition>, offset: i64, timestamp: DateTime<Utc>) -> Ticket {
        let generation = {
            let mut tracker = partition.tracker();
            tracker.see(offset);
            tracker.generation()
        };
        partition.watched().seen(generation, offset, timestamp);
        let window = partition.window.take(1).await;
        Ticket { partition: Arc::clone(partition), generation, offset, _window: window }
    }

    #[tokio::test(start_paused = true)]
    async fn lag_and_age_are_those_of_the_lowest_unsettled_record() {
        let (partition, now) = (partition(), Utc::now());
        let vitals = || partition.vitals(now);
        assert_eq!((vitals().lag, vitals().reading), (None, Reading::Starting));
        partition.note_committed(5);
        partition.watched().asks();
        advance(Duration::from_secs(3)).await;
        assert_eq!(vitals().reading, Reading::Asking(Duration::from_secs(3)));
        partition.watched().answered(Some(9));
        assert_eq!((vitals().lag, vitals().reading), (Some(4), Reading::Answered));
        let first = read(&partition, 5, now - TimeDelta::seconds(60)).await;
        let second = read(&partition, 6, now - TimeDelta::seconds(90)).await;
        assert_eq!((vitals().oldest.as_secs(), vitals().in_flight, vitals().due), (60, 2, false));
        first.settle();
        assert_eq!((vitals().oldest.as_secs(), vitals().lag, vitals().due), (90, Some(3), true));
        second.settle();
        partition.note_committed(7);
        assert_eq!((vitals().in_flight, vitals().lag, vitals().due), (0, Some(2), false));
        // nothing is read, but there is more
        partition.watched().advanced(7);
        advance(Duration::from_secs(8)).await;
        assert_eq!(vitals().oldest.as_secs(), 8);
        partition.watched().advanced(9);
        assert_eq!(vitals().oldest, Duration::ZERO);
        // a producer's clock that is ahead makes nothing older
        let ahead = read(&partition, 9, now + TimeDelta::hours(1)).await;
        assert_eq!(vitals().oldest, Duration::ZERO);
        drop(ahead);
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_read_is_behind_from_the_first_answer_on() {
        let (partition, now) = (partition(), Utc::now());
        partition.watched().answered(Some(5));
        advance(Duration::from_secs(4)).await;
        assert_eq!(partition.vitals(now).oldest, Duration::ZERO, "there is nothing to be read");
        partition.watched().answered(Some(6));
        advance(Duration::from_secs(4)).await;
        assert_eq!((partition.vitals(now).oldest.as_secs(), partition.vitals(now).lag), (4, Some(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_log_that_was_made_anew_has_no_old_records() {
        let (partition, now) = (partition(), Utc::now());
        partition.watched().answered(Some(6));
        let old = read(&partition, 5, now - TimeDelta::seconds(60)).await;
        let generation = {
            let mut tracker = partition.tracker();
            tracker.restart(0);
            tracker.generation()
        };
        partition.watched().restarted(generation, 0);
        partition.watched().answered(Some(0));
        assert_eq!((partition.vitals(now).oldest, partition.vitals(now).lag), (Duration::ZERO, Some(0)));
        let new = read(&partition, 5, now - TimeDelta::seconds(2)).await;
        old.settle();
        assert_eq!(partition.vitals(now).oldest.as_secs(), 2);
        drop(new);
    }
}
