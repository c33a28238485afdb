//! What postlane says to Kafka: partition readers, the consumer group's offsets, the dead letters.
//!
//! Owns every connection to a broker. Knows nothing of mail.

pub mod assignment;
pub mod client;
pub mod coordinator;
pub mod dead_letter;
pub mod fetch;
pub mod offsets;
pub mod record;
pub mod required;
pub mod shared_client;
#[cfg(test)]
pub(crate) mod testing;
pub mod topics;
pub mod wire;

pub use record::Record;
pub use shared_client::SharedClient;
