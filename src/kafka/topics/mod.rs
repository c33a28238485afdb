//! Topics as their operator sees them: what the cluster has, what is wrong with it, and making what is missing.
//!
//! Owns the administrative requests (`Metadata`, `DescribeConfigs`, `CreateTopics`, `ListOffsets`) and what their answers mean.
//! Changes no topic that exists, and reads no record.

mod admin;
mod create;
mod describe;
mod ends;
mod ensure;
mod findings;
mod newborn;
mod overview;
#[cfg(test)]
mod tests;
mod wanted;
mod watch;

pub use admin::{Admin, Error, offset_metadata_limit};
pub use create::{Creation, Refusal};
pub use describe::{Broker, Cluster, Configs, Operation, Operations, Partition, Topic};
pub use ends::{Ends, ends, offsets_at};
pub use ensure::{Made, State, ensure};
pub use findings::{Finding, Seen, findings};
pub use newborn::Newborn;
pub use overview::{Overview, PartitionView, TopicView, overview};
pub use wanted::{Role, Wanted};
pub use watch::Watch;

use kafka_protocol::{messages::TopicName, protocol::StrBytes};

fn name(topic: &str) -> TopicName {
    TopicName(text(topic))
}

fn text(value: &str) -> StrBytes {
    StrBytes::from_string(value.to_owned())
}
