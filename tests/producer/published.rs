//! Mails in topics: where, what of them, and in how many requests.

use std::sync::Arc;

use devkit::kafka;
use futures::future::join_all;
use postlane::{Priority, SendError};

use super::common::{builder, key, keys, lanes, mail, place};

#[tokio::test]
async fn a_receipt_says_where_the_mail_is() {
    let cluster = kafka::shared().await.expect("a broker");
    let base = lanes(cluster, 3, &[]).await;
    let producer = builder(cluster, &base).build().expect("settings");
    for (priority, topic) in [
        (Priority::High, format!("{base}-high")),
        (Priority::Normal, base.clone()),
        (Priority::Low, format!("{base}-low")),
    ] {
        let receipt = producer.send(mail("same-id").priority(priority)).await.expect("sent");
        assert_eq!(receipt.id(), "same-id");
        assert!(receipt.message_id().is_some_and(|id| id.ends_with("@example.com>")), "{receipt:?}");
        assert!(!receipt.twice_possible());
        let (found_topic, partition, offset) = place(&receipt);
        assert_eq!(found_topic, topic);
        let records = cluster.read_all(&topic).await.expect("records");
        let [record] = &records[..] else { panic!("one record, and not {records:?}") };
        assert_eq!((record.partition, record.offset), (partition, offset));
        assert_eq!(key(record), "same-id");
        assert!(record.header_text("timestamp").is_some() && record.header_text("type").is_some());
        let event: serde_json::Value = serde_json::from_slice(record.value.as_ref().expect("a value")).expect("JSON");
        assert_eq!(event["message"]["id"], "same-id");
    }
    assert_eq!(producer.stats().published, 3);
    assert_eq!((producer.stats().buffered_records, producer.stats().buffered_bytes), (0, 0));
}

#[tokio::test]
async fn five_thousand_callers_at_once_are_all_served_once() {
    let cluster = kafka::shared().await.expect("a broker");
    let base = lanes(cluster, 6, &[]).await;
    let producer = builder(cluster, &base).build().expect("settings");
    let sends = (0..5000).map(|index| {
        let producer = producer.clone();
        tokio::spawn(async move { producer.send(mail(&format!("mail-{index}"))).await })
    });
    let mut places = Vec::new();
    for receipt in join_all(sends).await {
        places.push(place(&receipt.expect("no panic").expect("sent")));
    }
    places.sort();
    places.dedup();
    assert_eq!(places.len(), 5000, "each has a place of its own");
    let keys = keys(cluster, &base).await;
    assert_eq!(keys.len(), 5000);
    assert!(keys.values().all(|count| *count == 1));
    let records = cluster.read_all(&base).await.expect("records");
    assert_eq!(records.iter().map(|record| record.partition).collect::<std::collections::BTreeSet<_>>().len(), 6);
}

#[tokio::test]
async fn a_topic_that_is_missing_is_said_and_not_made() {
    let cluster = kafka::shared().await.expect("a broker");
    let base = kafka::unique("producer-missing");
    let producer = Arc::new(builder(cluster, &base).build().expect("settings"));
    let error = producer.send(mail("a")).await.expect_err("no topic");
    assert!(matches!(error, SendError::Setup { .. }), "{error:?}");
    assert!(error.to_string().contains(&format!("the brokers list no topic {base}")), "{error}");
    assert!(!error.may_go_out());
    assert!(cluster.partitions(&base).await.map_or(true, |found| found.is_empty()), "it was made");
    // and it is found when it is there
    cluster.create_topic(&base, 1, &[]).await.expect("a topic");
    let _ = producer.send(mail("a")).await.expect("sent");
}
