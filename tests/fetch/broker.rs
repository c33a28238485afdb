//! What a real broker's log may hold, and what may happen to it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use devkit::kafka::{Cluster, Compression, End, Record, shared, unique};
use postlane::kafka::fetch::{FetchError, Halt, Limits, PartitionReader, RskafkaReader};
use tokio::time::Instant;

use super::{
    reading::{Reading, limits, shared_client},
    recorder::Told,
};

async fn topic(cluster: &Cluster, configs: &[(&str, &str)]) -> String {
    let topic = unique("fetch");
    cluster.create_topic(&topic, 1, configs).await.unwrap();
    topic
}

fn records(count: u8) -> Vec<Record> {
    (0..count).map(|number| Record::new(vec![number; 100])).collect()
}

#[tokio::test]
async fn records_arrive_as_they_were_written_whatever_their_compression() {
    let cluster = shared().await.unwrap();
    let client = shared_client(cluster);
    let timestamp: DateTime<Utc> = "2026-01-02T03:04:05.678Z".parse().unwrap();
    for compression in
        [Compression::NoCompression, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd]
    {
        let topic = topic(cluster, &[]).await;
        let full = Record::new("välue").key(vec![0xff, 0]).header("type", "welcome").timestamp(timestamp);
        let written = vec![full, Record::null().timestamp(timestamp), Record::new("").timestamp(timestamp)];
        cluster.produce_compressed(&topic, 0, written, compression).await.unwrap();

        let reading = Reading::start(&client, &topic, 0, limits());
        reading.sink.reached(3).await;
        let read = reading.sink.records();
        assert_eq!(read.iter().map(|record| record.offset).collect::<Vec<_>>(), [0, 1, 2], "{compression:?}");
        let first = &read[0];
        assert_eq!((&*first.topic, first.partition, first.timestamp), (&*topic, 0, timestamp));
        assert_eq!(first.key.as_deref(), Some(&[0xff, 0][..]));
        assert_eq!(first.value.as_deref(), Some("välue".as_bytes()));
        assert_eq!(first.headers.iter().collect::<Vec<_>>(), [(&"type".to_owned(), &b"welcome".to_vec())]);
        assert_eq!((&read[1].key, &read[1].value), (&None, &None));
        assert_eq!(read[2].value.as_deref(), Some(&[][..]));
        assert_eq!(reading.sink.advanced(), (3, 3));
        assert_eq!(reading.end().await, 3);
    }
}

#[tokio::test]
async fn records_beyond_the_size_of_a_fetch_arrive_whole() {
    let cluster = shared().await.unwrap();
    let topic = topic(cluster, &[("max.message.bytes", "12000000")]).await;
    let sizes = [1 << 20, 10 << 20, 10, 1 << 20];
    let written = sizes.iter().zip(0u8..).map(|(size, number)| Record::new(vec![number; *size])).collect();
    cluster.produce(&topic, 0, written).await.unwrap();

    let reading = Reading::start(&shared_client(cluster), &topic, 0, limits());
    reading.sink.reached(4).await;
    let read = reading.sink.records();
    assert_eq!(read.iter().map(postlane::kafka::Record::size).collect::<Vec<_>>(), sizes);
    assert!(read.iter().zip(0u8..).all(|(record, number)| record.value.as_ref().unwrap().iter().all(|b| *b == number)));
    reading.end().await;
}

#[tokio::test]
async fn a_start_in_the_middle_of_a_batch_brings_nothing_twice() {
    let cluster = shared().await.unwrap();
    let topic = topic(cluster, &[]).await;
    cluster.produce(&topic, 0, records(10)).await.unwrap();
    let reading = Reading::start(&shared_client(cluster), &topic, 7, limits());
    reading.sink.reached(10).await;
    assert_eq!(reading.sink.told(), [Told::Delivered(7), Told::Delivered(8), Told::Delivered(9)]);
    reading.end().await;
}

#[tokio::test]
async fn a_record_written_during_a_long_poll_comes_at_once_and_shutdown_does_not_wait_for_one() {
    let cluster = shared().await.unwrap();
    let topic = topic(cluster, &[]).await;
    let patient = Limits { max_wait: Duration::from_secs(20), ..limits() };
    let reading = Reading::start(&shared_client(cluster), &topic, 0, patient);
    cluster.produce(&topic, 0, records(1)).await.unwrap();
    let written = Instant::now();
    reading.sink.reached(1).await;
    assert!(written.elapsed() < Duration::from_secs(10), "{:?}", written.elapsed());
    // `end` gives it one second.
    assert_eq!(reading.end().await, 1);
}

