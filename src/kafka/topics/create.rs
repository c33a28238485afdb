//! `CreateTopics`, and in which words its refusals are told.

use std::{fmt, sync::Arc, time::Duration};

use kafka_protocol::{
    ResponseError,
    messages::{
        CreateTopicsRequest, CreateTopicsResponse,
        create_topics_request::{CreatableTopic, CreatableTopicConfig},
    },
    protocol::VersionRange,
};

use super::{Wanted, name, text};
use crate::foreign;

/// From this version on (Kafka 2.4, KIP-464) a broker takes its own default for the number of replicas.
const DEFAULTS: i16 = 4;

/// Versions that are known here.
const VERSIONS: VersionRange = VersionRange { min: 2, max: 7 };

/// What came of the wish for one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Creation {
    /// Its name.
    pub topic: Arc<str>,
    /// True where it is created now (or could be), false where it exists already.
    pub result: Result<bool, Refusal>,
}

impl Creation {
    pub(super) fn is_not_controller(&self) -> bool {
        matches!(&self.result, Err(refusal) if refusal.code == ResponseError::NotController)
    }
}

/// Why a topic was not created; prints as one sentence that says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Refusal {
    topic: Arc<str>,
    partitions: i32,
    replication: i16,
    brokers: usize,
    /// Kafka's error code.
    pub code: ResponseError,
    message: Option<String>,
}

impl Refusal {
    /// For a topic of which the brokers do not even tell whether it exists.
    pub(super) fn unseen(wanted: &Wanted, brokers: usize, code: ResponseError) -> Self {
        let attempt = Attempt { wanted: &[], brokers, validate_only: true, within: Duration::ZERO };
        attempt.refusal(wanted, code, None)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { topic, partitions, replication, brokers, code, .. } = self;
        match code {
            ResponseError::TopicAuthorizationFailed | ResponseError::ClusterAuthorizationFailed => {
                return write!(f, "not authorized to create topic {topic}: CREATE on it or on the cluster is needed");
            }
            ResponseError::InvalidReplicationFactor if *replication > 0 => {
                let have = if *brokers == 1 { "1 broker".to_owned() } else { format!("{brokers} brokers") };
                return write!(
                    f,
                    "topic {topic} cannot be created with KAFKA_TOPIC_REPLICATION_FACTOR={replication}: the cluster has {have}"
                );
            }
            ResponseError::InvalidReplicationFactor => {
                write!(f, "the brokers' default.replication.factor does not fit topic {topic}")?;
            }
            ResponseError::InvalidPartitions => {
                write!(f, "topic {topic} cannot be created with KAFKA_TOPIC_PARTITIONS={partitions}")?;
            }
            ResponseError::PolicyViolation => write!(f, "a policy of the cluster forbids topic {topic}")?,
            ResponseError::InvalidConfig => write!(f, "the cluster refuses the settings of topic {topic}")?,
            ResponseError::InvalidTopicException => {
                write!(f, "the cluster refuses the name {topic}, or has one that differs in '.' and '_' alone")?;
            }
            ResponseError::UnsupportedVersion => {
                return write!(
                    f,
                    "the brokers are too old to choose the replicas of topic {topic}: set KAFKA_TOPIC_REPLICATION_FACTOR"
                );
            }
            ResponseError::RequestTimedOut => {
                return write!(f, "topic {topic} was not created in time: it may still appear");
            }
            ResponseError::NotController => {
                return write!(f, "topic {topic} was not created: the cluster has no controller at the moment");
            }
            ResponseError::ThrottlingQuotaExceeded => {
                return write!(f, "topic {topic} was not created: the cluster's quota for changes is used up for now");
            }
            code => write!(f, "topic {topic} cannot be created: {code}")?,
        }
        self.message.as_ref().map_or(Ok(()), |message| write!(f, ": {message}"))
    }
}

/// One request for topics, without any I/O.
pub(super) struct Attempt<'a> {
    pub(super) wanted: &'a [Wanted],
    pub(super) brokers: usize,
    pub(super) validate_only: bool,
    pub(super) within: Duration,
}

impl Attempt<'_> {
    pub(super) fn versions(&self) -> VersionRange {
        let by_default = self.wanted.iter().any(|wanted| wanted.replication < 0);
        if by_default { VersionRange { min: DEFAULTS, ..VERSIONS } } else { VERSIONS }
    }

    pub(super) fn request(&self) -> CreateTopicsRequest {
        let topics = self.wanted.iter().map(|wanted| {
            let configs = wanted.configs.iter().map(|(name, value)| {
                CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(value)))
            });
            CreatableTopic::default()
                .with_name(name(&wanted.name))
                .with_num_partitions(wanted.partitions)
                .with_replication_factor(wanted.replication)
                .with_configs(configs.collect())
        });
        CreateTopicsRequest::default()
            .with_topics(topics.collect())
            .with_timeout_ms(i32::try_from(self.within.as_millis()).unwrap_or(i32::MAX))
            .with_validate_only(self.validate_only)
    }

    pub(super) fn read(&self, response: &CreateTopicsResponse) -> Vec<Creation> {
        let result = |wanted: &Wanted| {
            let found = response.topics.iter().find(|topic| **topic.name == *wanted.name);
            let Some(found) = found else {
                return Err(self.refusal(wanted, ResponseError::UnknownServerError, None));
            };
            match ResponseError::try_from_code(found.error_code) {
                None => Ok(true),
                Some(ResponseError::TopicAlreadyExists) => Ok(false),
                Some(code) => Err(self.refusal(wanted, code, found.error_message.as_deref())),
            }
        };
        let creation = |wanted: &Wanted| Creation { topic: Arc::clone(&wanted.name), result: result(wanted) };
        self.wanted.iter().map(creation).collect()
    }

    /// What an old broker would say to the wish for its default.
    pub(super) fn without_default(&self) -> Vec<Creation> {
        let refusal = |wanted: &Wanted| self.refusal(wanted, ResponseError::UnsupportedVersion, None);
        let creation = |wanted: &Wanted| Creation { topic: Arc::clone(&wanted.name), result: Err(refusal(wanted)) };
        self.wanted.iter().map(creation).collect()
    }

    fn refusal(&self, wanted: &Wanted, code: ResponseError, message: Option<&str>) -> Refusal {
        Refusal {
            topic: Arc::clone(&wanted.name),
            partitions: wanted.partitions,
            replication: wanted.replication,
            brokers: self.brokers,
            code,
            message: message.map(|text| foreign::clean(text, &[])).filter(|text| !text.is_empty()),
        }
    }
}

/// Whether a broker that knows these versions cannot choose the replicas itself.
pub(super) fn is_too_old(theirs: VersionRange) -> bool {
    theirs.max < DEFAULTS
}
