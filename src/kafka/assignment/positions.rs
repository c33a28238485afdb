//! Where a partition starts: at the group's commit, or where a topic without one starts.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, stream};
use tracing::warn;

use crate::{
    config::OffsetReset,
    kafka::{
        SharedClient,
        coordinator::{self, Committed, Refusal},
        fetch::{FetchError, Limits, PartitionReader, RskafkaReader},
        offsets::Tracker,
        shared_client,
    },
};

/// Partitions whose bounds are asked for at the same time.
const AT_ONCE: usize = 16;
/// Time for the bounds of one partition: commits wait for it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why the start of a topic's partitions is not known.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("the topics cannot be listed")]
    List(#[from] shared_client::Error),
    #[error(transparent)]
    Coordinator(#[from] coordinator::Error),
    #[error("the bounds of {topic}-{partition} cannot be read")]
    Bounds {
        topic: Arc<str>,
        partition: i32,
        #[source]
        source: FetchError,
    },
    #[error("the start of {topic}-{partition} was not stored: {refusal}")]
    Refused { topic: Arc<str>, partition: i32, refusal: Refusal },
}

impl Error {
    /// Whether the brokers do not let us in, and somebody has to do something about it.
    pub(super) fn is_refusal(&self) -> bool {
        match self {
            Self::List(error) => error.is_refusal(),
            Self::Coordinator(coordinator::Error::Wire(error)) => !error.is_retriable(),
            Self::Coordinator(_) | Self::Bounds { .. } | Self::Refused { .. } => false,
        }
    }
}

/// A partition and where it starts.
pub(super) struct Start {
    pub(super) partition: i32,
    pub(super) tracker: Tracker,
}

/// The starts of partitions with these commits, as far as they can be had; the first failure beside them.
///
/// A partition without a commit starts as `reset` says.
pub(super) async fn starts(
    client: &SharedClient,
    topic: &Arc<str>,
    committed: Vec<Committed>,
    reset: OffsetReset,
) -> (Vec<Start>, Result<(), Error>) {
    let finding = committed.into_iter().map(|commit| async move {
        let partition = commit.partition;
        let tracker = match commit.offset {
            Some(offset) => restore(topic, partition, offset, &commit.metadata),
            None => Tracker::new(bound(client, topic, partition, reset).await?),
        };
        Ok(Start { partition, tracker })
    });
    let found: Vec<Result<Start, Error>> = stream::iter(finding).buffered(AT_ONCE).collect().await;
    let mut outcome = Ok(());
    let starts = found.into_iter().filter_map(|start| start.map_err(|error| outcome = Err(error)).ok()).collect();
    (starts, outcome)
}

fn restore(topic: &Arc<str>, partition: i32, offset: i64, metadata: &str) -> Tracker {
    Tracker::restore(offset, metadata).unwrap_or_else(|error| {
        warn!(%topic, partition, offset, %error, "going on at the offset alone: mails settled beyond it may be sent again");
        Tracker::new(offset)
    })
}

async fn bound(client: &SharedClient, topic: &Arc<str>, partition: i32, reset: OffsetReset) -> Result<i64, Error> {
    let limits = Limits { timeout: PATIENCE, ..Limits::new(PATIENCE, 1) };
    let mut reader = RskafkaReader::new(client.clone(), Arc::clone(topic), partition, limits);
    let bounds =
        reader.bounds().await.map_err(|source| Error::Bounds { topic: Arc::clone(topic), partition, source })?;
    Ok(match reset {
        OffsetReset::Earliest => bounds.log_start,
        OffsetReset::Latest => bounds.log_end,
    })
}
