//! What a group's coordinator can refuse, and in which words a user is told.

use std::{fmt, sync::Arc, time::Duration};

use kafka_protocol::ResponseError;

use super::{super::wire, group::Member};

/// Why a call to the coordinator failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another program is a member of the group, so the broker takes no offsets from anyone else.
    #[error(
        "consumer group {group} is in use by another program ({}): Kafka accepts no offsets from postlane until it has left",
        Names(members)
    )]
    LiveMembers {
        /// The group.
        group: Arc<str>,
        /// Its members, as far as the broker told.
        members: Vec<Member>,
    },
    /// The broker's rules do not let us use the group.
    #[error("not authorized for consumer group {group}: postlane needs READ and DESCRIBE on it")]
    GroupUnauthorized {
        /// The group.
        group: Arc<str>,
    },
    /// The broker's rules do not let us see the topic.
    #[error("not authorized for topic {topic}: consumer group {group} needs READ and DESCRIBE on it")]
    TopicUnauthorized {
        /// The group.
        group: Arc<str>,
        /// The topic.
        topic: Arc<str>,
    },
    /// The group as a whole was refused.
    #[error("broker {address} refused a request for consumer group {group}: {code}")]
    Group {
        /// The group.
        group: Arc<str>,
        /// The broker.
        address: String,
        /// Kafka's error code.
        code: ResponseError,
    },
    /// One partition was refused.
    #[error("broker {address} refused {topic}-{partition} of consumer group {group}: {code}")]
    Partition {
        /// The group.
        group: Arc<str>,
        /// The broker.
        address: String,
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: i32,
        /// Kafka's error code.
        code: ResponseError,
    },
    /// The answer leaves out something that was asked for.
    #[error("the answer of broker {address} for consumer group {group} says nothing about {missing}")]
    Incomplete {
        /// The group.
        group: Arc<str>,
        /// The broker.
        address: String,
        /// What was asked for.
        missing: String,
    },
    /// There is no broker to ask.
    #[error("no brokers are configured to find the coordinator of consumer group {group}")]
    NoBrokers {
        /// The group.
        group: Arc<str>,
    },
    /// The connection failed.
    #[error(transparent)]
    Wire(#[from] wire::Error),
    /// Nothing succeeded in the time allowed.
    #[error("no answer from the coordinator of consumer group {group} within {after:?}")]
    Deadline {
        /// The group.
        group: Arc<str>,
        /// The time allowed.
        after: Duration,
        /// What was seen last, if anything.
        #[source]
        last: Option<Box<Error>>,
    },
}

impl Error {
    /// Whether the same call may go well later without anyone changing anything but the brokers' health.
    ///
    /// [`Error::LiveMembers`] is not among them: it ends when the other program leaves.
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Group { code, .. } | Self::Partition { code, .. } => code.is_retriable(),
            Self::Wire(error) => error.is_retriable(),
            Self::Deadline { .. } => true,
            Self::LiveMembers { .. }
            | Self::GroupUnauthorized { .. }
            | Self::TopicUnauthorized { .. }
            | Self::Incomplete { .. }
            | Self::NoBrokers { .. } => false,
        }
    }
}

/// Where an answer comes from, for the errors read out of it.
pub(super) struct Origin<'a> {
    pub(super) group: &'a Arc<str>,
    pub(super) address: &'a str,
}

impl Origin<'_> {
    /// Checks a code that concerns the group as a whole.
    pub(super) fn group_code(&self, code: i16) -> Result<(), Error> {
        ResponseError::try_from_code(code).map_or(Ok(()), |code| Err(self.group_error(code)))
    }

    pub(super) fn group_error(&self, code: ResponseError) -> Error {
        let group = self.group.clone();
        match code {
            ResponseError::GroupAuthorizationFailed => Error::GroupUnauthorized { group },
            code if means_live_members(code) => Error::LiveMembers { group, members: Vec::new() },
            code => Error::Group { group, address: self.address.to_owned(), code },
        }
    }

    /// Checks the code of one partition where nothing but success will do.
    pub(super) fn partition_code(&self, topic: &Arc<str>, partition: i32, code: i16) -> Result<(), Error> {
        ResponseError::try_from_code(code).map_or(Ok(()), |code| Err(self.partition_error(topic, partition, code)))
    }

    pub(super) fn partition_error(&self, topic: &Arc<str>, partition: i32, code: ResponseError) -> Error {
        let (group, topic) = (self.group.clone(), topic.clone());
        match code {
            ResponseError::TopicAuthorizationFailed => Error::TopicUnauthorized { group, topic },
            code if concerns_group(code) => self.group_error(code),
            code => Error::Partition { group, address: self.address.to_owned(), topic, partition, code },
        }
    }

    pub(super) fn incomplete(&self, missing: impl fmt::Display) -> Error {
        Error::Incomplete { group: self.group.clone(), address: self.address.to_owned(), missing: missing.to_string() }
    }
}

/// Whether a code tells about the group even where it stands beside one partition.
pub(super) fn concerns_group(code: ResponseError) -> bool {
    means_live_members(code)
        || matches!(
            code,
            ResponseError::CoordinatorLoadInProgress
                | ResponseError::CoordinatorNotAvailable
                | ResponseError::NotCoordinator
                | ResponseError::GroupAuthorizationFailed
                | ResponseError::InvalidGroupId
                | ResponseError::GroupIdNotFound
        )
}

/// Codes with which a commit of generation -1 is refused because the group has members.
fn means_live_members(code: ResponseError) -> bool {
    matches!(
        code,
        ResponseError::UnknownMemberId
            | ResponseError::IllegalGeneration
            | ResponseError::RebalanceInProgress
            | ResponseError::FencedInstanceId
            | ResponseError::FencedMemberEpoch
            | ResponseError::StaleMemberEpoch
    )
}

/// The members of a group in one short phrase.
struct Names<'a>(&'a [Member]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 3;
        let Some((first, more)) = self.0.split_first() else {
            return f.write_str("its members are not known");
        };
        write!(f, "{first}")?;
        for member in more.iter().take(SHOWN - 1) {
            write!(f, ", {member}")?;
        }
        match self.0.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            hidden => write!(f, " and {hidden} more"),
        }
    }
}
