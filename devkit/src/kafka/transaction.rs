//! Writing what rskafka cannot: null and repeated headers, and transactions with their markers.
//!
//! Owns the raw produce request and the life of one transaction. The versions spoken are those of the classic transaction
//! protocol (KIP-98), which brokers from 2.4 to 4.x serve.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use kafka_protocol::messages::add_partitions_to_txn_request::{AddPartitionsToTxnRequest, AddPartitionsToTxnTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use kafka_protocol::messages::{EndTxnRequest, InitProducerIdRequest, ProducerId, TransactionalId};
use kafka_protocol::protocol::StrBytes;

use super::admin::retried;
use super::batch::{self, Producer};
use super::cluster::Cluster;
use super::records::Record;
use super::wire::{Connection, Coordinator, check, topic_name};

const PRODUCE_VERSION: i16 = 7;
const INIT_PRODUCER_ID_VERSION: i16 = 1;
const ADD_PARTITIONS_VERSION: i16 = 1;
const END_TXN_VERSION: i16 = 1;
const ALL_IN_SYNC: i16 = -1;
const TIMEOUT_MS: i32 = 30_000;
/// The broker aborts a transaction that is open for longer: its default.
const TRANSACTION_TIMEOUT_MS: i32 = 60_000;
const MARKER_LIMIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

/// How a transaction ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Its records count.
    Commit,
    /// Its records stay in the log and count for nobody who reads `read_committed`.
    Abort,
    /// It stays open, and nobody who reads `read_committed` gets past its first record, until the broker aborts it after
    /// 60 s or another transaction with the same id begins.
    Open,
}

impl Cluster {
    /// Appends records to a partition as one batch, null and repeated headers included, and returns their offsets.
    ///
    /// # Errors
    /// When the broker refuses them.
    pub async fn produce_raw(&self, topic: &str, partition: i32, records: &[Record]) -> Result<Vec<i64>> {
        let first = retried(|| self.send_batch(topic, partition, records, None)).await?;
        Ok((first..).take(records.len()).collect())
    }

    /// Writes one transaction: for each element one batch to a partition, then the end. Returns the offset of each batch's
    /// first record; the marker that ends the transaction follows each partition's last one and is in the log when this
    /// returns.
    ///
    /// # Errors
    /// When the broker refuses it.
    pub async fn transaction(&self, id: &str, writes: &[(&str, i32, Vec<Record>)], end: End) -> Result<Vec<i64>> {
        let coordinate = || Connection::to_coordinator(self.bootstrap(), Coordinator::Transaction, id);
        let mut coordinator = retried(coordinate).await?;
        let producer = retried(async || init_producer(&mut coordinate().await?, id).await).await?;
        let mut offsets = Vec::new();
        let mut sequences = std::collections::HashMap::new();
        for (topic, partition, records) in writes {
            ensure!(!records.is_empty(), "a batch has at least one record");
            let add = || async { add_partition(&mut coordinate().await?, id, producer, topic, *partition).await };
            retried(add).await?;
            let sequence: &mut i32 = sequences.entry((*topic, *partition)).or_default();
            let numbered = Producer { sequence: *sequence, ..producer };
            let write = || self.send_batch(topic, *partition, records, Some((id, numbered)));
            offsets.push(retried(write).await?);
            *sequence += i32::try_from(records.len())?;
        }
        if end != End::Open {
            let request = EndTxnRequest::default()
                .with_transactional_id(transactional_id(id))
                .with_producer_id(ProducerId(producer.id))
                .with_producer_epoch(producer.epoch)
                .with_committed(end == End::Commit);
            let answer = coordinator.request(&request, END_TXN_VERSION).await?;
            check(answer.error_code).with_context(|| format!("cannot end transaction {id}"))?;
            for ((topic, partition, records), first) in writes.iter().zip(&offsets) {
                self.until_marker(topic, *partition, first + i64::try_from(records.len())?).await?;
            }
        }
        Ok(offsets)
    }

    async fn send_batch(
        &self,
        topic: &str,
        partition: i32,
        records: &[Record],
        transaction: Option<(&str, Producer)>,
    ) -> Result<i64> {
        let bytes = batch::encode(records, transaction.map(|(_, producer)| producer));
        let data = PartitionProduceData::default().with_index(partition).with_records(Some(Bytes::from(bytes)));
        let data = TopicProduceData::default().with_name(topic_name(topic)).with_partition_data(vec![data]);
        let request = ProduceRequest::default()
            .with_transactional_id(transaction.map(|(id, _)| transactional_id(id)))
            .with_acks(ALL_IN_SYNC)
            .with_timeout_ms(TIMEOUT_MS)
            .with_topic_data(vec![data]);
        let mut connection = Connection::to_leader(self.bootstrap(), topic, partition).await?;
        let answer = connection.request(&request, PRODUCE_VERSION).await?;
        let answer = answer.responses.iter().flat_map(|topic| &topic.partition_responses).next();
        let answer = answer.context("an answer for the partition")?;
        check(answer.error_code).with_context(|| format!("cannot write to {topic}-{partition}"))?;
        Ok(answer.base_offset)
    }

    /// Waits until the log reaches beyond `offset`: the coordinator answers before the markers are written.
    async fn until_marker(&self, topic: &str, partition: i32, offset: i64) -> Result<()> {
        let deadline = std::time::Instant::now() + MARKER_LIMIT;
        while self.offsets(topic, partition).await?.1 <= offset {
            ensure!(std::time::Instant::now() < deadline, "no marker in {topic}-{partition} at {offset}");
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }
}

async fn init_producer(coordinator: &mut Connection, id: &str) -> Result<Producer> {
    let request = InitProducerIdRequest::default()
        .with_transactional_id(Some(transactional_id(id)))
        .with_transaction_timeout_ms(TRANSACTION_TIMEOUT_MS);
    let answer = coordinator.request(&request, INIT_PRODUCER_ID_VERSION).await?;
    check(answer.error_code).with_context(|| format!("cannot begin transaction {id}"))?;
    Ok(Producer { id: answer.producer_id.0, epoch: answer.producer_epoch, sequence: 0 })
}

async fn add_partition(
    coordinator: &mut Connection,
    id: &str,
    producer: Producer,
    topic: &str,
    partition: i32,
) -> Result<()> {
    let added = AddPartitionsToTxnTopic::default().with_name(topic_name(topic)).with_partitions(vec![partition]);
    let request = AddPartitionsToTxnRequest::default()
        .with_v3_and_below_transactional_id(transactional_id(id))
        .with_v3_and_below_producer_id(ProducerId(producer.id))
        .with_v3_and_below_producer_epoch(producer.epoch)
        .with_v3_and_below_topics(vec![added]);
    let answer = coordinator.request(&request, ADD_PARTITIONS_VERSION).await?;
    let results = &answer.results_by_topic_v3_and_below;
    let result = results.iter().flat_map(|topic| &topic.results_by_partition).next();
    check(result.context("an answer for the partition")?.partition_error_code)
        .with_context(|| format!("cannot add {topic}-{partition} to transaction {id}"))
}

fn transactional_id(id: &str) -> TransactionalId {
    TransactionalId(StrBytes::from_string(id.to_owned()))
}
