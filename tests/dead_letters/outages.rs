//! Brokers that die and freeze while letters are written.

use std::collections::BTreeSet;

use devkit::kafka::{Cluster, unique};

use super::writing::{failure, original_offset, record, spawn, topic, until_healthy, writer, written};

#[tokio::test]
async fn no_letter_is_lost_when_the_broker_dies_or_freezes_and_no_topic_is_created() {
    let cluster = Cluster::builder().auto_create_topics(true).start().await.unwrap();
    let topic = unique("dead");
    let letters = writer(&cluster, &topic);
    let mut writes: Vec<_> = (0..50).map(|offset| spawn(&letters, record(0, offset, "x"))).collect();
    until_healthy(&letters, false).await;
    assert!(cluster.partitions(&topic).await.unwrap().is_empty(), "asking must not create the topic");
    cluster.create_topic(&topic, 2, &[]).await.unwrap();
    until_healthy(&letters, true).await;

    // In the middle of a row of writes.
    writes.extend((50..1000).map(|offset| spawn(&letters, record(1, offset, "x"))));
    cluster.kill().await.unwrap();
    writes.extend((1000..1050).map(|offset| spawn(&letters, record(1, offset, "x"))));
    until_healthy(&letters, false).await;
    cluster.restart().await.unwrap();
    for write in writes {
        written(write).await;
    }
    assert!(letters.healthy());

    cluster.pause().await.unwrap();
    let frozen: Vec<_> = (1050..1100).map(|offset| spawn(&letters, record(0, offset, "x"))).collect();
    until_healthy(&letters, false).await;
    assert!(frozen.iter().all(|write| !write.is_finished()));
    cluster.resume().unwrap();
    for write in frozen {
        written(write).await;
    }

    let stored = cluster.read_all(&topic).await.unwrap();
    let offsets: BTreeSet<i64> = stored.iter().map(original_offset).collect();
    assert_eq!(offsets, (0..1100).collect(), "each at least once");
}

#[tokio::test]
async fn a_letter_counts_only_when_enough_replicas_have_it() {
    let cluster = Cluster::builder().brokers(2).start().await.unwrap();
    let topic = topic(&cluster, 1, &[("min.insync.replicas", "2")]).await;
    let letters = writer(&cluster, &topic);
    letters.write(&record(0, 0, "x"), &failure()).await.unwrap();

    cluster.node(2).unwrap().kill().await.unwrap();
    let given_up = spawn(&letters, record(0, 1, "x"));
    until_healthy(&letters, false).await;
    given_up.abort();
    until_healthy(&letters, true).await;

    let write = spawn(&letters, record(0, 2, "x"));
    until_healthy(&letters, false).await;
    assert!(!write.is_finished());
    cluster.node(2).unwrap().start().await.unwrap();
    written(write).await;
    let stored = cluster.read_all(&topic).await.unwrap();
    assert!(stored.iter().any(|letter| original_offset(letter) == 2));
}
