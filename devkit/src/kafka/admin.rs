//! Topics: create, grow, cut and delete.
//!
//! Owns the administrative requests. They go to any broker, which forwards them to the controller.

use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::create_partitions_request::{CreatePartitionsRequest, CreatePartitionsTopic};
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
use kafka_protocol::messages::{DeleteTopicsRequest, MetadataResponse};
use kafka_protocol::protocol::StrBytes;
use rskafka::client::partition::UnknownTopicHandling;

use super::cluster::Cluster;
use super::wire::{Connection, check, topic_name};

const CREATE_TOPICS_VERSION: i16 = 4;
const CREATE_PARTITIONS_VERSION: i16 = 1;
const DELETE_TOPICS_VERSION: i16 = 3;
const TIMEOUT_MS: i32 = 20_000;
/// How long errors that pass by themselves are tried again.
const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(30);

impl Cluster {
    /// Creates a topic with the brokers' default replication and with `configs` such as `("compression.type", "zstd")`, and
    /// waits until each partition has a leader that all brokers know.
    ///
    /// # Errors
    /// When the broker refuses, also where the topic exists.
    pub async fn create_topic(&self, name: &str, partitions: i32, configs: &[(&str, &str)]) -> Result<()> {
        let configs = configs
            .iter()
            .map(|(name, value)| CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(value))));
        let topic = CreatableTopic::default()
            .with_name(topic_name(name))
            .with_num_partitions(partitions)
            .with_replication_factor(-1)
            .with_configs(configs.collect());
        let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(TIMEOUT_MS);
        let mut connection = Connection::open(self.bootstrap()).await?;
        let answer = connection.request(&request, CREATE_TOPICS_VERSION).await?;
        let result = answer.topics.first().context("an answer for the topic")?;
        check(result.error_code).with_context(|| refused("create", name, result.error_message.as_ref()))?;
        self.until_partitions(name, partitions).await
    }

    /// Raises the number of a topic's partitions to `total` and waits until the new ones have leaders.
    ///
    /// # Errors
    /// When the broker refuses, as it does where `total` is not more than there are.
    pub async fn create_partitions(&self, name: &str, total: i32) -> Result<()> {
        let topic =
            CreatePartitionsTopic::default().with_name(topic_name(name)).with_count(total).with_assignments(None);
        let request = CreatePartitionsRequest::default().with_topics(vec![topic]).with_timeout_ms(TIMEOUT_MS);
        let mut connection = Connection::open(self.bootstrap()).await?;
        let answer = connection.request(&request, CREATE_PARTITIONS_VERSION).await?;
        let result = answer.results.first().context("an answer for the topic")?;
        check(result.error_code).with_context(|| refused("grow", name, result.error_message.as_ref()))?;
        self.until_partitions(name, total).await
    }

    /// Deletes a topic and waits until no broker knows it any more.
    ///
    /// # Errors
    /// When the broker refuses.
    pub async fn delete_topic(&self, name: &str) -> Result<()> {
        let request =
            DeleteTopicsRequest::default().with_topic_names(vec![topic_name(name)]).with_timeout_ms(TIMEOUT_MS);
        let mut connection = Connection::open(self.bootstrap()).await?;
        let answer = connection.request(&request, DELETE_TOPICS_VERSION).await?;
        check(answer.responses.first().context("an answer for the topic")?.error_code)
            .with_context(|| format!("cannot delete topic {name}"))?;
        self.until_all_brokers(name, |metadata| metadata.topics.iter().all(|topic| topic.error_code != 0)).await
    }

    /// Removes the records of a partition below `before_offset`, so that it starts there.
    ///
    /// # Errors
    /// When the offset lies beyond the end or the broker refuses.
    pub async fn delete_records(&self, topic: &str, partition: i32, before_offset: i64) -> Result<()> {
        let client = self.client().await?;
        let partition = client.partition_client(topic, partition, UnknownTopicHandling::Retry).await?;
        Ok(partition.delete_records(before_offset, TIMEOUT_MS).await?)
    }

    /// The partition numbers of a topic, none where it does not exist.
    ///
    /// # Errors
    /// When no broker answers.
    pub async fn partitions(&self, topic: &str) -> Result<Vec<i32>> {
        let metadata = Connection::open(self.bootstrap()).await?.metadata(Some(&[topic])).await?;
        let mut numbers: Vec<i32> =
            metadata.topics.iter().flat_map(|topic| &topic.partitions).map(|p| p.partition_index).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// The `node.id` of a partition's leader, `None` while it has none.
    ///
    /// # Errors
    /// When no broker answers.
    pub async fn leader(&self, topic: &str, partition: i32) -> Result<Option<i32>> {
        let metadata = Connection::open(self.bootstrap()).await?.metadata(Some(&[topic])).await?;
        let mut partitions = metadata.topics.iter().flat_map(|topic| &topic.partitions);
        let leader = partitions.find(|p| p.partition_index == partition).map(|p| p.leader_id.0);
        Ok(leader.filter(|id| *id >= 0))
    }

    async fn until_partitions(&self, name: &str, count: i32) -> Result<()> {
        let count = usize::try_from(count)?;
        self.until_all_brokers(name, move |metadata| {
            metadata.topics.first().is_some_and(|topic| {
                topic.partitions.len() == count && topic.partitions.iter().all(|partition| partition.leader_id.0 >= 0)
            })
        })
        .await
    }

    /// Waits until every broker in the cluster sees a topic in the wanted state; each has its own copy of the metadata.
    async fn until_all_brokers(&self, topic: &str, wanted: impl Fn(&MetadataResponse) -> bool) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        'all: loop {
            let metadata = Connection::open(self.bootstrap()).await?.metadata(Some(&[topic])).await?;
            for broker in &metadata.brokers {
                let address = format!("{}:{}", broker.host, broker.port);
                let seen = Connection::open(&address).await?.metadata(Some(&[topic])).await?;
                if !wanted(&seen) {
                    anyhow::ensure!(Instant::now() < deadline, "topic {topic} does not become what was asked for");
                    tokio::time::sleep(POLL).await;
                    continue 'all;
                }
            }
            return Ok(());
        }
    }
}

/// Repeats what fails with an error that the protocol calls retriable, for at most 30 s.
pub(crate) async fn retried<T, F: Future<Output = Result<T>>>(mut operation: impl FnMut() -> F) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match operation().await {
            Err(error) if is_retriable(&error) && Instant::now() < deadline => tokio::time::sleep(POLL).await,
            result => return result,
        }
    }
}

fn is_retriable(error: &anyhow::Error) -> bool {
    // kafka-protocol leaves out that the last transaction may still be ending, which Kafka's own clients wait for
    error
        .downcast_ref::<ResponseError>()
        .is_some_and(|code| code.is_retriable() || *code == ResponseError::ConcurrentTransactions)
}

fn refused(action: &str, topic: &str, reason: Option<&StrBytes>) -> String {
    let reason = reason.map_or(String::new(), |text| format!(": {text}"));
    format!("cannot {action} topic {topic}{reason}")
}

fn text(value: &str) -> StrBytes {
    StrBytes::from_string(value.to_owned())
}
