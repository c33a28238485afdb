//! A broker that hangs or is gone: answers in time, and each of them true.

use std::time::Duration;

use devkit::kafka::Cluster;
use futures::FutureExt as _;
use postlane::SendError;
use tokio::time::{Instant, timeout};

use super::{
    common::{PATIENCE, builder, lanes, mail},
    ledger::{Load, Said, said},
};

const TIMEOUT: Duration = Duration::from_secs(2);

/// What a busy machine may add.
const SLACK: Duration = Duration::from_millis(1500);

async fn cluster() -> Cluster {
    Cluster::builder().start().await.expect("a broker of its own")
}

#[tokio::test]
async fn a_broker_that_hangs_costs_the_timeout_and_what_was_taken_back_never_comes() {
    let cluster = cluster().await;
    let base = lanes(&cluster, 3, &[]).await;
    let producer = builder(&cluster, &base).timeout(TIMEOUT).build().expect("settings");
    producer.ready().await.expect("ready");
    let load = Load::start(&producer, 200);
    load.until_stored(200).await;
    cluster.pause().await.expect("paused");
    // those on the wire first, then those behind them
    let before = load.so_far().said.len();
    while load.so_far().count(|said| *said == Said::NotSent) < 200 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(load.so_far().said.len() > before);
    cluster.resume().expect("resumed");
    load.until_stored(200).await;
    let ledger = load.stop().await;
    assert!(ledger.longest < TIMEOUT + SLACK, "{:?}", ledger.longest);
    ledger.check(&cluster, &base).await;
    let unknown = ledger.count(|said| *said == Said::Unknown);
    assert!(unknown < 100, "{unknown} were on the wire: what is behind a request waits here");
    assert_eq!(ledger.count(|said| *said == Said::Stored { twice_possible: true }), 0);
    let stats = producer.stats();
    assert_eq!((stats.published, stats.unknown_outcome), (ledger.stored() as u64, unknown as u64));
    assert_eq!((stats.buffered_records, stats.buffered_bytes), (0, 0));
}

#[tokio::test]
async fn a_broker_that_is_killed_and_comes_back_loses_and_doubles_nothing() {
    let cluster = cluster().await;
    let base = lanes(&cluster, 3, &[]).await;
    let short = builder(&cluster, &base).timeout(TIMEOUT).build().expect("settings");
    let patient = builder(&cluster, &base).timeout(PATIENCE).build().expect("settings");
    short.ready().await.expect("ready");
    patient.ready().await.expect("ready");
    let load = Load::start(&patient, 200);
    load.until_stored(200).await;
    cluster.kill().await.expect("killed");

    let start = Instant::now();
    let error = short.send(mail("impatient")).await.expect_err("nobody is there");
    assert!(start.elapsed() < TIMEOUT + SLACK, "{:?}", start.elapsed());
    assert!(matches!(error, SendError::NotPublished { .. }), "{error:?}");
    assert!(error.to_string().contains("broker"), "{error}");
    assert!(error.is_retriable() && !error.may_go_out());

    cluster.restart().await.expect("started again");
    load.until_stored(200).await;
    let ledger = load.stop().await;
    assert_eq!(ledger.stored(), ledger.said.len(), "there was time for all");
    assert_eq!(ledger.count(|said| *said == Said::Stored { twice_possible: true }), 0, "repeated under their numbers");
    ledger.check(&cluster, &base).await;
}

#[tokio::test]
async fn sends_that_are_dropped_are_not_sent_and_flush_and_close_wait_for_the_others() {
    let cluster = cluster().await;
    let base = lanes(&cluster, 1, &[]).await;
    let producer = builder(&cluster, &base).build().expect("settings");
    let _ = producer.send(mail("first")).await.expect("sent");
    cluster.pause().await.expect("paused");
    let spawn = |id: &'static str| {
        let producer = producer.clone();
        tokio::spawn(async move { producer.send(mail(id)).await })
    };
    let on_the_wire = spawn("on the wire");
    while producer.stats().buffered_records < 1 {
        tokio::task::yield_now().await;
    }
    // the next ones wait behind it
    timeout(Duration::from_millis(300), std::future::pending::<()>()).await.expect_err("time passes");
    let waiting = spawn("waiting");
    let mut dropped = Box::pin(producer.send(mail("dropped")));
    assert!(dropped.as_mut().now_or_never().is_none());
    while producer.stats().buffered_records < 3 {
        tokio::task::yield_now().await;
    }
    drop(dropped);
    assert_eq!(producer.stats().buffered_records, 2);
    let mut flush = Box::pin(producer.flush());
    assert!(timeout(Duration::from_millis(200), &mut flush).await.is_err(), "two are not answered");
    cluster.resume().expect("resumed");
    timeout(PATIENCE, flush).await.expect("flushed");
    for send in [on_the_wire, waiting] {
        assert!(matches!(said(send.now_or_never().expect("answered").expect("no panic")), Said::Stored { .. }));
    }
    let clone = producer.clone();
    producer.close().await;
    assert!(matches!(clone.send(mail("too late")).await, Err(SendError::Closed)));
    let keys: Vec<String> = super::common::keys(&cluster, &base).await.into_keys().collect();
    assert_eq!(keys, ["first", "on the wire", "waiting"]);
}
