//! The real Apache Kafka: a broker or several, topics, records, groups and Kafka's own command-line tools.
//!
//! Owns finding and starting the brokers ([`Cluster`]) and everything a test wants to do to them from outside. Knows nothing
//! of postlane: what it writes and reads goes over rskafka, over frames of its own or through Kafka's Java tools.
//!
//! # Which cluster a test should take
//!
//! - [`shared`]: one for the whole process, and for a whole `cargo test` where `POSTLANE_TEST_BROKERS` names it. For every
//!   test that is content with topics and groups of its own ([`unique`]). It is never stopped.
//! - [`Cluster::builder`]: a cluster of its own, for a test that kills, pauses or configures brokers, whatever the
//!   environment says. It ends when it is dropped.
//!
//! `cargo xtask kafka` starts one in the foreground and prints the line that exports `POSTLANE_TEST_BROKERS`; test binaries
//! started with it share that broker instead of starting one each.
//!
//! # Where the broker comes from
//!
//! In this order: `POSTLANE_TEST_BROKERS` (for [`shared`] and [`Cluster::start`]); Java 17 and Maven, which fetches Kafka
//! once into a cache folder (`POSTLANE_CACHE`, else `$XDG_CACHE_HOME/postlane-devkit`, else `~/.cache/postlane-devkit`, else
//! a folder beside the temporary files); Docker with the image `apache/kafka`. Where none of them is there, an error says
//! what to install: a test is never skipped.

mod admin;
mod batch;
mod cluster;
mod groups;
mod java;
mod node;
mod records;
mod runtime;
mod secured;
mod tools;
mod transaction;
mod wire;

pub use cluster::{Builder, Cluster};
pub use groups::{ForeignConsumer, GroupProtocol, Member, PartitionLag};
pub use node::Node;
pub use records::{Record, StoredRecord};
pub use rskafka::client::partition::Compression;
pub use runtime::KAFKA_VERSION;
pub use secured::{Listener, PASSWORD, SCRAM_PASSWORD, SHORT_SESSION, Secured, USER, unsecured_token};
pub use tools::Output;
pub use transaction::End;

use anyhow::Result;
use tokio::sync::OnceCell;

/// Names the cluster to use instead of starting one: `host:port`, several separated by commas.
pub const BROKERS_VARIABLE: &str = "POSTLANE_TEST_BROKERS";

/// The cluster that all tests of this process share, started or attached to by whoever asks first.
///
/// It ends with the process, however that ends. Use names from [`unique`] for topics and groups.
///
/// # Errors
/// When no broker can be had; the next caller tries again.
pub async fn shared() -> Result<&'static Cluster> {
    static SHARED: OnceCell<Cluster> = OnceCell::const_new();
    SHARED.get_or_try_init(Cluster::start).await
}

/// `prefix` with a random ending: a topic or group name that no other test uses.
#[must_use]
pub fn unique(prefix: &str) -> String {
    let ending: String = std::iter::repeat_with(fastrand::lowercase).take(10).collect();
    format!("{prefix}-{ending}")
}
