//! What the tests of the producer share.

use std::{collections::BTreeMap, time::Duration};

use devkit::kafka::{Cluster, StoredRecord, unique};
use postlane::{
    Email, Producer, Receipt,
    producer::{ProducerBuilder, Way},
};
use serde_json::json;

/// Longest time for which a test waits for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A base for the lanes' topics, and the topics with so many partitions each.
pub(crate) async fn lanes(cluster: &Cluster, partitions: i32, configs: &[(&str, &str)]) -> String {
    let base = unique("producer");
    for topic in [format!("{base}-high"), base.clone(), format!("{base}-low")] {
        cluster.create_topic(&topic, partitions, configs).await.expect("a topic");
    }
    base
}

/// A producer's settings for these lanes, with time enough for a slow machine.
pub(crate) fn builder(cluster: &Cluster, base: &str) -> ProducerBuilder {
    Producer::builder()
        .brokers(cluster.bootstrap().split(','))
        .topic(base)
        .mail_from("Shop <shop@example.com>")
        .timeout(Duration::from_secs(30))
}

pub(crate) fn mail(id: &str) -> Email {
    Email::to("ann@example.com").template("welcome").data(json!({ "Name": "Ann" })).id(id)
}

/// Topic, partition and offset of a mail that went through Kafka.
pub(crate) fn place(receipt: &Receipt) -> (String, i32, i64) {
    match receipt.way() {
        Way::Kafka { topic, partition, offset: Some(offset), .. } => (topic.to_string(), *partition, *offset),
        way => panic!("by Kafka, and not {way:?}"),
    }
}

/// How often each key is in a topic.
pub(crate) async fn keys(cluster: &Cluster, topic: &str) -> BTreeMap<String, usize> {
    let mut keys = BTreeMap::new();
    for record in cluster.read_all(topic).await.expect("records") {
        *keys.entry(key(&record)).or_default() += 1;
    }
    keys
}

pub(crate) fn key(record: &StoredRecord) -> String {
    String::from_utf8(record.key.clone().expect("a key")).expect("text")
}
