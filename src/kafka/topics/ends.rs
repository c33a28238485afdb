//! `ListOffsets`: where the logs of topics begin and end, asked of each leader once.

use std::collections::BTreeMap;

use futures::future::try_join_all;
use kafka_protocol::{
    ResponseError,
    messages::{
        ApiKey, BrokerId, ListOffsetsRequest, ListOffsetsResponse,
        list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic},
    },
    protocol::VersionRange,
};

use super::{
    Broker, Cluster,
    admin::{Admin, Error, REQUEST_TIMEOUT},
    name,
};
use crate::kafka::client::Connector;

/// Versions that are known here.
const VERSIONS: VersionRange = VersionRange { min: 1, max: 6 };

/// Timestamps that stand for the log's end and start.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;

/// Start and end of the log of each partition, by topic and number.
pub type Ends = BTreeMap<(String, i32), (i64, i64)>;

/// Where the logs of these topics begin and end.
///
/// # Errors
///
/// When a partition has no leader, or one of the leaders does not answer.
pub async fn ends(connector: &Connector, cluster: &Cluster, topics: &[&str]) -> Result<Ends, Error> {
    let asked = by_leader(cluster, topics)?.into_iter();
    let answers = try_join_all(asked.map(|(leader, partitions)| ask(connector, leader, partitions))).await?;
    Ok(answers.into_iter().flatten().collect())
}

/// The first offset of each partition whose record is of this time, in milliseconds since the epoch, or later; none where all
/// are earlier.
///
/// # Errors
///
/// As [`ends`].
pub async fn offsets_at(
    connector: &Connector,
    cluster: &Cluster,
    topic: &str,
    millis: i64,
) -> Result<BTreeMap<i32, i64>, Error> {
    let asked = by_leader(cluster, &[topic])?.into_iter().map(|(leader, partitions)| async move {
        let mut leader = Admin::at(connector, leader, REQUEST_TIMEOUT).await?;
        list(&mut leader, &partitions, millis).await
    });
    let answers = try_join_all(asked).await?.into_iter().flatten();
    Ok(answers.filter(|(_, offset)| *offset >= 0).map(|((_, partition), offset)| (partition, offset)).collect())
}

/// A leader, and the partitions that it is asked for.
type Asked<'a, 'b> = (&'a Broker, Vec<(&'b str, i32)>);

/// The partitions of these topics by their leader.
fn by_leader<'a, 'b>(cluster: &'a Cluster, topics: &[&'b str]) -> Result<Vec<Asked<'a, 'b>>, Error> {
    let mut by_leader: BTreeMap<i32, Vec<(&str, i32)>> = BTreeMap::new();
    for &topic in topics {
        for partition in cluster.topic(topic).into_iter().flat_map(|topic| &topic.partitions) {
            let leader = partition.leader.filter(|leader| cluster.broker(*leader).is_some());
            let no_leader = || Error::NoLeader { topic: topic.to_owned(), partition: partition.index };
            by_leader.entry(leader.ok_or_else(no_leader)?).or_default().push((topic, partition.index));
        }
    }
    Ok(by_leader.into_iter().filter_map(|(leader, partitions)| Some((cluster.broker(leader)?, partitions))).collect())
}

async fn ask(connector: &Connector, leader: &Broker, partitions: Vec<(&str, i32)>) -> Result<Ends, Error> {
    let mut leader = Admin::at(connector, leader, REQUEST_TIMEOUT).await?;
    let starts = list(&mut leader, &partitions, EARLIEST).await?;
    let ends = list(&mut leader, &partitions, LATEST).await?;
    Ok(starts.into_iter().filter_map(|(of, start)| Some((of.clone(), (start, *ends.get(&of)?)))).collect())
}

async fn list(
    leader: &mut Admin,
    partitions: &[(&str, i32)],
    timestamp: i64,
) -> Result<BTreeMap<(String, i32), i64>, Error> {
    let mut topics: BTreeMap<&str, Vec<ListOffsetsPartition>> = BTreeMap::new();
    for &(topic, index) in partitions {
        let partition = ListOffsetsPartition::default().with_partition_index(index).with_timestamp(timestamp);
        topics.entry(topic).or_default().push(partition);
    }
    let topics = topics
        .into_iter()
        .map(|(topic, partitions)| ListOffsetsTopic::default().with_name(name(topic)).with_partitions(partitions));
    let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(topics.collect());
    let response = leader.call(VERSIONS, &request).await?;
    read(&response).map_err(|code| leader.refused(ApiKey::ListOffsets, code))
}

fn read(response: &ListOffsetsResponse) -> Result<BTreeMap<(String, i32), i64>, ResponseError> {
    let mut offsets = BTreeMap::new();
    for topic in &response.topics {
        for partition in &topic.partitions {
            if let Some(code) = ResponseError::try_from_code(partition.error_code) {
                return Err(code);
            }
            offsets.insert((topic.name.to_string(), partition.partition_index), partition.offset);
        }
    }
    Ok(offsets)
}
