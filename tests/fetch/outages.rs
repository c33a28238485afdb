//! Brokers that go away, freeze and hand over their partitions.

use std::time::{Duration, Instant};

use devkit::kafka::{Cluster, Record, unique};
use postlane::kafka::{
    SharedClient,
    client::Connector,
    fetch::{Halt, Limits},
};

use super::{
    proxy::Proxy,
    reading::{Reading, limits, shared_client},
    recorder::Told,
};

async fn produce(cluster: &Cluster, topic: &str, count: usize) {
    cluster.produce(topic, 0, vec![Record::new("x"); count]).await.unwrap();
}

fn delivered(told: &[Told]) -> Vec<i64> {
    told.iter().filter_map(|told| if let Told::Delivered(offset) = told { Some(*offset) } else { None }).collect()
}

/// A topic whose leader is `node` as long as that is up: Kafka spreads the leaders of new topics.
async fn topic_preferring(cluster: &Cluster, node: i32) -> String {
    for _ in 0..50 {
        let topic = unique("fetch");
        cluster.create_topic(&topic, 1, &[]).await.unwrap();
        if cluster.leader(&topic, 0).await.unwrap() == Some(node) {
            return topic;
        }
    }
    panic!("no topic of 50 is led by broker {node}");
}

#[tokio::test]
async fn reading_survives_a_broker_that_dies_and_one_that_freezes_and_creates_no_topic() {
    let cluster = Cluster::builder().auto_create_topics(true).start().await.unwrap();
    let client = shared_client(&cluster);
    let topic = unique("fetch");
    let reading = Reading::start(&client, &topic, 0, Limits { timeout: Duration::from_secs(2), ..limits() });
    reading.sink.until(|told| told == [Told::Halted(Halt::NotListed)]).await;
    assert!(cluster.partitions(&topic).await.unwrap().is_empty(), "asking must not create the topic");

    cluster.create_topic(&topic, 1, &[]).await.unwrap();
    produce(&cluster, &topic, 3).await;
    reading.sink.reached(3).await;

    cluster.kill().await.unwrap();
    reading.sink.until(|told| told.last() == Some(&Told::Halted(Halt::Unavailable))).await;
    cluster.restart().await.unwrap();
    produce(&cluster, &topic, 2).await;
    reading.sink.reached(5).await;

    cluster.pause().await.unwrap();
    reading.sink.until(|told| told.last() == Some(&Told::Halted(Halt::Unavailable))).await;
    cluster.resume().unwrap();
    produce(&cluster, &topic, 2).await;
    reading.sink.reached(7).await;

    let told = reading.sink.told();
    assert_eq!(delivered(&told), [0, 1, 2, 3, 4, 5, 6]);
    let halts: Vec<_> = told.iter().filter(|told| !matches!(told, Told::Delivered(_))).cloned().collect();
    let outage = |why| [Told::Halted(why), Told::Resumed];
    let expected = [outage(Halt::NotListed), outage(Halt::Unavailable), outage(Halt::Unavailable)].concat();
    assert_eq!(halts, expected, "each said once");
    reading.end().await;
}

#[tokio::test]
async fn reading_follows_a_leader_that_moves() {
    let cluster = Cluster::builder().brokers(2).start().await.unwrap();
    // Broker 1 is the controller and has to stay.
    let topic = topic_preferring(&cluster, 2).await;
    produce(&cluster, &topic, 3).await;
    let client = shared_client(&cluster);
    let reading = Reading::start(&client, &topic, 0, Limits { timeout: Duration::from_secs(5), ..limits() });
    reading.sink.reached(3).await;

    cluster.node(2).unwrap().kill().await.unwrap();
    produce(&cluster, &topic, 2).await;
    reading.sink.reached(5).await;
    assert_eq!(cluster.leader(&topic, 0).await.unwrap(), Some(1));

    cluster.node(2).unwrap().start().await.unwrap();
    let election = ["--election-type", "preferred", "--topic", &topic, "--partition", "0"];
    // It is elected once it has caught up, and the brokers learn that one after the other.
    let deadline = Instant::now() + Duration::from_secs(60);
    while let Err(error) = cluster.tool("org.apache.kafka.tools.LeaderElectionCommand", &election).await {
        assert!(Instant::now() < deadline, "{error:#}");
    }
    while cluster.leader(&topic, 0).await.unwrap() != Some(2) {
        assert!(Instant::now() < deadline, "broker 2 does not become the leader");
    }
    produce(&cluster, &topic, 2).await;
    reading.sink.reached(7).await;
    assert_eq!(delivered(&reading.sink.told()), [0, 1, 2, 3, 4, 5, 6]);
    reading.end().await;
}

#[tokio::test]
async fn connections_that_went_dead_without_a_word_are_built_anew() {
    let proxy = Proxy::start().await;
    let advertised = format!("PLAINTEXT://127.0.0.1:{}", proxy.port);
    let cluster = Cluster::builder().property("advertised.listeners", advertised).start().await.unwrap();
    proxy.lead_to(cluster.node(1).unwrap().address());
    let topic = unique("fetch");
    cluster.create_topic(&topic, 1, &[]).await.unwrap();
    produce(&cluster, &topic, 1).await;
    let limits = Limits { timeout: Duration::from_secs(1), ..limits() };
    // The connection for metadata crosses the proxy too.
    let client = SharedClient::new(Connector::plaintext(vec![format!("127.0.0.1:{}", proxy.port)]));
    let reading = Reading::start(&client, &topic, 0, limits);
    reading.sink.reached(1).await;

    proxy.silence();
    reading.sink.until(|told| told.last() == Some(&Told::Halted(Halt::Unavailable))).await;
    produce(&cluster, &topic, 1).await;
    reading.sink.reached(2).await;
    assert!(reading.sink.told().contains(&Told::Resumed));
    reading.end().await;
}
