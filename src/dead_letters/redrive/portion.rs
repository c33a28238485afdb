//! The letters that go at once.

use std::sync::Arc;

use chrono::{DateTime, SubsecRound as _, Utc};

use crate::{
    dead_letters::{Letter, Place, Target},
    kafka::dead_letter::Parcel,
};

/// A letter on its way.
pub(super) struct Going {
    pub(super) place: Place,
    pub(super) identity: Option<u128>,
    pub(super) topic: Arc<str>,
    partition: i32,
    record: rskafka::record::Record,
}

/// The letters that go at once, and those that are remembered with them.
#[derive(Default)]
pub(super) struct Portion {
    letters: Vec<Going>,
    twins: Vec<(Place, u128)>,
    bytes: usize,
}

impl Portion {
    /// Key, value and headers go as they are: the headers say whom it was still for, and under which id.
    pub(super) fn add(&mut self, letter: Letter, identity: Option<u128>, target: Target) {
        let place = letter.place();
        self.bytes += letter.record.size();
        self.letters.push(Going {
            place,
            identity,
            topic: target.topic,
            partition: target.partition,
            record: rskafka::record::Record {
                key: letter.record.key,
                value: letter.record.value,
                headers: letter.record.headers,
                timestamp: letter.record.timestamp,
            },
        });
    }

    /// A letter of a death that this portion or an earlier one undoes.
    pub(super) fn add_twin(&mut self, place: Place, identity: u128) {
        self.twins.push((place, identity));
    }

    pub(super) fn len(&self) -> usize {
        // the others cost a commit as well, if not a write
        self.letters.len().max(self.twins.len() / 10)
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.letters.is_empty() && self.twins.is_empty()
    }

    pub(super) fn places(&self) -> impl Iterator<Item = Place> {
        self.letters.iter().map(|letter| letter.place).chain(self.twins.iter().map(|(place, _)| *place))
    }

    pub(super) fn letters(&self) -> impl Iterator<Item = &Going> {
        self.letters.iter()
    }

    pub(super) fn twins(&self) -> impl Iterator<Item = (Place, u128)> {
        self.twins.iter().copied()
    }

    /// What is written: as of now, for else the lane's retention deletes an old one at once.
    pub(super) fn parcels(&self, now: DateTime<Utc>) -> Vec<Parcel> {
        let parcel = |letter: &Going| Parcel {
            topic: Arc::clone(&letter.topic),
            partition: letter.partition,
            // rskafka adds time differences up to batch timestamps in whole milliseconds
            record: rskafka::record::Record { timestamp: now.trunc_subsecs(3), ..letter.record.clone() },
        };
        self.letters.iter().map(parcel).collect()
    }
}
