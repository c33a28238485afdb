//! What was sent back already, by place in the dead letter topic.
//!
//! Pure. It is what a consumer group keeps: for each partition an offset below which every letter is settled, and with it
//! what is settled beyond ([`offsets`](crate::kafka::offsets)). Who commits it, and when, is the caller's.

use std::collections::BTreeMap;

use super::Place;
use crate::kafka::offsets::{MetadataError, Position, Snapshot, Tracker};

/// What the group holds for a partition: its offset and the text beside it.
pub type Kept = BTreeMap<i32, (i64, String)>;

/// What of it belongs to the topic with these logs, from start to end: an offset beyond the end is of a topic that is gone.
///
/// The ends must not be older than what is kept, or the work of another redrive would be taken for that.
pub fn of_this_topic(kept: &Kept, ends: &BTreeMap<i32, (i64, i64)>) -> Kept {
    let is_ours = |partition: &i32, offset: i64| ends.get(partition).is_some_and(|(_, end)| offset <= *end);
    let ours = kept.iter().filter(|(partition, (offset, _))| is_ours(partition, *offset));
    ours.map(|(partition, it)| (*partition, it.clone())).collect()
}

/// The memory of a partition cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("what was sent back of partition {partition} cannot be read")]
pub struct Unreadable {
    /// The partition.
    pub partition: i32,
    /// What is wrong.
    #[source]
    pub source: MetadataError,
}

/// What was sent back, as somebody who changes nothing looks at it.
#[derive(Debug, Clone, Default)]
pub struct Marks {
    partitions: BTreeMap<i32, (i64, Option<Snapshot>)>,
}

impl Marks {
    /// Reads what the group keeps [of this topic](of_this_topic).
    ///
    /// # Errors
    ///
    /// [`Unreadable`] where the text beside an offset is not ours.
    pub fn new(kept: &Kept) -> Result<Self, Unreadable> {
        let mut partitions = BTreeMap::new();
        for (&partition, (offset, metadata)) in kept {
            let snapshot = match metadata.as_str() {
                "" => None,
                text => Some(Snapshot::parse(*offset, text).map_err(|source| Unreadable { partition, source })?),
            };
            partitions.insert(partition, (*offset, snapshot));
        }
        Ok(Self { partitions })
    }

    /// Letters of a partition that were not sent back, of those from `start` up to `end`. Gaps in its log may count as letters.
    pub fn waiting(&self, partition: i32, start: i64, end: i64) -> i64 {
        let Some((offset, snapshot)) = self.partitions.get(&partition) else { return (end - start).max(0) };
        match snapshot {
            None => (end - start.max(*offset)).max(0),
            Some(it) => {
                let remembered = it.unsettled.range(start.min(it.end)..).count();
                i64::try_from(remembered).unwrap_or(i64::MAX) + (end - start.max(it.end)).max(0)
            }
        }
    }

    /// Whether the letter was sent back.
    pub fn contains(&self, place: Place) -> bool {
        let Some((offset, snapshot)) = self.partitions.get(&place.partition) else { return false };
        place.offset < *offset
            || snapshot.as_ref().is_some_and(|it| place.offset < it.end && !it.unsettled.contains(&place.offset))
    }
}

/// The same for who sends letters back.
///
/// It has to be shown every letter from the log's start on ([`see`](Self::see)), and then [told](Self::seen_all) that this
/// was all, before any is [settled](Self::settle).
#[derive(Debug, Clone)]
pub struct Memory {
    trackers: BTreeMap<i32, Tracker>,
    ends: BTreeMap<i32, (i64, i64)>,
    limit: usize,
}

impl Memory {
    /// Goes on with what the group keeps [of this topic](of_this_topic), with at most `limit` bytes of text for a partition.
    ///
    /// # Errors
    ///
    /// [`Unreadable`] where the text beside an offset is not ours.
    pub fn new(kept: &Kept, ends: &BTreeMap<i32, (i64, i64)>, limit: usize) -> Result<Self, Unreadable> {
        let mut trackers = BTreeMap::new();
        for (&partition, &(start, _)) in ends {
            let tracker = match kept.get(&partition) {
                Some((offset, metadata)) => {
                    Tracker::restore(*offset, metadata).map_err(|source| Unreadable { partition, source })?
                }
                None => Tracker::new(start),
            };
            trackers.insert(partition, tracker);
        }
        Ok(Self { trackers, ends: ends.clone(), limit })
    }

    /// Takes note of a letter.
    pub fn see(&mut self, place: Place) {
        if let Some(tracker) = self.trackers.get_mut(&place.partition) {
            tracker.see(place.offset);
        }
    }

    /// Every letter up to the ends was seen: what else is remembered is gone from the topic.
    pub fn seen_all(&mut self) {
        for (partition, tracker) in &mut self.trackers {
            if let Some((_, end)) = self.ends.get(partition) {
                tracker.advance(*end);
            }
        }
    }

    /// Whether a letter that was seen still waits to be sent back.
    pub fn is_waiting(&self, place: Place) -> bool {
        self.trackers.get(&place.partition).is_some_and(|tracker| tracker.is_unsettled(place.offset))
    }

    /// Number of letters that wait.
    pub fn waiting(&self) -> usize {
        self.trackers.values().map(Tracker::in_flight).sum()
    }

    /// The letter was sent back, and its lane's in-sync replicas have it.
    pub fn settle(&mut self, place: Place) {
        if let Some(tracker) = self.trackers.get_mut(&place.partition) {
            tracker.settle(tracker.generation(), place.offset);
        }
    }

    /// Whether all of these could be remembered as well.
    pub fn has_room_for(&self, places: &[Place]) -> bool {
        let mut trackers: BTreeMap<i32, Tracker> = BTreeMap::new();
        for place in places {
            let Some(tracker) = self.trackers.get(&place.partition) else { continue };
            let tracker = trackers.entry(place.partition).or_insert_with(|| tracker.clone());
            tracker.settle(tracker.generation(), place.offset);
        }
        trackers.values().all(|tracker| tracker.commit(self.limit).forgotten == 0)
    }

    /// What is to be committed for each partition.
    pub fn positions(&self) -> impl Iterator<Item = (i32, Position)> {
        self.trackers.iter().map(|(partition, tracker)| (*partition, tracker.commit(self.limit)))
    }
}
