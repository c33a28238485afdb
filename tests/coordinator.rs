//! The group's coordinator on a real broker: what is committed is there, for us and for Kafka's own tools, and nothing is
//! read that was not committed.

use std::{error::Error as _, future::poll_fn, pin::pin, sync::Arc, task::Poll, time::Duration};

use devkit::kafka::{self, Cluster, GroupProtocol, unique};
use postlane::kafka::{
    client::Connector,
    coordinator::{Commit, Committed, Coordinator, Error, Protocol, Refusal, State},
};
use tokio::time::{Instant, timeout};

/// Long enough for a broker that has to start first.
const PATIENCE: Duration = Duration::from_secs(60);

fn connector(cluster: &Cluster) -> Connector {
    Connector::plaintext(cluster.bootstrap().split(',').map(str::to_owned).collect())
}

fn coordinator(cluster: &Cluster, group: &str) -> Coordinator {
    Coordinator::new(connector(cluster), group).with_deadline(PATIENCE)
}

async fn topic(cluster: &Cluster, partitions: i32) -> Arc<str> {
    let topic = unique("coordinator");
    cluster.create_topic(&topic, partitions, &[]).await.expect("a topic");
    topic.into()
}

fn commit(topic: &Arc<str>, partition: i32, offset: i64, metadata: &str) -> Commit {
    Commit { topic: topic.clone(), partition, offset, metadata: metadata.to_owned() }
}

fn committed(topic: &Arc<str>, partition: i32, offset: Option<i64>, metadata: &str) -> Committed {
    Committed { topic: topic.clone(), partition, offset, metadata: metadata.to_owned() }
}

async fn results(coordinator: &mut Coordinator, commits: &[Commit]) -> Result<Vec<Result<(), Refusal>>, Error> {
    Ok(coordinator.commit(commits).await?.into_iter().map(|settled| settled.result).collect())
}

#[tokio::test]
async fn what_was_committed_is_read_back_by_us_and_by_kafkas_own_tool() {
    let cluster = kafka::shared().await.expect("a broker");
    let (topic, other) = (topic(cluster, 3).await, topic(cluster, 1).await);
    let group = unique("group");
    let mut coordinator = coordinator(cluster, &group);
    let asked = [(topic.clone(), vec![2, 0, 1]), (other.clone(), vec![0])];

    let before = coordinator.committed(&asked).await.expect("no commits are an answer");
    assert!(before.iter().all(|it| it.offset.is_none() && it.metadata.is_empty()), "{before:?}");

    let commits = [commit(&topic, 0, 0, ""), commit(&other, 0, 9, "ä+1"), commit(&topic, 2, i64::MAX, "window")];
    assert_eq!(results(&mut coordinator, &commits).await.expect("an answer"), [Ok(()); 3]);

    let after = [
        committed(&topic, 2, Some(i64::MAX), "window"),
        committed(&topic, 0, Some(0), ""),
        committed(&topic, 1, None, ""),
        committed(&other, 0, Some(9), "ä+1"),
    ];
    assert_eq!(coordinator.committed(&asked).await.expect("the offsets"), after);
    let mut anew = self::coordinator(cluster, &group);
    assert_eq!(anew.committed(&asked).await.expect("the offsets"), after, "on another connection");

    let mut lag = cluster.group_lag(&group).await.expect("the group is known");
    lag.sort_by_key(|line| (line.topic != *topic, line.partition));
    let told: Vec<_> = lag.iter().map(|line| (line.topic.as_str(), line.partition, line.current_offset)).collect();
    assert_eq!(told, [(&*topic, 0, Some(0)), (&*topic, 2, Some(i64::MAX)), (&*other, 0, Some(9))]);
}

#[tokio::test]
async fn a_later_commit_replaces_an_earlier_one() {
    let cluster = kafka::shared().await.expect("a broker");
    let topic = topic(cluster, 1).await;
    let mut coordinator = coordinator(cluster, &unique("group"));

    for (offset, metadata) in [(5, "five"), (8, ""), (3, "back")] {
        let _ = coordinator.commit(&[commit(&topic, 0, offset, metadata)]).await.expect("an answer");
        let told = coordinator.committed(&[(topic.clone(), vec![0])]).await.expect("the offset");
        assert_eq!(told, [committed(&topic, 0, Some(offset), metadata)]);
    }
}

