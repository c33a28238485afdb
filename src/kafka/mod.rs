//! What postlane says to Kafka: partition readers, the consumer group's offsets, the dead letters.
//!
//! Owns every connection to a broker. Knows nothing of mail.

mod access;
#[cfg(feature = "service")]
pub mod assignment;
pub mod client;
#[cfg(feature = "service")]
pub mod coordinator;
#[cfg(feature = "service")]
pub mod dead_letter;
#[cfg(feature = "service")]
pub mod fetch;
#[cfg(feature = "service")]
pub mod offsets;
pub mod record;
#[cfg(feature = "service")]
pub mod required;
mod sasl;
#[cfg(feature = "service")]
pub mod shared_client;
#[cfg(test)]
pub(crate) mod testing;
mod token;
#[cfg(feature = "service")]
pub mod topics;
pub mod wire;

pub use record::Record;
#[cfg(feature = "service")]
pub use shared_client::SharedClient;
