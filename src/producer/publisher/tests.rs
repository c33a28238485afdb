//! The publisher against a broker that follows a script, and knows repetitions as a real one does.

mod broker;

use std::{sync::Arc, time::Duration};

use futures::{FutureExt as _, future::join_all};
use kafka_protocol::ResponseError as Code;
use tokio::time::{Instant, timeout};

use self::broker::{Fake, Play};
use super::*;

/// Long enough for everything but a defect.
const PATIENCE: Duration = Duration::from_secs(20);

/// Time of a record that is to run out.
const SHORT: Duration = Duration::from_millis(1200);

fn limits() -> Limits {
    Limits { linger: Duration::from_millis(2), records: 1000, bytes: 1 << 20, refuse_when_full: false }
}

fn publisher(fake: &Fake) -> Arc<Publisher> {
    with(fake, limits())
}

fn with(fake: &Fake, limits: Limits) -> Arc<Publisher> {
    Arc::new(Publisher::new(Connector::plaintext(vec![fake.address()]), limits))
}

fn record(key: &str) -> Outgoing {
    Outgoing {
        topic: "t".into(),
        key: key.into(),
        value: b"{}".to_vec(),
        headers: BTreeMap::from([("type".to_owned(), b"welcome".to_vec())]),
        timestamp: Utc::now(),
    }
}

async fn publish_for(publisher: &Publisher, key: &str, time: Duration) -> Published {
    publisher.publish(record(key), Instant::now() + time).await
}

async fn publish(publisher: &Publisher, key: &str) -> Published {
    publish_for(publisher, key, PATIENCE).await
}

#[track_caller]
fn stored(published: &Published) -> (i64, bool) {
    match published {
        Published::Stored { offset, repeated, .. } => (*offset, *repeated),
        other => panic!("stored, and not {other:?}"),
    }
}

#[tokio::test]
async fn an_answer_that_is_lost_makes_no_duplicate() {
    for lost in [Play::StoreAndHangUp, Play::HangUp, Play::StoreAnd(Code::RequestTimedOut)] {
        let fake = Fake::start(1).await;
        fake.play([Play::Store, lost]);
        let publisher = publisher(&fake);
        assert_eq!(stored(&publish(&publisher, "a").await), (0, false));
        assert_eq!(stored(&publish(&publisher, "b").await), (1, false), "{lost:?}");
        assert_eq!(stored(&publish(&publisher, "c").await), (2, false));
        assert_eq!(fake.keys(), ["a", "b", "c"], "{lost:?}");
    }
}

#[tokio::test]
async fn a_broker_that_goes_dead_without_a_word_is_asked_again_over_another_connection() {
    let fake = Fake::start(1).await;
    fake.play([Play::StoreAndSilence]);
    let publisher = publisher(&fake);
    assert_eq!(stored(&publish_for(&publisher, "a", Duration::from_secs(4)).await), (0, false));
    assert_eq!(fake.keys(), ["a"]);
}

#[tokio::test]
async fn without_an_identity_a_repetition_is_said_and_may_be_a_duplicate() {
    for refusal in [None, Some(Code::ClusterAuthorizationFailed), Some(Code::CoordinatorLoadInProgress)] {
        let fake = Fake::start(1).await;
        fake.refuse_identity(refusal);
        fake.play([Play::Store, Play::StoreAndHangUp]);
        let publisher = publisher(&fake);
        assert_eq!(stored(&publish(&publisher, "a").await), (0, false));
        assert_eq!(stored(&publish(&publisher, "b").await), (2, true), "{refusal:?}");
        assert_eq!(fake.keys(), ["a", "b", "b"]);
    }
}

