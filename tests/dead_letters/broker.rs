//! What a real broker takes, and what follows where it does not.

use chrono::{TimeDelta, Utc};
use devkit::kafka::{shared, unique};
use postlane::kafka::Record;
use tokio::time::{Instant, timeout};

use super::writing::{
    PATIENCE, configure, failure, noise, original_offset, record, spawn, topic, until_healthy, writer, written,
};

#[tokio::test]
async fn a_letter_reads_back_as_the_record_was_in_the_same_partition_modulo_the_count() {
    let cluster = shared().await.unwrap();
    let topic = topic(cluster, 3, &[]).await;
    let letters = writer(cluster, &topic);
    let full = Record { value: Some(b"{\0\xff".to_vec()), key: Some(vec![0xfe]), ..record(7, 100, "") };
    let empty = Record { value: None, key: None, ..record(2, 101, "") };
    letters.write(&full, &failure()).await.unwrap();
    letters.write(&empty, &failure()).await.unwrap();

    let stored = cluster.read_all(&topic).await.unwrap();
    assert_eq!(stored.iter().map(|letter| letter.partition).collect::<Vec<_>>(), [1, 2]);
    for (letter, record) in stored.iter().zip([&full, &empty]) {
        assert_eq!((&letter.key, &letter.value), (&record.key, &record.value));
        assert_eq!(letter.headers["type"], b"welcome");
        assert_eq!(letter.headers["kafka_dlt-original-partition"], record.partition.to_be_bytes());
        assert_eq!(original_offset(letter), record.offset);
        assert_eq!(letter.header_text("postlane-reason").as_deref(), Some("malformed"));
        assert!((Utc::now() - letter.timestamp).abs() < TimeDelta::minutes(5), "{}", letter.timestamp);
    }
}

#[tokio::test]
async fn what_is_too_large_for_the_topic_becomes_a_stub_and_its_neighbours_stay_whole() {
    let cluster = shared().await.unwrap();
    let topic = topic(cluster, 1, &[("max.message.bytes", "2000")]).await;
    let letters = writer(cluster, &topic);
    let large = record(0, 1, noise(0, 5000));
    let size = large.size().to_string();
    // Three of these are too large together, so that batches are refused whose letters are all fine.
    let small = (2..12).map(|offset| record(0, offset, noise(offset.unsigned_abs(), 700)));
    let writes: Vec<_> = std::iter::once(large).chain(small).map(|record| spawn(&letters, record)).collect();
    for write in writes {
        written(write).await;
    }

    let mut stored = cluster.read_all(&topic).await.unwrap();
    stored.sort_by_key(original_offset);
    assert_eq!(stored.iter().map(original_offset).collect::<Vec<_>>(), (1..12).collect::<Vec<_>>(), "each once");
    assert_eq!((stored[0].key.as_deref(), &stored[0].value), (Some(&b"1"[..]), &None));
    assert_eq!(stored[0].header_text("postlane-original-size"), Some(size));
    for letter in &stored[1..] {
        assert_eq!(letter.value, Some(noise(original_offset(letter).unsigned_abs(), 700)));
        assert!(!letter.headers.contains_key("postlane-original-size"));
    }
    assert!(letters.healthy());
}

#[tokio::test]
async fn a_stub_that_is_refused_too_waits_and_holds_up_no_other() {
    let cluster = shared().await.unwrap();
    let topic = topic(cluster, 1, &[("max.message.bytes", "2000")]).await;
    let letters = writer(cluster, &topic);
    let stuck = spawn(&letters, Record { key: Some(noise(0, 5000)), ..record(0, 1, "x") });
    for offset in 2..22 {
        timeout(PATIENCE, letters.write(&record(0, offset, "x"), &failure())).await.unwrap().unwrap();
    }
    assert!(!stuck.is_finished());
    assert_eq!(cluster.read_all(&topic).await.unwrap().len(), 20);

    configure(cluster, &topic, "max.message.bytes=100000").await;
    written(stuck).await;
    assert_eq!(cluster.read_all(&topic).await.unwrap().iter().map(original_offset).max(), Some(21));
    assert_eq!(cluster.read_all(&topic).await.unwrap().len(), 21);
}

#[tokio::test]
async fn a_missing_topic_is_waited_for() {
    let cluster = shared().await.unwrap();
    let topic = unique("dead");
    let letters = writer(cluster, &topic);
    let writes: Vec<_> = (0..3).map(|offset| spawn(&letters, record(0, offset, "x"))).collect();
    until_healthy(&letters, false).await;
    assert!(writes.iter().all(|write| !write.is_finished()));
    assert!(cluster.partitions(&topic).await.unwrap().is_empty(), "asking must not create the topic");

    cluster.create_topic(&topic, 2, &[]).await.unwrap();
    for write in writes {
        written(write).await;
    }
    assert_eq!(cluster.read_all(&topic).await.unwrap().len(), 3);
    assert!(letters.healthy());
}

#[tokio::test]
async fn a_flood_is_written_in_batches() {
    const COUNT: i64 = 5000;
    let cluster = shared().await.unwrap();
    let topic = topic(cluster, 3, &[]).await;
    let letters = writer(cluster, &topic);
    let value = br#"{"type":"welcome","message":{"to":"not an address","template":"welcome","data":{"Name":"x"}}}"#;
    let start = Instant::now();
    let writes: Vec<_> = (0..COUNT)
        .map(|offset| spawn(&letters, record(i32::try_from(offset % 12).unwrap(), offset, &value[..])))
        .collect();
    for write in writes {
        written(write).await;
    }
    let elapsed = start.elapsed();
    println!("{COUNT} dead letters in {elapsed:?}: {:.0}/s", 5000.0 / elapsed.as_secs_f64());
    let mut offsets: Vec<i64> = cluster.read_all(&topic).await.unwrap().iter().map(original_offset).collect();
    offsets.sort_unstable();
    assert_eq!(offsets, (0..COUNT).collect::<Vec<_>>());
    // One request for each letter and 45 ms for each would be minutes.
    assert!(elapsed < PATIENCE, "{elapsed:?}");
}
