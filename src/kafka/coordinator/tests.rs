use std::{error::Error as _, net::SocketAddr};

use bytes::Bytes;
use kafka_protocol::{
    ResponseError,
    messages::{
        ApiKey, ApiVersionsResponse, BrokerId, DescribeGroupsResponse, FindCoordinatorResponse, OffsetCommitResponse,
        OffsetFetchResponse, RequestKind, ResponseKind, TopicName,
        api_versions_response::ApiVersion,
        offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic},
        offset_fetch_response::{OffsetFetchResponsePartition, OffsetFetchResponseTopic},
    },
    protocol::StrBytes,
};

use super::{
    super::testing::{Action, Broker, Seen},
    *,
};

const CLOSE: Action = Action::Cut(Bytes::new());

/// What brokers of 2.1 know; their answers hold one group and one coordinator.
const OLD: [(ApiKey, i16); 4] =
    [(ApiKey::FindCoordinator, 2), (ApiKey::OffsetFetch, 5), (ApiKey::OffsetCommit, 6), (ApiKey::DescribeGroups, 2)];

/// A broker of version 2.1 that coordinates the group; `script` may answer instead of it.
async fn broker(mut script: impl FnMut(&Seen) -> Option<Action> + Send + 'static) -> Broker {
    Broker::start(move |seen, own| match seen.api {
        ApiKey::ApiVersions => {
            let keys = OLD.map(|(api, max)| ApiVersion::default().with_api_key(api as i16).with_max_version(max));
            let versions = ApiVersionsResponse::default().with_api_keys(keys.to_vec());
            Action::Answer(ResponseKind::ApiVersions(versions))
        }
        _ => script(seen).unwrap_or_else(|| Action::Answer(plain_answer(seen, own))),
    })
    .await
}

fn plain_answer(seen: &Seen, own: &SocketAddr) -> ResponseKind {
    match &seen.request {
        RequestKind::FindCoordinator(_) => ResponseKind::FindCoordinator(
            FindCoordinatorResponse::default()
                .with_node_id(BrokerId(1))
                .with_host(StrBytes::from_string(own.ip().to_string()))
                .with_port(own.port().into()),
        ),
        RequestKind::OffsetFetch(_) => fetched(&[("a", 0, 7, 0), ("a", 1, -1, 0)]),
        RequestKind::OffsetCommit(_) => stored(&[("a", 0, 0), ("a", 1, 0)]),
        other => panic!("not in the script: {other:?}"),
    }
}

fn not_found(code: ResponseError) -> Action {
    let response = FindCoordinatorResponse::default().with_error_code(code.code());
    Action::Answer(ResponseKind::FindCoordinator(response))
}

fn topic(name: &'static str) -> TopicName {
    TopicName(StrBytes::from_static_str(name))
}