#[tokio::test]
async fn metadata_beyond_the_brokers_limit_are_refused_for_that_partition_alone() {
    let cluster = kafka::shared().await.expect("a broker");
    let topic = topic(cluster, 3).await;
    let mut coordinator = coordinator(cluster, &unique("group"));

    let (most, too_much) = ("x".repeat(4096), "x".repeat(4097));
    let commits = [commit(&topic, 0, 1, &most), commit(&topic, 1, 1, &too_much), commit(&topic, 2, 1, "")];
    let results = results(&mut coordinator, &commits).await.expect("an answer");
    assert_eq!(results, [Ok(()), Err(Refusal::MetadataTooLarge), Ok(())]);

    let told = coordinator.committed(&[(topic.clone(), vec![0, 1, 2])]).await.expect("the offsets");
    let expected =
        [committed(&topic, 0, Some(1), &most), committed(&topic, 1, None, ""), committed(&topic, 2, Some(1), "")];
    assert_eq!(told, expected);
}

#[tokio::test]
async fn an_unknown_partition_is_refused_alone_and_has_no_commit() {
    let cluster = kafka::shared().await.expect("a broker");
    let (topic, unknown) = (topic(cluster, 1).await, Arc::from(unique("unknown")));
    let mut coordinator = coordinator(cluster, &unique("group"));

    let commits = [commit(&unknown, 0, 1, ""), commit(&topic, 0, 1, ""), commit(&topic, 1, 1, "")];
    let results = results(&mut coordinator, &commits).await.expect("an answer");
    assert_eq!(results, [Err(Refusal::UnknownPartition), Ok(()), Err(Refusal::UnknownPartition)]);

    let told = coordinator.committed(&[(unknown.clone(), vec![0])]).await.expect("an answer");
    assert_eq!(told, [committed(&unknown, 0, None, "")]);
}

#[tokio::test]
async fn a_classic_member_of_another_program_is_named_and_once_it_has_left_commits_go_through() {
    refused_until_the_member_has_left(GroupProtocol::Classic).await;
}

#[tokio::test]
async fn a_member_of_the_newer_protocol_is_named_and_once_it_has_left_commits_go_through() {
    refused_until_the_member_has_left(GroupProtocol::Consumer).await;
}

async fn refused_until_the_member_has_left(protocol: GroupProtocol) {
    let cluster = kafka::shared().await.expect("a broker");
    let topic = topic(cluster, 1).await;
    let group = unique("group");
    let mut coordinator = coordinator(cluster, &group);
    let commits = [commit(&topic, 0, 77, "ours")];
    assert_eq!(coordinator.describe().await.expect("a state").state, State::Absent);

    let other = cluster.foreign_consumer(&group, &topic, protocol).await.expect("another consumer");
    let error = results(&mut coordinator, &commits).await.expect_err("the group has a member");
    let Error::LiveMembers { members, .. } = &error else { panic!("{error:?}") };
    assert_eq!(members.len(), 1);
    assert_eq!(members[0].client_id, other.client_id);
    let words = format!("consumer group {group} is in use by another program ({} at 127.0.0.1)", other.client_id);
    assert!(error.to_string().starts_with(&words), "{error}");

    let live = coordinator.describe().await.expect("a state");
    assert_eq!(live.state, State::Live("Stable".to_owned()));
    assert_eq!(
        live.protocol,
        match protocol {
            GroupProtocol::Classic => Protocol::Classic("consumer".to_owned()),
            GroupProtocol::Consumer => Protocol::Consumer,
        }
    );

    other.leave().await.expect("it ends");
    cluster.until_members(&group, PATIENCE, <[_]>::is_empty).await.expect("it has left");
    assert_eq!(results(&mut coordinator, &commits).await.expect("an answer"), [Ok(())]);
    let told = coordinator.committed(&[(topic.clone(), vec![0])]).await.expect("the offset");
    assert_eq!(told, [committed(&topic, 0, Some(77), "ours")]);
    assert_eq!(coordinator.describe().await.expect("a state").state, State::Empty);
}

#[tokio::test]
async fn a_call_that_was_dropped_never_answers_the_next_one() {
    let cluster = kafka::shared().await.expect("a broker");
    let topic = topic(cluster, 2).await;
    let group = unique("group");
    let (first, second) = ([(topic.clone(), vec![0])], [(topic.clone(), vec![1])]);
    let both = [commit(&topic, 0, 100, "a"), commit(&topic, 1, 200, "b")];
    let _ = coordinator(cluster, &group).commit(&both).await.expect("an answer");
    let expected = [committed(&topic, 1, Some(200), "b")];

    // At each point at which a first call waits: for a connection, for the versions, for the coordinator, for the offset.
    for polls in 1.. {
        let mut coordinator = coordinator(cluster, &group);
        let finished = cut_after(polls, coordinator.committed(&first)).await.is_some();
        assert_eq!(coordinator.committed(&second).await.expect("the offset"), expected, "cut after {polls} polls");

        // On a connection that stands, with the request sent and its answer not read. Where the machine was busy between
        // the two, the answer is there at once.
        let mut tries = 1..20;
        while cut_after(1, coordinator.committed(&first)).await.is_some() {
            assert!(tries.next().is_some(), "no call waits for its answer");
        }
        assert_eq!(coordinator.committed(&second).await.expect("the offset"), expected, "cut before the answer");
        if finished {
            assert!(polls > 5, "a first call waits more often than {polls} times");
            break;
        }
    }
}

