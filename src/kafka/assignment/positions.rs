//! Where a partition starts: at the group's commit, or where a topic without one starts.

use std::sync::Arc;

use tracing::warn;

use crate::{
    config::OffsetReset,
    kafka::{
        SharedClient,
        coordinator::{self, Coordinator, Refusal},
        fetch::{FetchError, Limits, PartitionReader, RskafkaReader},
        offsets::Tracker,
        shared_client,
    },
};

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

/// A partition and where it starts.
pub(super) struct Start {
    pub(super) partition: i32,
    pub(super) tracker: Tracker,
}

/// The starts of the partitions `new` of a topic that has the partitions `all`.
///
/// `reset` applies only where the group has no commit for any partition of the topic; a partition that came later
/// starts at its beginning, since whatever it holds came later too.
pub(super) async fn starts(
    coordinator: &mut Coordinator,
    client: &SharedClient,
    topic: &Arc<str>,
    all: &[i32],
    new: &[i32],
    reset: OffsetReset,
) -> Result<Vec<Start>, Error> {
    let committed = coordinator.committed(&[(Arc::clone(topic), all.to_vec())]).await?;
    let known = committed.iter().any(|commit| commit.offset.is_some());
    let reset = if known { OffsetReset::Earliest } else { reset };
    let mut starts = Vec::with_capacity(new.len());
    for commit in committed.iter().filter(|commit| new.contains(&commit.partition)) {
        let partition = commit.partition;
        let tracker = match commit.offset {
            Some(offset) => restore(topic, partition, offset, &commit.metadata),
            None => Tracker::new(bound(client, topic, partition, reset).await?),
        };
        starts.push(Start { partition, tracker });
    }
    Ok(starts)
}

fn restore(topic: &Arc<str>, partition: i32, offset: i64, metadata: &str) -> Tracker {
    Tracker::restore(offset, metadata).unwrap_or_else(|error| {
        warn!(%topic, partition, offset, %error, "going on at the offset alone: mails settled beyond it may be sent again");
        Tracker::new(offset)
    })
}

async fn bound(client: &SharedClient, topic: &Arc<str>, partition: i32, reset: OffsetReset) -> Result<i64, Error> {
    let limits = Limits::new(std::time::Duration::from_millis(500), 1);
    let mut reader = RskafkaReader::new(client.clone(), Arc::clone(topic), partition, limits);
    let bounds =
        reader.bounds().await.map_err(|source| Error::Bounds { topic: Arc::clone(topic), partition, source })?;
    Ok(match reset {
        OffsetReset::Earliest => bounds.log_start,
        OffsetReset::Latest => bounds.log_end,
    })
}
