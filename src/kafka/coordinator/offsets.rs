//! `OffsetFetch` and `OffsetCommit` of a consumer that is no member of the group.

use std::{collections::HashMap, sync::Arc};

use kafka_protocol::{
    ResponseError,
    messages::{
        GroupId, OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse, TopicName,
        offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic},
        offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics},
    },
    protocol::{StrBytes, VersionRange},
};

use super::{Call, Error, Origin, error::concerns_group};

/// From this version on `OffsetFetch` can wait for open transactions (KIP-447).
const STABLE: i16 = 7;

/// From this version on `OffsetFetch` names several groups (KIP-709).
const BATCHED: i16 = 8;

/// The offset with which a broker says that there is no commit.
const NO_COMMIT: i64 = -1;

/// What the group has committed for one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// The next offset to work on; `None` where the group has no commit.
    pub offset: Option<i64>,
    /// The text that was stored with the offset; empty without one.
    pub metadata: String,
}

/// An offset to store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// The next offset to work on.
    pub offset: i64,
    /// A text to keep with it, at most `offset.metadata.max.bytes` of the broker (4,096) bytes long.
    pub metadata: String,
}

/// What became of one [`Commit`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Settled {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// Whether the offset was stored.
    pub result: Result<(), Refusal>,
}

/// Why the offset of one partition was not stored while others may have been.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The metadata is longer than the broker allows (`offset.metadata.max.bytes`).
    #[error("the metadata is longer than the broker's offset.metadata.max.bytes")]
    MetadataTooLarge,
    /// There is no such topic or partition, perhaps not yet.
    #[error("the broker does not know the partition")]
    UnknownPartition,
    /// The broker's rules do not let us read the topic.
    #[error("not authorized for the topic: READ on it is needed")]
    Unauthorized,
    /// Any other code of Kafka.
    #[error("the broker refused the offset: {0}")]
    Other(ResponseError),
}

impl From<ResponseError> for Refusal {
    fn from(code: ResponseError) -> Self {
        match code {
            ResponseError::OffsetMetadataTooLarge => Self::MetadataTooLarge,
            ResponseError::UnknownTopicOrPartition => Self::UnknownPartition,
            ResponseError::TopicAuthorizationFailed => Self::Unauthorized,
            code => Self::Other(code),
        }
    }
}

/// Reads offsets. Version 10 names topics by id, which we do not have.
pub(super) struct Fetch<'a> {
    pub(super) partitions: &'a [(Arc<str>, Vec<i32>)],
}

/// One partition of an answer to [`Fetch`], whatever its version.
struct Answer {
    offset: i64,
    metadata: Option<StrBytes>,
    code: i16,
}

impl Call for Fetch<'_> {
    type Request = OffsetFetchRequest;
    type Output = Vec<Committed>;

    const VERSIONS: VersionRange = VersionRange { min: 2, max: 9 };

    fn request(&self, group: &str, version: i16) -> OffsetFetchRequest {
        let request = OffsetFetchRequest::default().with_require_stable(version >= STABLE);
        if version >= BATCHED {
            let topics = self.partitions.iter().map(|(topic, partitions)| {
                OffsetFetchRequestTopics::default().with_name(name(topic)).with_partition_indexes(partitions.clone())
            });
            let group = OffsetFetchRequestGroup::default().with_group_id(id(group));
            return request.with_groups(vec![group.with_topics(Some(topics.collect()))]);
        }
        let topics = self.partitions.iter().map(|(topic, partitions)| {
            OffsetFetchRequestTopic::default().with_name(name(topic)).with_partition_indexes(partitions.clone())
        });
        request.with_group_id(id(group)).with_topics(Some(topics.collect()))
    }

    fn read(&self, from: &Origin<'_>, response: OffsetFetchResponse) -> Result<Vec<Committed>, Error> {
        from.group_code(response.error_code)?;
        let mut answers = HashMap::new();
        for topic in response.topics {
            for it in topic.partitions {
                let answer = Answer { offset: it.committed_offset, metadata: it.metadata, code: it.error_code };
                answers.insert((topic.name.clone(), it.partition_index), answer);
            }
        }
        for group in response.groups {
            from.group_code(group.error_code)?;
            for topic in group.topics {
                for it in topic.partitions {
                    let answer = Answer { offset: it.committed_offset, metadata: it.metadata, code: it.error_code };
                    answers.insert((topic.name.clone(), it.partition_index), answer);
                }
            }
        }
        let asked = self.partitions.iter().flat_map(|(topic, of)| of.iter().map(move |partition| (topic, *partition)));
        asked
            .map(|(topic, partition)| {
                let answer = answers
                    .get(&(name(topic), partition))
                    .ok_or_else(|| from.incomplete(format_args!("{topic}-{partition}")))?;
                from.partition_code(topic, partition, answer.code)?;
                Ok(Committed {
                    topic: topic.clone(),
                    partition,
                    offset: (answer.offset != NO_COMMIT).then_some(answer.offset),
                    metadata: answer.metadata.as_deref().unwrap_or_default().to_owned(),
                })
            })
            .collect()
    }
}

