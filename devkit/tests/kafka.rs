//! The kit against the real broker: what the tests of postlane build on must itself be true.
#![expect(clippy::unwrap_used, reason = "a failing step is a failing test")]

use std::time::Duration;

use chrono::DateTime;
use devkit::kafka::{self, Cluster, Compression, End, GroupProtocol, Record};

const LIMIT: Duration = Duration::from_secs(30);

#[tokio::test]
async fn what_was_produced_is_read() {
    let cluster = kafka::shared().await.unwrap();
    let topic = kafka::unique("email-queue");
    cluster.create_topic(&topic, 2, &[("compression.type", "zstd")]).await.unwrap();
    assert!(cluster.create_topic(&topic, 2, &[]).await.is_err(), "the topic exists");

    let made = DateTime::from_timestamp_millis(1_700_000_000_123).unwrap();
    let record = Record::new("value").key("key").header("type", "welcome").timestamp(made);
    assert_eq!(cluster.produce(&topic, 1, vec![record, Record::null()]).await.unwrap(), [0, 1]);

    let read = cluster.read_all(&topic).await.unwrap();
    assert_eq!(read.len(), 2);
    assert_eq!((read[0].partition, read[0].offset, read[0].timestamp), (1, 0, made));
    assert_eq!((read[0].key.as_deref(), read[0].text().as_str()), (Some(&b"key"[..]), "value"));
    assert_eq!(read[0].header_text("type").as_deref(), Some("welcome"));
    assert_eq!(read[1].value, None);

    cluster.create_partitions(&topic, 3).await.unwrap();
    assert_eq!(cluster.partitions(&topic).await.unwrap(), [0, 1, 2]);
    cluster.delete_records(&topic, 1, 1).await.unwrap();
    assert_eq!(cluster.offsets(&topic, 1).await.unwrap(), (1, 2));
    cluster.delete_topic(&topic).await.unwrap();
    assert!(cluster.partitions(&topic).await.unwrap().is_empty());
}

#[tokio::test]
async fn ten_thousand_records_take_seconds_and_keep_their_order() {
    let cluster = kafka::shared().await.unwrap();
    let topic = kafka::unique("email-queue");
    cluster.create_topic(&topic, 3, &[]).await.unwrap();
    let padding = "x".repeat(500);
    let records =
        |from: u32| (from..from + 9_999).map(|i| Record::new(format!("{i:05} {padding}"))).collect::<Vec<_>>();

    for (from, compression) in [(0, Compression::NoCompression), (10_000, Compression::Lz4)] {
        let produce = cluster.produce_spread(&topic, records(from), compression);
        tokio::time::timeout(Duration::from_secs(10), produce).await.expect("within ten seconds").unwrap();
    }
    let read = cluster.read_until(&topic, 19_998, LIMIT).await.unwrap();
    assert_eq!(read.len(), 19_998);
    for pair in read.windows(2).filter(|pair| pair[0].partition == pair[1].partition) {
        assert!(pair[0].text() < pair[1].text() && pair[0].offset + 1 == pair[1].offset);
    }
}

#[tokio::test]
async fn raw_records_and_transactions_are_what_rskafka_cannot_read() {
    let cluster = kafka::shared().await.unwrap();
    let topic = kafka::unique("email-queue");
    cluster.create_topic(&topic, 3, &[]).await.unwrap();

    let record = Record::new("a").header("twice", "1").header("twice", "2");
    assert!(cluster.produce(&topic, 0, vec![record.clone()]).await.is_err(), "rskafka knows no repeated header");
    assert_eq!(cluster.produce_raw(&topic, 0, &[record, Record::new("b")]).await.unwrap(), [0, 1]);
    let read = cluster.read_all(&topic).await.unwrap();
    assert_eq!(read.iter().map(kafka::StoredRecord::text).collect::<Vec<_>>(), ["a", "b"]);

    cluster.produce_raw(&topic, 1, &[Record::new("c").null_header("nothing")]).await.unwrap();
    assert!(cluster.read_all(&topic).await.is_err(), "rskafka reads no null header");

    let batch = || vec![Record::new("t1"), Record::new("t2")];
    let id = kafka::unique("producer");
    let writes = [(topic.as_str(), 2, batch()), (topic.as_str(), 2, batch())];
    assert_eq!(cluster.transaction(&id, &writes, End::Abort).await.unwrap(), [0, 2]);
    assert_eq!(cluster.transaction(&id, &[(&topic, 2, batch())], End::Commit).await.unwrap(), [5]);
    assert_eq!(cluster.offsets(&topic, 2).await.unwrap(), (0, 8), "four records, marker, two records, marker");
    assert_eq!(cluster.transaction(&id, &[(&topic, 2, batch())], End::Open).await.unwrap(), [8]);

    let consumer = "org.apache.kafka.tools.consumer.ConsoleConsumer";
    let arguments = ["--topic", &topic, "--partition", "2", "--offset", "0", "--timeout-ms", "3000"];
    let committed = [&arguments[..], &["--isolation-level", "read_committed"]].concat();
    assert_eq!(cluster.tool(consumer, &committed).await.unwrap().stdout, "t1\nt2\n");
    let all = cluster.tool(consumer, &arguments).await.unwrap().stdout;
    assert_eq!(all, "t1\nt2\n".repeat(4));
}

