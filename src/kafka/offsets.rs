//! The tracker of one partition: what is unsettled, what is settled beyond it, and what is therefore committed.
//!
//! Pure. Offsets have gaps (compaction, transaction markers), so it counts offsets that were seen, never a range. What
//! is committed is the next offset to read: the lowest unsettled one, else the position.

mod metadata;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

pub use metadata::{MetadataError, Snapshot};

/// What a tracker says of an offset that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// It is to be settled from now on.
    New,
    /// It was settled before a restart, or stands below the position: nothing is to be done.
    Settled,
}

/// What a partition commits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The next offset to read.
    pub offset: i64,
    /// What is settled beyond it, in the form of [`Snapshot`]; empty if nothing is.
    pub metadata: String,
    /// Offsets settled beyond `offset` that the metadata has no room for: a crash would send them again.
    pub forgotten: u64,
}

/// What one partition has in flight.
#[derive(Debug, Clone)]
pub struct Tracker {
    /// Seen or remembered, and not settled.
    unsettled: BTreeSet<i64>,
    /// Those of `unsettled` that a restart remembers and that have not been read again yet.
    remembered: BTreeSet<i64>,
    /// All offsets below are settled, gone, or in `unsettled`.
    horizon: i64,
    /// The next offset to fetch.
    position: i64,
    /// Counts how often the log was made anew: an offset of the old log settles nothing in the new one.
    generation: u32,
}

impl Tracker {
    /// A partition that goes on at `offset` with nothing settled beyond it.
    pub fn new(offset: i64) -> Self {
        Self {
            unsettled: BTreeSet::new(),
            remembered: BTreeSet::new(),
            horizon: offset,
            position: offset,
            generation: 0,
        }
    }

    /// A partition that goes on where a commit left it.
    ///
    /// # Errors
    ///
    /// [`MetadataError`] where the metadata is foreign, damaged, or made for another offset.
    pub fn restore(offset: i64, metadata: &str) -> Result<Self, MetadataError> {
        if metadata.is_empty() {
            return Ok(Self::new(offset));
        }
        let snapshot = Snapshot::parse(offset, metadata)?;
        Ok(Self {
            remembered: snapshot.unsettled.clone(),
            unsettled: snapshot.unsettled,
            horizon: snapshot.end,
            position: offset,
            generation: 0,
        })
    }

    /// The next offset to fetch.
    pub fn position(&self) -> i64 {
        self.position
    }

    /// Number of offsets that are seen and not settled.
    pub fn in_flight(&self) -> usize {
        self.unsettled.len() - self.remembered.len()
    }

    /// The lowest offset that is to be settled or read: what is committed.
    pub fn lowest(&self) -> i64 {
        self.unsettled.first().copied().unwrap_or(self.horizon)
    }

    /// Whether an offset was seen, or is remembered, and is not settled.
    pub fn is_unsettled(&self, offset: i64) -> bool {
        self.unsettled.contains(&offset)
    }

    /// Takes note of an offset that was read.
    pub fn see(&mut self, offset: i64) -> Seen {
        if offset < self.position {
            return Seen::Settled;
        }
        if offset < self.horizon {
            return if self.remembered.remove(&offset) { Seen::New } else { Seen::Settled };
        }
        self.unsettled.insert(offset);
        self.horizon = offset + 1;
        Seen::New
    }

    /// Moves the next offset to fetch; whatever a restart remembers below it and was not read is gone from the log.
    pub fn advance(&mut self, position: i64) {
        self.position = self.position.max(position);
        self.horizon = self.horizon.max(position);
        let kept = self.remembered.split_off(&self.position);
        for gone in std::mem::replace(&mut self.remembered, kept) {
            self.unsettled.remove(&gone);
        }
    }

    /// Begins anew at `position`, below or above the old one: the log was made anew.
    ///
    /// Offsets in flight are forgotten; settling them later does nothing.
    pub fn restart(&mut self, position: i64) {
        *self = Self { generation: self.generation + 1, ..Self::new(position) };
    }

    /// Number of the log that is being read; [`Tracker::settle`] wants the one under which an offset was seen.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Settles an offset that [`Tracker::see`] called new under this generation.
    pub fn settle(&mut self, generation: u32, offset: i64) {
        if generation == self.generation {
            self.unsettled.remove(&offset);
        }
    }

    /// What is to be committed now, with at most `limit` bytes of metadata.
    pub fn commit(&self, limit: usize) -> Position {
        let Some(&lowest) = self.unsettled.first() else {
            return Position { offset: self.horizon, metadata: String::new(), forgotten: 0 };
        };
        let (metadata, forgotten) = metadata::encode(lowest, self.horizon, &self.unsettled, limit);
        Position { offset: lowest, metadata, forgotten }
    }
}
