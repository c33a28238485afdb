//! The records that go to one partition in one request.
//!
//! Owns their bytes, the stamp by which the broker knows a repetition (KIP-98), and what is known of their fate.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use kafka_protocol::{
    messages::produce_request::PartitionProduceData,
    protocol::StrBytes,
    records::{
        Compression, NO_PARTITION_LEADER_EPOCH, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE, Record,
        RecordBatchEncoder, RecordEncodeOptions, TimestampType,
    },
};
use tokio::time::Instant;

use super::{
    NotStored, Published, Trouble, Unknown,
    queue::{Content, Order},
};

/// Format of record batches since Kafka 0.11.
const FORMAT: i8 = 2;

/// Who we are for the broker that sorts out repetitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) id: i64,
    pub(super) epoch: i16,
}

/// Identity, and number of the batch's first record among all that this identity has written to the partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) identity: Identity,
    pub(super) sequence: i32,
}

/// Records on their way to one partition.
pub(super) struct Batch {
    pub(super) partition: i32,
    /// With their numbers in the queue.
    pub(super) orders: Vec<(u64, Order)>,
    pub(super) stamp: Option<Stamp>,
    /// An earlier try may have been stored. No later answer but success takes that back.
    pub(super) doubtful: bool,
    /// A try that may have been stored was repeated in a way that the broker cannot know for a repetition.
    pub(super) repeated: bool,
    encoded: Bytes,
}

impl Batch {
    /// # Errors
    ///
    /// Where the records cannot be written in Kafka's format; they come back.
    pub(super) fn new(
        partition: i32,
        orders: Vec<(u64, Order)>,
        stamp: Option<Stamp>,
    ) -> Result<Self, (Vec<(u64, Order)>, String)> {
        match encode(orders.iter().map(|(_, order)| &order.record), stamp) {
            Ok(encoded) => Ok(Self { partition, orders, stamp, doubtful: false, repeated: false, encoded }),
            Err(error) => Err((orders, error)),
        }
    }

    /// Bytes in the request.
    pub(super) fn size(&self) -> usize {
        self.encoded.len()
    }

    pub(super) fn data(&self) -> PartitionProduceData {
        PartitionProduceData::default().with_index(self.partition).with_records(Some(self.encoded.clone()))
    }

    /// Time until which somebody waits for one of its records; none where nobody does.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        self.orders.iter().filter(|(_, order)| !order.is_abandoned(now)).map(|(_, order)| order.deadline).max()
    }

    /// Takes out the records for which nobody waits any more.
    pub(super) fn keep_awaited(&mut self, now: Instant) {
        for (_, order) in self.orders.extract_if(.., |(_, order)| order.is_abandoned(now)) {
            order.answer(Published::Unknown(Unknown::Late { trouble: None }));
        }
    }

    /// Gives a batch that may be stored another stamp, or none: each of its records may be stored twice.
    pub(super) fn restamp(&mut self, stamp: Option<Stamp>) {
        self.repeated |= self.doubtful;
        self.stamp = stamp;
        // they could be encoded before
        if let Ok(encoded) = encode(self.orders.iter().map(|(_, order)| &order.record), stamp) {
            self.encoded = encoded;
        }
    }

    /// The in-sync replicas have it from this offset on; -1 where the broker does not remember.
    pub(super) fn stored(self, topic: &Arc<str>, base_offset: i64) {
        let (partition, repeated) = (self.partition, self.repeated);
        for (offset, (_, order)) in (base_offset..).zip(self.orders) {
            let offset = if base_offset < 0 { -1 } else { offset };
            order.answer(Published::Stored { topic: Arc::clone(topic), partition, offset, repeated });
        }
    }

    /// It is surely not stored, unless an earlier try was.
    pub(super) fn refused(self, why: &NotStored) {
        for (_, order) in self.orders {
            order.answer(if self.doubtful {
                Published::Unknown(Unknown::Late { trouble: Some(Trouble::passing(why.to_string())) })
            } else {
                Published::NotStored(why.clone())
            });
        }
    }
}

fn encode<'a>(contents: impl Iterator<Item = &'a Content>, stamp: Option<Stamp>) -> Result<Bytes, String> {
    let identity = stamp.map(|stamp| stamp.identity);
    let records: Vec<Record> = (0..)
        .zip(contents)
        .map(|(index, content)| Record {
            transactional: false,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: NO_PARTITION_LEADER_EPOCH,
            producer_id: identity.map_or(NO_PRODUCER_ID, |identity| identity.id),
            producer_epoch: identity.map_or(NO_PRODUCER_EPOCH, |identity| identity.epoch),
            timestamp_type: TimestampType::Creation,
            offset: i64::from(index),
            // the encoder takes the difference to the offset, which is the same for all of a batch
            sequence: stamp.map_or(NO_SEQUENCE, |stamp| stamp.sequence).wrapping_add(index),
            timestamp: content.timestamp,
            key: Some(content.key.clone()),
            value: Some(content.value.clone()),
            headers: content
                .headers
                .iter()
                .map(|(name, value)| (StrBytes::from_string(name.clone()), Some(value.clone())))
                .collect(),
        })
        .collect();
    let mut encoded = BytesMut::new();
    let options = RecordEncodeOptions { version: FORMAT, compression: Compression::None };
    RecordBatchEncoder::encode(&mut encoded, &records, &options).map_err(|error| error.to_string())?;
    Ok(encoded.freeze())
}