fn stored(partitions: &[(&'static str, i32, i16)]) -> ResponseKind {
    let topics = partitions.iter().map(|(name, partition, code)| {
        let partition =
            OffsetCommitResponsePartition::default().with_partition_index(*partition).with_error_code(*code);
        OffsetCommitResponseTopic::default().with_name(topic(name)).with_partitions(vec![partition])
    });
    ResponseKind::OffsetCommit(OffsetCommitResponse::default().with_topics(topics.collect()))
}

fn fetched(partitions: &[(&'static str, i32, i64, i16)]) -> ResponseKind {
    let topics = partitions.iter().map(|(name, partition, offset, code)| {
        let partition = OffsetFetchResponsePartition::default()
            .with_partition_index(*partition)
            .with_committed_offset(*offset)
            .with_metadata(Some(StrBytes::from_static_str("m")))
            .with_error_code(*code);
        OffsetFetchResponseTopic::default().with_name(topic(name)).with_partitions(vec![partition])
    });
    ResponseKind::OffsetFetch(OffsetFetchResponse::default().with_topics(topics.collect()))
}

fn coordinator(brokers: &[&str]) -> Coordinator {
    Coordinator::new(Connector::plaintext(brokers.iter().map(ToString::to_string).collect()), "g")
}

fn commits() -> [Commit; 2] {
    [0, 1].map(|partition| Commit { topic: "a".into(), partition, offset: 5, metadata: "m".to_owned() })
}

fn results(settled: Vec<Settled>) -> Vec<Result<(), Refusal>> {
    settled.into_iter().map(|settled| settled.result).collect()
}

fn apis(broker: &Broker) -> Vec<(ApiKey, i16)> {
    broker.seen().iter().map(|seen| (seen.api, seen.version)).collect()
}

#[tokio::test]
async fn an_old_broker_is_spoken_to_in_its_versions() {
    let broker = broker(|_| None).await;
    let mut coordinator = coordinator(&[&broker.address]);

    let committed = coordinator.committed(&[("a".into(), vec![1, 0])]).await.expect("the offsets");
    let told: Vec<_> = committed.iter().map(|it| (it.partition, it.offset, it.metadata.as_str())).collect();
    assert_eq!(told, [(1, None, "m"), (0, Some(7), "m")]);
    assert_eq!(results(coordinator.commit(&commits()).await.expect("an answer")), [Ok(()), Ok(())]);
    assert_eq!(apis(&broker), OLD[..3]);
}

#[tokio::test]
async fn a_commit_says_that_it_comes_from_no_member() {
    let broker = broker(|_| None).await;
    let _ = coordinator(&[&broker.address]).commit(&commits()).await.expect("an answer");

    let seen = broker.seen();
    let Some(RequestKind::OffsetCommit(request)) = seen.last().map(|seen| &seen.request) else {
        panic!("the commit comes last")
    };
    assert_eq!((request.generation_id_or_member_epoch, &*request.member_id), (-1, ""));
    assert_eq!(request.topics.len(), 1, "one topic is named once");
    assert_eq!(request.topics[0].partitions.len(), 2);
}

#[tokio::test]
async fn a_coordinator_that_moved_loads_or_hung_up_is_looked_up_again() {
    for code in [Some(14), Some(15), Some(16), None] {
        let mut first = true;
        let broker = broker(move |seen| {
            let refuse = seen.api == ApiKey::OffsetCommit && std::mem::take(&mut first);
            refuse.then(|| code.map_or(CLOSE, |code| Action::Answer(stored(&[("a", 0, code), ("a", 1, code)]))))
        })
        .await;

        let settled = coordinator(&[&broker.address]).commit(&commits()).await.expect("the second try is answered");
        assert_eq!(results(settled), [Ok(()), Ok(())]);
        let (find, store) = ((ApiKey::FindCoordinator, 2), (ApiKey::OffsetCommit, 6));
        assert_eq!(apis(&broker), [find, store, find, store], "after {code:?}");
    }
}

#[tokio::test]
async fn what_never_gets_better_ends_at_the_deadline_with_what_was_seen() {
    let broker = broker(|_| Some(not_found(ResponseError::CoordinatorNotAvailable))).await;
    let deadline = Duration::from_millis(500);
    let started = Instant::now();

    let error = coordinator(&[&broker.address]).with_deadline(deadline).describe().await.expect_err("no coordinator");
    assert!(started.elapsed() < deadline + Duration::from_millis(300), "{:?}", started.elapsed());
    assert!(error.is_retriable());
    let last = error.source().expect("what was seen").to_string();
    assert!(last.ends_with("refused a request for consumer group g: CoordinatorNotAvailable"), "{last}");
    // After 0, 100 and 300 ms; the next would be at 700.
    assert_eq!(broker.seen().len(), 3);
}

#[tokio::test]
async fn a_broker_that_never_answers_does_not_hold_a_call_beyond_its_deadline() {
    let broker = broker(|_| Some(Action::Silence)).await;
    let deadline = Duration::from_millis(200);

    let error = coordinator(&[&broker.address]).with_deadline(deadline).describe().await.expect_err("no answer");
    assert!(matches!(error, Error::Deadline { last: None, .. }), "{error:?}");
}

#[tokio::test]
async fn all_bootstrap_brokers_are_asked_and_one_that_failed_is_not_asked_first_again() {
    let dead = broker(|_| Some(CLOSE)).await;
    let healthy = broker(|_| None).await;
    let mut coordinator = coordinator(&[&dead.address, &healthy.address]);

    assert_eq!(results(coordinator.commit(&commits()).await.expect("an answer")), [Ok(()), Ok(())]);
    assert_eq!(apis(&dead), [(ApiKey::FindCoordinator, 2)]);
    coordinator.connection = None;
    assert_eq!(results(coordinator.commit(&commits()).await.expect("an answer")), [Ok(()), Ok(())]);
    assert_eq!(apis(&dead), []);
}

#[tokio::test]
async fn a_refusal_for_good_is_told_at_once_and_in_plain_words() {
    let broker = broker(|_| Some(not_found(ResponseError::GroupAuthorizationFailed))).await;

    let error = coordinator(&[&broker.address, "127.0.0.1:1"]).commit(&commits()).await.expect_err("not allowed");
    assert_eq!(error.to_string(), "not authorized for consumer group g: postlane needs READ and DESCRIBE on it");
    assert_eq!(broker.seen().len(), 1);
}

#[tokio::test]
async fn a_dropped_call_costs_the_connection_and_nothing_else() {
    let broker = broker(|_| None).await;
    let mut coordinator = coordinator(&[&broker.address]);
    let _ = coordinator.commit(&commits()).await.expect("an answer");
    let offsets = commits();
    {
        let mut call = std::pin::pin!(coordinator.commit(&offsets));
        assert!(futures::poll!(call.as_mut()).is_pending(), "the answer cannot be there yet");
    }

    let committed = coordinator.committed(&[("a".into(), vec![0])]).await.expect("the offsets");
    assert_eq!(committed[0].offset, Some(7));
    let seen = broker.seen();
    let peer = |api| seen.iter().find(|seen| seen.api == api).map(|seen| seen.peer).expect("it was called");
    assert_ne!(peer(ApiKey::OffsetCommit), peer(ApiKey::OffsetFetch), "a new connection");
}

/// Reads answers without a broker.
fn read<C: Call>(call: &C, response: <C::Request as Request>::Response) -> Result<C::Output, Error> {
    call.read(&Origin { group: &"g".into(), address: "b:9092" }, response)
}

fn read_stored(codes: [i16; 2]) -> Result<Vec<Settled>, Error> {
    let ResponseKind::OffsetCommit(response) = stored(&[("a", 0, codes[0]), ("a", 1, codes[1])]) else {
        unreachable!()
    };
    read(&offsets::Store { offsets: &commits() }, response)
}

fn read_fetched(code: i16) -> Result<Vec<Committed>, Error> {
    let ResponseKind::OffsetFetch(response) = fetched(&[("a", 0, -1, code)]) else { unreachable!() };
    read(&offsets::Fetch { partitions: &[("a".into(), vec![0])] }, response)
}

#[test]
fn codes_of_one_partition_leave_the_others_alone() {
    for (code, refusal) in [
        (12, Refusal::MetadataTooLarge),
        (3, Refusal::UnknownPartition),
        (29, Refusal::Unauthorized),
        (28, Refusal::Other(ResponseError::InvalidCommitOffsetSize)),
        (-1, Refusal::Other(ResponseError::UnknownServerError)),
    ] {
        assert_eq!(results(read_stored([code, 0]).expect("an outcome for each")), [Err(refusal), Ok(())], "{code}");
    }
}

#[test]
fn codes_of_a_group_in_use_mean_live_members_even_beside_a_success() {
    for code in [22, 25, 27, 82, 110, 113] {
        let error = read_stored([0, code]).expect_err("refused");
        assert!(matches!(error, Error::LiveMembers { .. }), "{code}: {error:?}");
        assert!(!error.is_retriable());
    }
}

#[test]
fn codes_that_pass_are_repeated_for_all() {
    for code in [7, 14, 15, 16, 19, 20] {
        for beside in [0, 12] {
            assert!(read_stored([beside, code]).expect_err("refused").is_retriable(), "{code} beside {beside}");
        }
    }
    for code in [14, 16, 88] {
        assert!(read_fetched(code).expect_err("not told").is_retriable(), "{code}");
    }
}

#[test]
fn no_commit_is_told_only_where_the_broker_says_so() {
    assert_eq!(read_fetched(0).expect("told")[0].offset, None);
    for code in [-1, 3, 14, 16, 22, 25, 29, 30, 88, 110, 113, 999] {
        assert!(read_fetched(code).is_err(), "{code}");
    }
    let silent = read(&offsets::Fetch { partitions: &[("a".into(), vec![0])] }, OffsetFetchResponse::default());
    assert_eq!(
        silent.expect_err("nothing told").to_string(),
        "the answer of broker b:9092 for consumer group g says nothing about a-0"
    );
    assert!(read(&group::DescribeClassic, DescribeGroupsResponse::default()).is_err());
}

#[test]
fn a_coordinator_with_an_ipv6_address_gets_brackets() {
    for (host, address) in [("::1", "[::1]:9092"), ("10.0.0.1", "10.0.0.1:9092"), ("kafka", "kafka:9092")] {
        let response = FindCoordinatorResponse::default().with_host(StrBytes::from_static_str(host)).with_port(9092);
        assert_eq!(read(&find::Find, response).expect("an address"), address);
    }
    assert!(read(&find::Find, FindCoordinatorResponse::default()).is_err(), "an empty host is no address");
}

#[test]
fn live_members_are_named_but_not_all_of_them() {
    let member = |n| Member { id: format!("m{n}"), client_id: format!("c{n}"), host: format!("10.0.0.{n}") };
    let text = |members| Error::LiveMembers { group: "g".into(), members }.to_string();

    assert!(text(vec![member(1)]).contains("another program (c1 at 10.0.0.1):"));
    assert!(
        text((1..=5).map(member).collect()).contains("(c1 at 10.0.0.1, c2 at 10.0.0.2, c3 at 10.0.0.3 and 2 more)")
    );
    assert!(text((1..=3).map(member).collect()).contains("c3 at 10.0.0.3)"));
    assert!(text(Vec::new()).contains("its members are not known"));
}

#[test]
fn calls_can_move_between_threads() {
    fn is_send<T: Send>(_: &T) {}
    let mut coordinator = coordinator(&[]);
    is_send(&coordinator);
    is_send(&coordinator.commit(&[]));
    is_send(&coordinator.committed(&[]));
    is_send(&coordinator.describe());
}