#[tokio::test]
async fn what_is_not_on_the_wire_at_its_deadline_is_taken_back_and_what_is_there_is_unknown() {
    let fake = Fake::start(1).await;
    fake.play([Play::StoreAndSilence, Play::StoreAndSilence, Play::StoreAndSilence]);
    let publisher = publisher(&fake);
    let first = tokio::spawn({
        let publisher = Arc::clone(&publisher);
        async move { publish_for(&publisher, "on the wire", SHORT).await }
    });
    fake.until_produced(1).await;
    let start = Instant::now();
    let second = publish_for(&publisher, "behind it", Duration::from_millis(300)).await;
    assert!(matches!(second, Published::NotStored(NotStored::Late { .. })), "{second:?}");
    assert!(start.elapsed() < Duration::from_secs(1), "at its deadline");
    let first = first.await.expect("no panic");
    assert!(matches!(first, Published::Unknown(_)), "{first:?}");
    // the broker works again, and nothing of what was taken back comes
    fake.play([]);
    stored(&publish(&publisher, "later").await);
    assert_eq!(fake.keys(), ["on the wire", "later"]);
    assert_eq!(publisher.buffered(), (0, 0));
}

#[tokio::test]
async fn a_call_that_is_dropped_takes_its_record_back() {
    let fake = Fake::start(1).await;
    fake.play([Play::Hold]);
    let publisher = publisher(&fake);
    let first = tokio::spawn({
        let publisher = Arc::clone(&publisher);
        async move { publish(&publisher, "first").await }
    });
    fake.until_produced(1).await;
    let mut dropped = Box::pin(publish(&publisher, "dropped"));
    assert!(dropped.as_mut().now_or_never().is_none());
    assert_eq!(publisher.buffered().0, 2);
    drop(dropped);
    assert_eq!(publisher.buffered().0, 1, "its room is free at once");
    fake.release();
    stored(&first.await.expect("no panic"));
    stored(&publish(&publisher, "later").await);
    assert_eq!(fake.keys(), ["first", "later"]);
}

#[tokio::test]
async fn too_few_replicas_are_waited_for_and_nothing_is_stored_twice() {
    let fake = Fake::start(1).await;
    fake.play([Play::Refuse(Code::NotEnoughReplicas), Play::Refuse(Code::NotEnoughReplicas), Play::Store]);
    assert_eq!(stored(&publish(&publisher(&fake), "a").await), (0, false));

    let fake = Fake::start(1).await;
    fake.always(Play::Refuse(Code::NotEnoughReplicas));
    let late = publish_for(&publisher(&fake), "a", SHORT).await;
    let Published::NotStored(why @ NotStored::Late { .. }) = &late else { panic!("not stored, and not {late:?}") };
    assert!(why.to_string().contains("topic t partition 0"), "{why}");
    assert!(fake.keys().is_empty());
}

#[tokio::test]
async fn a_later_refusal_does_not_take_a_doubt_back() {
    for refusal in [Code::NotEnoughReplicas, Code::TopicAuthorizationFailed, Code::MessageTooLarge] {
        let fake = Fake::start(1).await;
        fake.play([Play::StoreAnd(Code::NotEnoughReplicasAfterAppend)]);
        fake.always(Play::Refuse(refusal));
        let outcome = publish_for(&publisher(&fake), "a", SHORT).await;
        assert!(matches!(outcome, Published::Unknown(_)), "{refusal}: {outcome:?}");
        assert_eq!(fake.keys(), ["a"]);
    }
}

#[tokio::test]
async fn one_record_that_is_too_large_costs_the_others_nothing() {
    let fake = Fake::start(1).await;
    fake.play([Play::Hold]);
    fake.refuse_key("large", Code::MessageTooLarge);
    let publisher = publisher(&fake);
    let first = tokio::spawn({
        let publisher = Arc::clone(&publisher);
        async move { publish(&publisher, "first").await }
    });
    fake.until_produced(1).await;
    let keys = ["a", "large", "b", "c"];
    let sent = join_all(keys.map(|key| publish(&publisher, key)));
    let release = async { fake.release() };
    let (sent, ()) = tokio::join!(sent, release);
    stored(&first.await.expect("no panic"));
    for (key, published) in keys.into_iter().zip(&sent) {
        match published {
            Published::NotStored(NotStored::Refused(trouble)) if key == "large" => assert!(!trouble.setup),
            published => {
                stored(published);
            }
        }
    }
    assert_eq!(fake.keys(), ["first", "a", "b", "c"]);
    stored(&publish(&publisher, "and on").await);
}

