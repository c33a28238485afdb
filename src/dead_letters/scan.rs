//! Reads the dead letter topic once, in the order in which its letters were written.
//!
//! Owns what it holds at a time: one fetch of each partition, whatever the topic's size. What cannot be decoded is told and
//! stepped over, as is an offset for which the brokers send nothing; whoever commits has to count it as not worked on.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use futures::future::join_all;

use super::Letter;
use crate::kafka::{
    Record, SharedClient,
    fetch::{FetchError, Limits, PartitionReader, RskafkaReader},
};

/// Time the broker may hold a fetch; below the log's end it has something at once.
const MAX_WAIT: Duration = Duration::from_millis(500);
/// Fetches in a row that bring nothing although the log goes on, until that offset is passed over, or is an error where the
/// leader does not know yet that the log goes on.
const EMPTY_FETCHES: u32 = 10;
/// Bytes for the fetches of all partitions together, and the least and the most of one. Compressed bytes: what comes of them
/// is several times as much.
const ALL_BYTES: usize = 4 << 20;
const LEAST_BYTES: usize = 32 << 10;
const MOST_BYTES: usize = 256 << 10;

/// What stands next in the topic.
#[derive(Debug)]
pub enum Found {
    /// A letter.
    Letter(Box<Letter>),
    /// Records that no reader of ours can decode: of a transaction, or with a header without a value. Or offsets for which
    /// the brokers send nothing, such as those of a batch that compaction has emptied.
    Undecodable {
        /// The partition.
        partition: i32,
        /// The first offset.
        from: i64,
        /// The offset after the last one.
        to: i64,
        /// What the decoder said.
        why: String,
    },
}

/// One reading of the topic.
pub struct Scan {
    sources: Vec<Source>,
}

/// Two readers of a partition, its number, and from where to where it is read.
pub(super) type Reading = (Box<dyn PartitionReader>, Box<dyn PartitionReader>, i32, i64, i64);

struct Source {
    reader: Box<dyn PartitionReader>,
    /// The same with fetches of one batch, for where a fetch cannot be decoded.
    narrow: Box<dyn PartitionReader>,
    partition: i32,
    next: i64,
    end: i64,
    ahead: VecDeque<Ahead>,
}

enum Ahead {
    Record(Record),
    Undecodable { from: i64, to: i64, why: String },
}

impl Scan {
    /// Reads these partitions of a topic, each from the first of its offsets up to the second.
    pub fn new(shared: &SharedClient, topic: &Arc<str>, spans: impl IntoIterator<Item = (i32, i64, i64)>) -> Self {
        let spans: Vec<_> = spans.into_iter().filter(|(_, start, end)| start < end).collect();
        let bytes = (ALL_BYTES / spans.len().max(1)).clamp(LEAST_BYTES, MOST_BYTES);
        let reader = |partition, bytes| -> Box<dyn PartitionReader> {
            Box::new(RskafkaReader::new(shared.clone(), Arc::clone(topic), partition, Limits::new(MAX_WAIT, bytes)))
        };
        Self::over(
            spans
                .into_iter()
                .map(|(partition, next, end)| (reader(partition, bytes), reader(partition, 1), partition, next, end)),
        )
    }

    /// The second reader brings one batch at a time.
    pub(super) fn over(sources: impl IntoIterator<Item = Reading>) -> Self {
        let sources = sources.into_iter().map(|(reader, narrow, partition, next, end)| Source {
            reader,
            narrow,
            partition,
            next,
            end,
            ahead: VecDeque::new(),
        });
        Self { sources: sources.collect() }
    }

    /// The oldest that was not told yet; nothing at the end.
    ///
    /// # Errors
    ///
    /// When a partition cannot be read now.
    pub async fn next(&mut self) -> Result<Option<Found>, FetchError> {
        for outcome in join_all(self.sources.iter_mut().map(Source::fill)).await {
            outcome?;
        }
        let oldest =
            self.sources.iter_mut().filter(|it| !it.ahead.is_empty()).min_by_key(|it| match it.ahead.front() {
                Some(Ahead::Record(record)) => (record.timestamp, it.partition),
                _ => (chrono::DateTime::UNIX_EPOCH, it.partition),
            });
        let Some(source) = oldest else { return Ok(None) };
        let partition = source.partition;
        Ok(source.ahead.pop_front().map(|ahead| match ahead {
            Ahead::Record(record) => Found::Letter(Box::new(Letter::read(record))),
            Ahead::Undecodable { from, to, why } => Found::Undecodable { partition, from, to, why },
        }))
    }
}

impl Source {
    /// Sees to it that there is something ahead, unless this is the end.
    async fn fill(&mut self) -> Result<(), FetchError> {
        let (mut empty, mut failed) = (0, None);
        while self.ahead.is_empty() && self.next < self.end {
            let reader = if failed.is_none() { &mut self.reader } else { &mut self.narrow };
            match reader.fetch(self.next).await {
                Ok(fetched) if !fetched.records.is_empty() => {
                    let first = fetched.records[0].offset;
                    if let Some((from, why)) = failed.take().filter(|(from, _): &(i64, String)| *from < first) {
                        self.ahead.push_back(Ahead::Undecodable { from, to: first.min(self.end), why });
                    }
                    self.next = fetched.next_offset;
                    let end = self.end;
                    let records = fetched.records.into_iter().filter(|record| record.offset < end);
                    self.ahead.extend(records.map(Ahead::Record));
                }
                // where a batch without records ends is not told, so what follows it is looked for offset by offset
                Ok(fetched) if fetched.high_watermark > self.next && (failed.is_some() || empty >= EMPTY_FETCHES) => {
                    failed.get_or_insert_with(|| (self.next, "the brokers send nothing for it".to_owned()));
                    self.next += 1;
                }
                Ok(_) => {
                    empty += 1;
                    // a leader that does not know yet how far its replicas are: there may be letters
                    if empty > EMPTY_FETCHES {
                        let (partition, next, end) = (self.partition, self.next, self.end);
                        let detail =
                            format!("partition {partition}: nothing comes from {next} on, and it ends at {end}");
                        return Err(FetchError::Unavailable { detail });
                    }
                }
                // the first time it may be a batch further on; then the next offset may be in the next batch
                Err(FetchError::Undecodable { detail }) => match &failed {
                    None => failed = Some((self.next, detail)),
                    Some(_) => self.next += 1,
                },
                // retention has been there since
                Err(FetchError::OutOfRange) => {
                    let bounds = self.reader.bounds().await?;
                    self.next = bounds.log_start.max(self.next + 1);
                }
                Err(error) => return Err(error),
            }
        }
        if let Some((from, why)) = failed.filter(|_| self.ahead.is_empty()) {
            self.ahead.push_back(Ahead::Undecodable { from, to: self.end, why });
        }
        Ok(())
    }
}
