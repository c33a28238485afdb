//! To which partition a key goes, and who leads the partitions.
//!
//! Owns the hash that Kafka's own producer uses, so that a key lies in the same partition whoever wrote it, and what is
//! known of a topic's partitions. Asking for them creates no topic.

use std::{collections::BTreeMap, net::Ipv6Addr, time::Duration};

use futures::{StreamExt as _, stream::FuturesUnordered};
use kafka_protocol::{
    ResponseError,
    messages::{BrokerId, MetadataRequest, MetadataResponse, TopicName, metadata_request::MetadataRequestTopic},
    protocol::{StrBytes, VersionRange},
};
use tokio::time::{Instant, sleep};

use super::publisher::Trouble;
use crate::kafka::{client::Connector, wire};

/// From version 4 on a request can keep the broker from creating the topics that it names.
const METADATA: VersionRange = VersionRange { min: 4, max: 9 };

/// Time after which the next broker is asked too while one has not answered yet.
const STAGGER: Duration = Duration::from_millis(250);

/// Time for each answer of a broker that is asked for the partitions.
const ANSWER: Duration = Duration::from_secs(5);

/// Kafka's hash of a key (`murmur2` of the Java client), with the sign bit cleared.
pub(super) fn hash(key: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    #[expect(clippy::cast_possible_truncation, reason = "the Java client's length is an int, too")]
    let mut h = 0x9747_b28c ^ key.len() as u32;
    let mut words = key.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes(word.try_into().expect("chunks of four")).wrapping_mul(M);
        k ^= k >> 24;
        h = h.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        for (index, byte) in rest.iter().enumerate() {
            h ^= u32::from(*byte) << (8 * index);
        }
        h = h.wrapping_mul(M);
    }
    h ^= h >> 13;
    h = h.wrapping_mul(M);
    h ^= h >> 15;
    h & 0x7fff_ffff
}

/// The partition of a key with this hash, among `count` of them.
pub(super) fn partition(hash: u32, count: u32) -> i32 {
    i32::try_from(hash % count.max(1)).expect("below a hash of 31 bits, or zero")
}

/// The partitions of a topic as the brokers list them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Routes {
    /// How many there are, at least one.
    pub(super) count: u32,
    /// The broker that leads each, by partition; none while there is no leader.
    pub(super) leaders: BTreeMap<i32, i32>,
    /// `host:port` of the brokers.
    pub(super) addresses: BTreeMap<i32, String>,
    /// When they were asked for.
    pub(super) at: Instant,
}

/// Why a topic's partitions are not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unrouted {
    /// The brokers list no such topic.
    Missing,
    /// We may not describe or write it.
    Denied(String),
    /// No broker answered, or none lets us in, or the topic cannot be told now.
    Unavailable(Trouble),
}

impl Routes {
    /// Asks the brokers that the connector knows, and those in `known`: the first answer counts, and one that does not
    /// answer holds up the others for a moment only.
    pub(super) async fn ask(connector: Connector, known: Vec<String>, topic: &str) -> Result<Self, Unrouted> {
        let mut addresses = connector.brokers().to_vec();
        addresses.extend(known.into_iter().filter(|address| !connector.brokers().contains(address)));
        let mut rest = addresses.iter();
        let mut asked = FuturesUnordered::new();
        let mut failed = Unrouted::Unavailable(wire::Error::NoBrokers.into());
        loop {
            match rest.next() {
                Some(address) => asked.push(Self::ask_one(&connector, address, topic)),
                None if asked.is_empty() => return Err(failed),
                None => {}
            }
            let more = !rest.as_slice().is_empty();
            let answer = tokio::select! {
                answer = asked.next() => answer,
                () = sleep(STAGGER), if more => None,
            };
            match answer {
                Some(Ok(routes)) => return Ok(routes),
                // what a broker says goes before that another one says nothing
                Some(Err(error)) if matches!(failed, Unrouted::Unavailable(_)) => failed = error,
                Some(Err(_)) | None => {}
            }
        }
    }

    async fn ask_one(connector: &Connector, address: &str, topic: &str) -> Result<Self, Unrouted> {
        let ask = async {
            let mut connection = wire::Connection::open(connector, address, ANSWER).await?;
            let version = connection.version::<MetadataRequest>(METADATA)?;
            let asked = MetadataRequestTopic::default().with_name(Some(name(topic)));
            let request =
                MetadataRequest::default().with_topics(Some(vec![asked])).with_allow_auto_topic_creation(false);
            connection.call(version, &request).await
        };
        let response = ask.await.map_err(|error: wire::Error| Unrouted::Unavailable(error.into()))?;
        Self::read(&response, topic)
    }

    fn read(response: &MetadataResponse, topic: &str) -> Result<Self, Unrouted> {
        let found = response.topics.iter().find(|found| found.name.as_ref().is_some_and(|it| &*it.0 == topic));
        let Some(found) = found else { return Err(Unrouted::Missing) };
        match ResponseError::try_from_code(found.error_code) {
            // a leader that is not elected yet is that partition's fault
            None | Some(ResponseError::LeaderNotAvailable) => {}
            Some(ResponseError::UnknownTopicOrPartition) => return Err(Unrouted::Missing),
            Some(code @ (ResponseError::TopicAuthorizationFailed | ResponseError::ClusterAuthorizationFailed)) => {
                return Err(Unrouted::Denied(code.to_string()));
            }
            Some(code) => {
                return Err(Unrouted::Unavailable(Trouble::passing(format!(
                    "the brokers say of topic {topic}: {code}"
                ))));
            }
        }
        let count = u32::try_from(found.partitions.len()).unwrap_or(u32::MAX);
        if count == 0 {
            return Err(Unrouted::Unavailable(Trouble::passing(format!("topic {topic} has no partitions yet"))));
        }
        let addresses = response.brokers.iter().map(|broker| {
            let address = match broker.host.parse::<Ipv6Addr>() {
                Ok(host) => format!("[{host}]:{}", broker.port),
                Err(_) => format!("{}:{}", &*broker.host, broker.port),
            };
            (broker.node_id.0, address)
        });
        let leaders = found.partitions.iter().filter(|it| it.leader_id != BrokerId(-1));
        Ok(Self {
            count,
            leaders: leaders.map(|it| (it.partition_index, it.leader_id.0)).collect(),
            addresses: addresses.collect(),
            at: Instant::now(),
        })
    }
}

pub(super) fn name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `Utils.toPositive(Utils.murmur2(key))` of kafka-clients 4.1.1 prints.
    const VECTORS: &[(&str, u32)] = &[
        ("", 275_646_681),
        ("a", 584_102_524),
        ("ab", 316_155_434),
        ("abc", 479_470_107),
        ("abcd", 823_834_100),
        ("abcde", 461_995_741),
        ("550e8400-e29b-41d4-a716-446655440000", 2_143_099_391),
        ("Grüße aus Köln", 2_123_417_415),
        ("0123456789abcdef", 1_438_427_052),
        ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", 2_088_585_677),
    ];

    #[test]
    fn keys_are_hashed_as_kafkas_own_producer_does() {
        for (key, expected) in VECTORS {
            assert_eq!(hash(key.as_bytes()), *expected, "{key:?}");
        }
    }
}
