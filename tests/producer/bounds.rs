//! What a broker that hangs may cost: bounded memory, and callers that are told.

use std::time::Duration;

use devkit::kafka::Cluster;
use futures::future::join_all;
use postlane::{SendError, config::WhenFull};
use tokio::time::Instant;

use super::common::{PATIENCE, builder, keys, lanes, mail};

#[tokio::test]
async fn no_more_than_the_buffer_holds_is_ever_in_it() {
    let cluster = Cluster::builder().start().await.expect("a broker of its own");
    let base = lanes(&cluster, 3, &[]).await;
    for (when_full, records, bytes) in
        [(WhenFull::Error, 100, 1 << 20), (WhenFull::Error, 10_000, 40_000), (WhenFull::Wait, 100, 1 << 20)]
    {
        let producer = builder(&cluster, &base)
            .timeout(Duration::from_secs(2))
            .buffer(records, bytes)
            .when_full(when_full)
            .build()
            .expect("settings");
        producer.ready().await.expect("ready");
        cluster.pause().await.expect("paused");
        let start = Instant::now();
        let sends = (0..5000).map(|index| {
            let producer = producer.clone();
            tokio::spawn(async move {
                (Instant::now(), producer.send(mail(&format!("mail-{index}"))).await, Instant::now())
            })
        });
        let sends: Vec<_> = sends.collect();
        let mut most = (0, 0);
        while !sends.iter().all(tokio::task::JoinHandle::is_finished) {
            let stats = producer.stats();
            most = (most.0.max(stats.buffered_records), most.1.max(stats.buffered_bytes));
            tokio::task::yield_now().await;
        }
        assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
        assert!(most.0 > 0 && most.0 <= records && most.1 <= bytes, "{most:?} of {records} and {bytes}");
        let mut full = 0;
        for sent in join_all(sends).await {
            let (handed_over, outcome, answered) = sent.expect("no panic");
            match outcome.expect_err("nobody answers") {
                SendError::Full => {
                    full += 1;
                    if when_full == WhenFull::Error {
                        assert!(answered - handed_over < Duration::from_secs(1), "at once");
                    }
                }
                SendError::NotPublished { .. } | SendError::OutcomeUnknown { .. } => {}
                error => panic!("{error:?}"),
            }
        }
        assert!(full > 4000 || when_full == WhenFull::Wait, "{full}");
        assert_eq!(producer.stats().full, full);
        cluster.resume().expect("resumed");
        // what was on the wire has its room until the broker has answered, and a probe has to find that it does
        let start = Instant::now();
        while let Err(error) = producer.send(mail("again")).await {
            let passing = matches!(error, SendError::Full | SendError::NotPublished { .. });
            assert!(passing && start.elapsed() < PATIENCE, "{error:?}");
            tokio::task::yield_now().await;
        }
        assert_eq!((producer.stats().buffered_records, producer.stats().buffered_bytes), (0, 0));
    }
    assert!(keys(&cluster, &base).await.len() < 500);
}
