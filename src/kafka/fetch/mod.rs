//! Reads the source topics, one loop for each partition.
//!
//! Owns the seam between a partition's loop and the ways to read one ([`PartitionReader`]), the reader on rskafka
//! ([`RskafkaReader`]) and the loop itself ([`PartitionLoop`]). Where a partition starts, what is in flight and what is
//! committed belong to the [`Sink`]'s side.
//!
//! The loop keeps to three rules. It never steps over an offset that no record or gap covers: what cannot be read is
//! waited for, loudly. One partition's trouble is that partition's alone. And it ends as soon as it is told to, also in
//! the middle of a long poll.

mod partition_loop;
mod reader;

use async_trait::async_trait;

pub use partition_loop::{Halt, PartitionLoop, Sink, Timing};
pub use reader::{Limits, RskafkaReader};

use super::Record;

/// One way to read a partition.
#[async_trait]
pub trait PartitionReader: Send {
    /// Records from `offset` on; waits a limited time for the first one.
    ///
    /// Dropping the future leaves the reader usable.
    ///
    /// # Errors
    ///
    /// Any [`FetchError`]. The reader has repaired what it could, and may be asked again.
    async fn fetch(&mut self, offset: i64) -> Result<Fetched, FetchError>;

    /// Where the partition's log starts and ends now.
    ///
    /// # Errors
    ///
    /// Any [`FetchError`] but [`FetchError::OutOfRange`].
    async fn bounds(&mut self) -> Result<Bounds, FetchError>;
}

/// What one fetch has brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Records in the order of their offsets, none below the offset asked for.
    pub records: Vec<Record>,
    /// The offset after the last one covered, the one asked for where nothing was.
    pub next_offset: i64,
    /// The offset after the last one that is replicated.
    pub high_watermark: i64,
}

/// The offsets that a log holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Offset of the first record that is kept.
    pub log_start: i64,
    /// The offset after the last one that may be read.
    pub log_end: i64,
}

/// Why a fetch has brought nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The offset is not in the log.
    #[error("the offset is not in the log")]
    OutOfRange,
    /// The broker answered with something that this reader cannot decode; asking again would bring the same.
    #[error("undecodable: {detail}")]
    Undecodable {
        /// What the decoder said.
        detail: String,
    },
    /// Brokers away, a leader that moves, a call that took too long.
    #[error("unavailable: {detail}")]
    Unavailable {
        /// What was seen.
        detail: String,
    },
    /// The brokers answer, and list no such topic or partition.
    #[error("not listed: {detail}")]
    NotListed {
        /// What was looked for.
        detail: String,
    },
    /// The broker does not let us.
    #[error("denied: {detail}")]
    Denied {
        /// What the broker said.
        detail: String,
    },
}
