//! The group's coordinator on a real broker.
use postlane::kafka::{client::Connector, coordinator::Coordinator};
#[tokio::test]
async fn smoke() {
    let c = Connector::new(&postlane::config::Kafka{brokers: vec![std::env::var("POSTLANE_TEST_BROKERS").unwrap()], topic_high: String::new(), topic_normal: String::new(), topic_low: String::new(), topic_dead_letters: String::new(), group_id: String::new(), auto_offset_reset: postlane::config::OffsetReset::Earliest, commit_interval: std::time::Duration::from_secs(1), fetch_max_bytes: 1, fetch_max_wait: std::time::Duration::from_secs(1), buffer_records: 1, buffer_bytes: 1, window_records:1, window_bytes: 1});
    let mut k = Coordinator::new(c.clone(), "smoke-coord-1");
    println!("{:?}", k.describe().await);
    println!("{:?}", k.committed(&[("nope".into(), vec![0,1])]).await);
    println!("{:?}", k.commit(&[postlane::kafka::coordinator::Commit{topic: "nope".into(), partition: 0, offset: 5, metadata: "x".into()}]).await);
    println!("{:?}", c.rskafka().await.unwrap().list_topics().await);
}