#[tokio::test]
async fn a_group_of_another_program_shows_its_members_and_its_lag() {
    let cluster = kafka::shared().await.unwrap();
    for protocol in [GroupProtocol::Classic, GroupProtocol::Consumer] {
        let (topic, group) = (kafka::unique("email-queue"), kafka::unique("group"));
        cluster.create_topic(&topic, 2, &[]).await.unwrap();
        cluster.produce(&topic, 1, (0..5).map(|_| Record::new("x")).collect()).await.unwrap();
        assert!(cluster.group_members(&group).await.unwrap().is_empty());
        assert!(cluster.group_lag(&group).await.is_err(), "there is no group");

        let consumer = cluster.foreign_consumer(&group, &topic, protocol).await.unwrap();
        let members = cluster.group_members(&group).await.unwrap();
        assert_eq!(members.iter().map(|m| &m.client_id).collect::<Vec<_>>(), [&consumer.client_id]);
        assert!(cluster.reset_offsets(&group, &topic, &["--to-offset", "2"]).await.is_err(), "it has a member");
        consumer.leave().await.unwrap();
        cluster.until_members(&group, LIMIT, <[kafka::Member]>::is_empty).await.unwrap();

        cluster.reset_offsets(&group, &topic, &["--to-offset", "2"]).await.unwrap();
        let lag = cluster.group_lag(&group).await.unwrap();
        let of_one = lag.iter().find(|line| line.partition == 1).unwrap();
        assert_eq!((of_one.current_offset, of_one.log_end, of_one.lag), (Some(2), Some(5), Some(3)));
        assert_eq!((of_one.topic.as_str(), of_one.member_id.as_deref()), (topic.as_str(), None));
    }
}

#[tokio::test]
async fn a_broker_that_was_killed_comes_back_with_its_data_at_its_address() {
    let cluster = Cluster::builder().property("message.max.bytes", "2000").start().await.unwrap();
    let address = cluster.bootstrap().to_owned();
    cluster.create_topic("kept", 1, &[]).await.unwrap();
    cluster.produce("kept", 0, vec![Record::new("before")]).await.unwrap();
    assert!(cluster.produce("kept", 0, vec![Record::new("x".repeat(3000))]).await.is_err(), "the property counts");

    cluster.kill().await.unwrap();
    assert!(!cluster.nodes()[0].is_running().unwrap());
    assert!(Cluster::attach(&address).await.is_err(), "nobody answers");
    cluster.restart().await.unwrap();
    assert_eq!(cluster.read_all("kept").await.unwrap()[0].text(), "before");

    cluster.pause().await.unwrap();
    let hung = tokio::time::timeout(Duration::from_secs(1), cluster.partitions("kept")).await;
    assert!(hung.is_err(), "a frozen broker does not answer");
    cluster.resume().unwrap();
    assert_eq!(cluster.partitions("kept").await.unwrap(), [0]);

    cluster.stop().await.unwrap();
    cluster.restart().await.unwrap();
    cluster.produce("kept", 0, vec![Record::new("after")]).await.unwrap();
    assert_eq!(cluster.read_all("kept").await.unwrap().len(), 2);
    drop(cluster);
    assert!(Cluster::attach(&address).await.is_err(), "it ends with its owner");
}

#[tokio::test]
async fn a_broker_that_does_not_start_says_why() {
    let error = Cluster::builder().property("num.network.threads", "0").start().await.unwrap_err();
    assert!(format!("{error:#}").contains("Invalid value 0 for configuration num.network.threads"), "{error:#}");
    // This one passes the storage tool and ends the broker itself, as a port that was taken in the meantime does.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listeners = format!("PLAINTEXT://127.0.0.1:0,CONTROLLER://{}", taken.local_addr().unwrap());
    let error = Cluster::builder().property("listeners", listeners).start().await.unwrap_err();
    assert!(format!("{error:#}").contains("Address already in use"), "{error:#}");
}

#[tokio::test]
async fn three_brokers_survive_the_loss_of_a_leader() {
    let cluster = Cluster::builder().brokers(3).start().await.unwrap();
    cluster.create_topic("replicated", 1, &[("min.insync.replicas", "2")]).await.unwrap();
    cluster.produce("replicated", 0, vec![Record::new("before")]).await.unwrap();

    let leader = cluster.leader("replicated", 0).await.unwrap().unwrap();
    cluster.node(leader).unwrap().kill().await.unwrap();
    cluster.produce("replicated", 0, vec![Record::new("after")]).await.unwrap();
    assert_ne!(cluster.leader("replicated", 0).await.unwrap(), Some(leader));
    cluster.node(leader).unwrap().start().await.unwrap();
    assert_eq!(cluster.read_until("replicated", 2, LIMIT).await.unwrap()[1].text(), "after");
}
