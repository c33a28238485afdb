//! Writing records as an ordinary client does, and reading all that a topic holds.
//!
//! Owns the record types. Works by rskafka; what that cannot write stands in `transaction`, and what it cannot read (markers
//! of transactions, null header values) fails here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use chrono::{DateTime, Utc};
use rskafka::client::Client;
use rskafka::client::partition::{Compression, OffsetAt, UnknownTopicHandling};
use tokio::task::JoinSet;

use super::cluster::Cluster;

/// A request holds about this much, below a broker's default limit for a batch (1 MiB). On loopback rskafka stalls for some
/// 44 ms on requests between 8 and 64 KiB, and not on larger ones: 512 KiB take 2 ms.
const BATCH_BYTES: usize = 512 << 10;
const FETCH_BYTES: i32 = 8 << 20;
const FETCH_WAIT_MS: i32 = 500;
const POLL: Duration = Duration::from_millis(50);

/// A record to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The key; `None` is null.
    pub key: Option<Vec<u8>>,
    /// The value; `None` is null.
    pub value: Option<Vec<u8>>,
    /// Names and values in their order; `None` is null. [`Cluster::produce`] takes neither nulls nor repeated names,
    /// [`Cluster::produce_raw`] and [`Cluster::transaction`] do.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// When it was made, stored in milliseconds.
    pub timestamp: DateTime<Utc>,
}

impl Record {
    /// A record of now with this value and nothing else.
    pub fn new(value: impl Into<Vec<u8>>) -> Self {
        Self { value: Some(value.into()), ..Self::null() }
    }

    /// A record of now with a null value, a tombstone.
    #[must_use]
    pub fn null() -> Self {
        Self { key: None, value: None, headers: Vec::new(), timestamp: Utc::now() }
    }

    /// Sets the key.
    #[must_use]
    pub fn key(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.into(), Some(value.into())));
        self
    }

    /// Adds a header whose value is null.
    #[must_use]
    pub fn null_header(mut self, name: impl Into<String>) -> Self {
        self.headers.push((name.into(), None));
        self
    }

    /// Sets the timestamp.
    #[must_use]
    pub fn timestamp(mut self, timestamp: DateTime<Utc>) -> Self {
        self.timestamp = timestamp;
        self
    }

    fn into_rskafka(self) -> Result<rskafka::record::Record> {
        let mut headers = BTreeMap::new();
        for (name, value) in self.headers {
            let value = value.with_context(|| format!("header {name} is null: use produce_raw"))?;
            if let Some(_older) = headers.insert(name, value) {
                bail!("a header name is repeated: use produce_raw");
            }
        }
        Ok(rskafka::record::Record { key: self.key, value: self.value, headers, timestamp: self.timestamp })
    }
}

/// A record as it stands in a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRecord {
    /// The partition it was read from.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// The key; `None` is null.
    pub key: Option<Vec<u8>>,
    /// The value; `None` is null.
    pub value: Option<Vec<u8>>,
    /// The headers; of a repeated name the last one.
    pub headers: BTreeMap<String, Vec<u8>>,
    /// As the topic has it: when it was made, or appended.
    pub timestamp: DateTime<Utc>,
}

impl StoredRecord {
    /// The value as text, empty where it is null.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.value.as_deref().unwrap_or_default()).into_owned()
    }

    /// A header as text.
    #[must_use]
    pub fn header_text(&self, name: &str) -> Option<String> {
        self.headers.get(name).map(|value| String::from_utf8_lossy(value).into_owned())
    }
}

impl Cluster {
    /// Appends records to a partition in their order, uncompressed, and returns their offsets.
    ///
    /// # Errors
    /// When the broker refuses them, and for headers that rskafka cannot write.
    pub async fn produce(&self, topic: &str, partition: i32, records: Vec<Record>) -> Result<Vec<i64>> {
        self.produce_compressed(topic, partition, records, Compression::NoCompression).await
    }

    /// The same with a compression.
    ///
    /// # Errors
    /// When the broker refuses them, and for headers that rskafka cannot write.
    pub async fn produce_compressed(
        &self,
        topic: &str,
        partition: i32,
        records: Vec<Record>,
        compression: Compression,
    ) -> Result<Vec<i64>> {
        let records = records.into_iter().map(Record::into_rskafka).collect::<Result<Vec<_>>>()?;
        append(&self.client().await?, topic, partition, records, compression).await
    }

