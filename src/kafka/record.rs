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
    /// The record's own timestamp as it stands in the log, in whole milliseconds; see [`Record::written`].
    pub timestamp: DateTime<Utc>,
    /// When it was read.
    pub arrived: DateTime<Utc>,
    /// The key's bytes, if it has one.
    pub key: Option<Vec<u8>>,
    /// The value's bytes; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Headers by name.
    pub headers: BTreeMap<String, Vec<u8>>,
}

impl Record {
    /// When it was written. A timestamp of 0 or below is a producer's way to give none: it counts as written when it
    /// was read.
    pub fn written(&self) -> DateTime<Utc> {
        if self.timestamp.timestamp_millis() > 0 { self.timestamp } else { self.arrived }
    }

    /// Bytes of key, value and headers together.
    pub fn size(&self) -> usize {
        self.key.as_ref().map_or(0, Vec::len)
            + self.value.as_ref().map_or(0, Vec::len)
            + self.headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_producer_that_gives_no_time_makes_no_old_mail() {
        let arrived = DateTime::from_timestamp_millis(1_700_000_000_000).expect("a time");
        for (millis, written) in
            [(-1, arrived), (0, arrived), (1, DateTime::UNIX_EPOCH + chrono::TimeDelta::milliseconds(1))]
        {
            let record = Record {
                topic: "t".into(),
                partition: 0,
                offset: 0,
                timestamp: DateTime::from_timestamp_millis(millis).expect("a time"),
                arrived,
                key: None,
                value: None,
                headers: BTreeMap::new(),
            };
            assert_eq!(record.written(), written, "{millis}");
        }
    }
}
