//! A loop that reads a real partition.

use std::{sync::Arc, time::Duration};

use devkit::kafka::Cluster;
use postlane::kafka::{
    SharedClient,
    client::Connector,
    fetch::{Limits, PartitionLoop, RskafkaReader, Timing},
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::recorder::Recorder;

/// Long enough for a broker that has to come back.
const PATIENCE: Duration = Duration::from_secs(60);

/// Short enough for tests that wait for each of them.
pub(crate) const TIMING: Timing = Timing {
    retry_initial: Duration::from_millis(50),
    retry_max: Duration::from_millis(500),
    undecodable_retry: Duration::from_millis(300),
    beyond_end_patience: Duration::from_secs(1),
    no_records_warning: Duration::from_millis(300),
    look_again: Duration::from_millis(200),
};

pub(crate) struct Reading {
    pub(crate) sink: Arc<Recorder>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) task: JoinHandle<i64>,
}

pub(crate) fn shared_client(cluster: &Cluster) -> SharedClient {
    SharedClient::new(Connector::plaintext(cluster.bootstrap().split(',').map(str::to_owned).collect()))
}

pub(crate) fn limits() -> Limits {
    Limits { max_wait: Duration::from_millis(500), max_bytes: 64 * 1024, timeout: Duration::from_secs(10) }
}

impl Reading {
    /// Reads partition 0 of `topic` from `start` on.
    pub(crate) fn start(shared: &SharedClient, topic: &str, start: i64, limits: Limits) -> Self {
        let sink = Arc::new(Recorder::new(PATIENCE));
        let shutdown = CancellationToken::new();
        let topic: Arc<str> = topic.into();
        let reader = RskafkaReader::new(shared.clone(), Arc::clone(&topic), 0, limits);
        let partition_loop = PartitionLoop::new(reader, topic, 0, start, sink.clone(), TIMING);
        let task = tokio::spawn(partition_loop.run(shutdown.clone()));
        Self { sink, shutdown, task }
    }

    /// Ends the loop; where it was.
    pub(crate) async fn end(self) -> i64 {
        self.shutdown.cancel();
        tokio::time::timeout(Duration::from_secs(1), self.task).await.expect("a prompt end").unwrap()
    }
}
