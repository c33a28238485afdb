//! `Metadata` and `DescribeConfigs`: brokers, topics, their settings, and what we may do with them.

use std::{collections::BTreeMap, net::Ipv6Addr};

use kafka_protocol::{
    ResponseError,
    messages::{
        BrokerId, DescribeConfigsRequest, DescribeConfigsResponse, MetadataRequest, MetadataResponse,
        describe_configs_request::DescribeConfigsResource, metadata_request::MetadataRequestTopic,
        metadata_response::MetadataResponseTopic,
    },
    protocol::VersionRange,
};

use super::{name, text};

/// From version 4 on a request can keep the broker from creating the topics that it names.
pub(super) const METADATA: VersionRange = VersionRange { min: 4, max: 9 };

/// From this version of `Metadata` on (KIP-430) the answer tells what we may do with a topic.
const OPERATIONS: i16 = 8;

/// Versions of `DescribeConfigs`.
pub(super) const CONFIGS: VersionRange = VersionRange { min: 1, max: 4 };

/// Resource types of `DescribeConfigs`.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;

/// The setting that limits the text beside a committed offset.
const OFFSET_METADATA: &str = "offset.metadata.max.bytes";

/// The settings that matter to us.
const TOPIC_CONFIGS: [&str; 5] =
    ["cleanup.policy", "min.insync.replicas", "retention.ms", "retention.bytes", "max.message.bytes"];

/// A broker under the address that it gives to clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broker {
    /// Its number.
    pub id: i32,
    /// `host:port`.
    pub address: String,
}

/// The brokers of a cluster and the topics that were asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// The brokers that are up.
    pub brokers: Vec<Broker>,
    controller: i32,
    /// What there is, or why it cannot be told; [`ResponseError::UnknownTopicOrPartition`] where it does not exist.
    pub topics: BTreeMap<String, Result<Topic, ResponseError>>,
}

impl Cluster {
    /// The broker that creates topics.
    pub fn controller(&self) -> Option<&Broker> {
        self.broker(self.controller)
    }

    /// The broker with this number.
    pub fn broker(&self, id: i32) -> Option<&Broker> {
        self.brokers.iter().find(|broker| broker.id == id)
    }

    /// Whether the brokers say that there is no such topic.
    pub fn is_missing(&self, topic: &str) -> bool {
        matches!(self.topics.get(topic), None | Some(Err(ResponseError::UnknownTopicOrPartition)))
    }

    /// A topic that exists and that we may see.
    pub fn topic(&self, topic: &str) -> Option<&Topic> {
        self.topics.get(topic)?.as_ref().ok()
    }
}

/// A topic as the brokers describe it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Topic {
    /// Its partitions in ascending order.
    pub partitions: Vec<Partition>,
    /// What we may do with it, `None` where the broker is too old to say (before 2.3).
    pub operations: Option<Operations>,
}

impl Topic {
    /// Replicas of the partition that has the fewest.
    pub fn replication(&self) -> usize {
        self.partitions.iter().map(|partition| partition.replicas).min().unwrap_or_default()
    }

    /// Numbers of the partitions that nobody serves now.
    pub fn leaderless(&self) -> Vec<i32> {
        self.partitions.iter().filter(|it| it.leader.is_none()).map(|it| it.index).collect()
    }
}

/// A partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Its number.
    pub index: i32,
    /// Number of the broker that serves it.
    pub leader: Option<i32>,
    /// Brokers that should have it.
    pub replicas: usize,
}

/// An operation on a topic, with the code that Kafka has for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Operation {
    /// Fetch from it.
    Read = 3,
    /// Produce to it.
    Write = 4,
    /// See its settings.
    DescribeConfigs = 10,
}

/// What we may do with a topic: a bit for each [`Operation`] (KIP-430).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operations(i32);

impl Operations {
    /// Takes Kafka's bit field; it has a value of its own for "not told".
    pub fn new(bits: i32) -> Option<Self> {
        (bits != i32::MIN).then_some(Self(bits))
    }

    /// Whether we may.
    pub fn allow(self, operation: Operation) -> bool {
        self.0 & (1 << operation as u8) != 0
    }
}

/// The settings of a topic that matter to us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configs {
    /// `cleanup.policy` holds `compact`.
    pub compacted: bool,
    /// `min.insync.replicas`.
    pub min_insync: usize,
    /// `retention.ms`; `None` is for ever.
    pub retention_ms: Option<u64>,
    /// `retention.bytes` of a partition; `None` is without a limit.
    pub retention_bytes: Option<u64>,
    /// `max.message.bytes`.
    pub max_message_bytes: u64,
}