/// Drops a call when it would go on for the time after `polls`; `None` if that happened.
async fn cut_after<T>(polls: usize, call: impl Future<Output = T>) -> Option<T> {
    let (mut call, mut left) = (pin!(call), polls);
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        call.as_mut().poll(context).map(Some)
    })
    .await
}

#[tokio::test]
async fn a_broker_that_was_killed_and_came_back_is_found_again() {
    let cluster = Cluster::builder().start().await.expect("a cluster of its own");
    let topic = topic(&cluster, 1).await;
    let mut coordinator = coordinator(&cluster, "group");
    // The first commit of a cluster: the topic of the offsets is not there yet.
    assert_eq!(results(&mut coordinator, &[commit(&topic, 0, 3, "m")]).await.expect("an answer"), [Ok(())]);

    cluster.kill().await.expect("killed");
    let asked = [(topic.clone(), vec![0])];
    let (told, restarted) = tokio::join!(coordinator.committed(&asked), cluster.restart());
    restarted.expect("the broker is back");
    assert_eq!(told.expect("the offset"), [committed(&topic, 0, Some(3), "m")], "asked while it was away");

    cluster.restart().await.expect("the broker is back");
    assert_eq!(results(&mut coordinator, &[commit(&topic, 0, 4, "")]).await.expect("an answer"), [Ok(())]);
}

#[tokio::test]
async fn a_broker_that_hangs_is_waited_for_no_longer_than_the_deadline() {
    let cluster = Cluster::builder().start().await.expect("a cluster of its own");
    let topic = topic(&cluster, 1).await;
    let mut coordinator = coordinator(&cluster, "group");
    let commits = [commit(&topic, 0, 3, "")];
    assert_eq!(results(&mut coordinator, &commits).await.expect("an answer"), [Ok(())]);

    cluster.pause().await.expect("paused");
    coordinator = coordinator.with_deadline(Duration::from_secs(8));
    let started = Instant::now();
    let error = results(&mut coordinator, &commits).await.expect_err("nobody answers");
    assert!(started.elapsed() < Duration::from_secs(9), "{:?}", started.elapsed());
    assert!(error.is_retriable());
    let last = error.source().expect("what was seen").to_string();
    assert!(last.contains("did not answer OffsetCommit within 6s"), "{last}");

    cluster.resume().expect("resumed");
    coordinator = coordinator.with_deadline(PATIENCE);
    assert_eq!(results(&mut coordinator, &commits).await.expect("an answer"), [Ok(())]);
}

#[tokio::test]
async fn the_loss_of_any_one_broker_of_three_is_survived() {
    let cluster = Cluster::builder().brokers(3).start().await.expect("a cluster of its own");
    let topic = topic(&cluster, 1).await;
    let mut coordinator = coordinator(&cluster, "group");
    assert_eq!(results(&mut coordinator, &[commit(&topic, 0, 0, "")]).await.expect("an answer"), [Ok(())]);

    for (node, offset) in cluster.nodes().iter().zip(1..) {
        node.kill().await.expect("killed");
        let told = coordinator.committed(&[(topic.clone(), vec![0])]).await.expect("the offset");
        assert_eq!(told, [committed(&topic, 0, Some(offset - 1), "")], "without broker {}", node.id());
        let commits = [commit(&topic, 0, offset, "")];
        assert_eq!(results(&mut coordinator, &commits).await.expect("an answer"), [Ok(())]);
        node.start().await.expect("the broker is back");
    }
}

#[tokio::test]
async fn the_rskafka_client_speaks_to_the_same_brokers() {
    let cluster = kafka::shared().await.expect("a broker");
    let topic = topic(cluster, 2).await;
    let client = connector(cluster).rskafka().await.expect("a client");

    let topics = client.list_topics().await.expect("the topics");
    let found = topics.iter().find(|it| it.name == *topic).expect("our topic");
    assert_eq!(found.partitions.len(), 2);
}

#[tokio::test]
async fn an_rskafka_client_for_nobody_gives_up() {
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = nobody.local_addr().expect("it is bound").to_string();
    drop(nobody);

    let built = timeout(PATIENCE, Connector::plaintext(vec![address.clone()]).rskafka()).await.expect("it gives up");
    let error = built.expect_err("nobody listens");
    assert!(error.to_string().contains(&address), "{error}");
}
