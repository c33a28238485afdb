//! Three brokers, of which one goes: its partitions move, and no mail is lost or doubled.

use std::time::Duration;

use devkit::kafka::{Cluster, unique};
use postlane::{Producer, SendError};
use tokio::time::Instant;

use super::{
    common::{PATIENCE, builder, lanes, mail, place},
    ledger::{Load, Said},
};

#[tokio::test]
async fn a_leader_that_dies_under_load_loses_and_doubles_nothing() {
    let cluster =
        Cluster::builder().brokers(3).property("default.replication.factor", "3").start().await.expect("three brokers");
    let base = unique("producer");
    for topic in [format!("{base}-high"), base.clone(), format!("{base}-low")] {
        cluster.create_topic(&topic, 3, &[("min.insync.replicas", "2")]).await.expect("a topic");
    }
    let strict = lanes(&cluster, 1, &[("min.insync.replicas", "3")]).await;
    let all_of_them = builder(&cluster, &strict).timeout(Duration::from_secs(2)).build().expect("settings");
    let _ = all_of_them.send(mail("with three")).await.expect("sent");
    let producer = builder(&cluster, &base).timeout(Duration::from_secs(60)).build().expect("settings");
    producer.ready().await.expect("ready");
    let load = Load::start(&producer, 300);
    load.until_stored(300).await;
    let leader = cluster.leader(&base, 0).await.expect("metadata").expect("a leader");
    cluster.node(leader).expect("a node").kill().await.expect("killed");
    load.until_stored(900).await;
    until_too_few(&all_of_them).await;
    cluster.node(leader).expect("a node").start().await.expect("started again");
    load.until_stored(300).await;
    let ledger = load.stop().await;
    assert_eq!(ledger.stored(), ledger.said.len(), "there was time for all");
    assert_eq!(ledger.count(|said| *said == Said::Stored { twice_possible: true }), 0);
    ledger.check(&cluster, &base).await;
    let receipt = producer.send(mail("last")).await.expect("sent");
    assert_eq!(place(&receipt).0, base);
}

/// Fewer replicas than the topic asks for are no acknowledgement, as soon as the others know that one is gone.
async fn until_too_few(producer: &Producer) {
    let start = Instant::now();
    loop {
        match producer.send(mail("with two")).await {
            Err(SendError::NotPublished { why, .. }) if why.contains("fewer replicas are in sync") => return,
            // the one that is gone is still one of them: the leader has the mail, and the answer does not come
            Err(SendError::OutcomeUnknown { .. } | SendError::NotPublished { .. }) | Ok(_) => {}
            Err(error) => panic!("{error:?}"),
        }
        assert!(start.elapsed() < PATIENCE, "it is always taken");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaders_that_move_to_and_fro_make_nothing_untrue() {
    let cluster = Cluster::builder()
        .brokers(3)
        .property("default.replication.factor", "3")
        .property("leader.imbalance.check.interval.seconds", "2")
        .property("leader.imbalance.per.broker.percentage", "0")
        .start()
        .await
        .expect("three brokers");
    // a leader takes what no other one has yet
    let base = lanes(&cluster, 6, &[("min.insync.replicas", "1")]).await;
    let producer = builder(&cluster, &base).timeout(Duration::from_millis(250)).build().expect("settings");
    producer.ready().await.expect("ready");
    let load = Load::start(&producer, 400);
    load.until_stored(200).await;
    for round in 0..2 {
        let leader = cluster.leader(&base, round).await.expect("metadata").expect("a leader");
        let other = cluster.nodes().iter().find(|node| node.id() != leader).expect("another");
        other.pause().await.expect("paused");
        // it waits for the other's acknowledgement when it is told to go
        let node = cluster.node(leader).expect("a node");
        let resume = async {
            load.until_said(300).await;
            other.resume().expect("resumed");
        };
        let (stopped, ()) = tokio::join!(node.stop(), resume);
        stopped.expect("stopped");
        load.until_stored(200).await;
        node.start().await.expect("started again");
        // until it leads again
        while cluster.leader(&base, round).await.expect("metadata") != Some(leader) {
            load.until_said(50).await;
        }
    }
    load.until_stored(200).await;
    let ledger = load.stop().await;
    ledger.check(&cluster, &base).await;
}
