//! Writes letters back to the lanes that they came from.
//!
//! Owns the requests, and their repetition while the brokers are away. A letter counts as sent only when the in-sync
//! replicas have acknowledged it; what became of each is told.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::future::join_all;
use rskafka::{
    client::{
        error::{Error as ClientError, ProtocolError},
        partition::Compression,
    },
    record::Record,
};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::lane::{BATCH_LIMIT, LETTER_OVERHEAD, Verdict, verdict};
use crate::{
    chain::chain,
    delay::Delays,
    kafka::{
        SharedClient,
        shared_client::{Error, PartitionLink},
    },
};

/// Time for the answer to a write; above the 30 seconds that the broker has for its replicas.
const ANSWER: Duration = Duration::from_secs(40);
/// First and longest pause before a write is repeated.
const FIRST_DELAY: Duration = Duration::from_millis(100);
const MAX_DELAY: Duration = Duration::from_secs(2);

/// A record and where it goes.
#[derive(Debug, Clone)]
pub struct Parcel {
    /// The topic; it is never created.
    pub topic: Arc<str>,
    /// The partition, modulo their number.
    pub partition: i32,
    /// The record.
    pub record: Record,
}

/// What became of a [`Parcel`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sent {
    /// The in-sync replicas have it.
    Stored,
    /// The brokers do not take it as it is: what they said.
    Refused(String),
    /// It was not stored: why.
    Failed(String),
    /// Nobody knows whether it was stored: why.
    Unknown(String),
}

/// Writes to the lanes.
pub struct Sender {
    shared: SharedClient,
    links: BTreeMap<(Arc<str>, i32), PartitionLink>,
    patience: Duration,
}

impl Sender {
    /// Connects when it is first used; `patience` is for how long a write is repeated while the brokers are away.
    pub fn new(shared: SharedClient, patience: Duration) -> Self {
        Self { shared, links: BTreeMap::new(), patience }
    }

    /// Writes all of these, to different partitions at the same time, and tells in their order what became of each.
    ///
    /// Once `stop` is cancelled nothing is repeated any more; what is on its way is waited for.
    pub async fn send(&mut self, parcels: Vec<Parcel>, stop: &CancellationToken) -> Vec<Sent> {
        let count = parcels.len();
        let mut groups: BTreeMap<_, Vec<(usize, Record)>> = BTreeMap::new();
        for (index, parcel) in parcels.into_iter().enumerate() {
            groups.entry((parcel.topic, parcel.partition)).or_default().push((index, parcel.record));
        }
        for key in groups.keys() {
            let shared = &self.shared;
            self.links.entry(key.clone()).or_insert_with(|| PartitionLink::new(shared.clone(), Arc::clone(&key.0)));
        }
        let until = Instant::now() + self.patience;
        let writes = self.links.iter_mut().filter_map(|(key, link)| {
            let records = groups.remove(key)?;
            Some(async move { write_all(link, key.1, records, until, stop).await })
        });
        let mut told = vec![Sent::Failed("it was not tried".to_owned()); count];
        for (index, sent) in join_all(writes).await.into_iter().flatten() {
            told[index] = sent;
        }
        told
    }
}

/// Writes to one partition in small requests: one of more than 8 KiB stalls on rskafka's connections.
async fn write_all(
    link: &mut PartitionLink,
    partition: i32,
    records: Vec<(usize, Record)>,
    until: Instant,
    stop: &CancellationToken,
) -> Vec<(usize, Sent)> {
    let mut batches: Vec<Vec<(usize, Record)>> = Vec::new();
    let mut size = 0;
    for (index, record) in records {
        let own = record.approximate_size() + LETTER_OVERHEAD;
        size += own;
        match batches.last_mut() {
            Some(batch) if size <= BATCH_LIMIT => batch.push((index, record)),
            _ => {
                batches.push(vec![(index, record)]);
                size = own;
            }
        }
    }
    // one that was refused is followed by its records alone
    batches.reverse();
    let (mut told, mut given_up) = (Vec::new(), None::<String>);
    while let Some(batch) = batches.pop() {
        if let Some(why) = &given_up {
            told.extend(batch.into_iter().map(|(index, _)| (index, Sent::Failed(why.clone()))));
            continue;
        }
        let records: Vec<Record> = batch.iter().map(|(_, record)| record.clone()).collect();
        match write(link, partition, records, until, stop).await {
            Sent::Refused(_) if batch.len() > 1 => batches.extend(batch.into_iter().rev().map(|single| vec![single])),
            sent => {
                if let Sent::Failed(why) | Sent::Unknown(why) = &sent {
                    given_up = Some(why.clone());
                }
                told.extend(batch.into_iter().map(|(index, _)| (index, sent.clone())));
            }
        }
    }
    told
}

async fn write(
    link: &mut PartitionLink,
    partition: i32,
    records: Vec<Record>,
    until: Instant,
    stop: &CancellationToken,
) -> Sent {
    let mut delays = Delays::doubling(FIRST_DELAY, MAX_DELAY);
    let mut doubtful = false;
    loop {
        let mut again = link.again();
        let produced = loop {
            match produce(link, partition, records.clone()).await {
                Err(error) => {
                    doubtful |= may_be_stored(&error);
                    if stop.is_cancelled() || !again.after(&error).await {
                        break Err(error);
                    }
                }
                Ok(()) => break Ok(()),
            }
        };
        let Err(error) = produced else { return Sent::Stored };
        match verdict(&error) {
            Verdict::Content | Verdict::Doubtful if !doubtful => return Sent::Refused(chain(&error)),
            _ if stop.is_cancelled() || Instant::now() >= until => {
                let why = chain(&error);
                return if doubtful { Sent::Unknown(why) } else { Sent::Failed(why) };
            }
            _ => {
                let _ = stop.run_until_cancelled(sleep(delays.advance())).await;
            }
        }
    }
}

async fn produce(link: &mut PartitionLink, partition: i32, records: Vec<Record>) -> Result<(), Error> {
    let outcome = timeout(ANSWER, async {
        let client = link.partition(|count| partition.rem_euclid(count)).await?;
        client.produce(records, Compression::Gzip).await?;
        Ok(())
    })
    .await;
    link.settle(ANSWER, outcome).await
}

/// Whether a write that failed like this can have been stored all the same.
fn may_be_stored(error: &Error) -> bool {
    match error {
        // said before anything is written; others, of leaders that move too, may come while the replicas are waited for
        Error::Client(ClientError::ServerError { protocol_error, .. }) => !matches!(
            protocol_error,
            ProtocolError::MessageTooLarge
                | ProtocolError::RecordListTooLarge
                | ProtocolError::InvalidRecord
                | ProtocolError::InvalidTimestamp
                | ProtocolError::InvalidRequest
                | ProtocolError::InvalidTopicException
                | ProtocolError::CorruptMessage
                | ProtocolError::NotEnoughReplicas
                | ProtocolError::TopicAuthorizationFailed
                | ProtocolError::ClusterAuthorizationFailed
                | ProtocolError::PolicyViolation
                | ProtocolError::UnsupportedForMessageFormat
                | ProtocolError::UnsupportedCompressionType
        ),
        Error::Client(_) | Error::Timeout { .. } => true,
        Error::Connect(_) | Error::UnknownTopic { .. } | Error::UnknownPartition { .. } | Error::LetInAgain { .. } => {
            false
        }
    }
}