    /// Spreads records over all partitions in turn, each partition in the given order: the way to write many.
    ///
    /// # Errors
    /// When the topic does not exist or the broker refuses the records.
    pub async fn produce_spread(&self, topic: &str, records: Vec<Record>, compression: Compression) -> Result<()> {
        let partitions = self.partitions(topic).await?;
        if partitions.is_empty() {
            bail!("topic {topic} does not exist");
        }
        let mut shares: Vec<Vec<_>> = partitions.iter().map(|_| Vec::new()).collect();
        for (turn, record) in records.into_iter().enumerate() {
            shares[turn % partitions.len()].push(record.into_rskafka()?);
        }
        let client = Arc::new(self.client().await?);
        let mut writers = JoinSet::new();
        for (partition, share) in partitions.into_iter().zip(shares) {
            let (client, topic) = (Arc::clone(&client), topic.to_owned());
            writers.spawn(async move { append(&client, &topic, partition, share, compression).await.map(drop) });
        }
        writers.join_all().await.into_iter().collect()
    }

    /// The offsets of a partition's first record and behind its last one (the high watermark).
    ///
    /// # Errors
    /// When the partition does not exist or the broker does not answer.
    pub async fn offsets(&self, topic: &str, partition: i32) -> Result<(i64, i64)> {
        let partition = self.client().await?.partition_client(topic, partition, UnknownTopicHandling::Error).await?;
        Ok((partition.get_offset(OffsetAt::Earliest).await?, partition.get_offset(OffsetAt::Latest).await?))
    }

    /// All records of a topic up to the high watermarks of now, by partition and offset.
    ///
    /// # Errors
    /// When the topic does not exist, and for batches that rskafka cannot read.
    pub async fn read_all(&self, topic: &str) -> Result<Vec<StoredRecord>> {
        let partitions = self.partitions(topic).await?;
        if partitions.is_empty() {
            bail!("topic {topic} does not exist");
        }
        let client = self.client().await?;
        let mut all = Vec::new();
        for partition in partitions {
            read_partition(&client, topic, partition, &mut all).await?;
        }
        Ok(all)
    }

    /// Waits until a topic holds at least `count` records and returns all of them.
    ///
    /// # Errors
    /// When there are fewer after `limit`; the error says how many.
    pub async fn read_until(&self, topic: &str, count: usize, limit: Duration) -> Result<Vec<StoredRecord>> {
        let deadline = Instant::now() + limit;
        loop {
            let records = self.read_all(topic).await?;
            if records.len() >= count {
                return Ok(records);
            }
            if Instant::now() >= deadline {
                bail!("topic {topic} holds {} records of {count} after {limit:?}", records.len());
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

async fn append(
    client: &Client,
    topic: &str,
    partition: i32,
    records: Vec<rskafka::record::Record>,
    compression: Compression,
) -> Result<Vec<i64>> {
    let partition = client.partition_client(topic, partition, UnknownTopicHandling::Retry).await?;
    let mut offsets = Vec::with_capacity(records.len());
    let mut batch = Vec::new();
    let mut size = 0;
    for record in records {
        let more = record.approximate_size();
        if size + more > BATCH_BYTES && !batch.is_empty() {
            offsets.extend(partition.produce(std::mem::take(&mut batch), compression).await?);
            size = 0;
        }
        size += more;
        batch.push(record);
    }
    offsets.extend(partition.produce(batch, compression).await?);
    Ok(offsets)
}

async fn read_partition(client: &Client, topic: &str, partition: i32, all: &mut Vec<StoredRecord>) -> Result<()> {
    let reader = client.partition_client(topic, partition, UnknownTopicHandling::Error).await?;
    let mut position = reader.get_offset(OffsetAt::Earliest).await?;
    let end = reader.get_offset(OffsetAt::Latest).await?;
    while position < end {
        let fetched = reader.fetch_records(position, 1..FETCH_BYTES, FETCH_WAIT_MS).await;
        let (records, _) = fetched.with_context(|| format!("cannot read {topic}-{partition} at offset {position}"))?;
        // Nothing but removed records (compaction) up to the end.
        let Some(last) = records.last() else { break };
        position = last.offset + 1;
        all.extend(records.into_iter().filter(|read| read.offset < end).map(|read| StoredRecord {
            partition,
            offset: read.offset,
            key: read.record.key,
            value: read.record.value,
            headers: read.record.headers,
            timestamp: read.record.timestamp,
        }));
    }
    Ok(())
}
