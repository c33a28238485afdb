//! One record as it was read from a topic.

use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, Utc};

/// A record of a Kafka topic with the place it was read from.
///
/// A repeated header name keeps one value: a limit of the client library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Topic it was read from.
    pub topic: Arc<str>,
    /// Partition it was read from.
    pub partition: i32,
    /// Offset in that partition.
    pub offset: i64,
    /// The record's own timestamp, in whole milliseconds.
    pub timestamp: DateTime<Utc>,
    /// The key's bytes, if it has one.
    pub key: Option<Vec<u8>>,
    /// The value's bytes; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Headers by name.
    pub headers: BTreeMap<String, Vec<u8>>,
}

impl Record {
    /// Bytes of key, value and headers together.
    pub fn size(&self) -> usize {
        self.key.as_ref().map_or(0, Vec::len)
            + self.value.as_ref().map_or(0, Vec::len)
            + self.headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>()
    }
}