/// Stores offsets. Version 10 names topics by id, which we do not have.
pub(super) struct Store<'a> {
    pub(super) offsets: &'a [Commit],
}

impl Call for Store<'_> {
    type Request = OffsetCommitRequest;
    type Output = Vec<Settled>;

    const VERSIONS: VersionRange = VersionRange { min: 2, max: 9 };

    fn request(&self, group: &str, _version: i16) -> OffsetCommitRequest {
        let mut topics: Vec<OffsetCommitRequestTopic> = Vec::new();
        for commit in self.offsets {
            let partition = OffsetCommitRequestPartition::default()
                .with_partition_index(commit.partition)
                .with_committed_offset(commit.offset)
                .with_committed_metadata(Some(StrBytes::from_string(commit.metadata.clone())));
            match topics.iter_mut().find(|topic| **topic.name == *commit.topic) {
                Some(topic) => topic.partitions.push(partition),
                None => topics.push(
                    OffsetCommitRequestTopic::default().with_name(name(&commit.topic)).with_partitions(vec![partition]),
                ),
            }
        }
        // The defaults are those of a consumer that is no member: generation -1, no member id, the broker's retention.
        OffsetCommitRequest::default().with_group_id(id(group)).with_topics(topics)
    }

    fn read(&self, from: &Origin<'_>, response: OffsetCommitResponse) -> Result<Vec<Settled>, Error> {
        let mut codes = HashMap::new();
        for topic in response.topics {
            for partition in topic.partitions {
                codes.insert((topic.name.clone(), partition.partition_index), partition.error_code);
            }
        }
        self.offsets
            .iter()
            .map(|Commit { topic, partition, .. }| {
                let code = codes
                    .get(&(name(topic), *partition))
                    .ok_or_else(|| from.incomplete(format_args!("{topic}-{partition}")))?;
                let result = match ResponseError::try_from_code(*code) {
                    None => Ok(()),
                    Some(code) if concerns_all(code) => return Err(from.partition_error(topic, *partition, code)),
                    Some(code) => Err(Refusal::from(code)),
                };
                Ok(Settled { topic: topic.clone(), partition: *partition, result })
            })
            .collect()
    }
}

/// Stores offsets and says for how many milliseconds they are kept. Version 5 has dropped that.
pub(super) struct Keep<'a> {
    pub(super) store: Store<'a>,
    pub(super) retention: i64,
}

impl Call for Keep<'_> {
    type Request = OffsetCommitRequest;
    type Output = Vec<Settled>;

    const VERSIONS: VersionRange = VersionRange { min: 2, max: 4 };

    fn request(&self, group: &str, version: i16) -> OffsetCommitRequest {
        self.store.request(group, version).with_retention_time_ms(self.retention)
    }

    fn read(&self, from: &Origin<'_>, response: OffsetCommitResponse) -> Result<Vec<Settled>, Error> {
        self.store.read(from, response)
    }
}

/// Whether a code that stands beside one offset decides about all of them: it is the group's, or the broker expects
/// it to pass, and then all are sent again. A partition that is unknown may stay so.
fn concerns_all(code: ResponseError) -> bool {
    concerns_group(code) || (code.is_retriable() && code != ResponseError::UnknownTopicOrPartition)
}

fn name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}

fn id(group: &str) -> GroupId {
    GroupId(StrBytes::from_string(group.to_owned()))
}
