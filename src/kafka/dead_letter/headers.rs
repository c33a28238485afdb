//! Names of the headers that make a record a dead letter; docs/wire-format.md says what is in them.

pub(crate) const ORIGINAL_TOPIC: &str = "kafka_dlt-original-topic";
pub(crate) const ORIGINAL_PARTITION: &str = "kafka_dlt-original-partition";
pub(crate) const ORIGINAL_OFFSET: &str = "kafka_dlt-original-offset";
pub(crate) const ORIGINAL_TIMESTAMP: &str = "kafka_dlt-original-timestamp";
pub(crate) const ORIGINAL_GROUP: &str = "kafka_dlt-original-consumer-group";
pub(crate) const EXCEPTION_MESSAGE: &str = "kafka_dlt-exception-message";
pub(crate) const STAGE: &str = "postlane-stage";
pub(crate) const REASON: &str = "postlane-reason";
pub(crate) const RECIPIENTS: &str = "postlane-recipients";
pub(crate) const ATTEMPTS: &str = "postlane-attempts";
pub(crate) const SMTP_CODE: &str = "postlane-smtp-code";
pub(crate) const SMTP_ENHANCED: &str = "postlane-smtp-enhanced-code";
pub(crate) const FAILED_AT: &str = "postlane-failed-at";
pub(crate) const MESSAGE_ID: &str = "postlane-message-id";
pub(crate) const ORIGINAL_SIZE: &str = "postlane-original-size";

/// All names that a dead letter may carry of ours.
pub(crate) const NAMES: [&str; 15] = [
    ORIGINAL_TOPIC,
    ORIGINAL_PARTITION,
    ORIGINAL_OFFSET,
    ORIGINAL_TIMESTAMP,
    ORIGINAL_GROUP,
    EXCEPTION_MESSAGE,
    STAGE,
    REASON,
    RECIPIENTS,
    ATTEMPTS,
    SMTP_CODE,
    SMTP_ENHANCED,
    FAILED_AT,
    MESSAGE_ID,
    ORIGINAL_SIZE,
];
