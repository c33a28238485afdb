//! Brokers that go away and come back in the middle of a file.

use std::time::Duration;

use devkit::kafka::Cluster;
use postlane::event::Priority;
use serde_json::json;

use crate::bed::{Bed, events, ids};

const LINES: usize = 20_000;

#[tokio::test]
async fn a_file_waits_for_brokers_that_are_killed_and_come_back() {
    let cluster = Cluster::builder().start().await.expect("a broker");
    let mut bed = Bed::on(&cluster).await;
    bed.program.set("PUBLISH_TIMEOUT", "500ms");
    let file = bed.program.write("events", &events(1..=LINES));
    let mut running = bed.program.start(&["send", "--file", &file, "--rate", "5000/s", "--json"]);
    bed.program.wait_for_published(2000).await;
    cluster.kill().await.expect("killed");
    bed.program.wait_for(|| running.log().contains("waiting, up to 5:00")).await;
    cluster.restart().await.expect("back");
    assert_eq!(running.wait().await, Some(0), "{}", running.log());
    let log = running.log();
    assert_eq!(log.matches("waiting, up to").count(), 1, "said once, not for each mail: {log}");
    assert!(log.contains("it goes on after"), "{log}");
    let found = bed.ids(Priority::Normal).await;
    assert!(ids(1..=LINES).all(|id| found.contains_key(&id)), "{} ids: {log}", found.len());
    let object: serde_json::Value = serde_json::from_str(log.lines().last().expect("a line")).expect("JSON");
    assert_eq!(object["published"], json!(LINES));
    let twice = found.values().filter(|times| **times > 1).count() as u64;
    assert!(object["twice_possible"].as_u64() >= Some(twice), "{twice} are there twice: {object}");
}

#[tokio::test]
async fn a_file_gives_brokers_up_that_stand_still_for_too_long_and_goes_on_later() {
    let cluster = Cluster::builder().start().await.expect("a broker");
    let mut bed = Bed::on(&cluster).await;
    bed.program.set("PUBLISH_TIMEOUT", "500ms");
    let file = bed.program.write("events", &events(1..=LINES));
    let mut running = bed.program.start(&["send", "--file", &file, "--rate", "5000/s", "--give-up-after", "2s"]);
    bed.program.wait_for_published(2000).await;
    cluster.pause().await.expect("stopped");
    assert_eq!(running.wait().await, Some(75), "{}", running.log());
    assert!(running.log().contains("gave up (--give-up-after)"), "{}", running.log());
    cluster.resume().expect("goes on");
    let ended = bed.program.run(&["send", "--file", &file, "--give-up-after", "1m"]).await;
    ended.assert(0);
    let found = bed.ids(Priority::Normal).await;
    assert!(ids(1..=LINES).all(|id| found.contains_key(&id)), "{} ids", found.len());
}

#[tokio::test]
async fn without_any_broker_it_ends_in_time_and_keeps_its_place() {
    let mut bed = Bed::new().await;
    let file = bed.program.write("events", &events(1..=10));
    bed.program.set("KAFKA_BROKERS", "127.0.0.1:1");
    bed.program.set("PUBLISH_TIMEOUT", "100ms");
    let started = std::time::Instant::now();
    let ended = bed.program.run(&["send", "--file", &file, "--give-up-after", "1s", "--json"]).await;
    assert!(started.elapsed() < Duration::from_secs(10));
    let object = ended.assert(75).json();
    assert_eq!((&object["result"], &object["next_line"]), (&json!("gave-up"), &json!(1)));

    // a topic that is missing does not come by waiting
    bed.program.set("KAFKA_BROKERS", bed.cluster.bootstrap());
    bed.program.set("KAFKA_TOPIC_NORMAL", devkit::kafka::unique("missing"));
    let ended = bed.program.run(&["send", "--file", &file]).await;
    assert!(ended.assert(1).err.contains("no mail would be taken"), "{}", ended.err);
}