#[tokio::test]
async fn what_retention_took_is_told_and_reading_goes_on() {
    let cluster = shared().await.unwrap();
    let topic = topic(cluster, &[]).await;
    cluster.produce(&topic, 0, records(10)).await.unwrap();
    cluster.delete_records(&topic, 0, 6).await.unwrap();
    let reading = Reading::start(&shared_client(cluster), &topic, 2, limits());
    reading.sink.reached(10).await;
    let told = reading.sink.told();
    assert_eq!(told[..2], [Told::LostToRetention(2, 6), Told::Delivered(6)]);
    assert_eq!(told.len(), 5);
    reading.end().await;
}

#[tokio::test]
async fn a_topic_made_anew_is_read_from_its_start() {
    let cluster = shared().await.unwrap();
    let topic = topic(cluster, &[]).await;
    cluster.produce(&topic, 0, records(10)).await.unwrap();
    let reading = Reading::start(&shared_client(cluster), &topic, 0, limits());
    reading.sink.reached(10).await;

    cluster.delete_topic(&topic).await.unwrap();
    reading.sink.until(|told| told.contains(&Told::Halted(Halt::NotListed))).await;
    assert!(cluster.partitions(&topic).await.unwrap().is_empty());
    cluster.create_topic(&topic, 1, &[]).await.unwrap();
    cluster.produce(&topic, 0, records(3)).await.unwrap();
    reading.sink.until(|told| told.last() == Some(&Told::Delivered(2))).await;

    let told = reading.sink.told();
    let restart = told.iter().position(|told| *told == Told::LogRestarted(10, 0)).expect("told of the new log");
    let delivered: Vec<_> = told[restart..].iter().filter(|told| matches!(told, Told::Delivered(_))).collect();
    assert_eq!(delivered, [&Told::Delivered(0), &Told::Delivered(1), &Told::Delivered(2)]);
    assert_eq!(reading.end().await, 3);
}

/// A reader at `offset` 0 of what rskafka cannot decode. The loop stands still there, tells once, and goes on when
/// what it cannot decode is gone.
async fn stands_still_until_it_is_gone(cluster: &Cluster, topic: &str, end: i64, cause: &str) {
    let client = shared_client(cluster);
    let mut reader = RskafkaReader::new(client.clone(), topic.into(), 0, limits());
    match reader.fetch(0).await {
        Err(FetchError::Undecodable { detail }) => assert!(detail.contains(cause), "{detail}"),
        other => panic!("{other:?}"),
    }
    let reading = Reading::start(&client, topic, 0, limits());
    reading.sink.until(|told| told == [Told::Halted(Halt::Undecodable)]).await;
    cluster.produce(topic, 0, records(1)).await.unwrap();
    cluster.delete_records(topic, 0, end).await.unwrap();
    reading.sink.reached(end + 1).await;
    let expected =
        [Told::Halted(Halt::Undecodable), Told::LostToRetention(0, end), Told::Resumed, Told::Delivered(end)];
    reading.sink.until(|told| told == expected).await;
    reading.end().await;
}

#[tokio::test]
async fn a_transaction_marker_is_undecodable_and_not_unavailable() {
    let cluster = shared().await.unwrap();
    let topic = topic(cluster, &[]).await;
    cluster.produce(&topic, 0, records(1)).await.unwrap();
    cluster.transaction(&unique("tx"), &[(&topic, 0, records(2))], End::Commit).await.unwrap();
    stands_still_until_it_is_gone(cluster, &topic, 4, "Unknown control batch record version").await;
}

#[tokio::test]
async fn a_null_header_value_is_undecodable_and_not_unavailable() {
    let cluster = shared().await.unwrap();
    let topic = topic(cluster, &[]).await;
    cluster.produce_raw(&topic, 0, &[Record::new("x").null_header("empty")]).await.unwrap();
    stands_still_until_it_is_gone(cluster, &topic, 1, "out of range integral type conversion").await;
}

#[tokio::test]
async fn an_open_transaction_is_waited_for_and_told_as_such() {
    let cluster = shared().await.unwrap();
    let topic = topic(cluster, &[]).await;
    cluster.produce(&topic, 0, records(1)).await.unwrap();
    cluster.transaction(&unique("tx"), &[(&topic, 0, records(2))], End::Open).await.unwrap();
    let reading = Reading::start(&shared_client(cluster), &topic, 0, limits());
    reading.sink.until(|told| told == [Told::Delivered(0), Told::Halted(Halt::NoRecords)]).await;
    assert_eq!(reading.sink.advanced(), (1, 3));
    reading.end().await;
}