#[tokio::test]
async fn an_identity_that_the_broker_has_forgotten_is_replaced() {
    let fake = Fake::start(1).await;
    fake.play([Play::Store, Play::Refuse(Code::UnknownProducerId)]);
    let publisher = publisher(&fake);
    stored(&publish(&publisher, "a").await);
    assert_eq!(stored(&publish(&publisher, "b").await), (1, false), "surely not stored before");
    assert_eq!(fake.keys(), ["a", "b"]);
    assert_eq!(fake.identities(), 2);

    fake.play([Play::StoreAndHangUp, Play::Refuse(Code::OutOfOrderSequenceNumber)]);
    assert_eq!(stored(&publish(&publisher, "c").await), (3, true), "perhaps stored before");
}

#[tokio::test]
async fn who_may_not_write_is_told_at_once() {
    let fake = Fake::start(1).await;
    fake.play([Play::Refuse(Code::TopicAuthorizationFailed)]);
    let start = Instant::now();
    let refused = publish(&publisher(&fake), "a").await;
    let Published::NotStored(NotStored::Refused(trouble)) = &refused else { panic!("refused, and not {refused:?}") };
    assert!(trouble.setup, "{trouble:?}");
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_partition_that_has_moved_is_looked_up_again() {
    let (old, new) = (Fake::start(1).await, Fake::start(1).await);
    let publisher = publisher(&old);
    publisher.ready(&["t".into()], Instant::now() + PATIENCE).await.expect("ready");
    old.lead_to(&new);
    old.always(Play::Refuse(Code::NotLeaderOrFollower));
    assert_eq!(stored(&publish(&publisher, "a").await), (0, false));
    assert_eq!((old.keys(), new.keys()), (vec![], vec!["a".to_owned()]));
}

#[tokio::test]
async fn a_leader_that_is_one_no_more_may_have_stored_it() {
    for code in [Code::NotLeaderOrFollower, Code::UnknownTopicOrPartition] {
        let fake = Fake::start(1).await;
        fake.play([Play::StoreAnd(code)]);
        fake.always(Play::Refuse(code));
        let publisher = publisher(&fake);
        let outcome = publish_for(&publisher, "a", SHORT).await;
        assert!(matches!(outcome, Published::Unknown(_)), "{code}: {outcome:?}");
        // and the next one is not taken for a repetition of it
        fake.always(Play::Store);
        stored(&publish(&publisher, "b").await);
        assert_eq!(fake.keys(), ["a", "b"]);
    }
}

#[tokio::test]
async fn a_partition_has_one_batch_on_its_way_whoever_leads_it() {
    let publisher = Publisher::new(Connector::plaintext(vec!["127.0.0.1:1".to_owned()]), limits());
    let topic = publisher.topic(&"t".into());
    topic.queue.set_count(1);
    let mut task = Task::new(Arc::clone(&topic));
    let mut answers = Vec::new();
    for key in ["a", "b"] {
        let (reply, answer) = oneshot::channel();
        answers.push(answer);
        let room = publisher.room(1, Instant::now()).await.expect("room");
        let (record, deadline) = (Content::new(record(key)), Instant::now() + PATIENCE);
        let order = Order { hash: 0, record, deadline, alone: true, reply, _room: room };
        let _ = topic.queue.put(order);
    }
    assert_eq!(task.batches(&[0], Instant::now()).len(), 1);
    assert!(task.batches(&[0], Instant::now()).is_empty(), "the first one is on its way");
}

#[tokio::test]
async fn a_connection_that_was_closed_while_idle_leaves_no_doubt() {
    let fake = Fake::start(1).await;
    fake.refuse_identity(None);
    let publisher = publisher(&fake);
    stored(&publish(&publisher, "a").await);
    fake.hang_up().await;
    assert_eq!(stored(&publish(&publisher, "b").await), (1, false), "nothing was written to the dead connection");
}

#[tokio::test]
async fn a_full_buffer_is_an_error_or_a_wait() {
    let fake = Fake::start(1).await;
    let small = Limits { records: 1, refuse_when_full: true, ..limits() };
    for limits in [small, Limits { records: 1000, bytes: 50, ..small }] {
        fake.play([Play::Hold]);
        let refusing = with(&fake, limits);
        let _held = spawn_held(&fake, &refusing).await;
        assert_eq!(publish(&refusing, "b").await, Published::NotStored(NotStored::Full));
        fake.release();
    }
    fake.play([Play::Hold]);
    let waiting = with(&fake, Limits { refuse_when_full: false, ..small });
    let held = spawn_held(&fake, &waiting).await;
    assert_eq!(publish_for(&waiting, "b", Duration::from_millis(100)).await, Published::NotStored(NotStored::Full));
    let next = tokio::spawn({
        let waiting = Arc::clone(&waiting);
        async move { publish(&waiting, "c").await }
    });
    fake.release();
    stored(&held.await.expect("no panic"));
    stored(&next.await.expect("no panic"));
    assert_eq!(waiting.buffered(), (0, 0));
}

/// Fills the buffer with a record of which the answer is held back.
async fn spawn_held(fake: &Fake, publisher: &Arc<Publisher>) -> tokio::task::JoinHandle<Published> {
    let produced = fake.produced();
    let held = tokio::spawn({
        let publisher = Arc::clone(publisher);
        async move { publish(&publisher, "a").await }
    });
    fake.until_produced(produced + 1).await;
    held
}

#[tokio::test]
async fn what_comes_while_a_request_is_on_its_way_goes_with_the_next() {
    let fake = Fake::start(3).await;
    fake.play([Play::Hold]);
    let publisher = publisher(&fake);
    let held = spawn_held(&fake, &publisher).await;
    let keys: Vec<String> = (0..500).map(|index| format!("key-{index}")).collect();
    let all = join_all(keys.iter().map(|key| publish(&publisher, key)));
    let (all, ()) = tokio::join!(all, async { fake.release() });
    stored(&held.await.expect("no panic"));
    for published in &all {
        stored(published);
    }
    assert_eq!(fake.keys().len(), 501);
    assert!(fake.produced() <= 3, "{} requests", fake.produced());
}

#[tokio::test]
async fn a_quota_that_is_used_up_is_waited_for() {
    let fake = Fake::start(1).await;
    fake.throttle(Duration::from_millis(1200));
    let publisher = publisher(&fake);
    stored(&publish(&publisher, "a").await);
    fake.throttle(Duration::ZERO);
    let start = Instant::now();
    stored(&publish(&publisher, "b").await);
    assert!(start.elapsed() > Duration::from_secs(1), "{:?}", start.elapsed());
    assert_eq!(fake.connections(), 1, "and not over another connection");
}

#[tokio::test]
async fn it_is_ready_when_the_connections_stand() {
    let fake = Fake::start(2).await;
    let publisher = publisher(&fake);
    let topics = ["t".into(), "u".into()];
    publisher.ready(&topics, Instant::now() + PATIENCE).await.expect("ready");
    assert_eq!(fake.identities(), 2, "one for each topic");
    let nowhere = Publisher::new(Connector::plaintext(vec!["127.0.0.1:1".to_owned()]), limits());
    let error = nowhere.ready(&topics, Instant::now() + SHORT).await.expect_err("nobody there");
    assert!(error.to_string().contains("cannot connect to broker 127.0.0.1:1"), "{error}");
}

#[test]
fn a_publisher_outlives_the_runtime_in_which_it_was_used() {
    let publisher = Arc::new(std::sync::Mutex::new(None));
    let runtime = || tokio::runtime::Runtime::new().expect("a runtime");
    let brokers = runtime();
    let fake = brokers.block_on(Fake::start(1));
    for key in ["a", "b"] {
        let mut publisher = publisher.lock().expect("no panic");
        let publisher = publisher.get_or_insert_with(|| self::publisher(&fake));
        let sent = runtime().block_on(async { timeout(PATIENCE, publish(publisher, key)).await.expect("in time") });
        stored(&sent);
    }
    assert_eq!(fake.keys(), ["a", "b"]);
}
