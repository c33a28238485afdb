//! What a broker's answer to a produce request says about the records in it.

use kafka_protocol::ResponseError;

/// What an error code says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The records are in the log already.
    Stored,
    /// The partition has another leader, which may have them: a leader says so also of what it had appended before.
    Moved,
    /// They are not stored now.
    Later,
    /// They may be stored.
    Doubt,
    /// They are not stored: the broker does not know our stamp any more.
    Stamp,
    /// They are not stored, and one of them may be why.
    Content,
    /// They are not stored and will not be.
    Denied,
}

/// Codes of the Produce API (<https://kafka.apache.org/protocol#protocol_error_codes>).
pub(super) fn verdict(code: ResponseError) -> Verdict {
    use ResponseError as E;
    match code {
        // Its own copy is older than the last five batches; with one batch on its way at a time it is ours.
        E::DuplicateSequenceNumber => Verdict::Stored,
        E::UnknownTopicOrPartition
        | E::LeaderNotAvailable
        | E::NotLeaderOrFollower
        | E::ReplicaNotAvailable
        | E::FencedLeaderEpoch
        | E::UnknownLeaderEpoch
        | E::UnknownTopicId
        | E::InconsistentTopicId => Verdict::Moved,
        // Said before the leader appends.
        E::NotEnoughReplicas | E::ThrottlingQuotaExceeded => Verdict::Later,
        E::OutOfOrderSequenceNumber
        | E::UnknownProducerId
        | E::InvalidProducerEpoch
        | E::InvalidProducerIdMapping
        | E::ProducerFenced => Verdict::Stamp,
        E::MessageTooLarge
        | E::RecordListTooLarge
        | E::CorruptMessage
        | E::InvalidRecord
        | E::InvalidTimestamp
        | E::PolicyViolation => Verdict::Content,
        E::TopicAuthorizationFailed
        | E::ClusterAuthorizationFailed
        | E::TransactionalIdAuthorizationFailed
        | E::InvalidTopicException
        | E::InvalidRequiredAcks
        | E::UnsupportedVersion
        | E::UnsupportedForMessageFormat
        | E::UnsupportedCompressionType
        | E::InvalidRequest => Verdict::Denied,
        // 7 and 20 say that the leader has it and the replicas perhaps not; 56 and the rest say nothing of that.
        _ => Verdict::Doubt,
    }
}

/// What a code says to people, with its name.
pub(super) fn in_words(code: ResponseError) -> String {
    use ResponseError as E;
    let words = match code {
        E::NotEnoughReplicas => "fewer replicas are in sync than min.insync.replicas asks for",
        E::NotEnoughReplicasAfterAppend | E::RequestTimedOut => "the replicas did not all acknowledge it in time",
        E::MessageTooLarge | E::RecordListTooLarge => "larger than max.message.bytes of the topic allows",
        E::TopicAuthorizationFailed => "this user may not write the topic",
        E::NotLeaderOrFollower | E::LeaderNotAvailable => "the partition is moving to another broker",
        E::InvalidRecord => "the broker, or what checks records there, does not take it",
        _ => return code.to_string(),
    };
    format!("{words} ({code})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_stored_is_never_called_refused() {
        for code in [
            ResponseError::RequestTimedOut,
            ResponseError::NotEnoughReplicasAfterAppend,
            ResponseError::KafkaStorageError,
            ResponseError::UnknownServerError,
            ResponseError::NetworkException,
            ResponseError::BrokerNotAvailable,
            ResponseError::Unknown(999),
        ] {
            assert_eq!(verdict(code), Verdict::Doubt, "{code}");
        }
    }
}
