//! The partition reader on rskafka.
//!
//! Owns the bounds of every call and what an rskafka error means. What rskafka 0.6 does not show (where a batch ends,
//! which records belong to an aborted transaction) this reader does not know either.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use chrono::Utc;
use rskafka::{
    BackoffError,
    client::{
        error::{Error as ClientError, ProtocolError, RequestError},
        partition::OffsetAt,
    },
};
use tokio::time::timeout;

use super::{Bounds, FetchError, Fetched, PartitionReader};
use crate::{
    chain::chain,
    kafka::{
        Record, SharedClient,
        shared_client::{Error, PartitionLink},
    },
};

/// Limits of a fetch.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Time the broker may hold a fetch that has nothing to return.
    pub max_wait: Duration,
    /// Bytes asked for; a first batch larger than that still comes whole.
    pub max_bytes: usize,
    /// Time for an answer, beyond `max_wait` where that applies. Connecting counts.
    pub timeout: Duration,
}

impl Limits {
    /// 30 seconds for an answer.
    pub fn new(max_wait: Duration, max_bytes: usize) -> Self {
        Self { max_wait, max_bytes, timeout: Duration::from_secs(30) }
    }
}

/// Reads one partition through rskafka.
///
/// It connects when it is first asked and again after any failure. A partition of a topic that the brokers do not list
/// is [`FetchError::NotListed`]: it is never asked for by name, because that could create it.
#[derive(Debug)]
pub struct RskafkaReader {
    link: PartitionLink,
    topic: Arc<str>,
    partition: i32,
    limits: Limits,
}

impl RskafkaReader {
    /// Connects only when it is first asked.
    pub fn new(shared: SharedClient, topic: Arc<str>, partition: i32, limits: Limits) -> Self {
        Self { link: PartitionLink::new(shared, Arc::clone(&topic)), topic, partition, limits }
    }

    fn record(&self, read: rskafka::record::RecordAndOffset) -> Record {
        Record {
            topic: Arc::clone(&self.topic),
            partition: self.partition,
            offset: read.offset,
            timestamp: read.record.timestamp,
            arrived: Utc::now(),
            key: read.record.key,
            value: read.record.value,
            headers: read.record.headers,
        }
    }
}

#[async_trait]
impl PartitionReader for RskafkaReader {
    async fn fetch(&mut self, offset: i64) -> Result<Fetched, FetchError> {
        let mut again = self.link.again();
        loop {
            match self.try_fetch(offset).await {
                Err(error) if again.after(&error).await => {}
                outcome => return outcome.map_err(|error| classify(&error)),
            }
        }
    }

    async fn bounds(&mut self) -> Result<Bounds, FetchError> {
        let mut again = self.link.again();
        loop {
            match self.try_bounds().await {
                Err(error) if again.after(&error).await => {}
                outcome => return outcome.map_err(|error| classify(&error)),
            }
        }
    }
}

impl RskafkaReader {
    async fn try_fetch(&mut self, offset: i64) -> Result<Fetched, Error> {
        // rskafka takes the end of the range for exclusive, and asks for one byte less.
        let bytes = 1..i32::try_from(self.limits.max_bytes).unwrap_or(i32::MAX).saturating_add(1);
        let wait = i32::try_from(self.limits.max_wait.as_millis()).unwrap_or(i32::MAX);
        let limit = self.limits.max_wait.saturating_add(self.limits.timeout);
        let outcome = timeout(limit, async {
            let client = self.link.partition(|_| self.partition).await?;
            Ok(client.fetch_records(offset, bytes, wait).await?)
        })
        .await;
        let (read, high_watermark) = self.link.settle(limit, outcome).await?;
        let records: Vec<Record> = read.into_iter().map(|read| self.record(read)).collect();
        let next_offset = records.last().map_or(offset, |last| last.offset + 1);
        Ok(Fetched { records, next_offset, high_watermark })
    }

    async fn try_bounds(&mut self) -> Result<Bounds, Error> {
        let limit = self.limits.timeout;
        let outcome = timeout(limit, async {
            let client = self.link.partition(|_| self.partition).await?;
            let log_start = client.get_offset(OffsetAt::Earliest).await?;
            let log_end = client.get_offset(OffsetAt::Latest).await?;
            Ok(Bounds { log_start, log_end })
        })
        .await;
        self.link.settle(limit, outcome).await
    }
}

/// Tells what the broker or the decoder said from trouble on the way to it.
///
/// rskafka repeats a call itself on broken connections and moving leaders and then wraps the last error into
/// `RetryFailed`; a decode error comes at once, as `Request(ReadVersionedError)`, and leaves the connection sound.
fn classify(error: &Error) -> FetchError {
    match error {
        Error::Client(error) => classify_client(error),
        Error::UnknownTopic { .. } | Error::UnknownPartition { .. } => FetchError::NotListed { detail: chain(error) },
        error if error.is_refusal() => FetchError::Denied { detail: chain(error) },
        error => FetchError::Unavailable { detail: chain(error) },
    }
}

fn classify_client(error: &ClientError) -> FetchError {
    let detail = error.to_string();
    match error {
        ClientError::ServerError { protocol_error, .. } => match protocol_error {
            ProtocolError::OffsetOutOfRange => FetchError::OutOfRange,
            // Old brokers say so of zstd to a client that fetches with version 4; the others cannot change either.
            ProtocolError::UnsupportedCompressionType
            | ProtocolError::CorruptMessage
            | ProtocolError::UnsupportedForMessageFormat => FetchError::Undecodable { detail },
            ProtocolError::TopicAuthorizationFailed
            | ProtocolError::ClusterAuthorizationFailed
            | ProtocolError::GroupAuthorizationFailed
            | ProtocolError::SaslAuthenticationFailed => FetchError::Denied { detail },
            ProtocolError::UnknownTopicOrPartition => FetchError::NotListed { detail },
            _ => FetchError::Unavailable { detail },
        },
        ClientError::Request(
            RequestError::ReadVersionedError(_) | RequestError::ReadError(_) | RequestError::TooMuchData { .. },
        ) => FetchError::Undecodable { detail },
        // Timestamps out of chrono's range. The other texts of this variant are about metadata and leaders.
        ClientError::InvalidResponse(text)
            if text.starts_with("Timestamp overflow") || text.starts_with("Not a valid timestamp") =>
        {
            FetchError::Undecodable { detail }
        }
        // A batch larger than the largest frame breaks the connection each time it is asked for. The frame's own
        // error type is private, its text is all there is.
        _ if detail.contains("Message too large, limit is") => FetchError::Undecodable { detail },
        ClientError::RetryFailed(BackoffError::DeadlineExceded { source, .. }) => {
            match source.downcast_ref::<ClientError>() {
                Some(last) => match classify_client(last) {
                    said @ (FetchError::Denied { .. } | FetchError::NotListed { .. }) => said,
                    _ => FetchError::Unavailable { detail },
                },
                None => FetchError::Unavailable { detail },
            }
        }
        ClientError::Connection(rskafka::ConnectionError::SaslFailed(_)) => FetchError::Denied { detail },
        _ => FetchError::Unavailable { detail },
    }
}
