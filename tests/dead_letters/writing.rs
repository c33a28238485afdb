//! What the tests on a real broker share.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use chrono::DateTime;
use devkit::kafka::{Cluster, StoredRecord, unique};
use postlane::kafka::{
    Record, SharedClient,
    client::Connector,
    dead_letter::{DeadLetters, Failure, Reason, Stage, Stopped, Timing},
};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

/// Long enough for a broker that has to come back.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) async fn topic(cluster: &Cluster, partitions: i32, configs: &[(&str, &str)]) -> String {
    let topic = unique("dead");
    cluster.create_topic(&topic, partitions, configs).await.unwrap();
    topic
}

pub(crate) fn writer(cluster: &Cluster, topic: &str) -> Arc<DeadLetters> {
    let connector = Connector::plaintext(cluster.bootstrap().split(',').map(str::to_owned).collect());
    let timing = Timing {
        retry_initial: Duration::from_millis(50),
        retry_max: Duration::from_millis(500),
        refused_max: Duration::from_millis(500),
        answer: Duration::from_secs(3),
    };
    Arc::new(DeadLetters::new(SharedClient::new(connector), topic, "messaging-service-group", timing))
}

pub(crate) fn record(partition: i32, offset: i64, value: impl Into<Vec<u8>>) -> Record {
    Record {
        topic: "email-queue".into(),
        partition,
        offset,
        timestamp: DateTime::from_timestamp_millis(1_700_000_000_000).unwrap(),
        arrived: DateTime::from_timestamp_millis(1_700_000_000_000).unwrap(),
        key: Some(offset.to_string().into_bytes()),
        value: Some(value.into()),
        headers: BTreeMap::from([("type".to_owned(), b"welcome".to_vec())]),
    }
}

pub(crate) fn failure() -> Failure {
    Failure {
        stage: Stage::Decode,
        reason: Reason::Malformed,
        message: "not JSON".into(),
        recipients: None,
        attempts: 0,
        smtp_code: None,
        smtp_enhanced: None,
        message_id: None,
    }
}

/// Bytes that no compression makes smaller, others for each seed.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(length).collect()
}

pub(crate) fn spawn(letters: &Arc<DeadLetters>, record: Record) -> JoinHandle<Result<(), Stopped>> {
    let letters = Arc::clone(letters);
    tokio::spawn(async move { letters.write(&record, &failure()).await })
}

/// Waits for a write that is under way.
pub(crate) async fn written(write: JoinHandle<Result<(), Stopped>>) {
    timeout(PATIENCE, write).await.expect("written in time").unwrap().unwrap();
}

/// Waits until the writer knows whether it can write.
pub(crate) async fn until_healthy(letters: &DeadLetters, healthy: bool) {
    let deadline = Instant::now() + PATIENCE;
    while letters.healthy() != healthy {
        assert!(Instant::now() < deadline, "never {}", if healthy { "healthy" } else { "failing" });
        sleep(Duration::from_millis(5)).await;
    }
}

/// The offset in the source topic that a letter names.
pub(crate) fn original_offset(letter: &StoredRecord) -> i64 {
    i64::from_be_bytes(letter.headers["kafka_dlt-original-offset"].as_slice().try_into().unwrap())
}

pub(crate) async fn configure(cluster: &Cluster, topic: &str, config: &str) {
    let arguments = ["--alter", "--entity-type", "topics", "--entity-name", topic, "--add-config", config];
    cluster.tool("kafka.admin.ConfigCommand", &arguments).await.unwrap();
}
