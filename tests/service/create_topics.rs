//! Topics that postlane makes, and what it says of those that it finds.

use devkit::smtp::SmtpServer;
use postlane::{
    event::Priority,
    kafka::{client::Connector, topics::Admin},
};

use crate::{
    bed::{Bed, end},
    watch::{each_once, line, mails, odd_cluster, said, until},
};

#[tokio::test]
async fn an_empty_broker_gets_its_topics_at_the_start() {
    let cluster = odd_cluster().await;
    let mut bed = Bed::bare(cluster, SmtpServer::builder()).await;
    bed.set("KAFKA_CREATE_TOPICS", true);
    bed.set("KAFKA_TOPIC_PARTITIONS", 2);
    bed.set("KAFKA_DLQ_RETENTION", "8d");
    // what is published before the first look is read all the same
    bed.set("KAFKA_AUTO_OFFSET_RESET", "latest");
    let mut one = bed.start();
    for topic in bed.names.lanes().into_iter().chain([bed.names.dead_letters.as_str()]) {
        line(&mut one, &["INFO", "\"created\"", &format!("\"{topic}\"")]).await;
    }
    until("all have leaders", async || {
        let mut there = 0;
        for topic in bed.names.lanes() {
            there += cluster.partitions(topic).await.ok()?.len();
        }
        (there == 6).then_some(())
    })
    .await;
    bed.publish(Priority::Normal, mails("n", 0..4)).await;
    each_once(&bed.smtp, "n", 0..4).await;
    bed.wait_for_no_lag(&mut one).await;
    let log = end(one).await;
    assert!(!log.contains("\"WARN\"") && !log.contains("\"ERROR\""), "{log}");

    let brokers = cluster.bootstrap().split(',').map(str::to_owned).collect();
    let mut admin = Admin::open(&Connector::plaintext(brokers)).await.expect("a broker");
    let made = admin.configs(&[&bed.names.dead_letters]).await.expect("an answer").remove(0).expect("settings");
    assert_eq!((made.retention_ms, made.retention_bytes, made.compacted), (Some(691_200_000), None, false));
}

#[tokio::test]
async fn two_that_start_at_once_make_each_topic_once() {
    let cluster = odd_cluster().await;
    let mut bed = Bed::bare(cluster, SmtpServer::builder()).await;
    bed.set("KAFKA_CREATE_TOPICS", true);
    let mut services = [bed.start(), bed.start()];
    for service in &mut services {
        line(service, &["\"reading\"", &bed.names.low]).await;
    }
    for topic in bed.names.lanes() {
        let made: usize = services.iter().map(|it| said(it, &["\"created\"", &format!("\"{topic}\"")])).sum();
        assert_eq!(made, 1, "{topic}");
        assert_eq!(cluster.partitions(topic).await.expect("partitions").len(), 6);
    }
    for service in services {
        assert_eq!(said(&service, &["cannot be created"]), 0, "{}", service.tail());
        end(service).await;
    }
}

#[tokio::test]
async fn more_replicas_than_brokers_is_one_sentence_and_is_tried_again() {
    let cluster = odd_cluster().await;
    let mut bed = Bed::bare(cluster, SmtpServer::builder()).await;
    bed.set("KAFKA_CREATE_TOPICS", true);
    bed.set("KAFKA_TOPIC_REPLICATION_FACTOR", 3);
    bed.set("KAFKA_DISCOVERY_INTERVAL", "300ms");
    bed.set("RUST_LOG", "info,rskafka=error,postlane::kafka::topics=debug");
    cluster.create_topic(&bed.names.high, 1, &[]).await.expect("a topic");
    let mut service = bed.start();
    bed.publish(Priority::High, mails("h", 0..3)).await;
    each_once(&bed.smtp, "h", 0..3).await;
    let sentence = format!(
        "topic {} cannot be created with KAFKA_TOPIC_REPLICATION_FACTOR=3: the cluster has 1 broker",
        bed.names.low
    );
    line(&mut service, &["ERROR", &sentence]).await;
    line(&mut service, &["DEBUG", "still cannot be created", &sentence]).await;
    // somebody else makes them: all goes on by itself
    for topic in [&bed.names.normal, &bed.names.low, &bed.names.dead_letters] {
        cluster.create_topic(topic, 1, &[]).await.expect("a topic");
    }
    bed.publish(Priority::Low, mails("l", 0..3)).await;
    each_once(&bed.smtp, "l", 0..3).await;
    assert_eq!(said(&service, &["ERROR", &sentence]), 1);
    end(service).await;
}