pub(super) fn metadata(topics: &[&str], version: i16) -> MetadataRequest {
    let topics = topics.iter().map(|topic| MetadataRequestTopic::default().with_name(Some(name(topic)))).collect();
    MetadataRequest::default()
        .with_topics(Some(topics))
        .with_allow_auto_topic_creation(false)
        .with_include_topic_authorized_operations(version >= OPERATIONS)
}

pub(super) fn cluster(response: &MetadataResponse, version: i16) -> Result<Cluster, ResponseError> {
    if let Some(code) = ResponseError::try_from_code(response.error_code) {
        return Err(code);
    }
    let brokers = response.brokers.iter().map(|broker| Broker {
        id: broker.node_id.0,
        address: match broker.host.parse::<Ipv6Addr>() {
            Ok(host) => format!("[{host}]:{}", broker.port),
            Err(_) => format!("{}:{}", &*broker.host, broker.port),
        },
    });
    let topics = response.topics.iter().filter_map(|found| {
        let name = found.name.as_ref()?.to_string();
        Some((name, topic(found, version)))
    });
    Ok(Cluster { brokers: brokers.collect(), controller: response.controller_id.0, topics: topics.collect() })
}

fn topic(found: &MetadataResponseTopic, version: i16) -> Result<Topic, ResponseError> {
    match ResponseError::try_from_code(found.error_code) {
        // a leader that is not elected yet is the partition's fault
        None | Some(ResponseError::LeaderNotAvailable) => {}
        Some(code) => return Err(code),
    }
    let mut partitions: Vec<Partition> = found
        .partitions
        .iter()
        .map(|it| Partition {
            index: it.partition_index,
            leader: (it.leader_id != BrokerId(-1)).then_some(it.leader_id.0),
            replicas: it.replica_nodes.len(),
        })
        .collect();
    partitions.sort_by_key(|partition| partition.index);
    let operations = if version >= OPERATIONS { Operations::new(found.topic_authorized_operations) } else { None };
    Ok(Topic { partitions, operations })
}

pub(super) fn topic_configs(topics: &[&str]) -> DescribeConfigsRequest {
    let resource = |topic: &&str| {
        DescribeConfigsResource::default()
            .with_resource_type(TOPIC)
            .with_resource_name(text(topic))
            .with_configuration_keys(Some(TOPIC_CONFIGS.iter().map(|name| text(name)).collect()))
    };
    DescribeConfigsRequest::default().with_resources(topics.iter().map(resource).collect())
}

pub(super) fn offset_metadata(broker: i32) -> DescribeConfigsRequest {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(BROKER)
        .with_resource_name(text(&broker.to_string()))
        .with_configuration_keys(Some(vec![text(OFFSET_METADATA)]));
    DescribeConfigsRequest::default().with_resources(vec![resource])
}

pub(super) fn offset_metadata_limit(response: &DescribeConfigsResponse) -> Option<usize> {
    let config = response.results.first()?.configs.iter().find(|config| &*config.name == OFFSET_METADATA)?;
    config.value.as_ref()?.parse().ok()
}

pub(super) fn configs(topics: &[&str], response: &DescribeConfigsResponse) -> Vec<Result<Configs, ResponseError>> {
    let of = |topic: &&str| {
        let found = response.results.iter().find(|result| *result.resource_name == **topic);
        let found = found.ok_or(ResponseError::UnknownServerError)?;
        if let Some(code) = ResponseError::try_from_code(found.error_code) {
            return Err(code);
        }
        let value = |name: &str| {
            let config = found.configs.iter().find(|config| &*config.name == name);
            config.and_then(|config| config.value.as_deref())
        };
        // -1 is no limit, and so is what a broker of another make leaves out
        let limit = |name: &str| value(name).and_then(|text| text.parse().ok());
        Ok(Configs {
            compacted: value("cleanup.policy").is_some_and(|text| text.split(',').any(|it| it.trim() == "compact")),
            min_insync: value("min.insync.replicas").and_then(|text| text.parse().ok()).unwrap_or(1),
            retention_ms: limit("retention.ms"),
            retention_bytes: limit("retention.bytes"),
            max_message_bytes: limit("max.message.bytes").unwrap_or(u64::MAX),
        })
    };
    topics.iter().map(of).collect()
}