#[tokio::test]
async fn settings_that_lose_mails_are_warned_of_once_each() {
    let cluster = odd_cluster().await;
    let bed = Bed::bare(cluster, SmtpServer::builder()).await;
    cluster.create_topic(&bed.names.high, 1, &[("cleanup.policy", "compact")]).await.expect("a topic");
    cluster.create_topic(&bed.names.normal, 1, &[("retention.ms", "-1")]).await.expect("a topic");
    cluster.create_topic(&bed.names.low, 1, &[]).await.expect("a topic");
    let small = [("retention.bytes", "5000000"), ("max.message.bytes", "2000")];
    cluster.create_topic(&bed.names.dead_letters, 1, &small).await.expect("a topic");
    let mut service = bed.start();
    let facts = [
        format!("topic {} is compacted", bed.names.high),
        format!("dead letter topic {} keeps 5000000 bytes", bed.names.dead_letters),
        format!("and {} for ever", bed.names.normal),
        format!("dead letter topic {} takes records of 2000 bytes", bed.names.dead_letters),
    ];
    for fact in &facts {
        line(&mut service, &["WARN", fact]).await;
    }
    for fact in &facts {
        assert_eq!(said(&service, &["WARN", fact]), 1, "{}", service.tail());
    }
    assert_eq!(said(&service, &["WARN"]), facts.len(), "{}", service.tail());
    end(service).await;
}

#[tokio::test]
async fn topics_create_makes_what_is_missing_and_changes_nothing() {
    let cluster = odd_cluster().await;
    let mut bed = Bed::bare(cluster, SmtpServer::builder()).await;
    // a job that makes topics knows of no relay
    bed.set("SMTP_HOST", "");
    cluster.create_topic(&bed.names.high, 1, &[]).await.expect("a topic");
    let (status, table, stderr) = bed.run(&["topics", "create"]).await;
    assert_eq!(status, Some(0), "{table}{stderr}");
    let rows: Vec<&str> = table.lines().collect();
    assert!(rows[0].starts_with("differs") && rows[0].contains("partitions: 1, not 6"), "{table}");
    assert!(rows[1..].iter().all(|row| row.starts_with("created")), "{table}");
    assert_eq!(rows.len(), 4);
    until("they are there", async || {
        (cluster.partitions(&bed.names.dead_letters).await.ok()?.len() == 6).then_some(())
    })
    .await;

    let (status, again, _) = bed.run(&["topics", "create"]).await;
    assert_eq!(status, Some(0), "{again}");
    assert_eq!(again.lines().filter(|row| row.starts_with("exists")).count(), 3, "{again}");
    assert_eq!(cluster.partitions(&bed.names.high).await.expect("partitions").len(), 1, "nothing is changed");

    bed.set("KAFKA_TOPIC_LOW", devkit::kafka::unique("other"));
    bed.set("KAFKA_TOPIC_REPLICATION_FACTOR", 3);
    let (status, refused, _) = bed.run(&["topics", "create"]).await;
    assert_eq!(status, Some(1), "{refused}");
    assert!(refused.contains("FAILED") && refused.contains("the cluster has 1 broker"), "{refused}");

    bed.set("KAFKA_TOPIC_PARTITIONS", 0);
    let (status, _, stderr) = bed.run(&["topics", "create"]).await;
    assert_eq!(status, Some(78));
    assert!(stderr.contains("KAFKA_TOPIC_PARTITIONS=\"0\""), "{stderr}");
    assert!(!stderr.contains("SMTP_HOST"), "{stderr}");
}
