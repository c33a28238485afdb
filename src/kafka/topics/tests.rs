//! Answers of brokers to what they mean, on a broker that follows a script; the real one is asked in `tests/service`.

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc, time::Duration};

use kafka_protocol::{
    ResponseError,
    messages::{
        ApiKey, ApiVersionsResponse, BrokerId, CreateTopicsResponse, MetadataResponse, RequestKind, ResponseKind,
        api_versions_response::ApiVersion,
        create_topics_response::CreatableTopicResult,
        metadata_response::{MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic},
    },
    protocol::StrBytes,
};

use super::{
    Admin, Configs, Creation, Operation, Operations, Role, Seen, State, Wanted, create::Attempt, ensure, findings,
    name, watch::Said,
};
use crate::{
    config,
    kafka::{
        client::Connector,
        testing::{Action, Broker},
    },
};

const SAFE: Configs = Configs {
    compacted: false,
    min_insync: 2,
    retention_ms: Some(1000),
    retention_bytes: None,
    max_message_bytes: 1000,
};

fn seen(name: &str, role: Role, replication: usize, configs: Configs) -> Seen {
    Seen { name: name.into(), role, replication, configs }
}

fn said(lane: Configs, dead_letters: Configs, brokers: usize) -> Vec<String> {
    let topics = [seen("lane", Role::Lane, 3, lane), seen("dlq", Role::DeadLetters, 3, dead_letters)];
    findings(&topics, brokers).iter().map(ToString::to_string).collect()
}

#[test]
fn safe_topics_give_no_finding() {
    assert_eq!(said(SAFE, SAFE, 3), Vec::<String>::new());
    // one broker cannot keep two copies, and its operator knows
    let one = Configs { min_insync: 1, ..SAFE };
    assert_eq!(said(one.clone(), one, 1), Vec::<String>::new());
}

#[test]
fn each_danger_is_named_with_its_topic() {
    let compacted = Configs { compacted: true, ..SAFE };
    assert!(said(compacted.clone(), SAFE, 1)[0].starts_with("topic lane is compacted"));
    assert!(said(SAFE, compacted, 1)[0].starts_with("dead letter topic dlq is compacted"));
    let one = Configs { min_insync: 1, ..SAFE };
    assert_eq!(
        said(one, SAFE, 3),
        ["topic lane has min.insync.replicas=1: what is acknowledged may be on one broker alone"]
    );
    let topics = [seen("lane", Role::Lane, 1, Configs { min_insync: 2, ..SAFE })];
    let text = findings(&topics, 3)[0].to_string();
    assert_eq!(text, "topic lane has one replica: what it holds is lost with a broker");
}

#[test]
fn dead_letters_are_to_be_kept_as_long_as_mails() {
    let hours = |hours: u64| Some(hours * 3_600_000);
    let kept =
        |ms, bytes, largest| Configs { retention_ms: ms, retention_bytes: bytes, max_message_bytes: largest, ..SAFE };
    assert_eq!(
        said(kept(hours(168), None, 2000), kept(hours(24), Some(1_000_000), 1000), 1),
        [
            "dead letter topic dlq keeps 1000000 bytes a partition (retention.bytes), and lane has no limit",
            "dead letter topic dlq keeps records for 1d (retention.ms), and lane for 7d",
            "dead letter topic dlq takes records of 1000 bytes (max.message.bytes), and lane of 2000",
        ]
    );
    assert_eq!(
        said(kept(None, Some(20), 1000), kept(hours(36), Some(10), 1000), 1),
        [
            "dead letter topic dlq keeps 10 bytes a partition (retention.bytes), and lane 20",
            "dead letter topic dlq keeps records for 36h (retention.ms), and lane for ever",
        ]
    );
    assert_eq!(said(kept(hours(1), Some(10), 10), kept(None, None, 10), 1), Vec::<String>::new());
    assert_eq!(said(kept(hours(1), Some(10), 10), kept(hours(1), Some(10), 10), 1), Vec::<String>::new());
}

#[test]
fn a_fact_is_said_when_it_begins_to_hold() {
    let set = |facts: &[&str]| facts.iter().map(|fact| (*fact).to_owned()).collect::<BTreeSet<String>>();
    let mut said = Said::default();
    assert_eq!(said.replace(set(&["a", "b"])), set(&["a", "b"]));
    assert_eq!(said.replace(set(&["b", "c"])), set(&["c"]));
    assert_eq!(said.replace(set(&["a", "b"])), set(&["a"]));
}

#[test]
fn operations_are_bits_and_may_not_be_told() {
    let reader = Operations::new(1 << 3 | 1 << 8).expect("told");
    assert!(reader.allow(Operation::Read) && !reader.allow(Operation::Write));
    assert_eq!(Operations::new(i32::MIN), None);
}

fn wanted(replication: &str) -> Vec<Wanted> {
    let variables = [
        ("KAFKA_BROKERS", "localhost"),
        ("KAFKA_TOPIC", "mail"),
        ("KAFKA_DLQ_TOPIC", "dead"),
        ("KAFKA_TOPIC_REPLICATION_FACTOR", replication),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Wanted::all(&config::kafka_from_variables(variables).expect("settings"))
}

#[test]
fn what_is_made_does_not_hang_on_the_defaults_of_brokers() {
    let made = wanted("3");
    let names: Vec<&str> = made.iter().map(|wanted| &*wanted.name).collect();
    assert_eq!(names, ["mail-high", "mail", "mail-low", "dead"]);
    let own = |name: &'static str, value: &str| (name, value.to_owned());
    assert_eq!(made[0].configs, [own("cleanup.policy", "delete"), own("min.insync.replicas", "2")]);
    assert_eq!(made[3].configs[2..], [own("retention.ms", "2592000000"), own("retention.bytes", "-1")]);
    assert_eq!(wanted("1")[0].configs, [own("cleanup.policy", "delete")]);
    assert_eq!((wanted("-1")[3].partitions, wanted("-1")[3].replication), (6, -1));
}

#[test]
fn a_refusal_is_one_sentence() {
    let wanted = &wanted("3")[1..2];
    let attempt = Attempt { wanted, brokers: 1, validate_only: false, within: Duration::from_secs(1) };
    let refused = |code: ResponseError, message: &'static str| {
        let topic = CreatableTopicResult::default()
            .with_name(name("mail"))
            .with_error_code(code.code())
            .with_error_message(Some(StrBytes::from_static_str(message)));
        let mut creations = attempt.read(&CreateTopicsResponse::default().with_topics(vec![topic]));
        creations.remove(0).result.expect_err("refused").to_string()
    };
    for (code, expected) in [
        (
            ResponseError::TopicAuthorizationFailed,
            "not authorized to create topic mail: CREATE on it or on the cluster is needed",
        ),
        (
            ResponseError::InvalidReplicationFactor,
            "topic mail cannot be created with KAFKA_TOPIC_REPLICATION_FACTOR=3: the cluster has 1 broker",
        ),
        (ResponseError::PolicyViolation, "a policy of the cluster forbids topic mail: no such names"),
        (ResponseError::InvalidConfig, "the cluster refuses the settings of topic mail: no such names"),
        (ResponseError::RequestTimedOut, "topic mail was not created in time: it may still appear"),
        (
            ResponseError::ClusterAuthorizationFailed,
            "not authorized to create topic mail: CREATE on it or on the cluster is needed",
        ),
    ] {
        assert_eq!(refused(code, "no such\nnames"), expected);
    }
    assert!(refused(ResponseError::UnknownServerError, "").starts_with("topic mail cannot be created: "));
}

fn versions(pairs: &[(ApiKey, i16)]) -> Action {
    let mut keys = vec![(ApiKey::ApiVersions, 0, 3)];
    keys.extend(pairs.iter().map(|(key, max)| (*key, 0, *max)));
    let keys = keys.into_iter().map(|(key, min, max)| {
        ApiVersion::default().with_api_key(key as i16).with_min_version(min).with_max_version(max)
    });
    Action::Answer(ResponseKind::ApiVersions(ApiVersionsResponse::default().with_api_keys(keys.collect())))
}

/// A cluster whose controller is the broker that is asked, with the topics of the request all missing.
fn nothing_there(request: &RequestKind, own: &SocketAddr, controller: i32) -> Action {
    let RequestKind::Metadata(request) = request else { panic!("metadata was asked for") };
    assert!(!request.allow_auto_topic_creation, "asking must create nothing");
    let topics = request.topics.iter().flatten().map(|topic| {
        MetadataResponseTopic::default()
            .with_name(topic.name.clone())
            .with_error_code(ResponseError::UnknownTopicOrPartition.code())
    });
    let brokers = [1, 2].map(|id| {
        MetadataResponseBroker::default()
            .with_node_id(BrokerId(id))
            .with_host(StrBytes::from_string(own.ip().to_string()))
            .with_port(own.port().into())
    });
    Action::Answer(ResponseKind::Metadata(
        MetadataResponse::default()
            .with_brokers(brokers.to_vec())
            .with_controller_id(BrokerId(controller))
            .with_topics(topics.collect()),
    ))
}

fn created(request: &RequestKind, code: i16) -> Action {
    let RequestKind::CreateTopics(request) = request else { panic!("a creation was asked for") };
    let topics = request
        .topics
        .iter()
        .map(|topic| CreatableTopicResult::default().with_name(topic.name.clone()).with_error_code(code));
    Action::Answer(ResponseKind::CreateTopics(CreateTopicsResponse::default().with_topics(topics.collect())))
}

#[tokio::test]
async fn a_controller_that_moved_is_asked_for_again() {
    let mut asked = 0;
    let broker = Broker::start(move |seen, own| match seen.api {
        ApiKey::ApiVersions => versions(&[(ApiKey::Metadata, 9), (ApiKey::CreateTopics, 7)]),
        ApiKey::Metadata => nothing_there(&seen.request, own, if asked == 0 { 1 } else { 2 }),
        _ => {
            asked += 1;
            created(&seen.request, if asked == 1 { ResponseError::NotController.code() } else { 0 })
        }
    })
    .await;
    let made = ensure(&Connector::plaintext(vec![broker.address.clone()]), &wanted("1")).await.expect("an answer");
    assert!(made.iter().all(|made| made.state == State::Created), "{made:?}");
    let creations = broker.seen().iter().filter(|seen| seen.api == ApiKey::CreateTopics).count();
    assert_eq!(creations, 2);
}

#[tokio::test]
async fn an_old_broker_cannot_choose_the_replicas() {
    let broker = Broker::start(|seen, own| match seen.api {
        ApiKey::ApiVersions => versions(&[(ApiKey::Metadata, 7), (ApiKey::CreateTopics, 3)]),
        ApiKey::Metadata => nothing_there(&seen.request, own, 1),
        _ => created(&seen.request, 0),
    })
    .await;
    let connector = Connector::plaintext(vec![broker.address.clone()]);
    let made = ensure(&connector, &wanted("-1")).await.expect("an answer");
    assert!(made[0].to_string().contains("set KAFKA_TOPIC_REPLICATION_FACTOR"), "{}", made[0]);
    let made = ensure(&connector, &wanted("1")).await.expect("an answer");
    assert_eq!(made[0].state, State::Created);
}

#[tokio::test]
async fn a_topic_is_told_as_its_partitions_are() {
    let broker = Broker::start(|seen, own| {
        if seen.api == ApiKey::ApiVersions {
            return versions(&[(ApiKey::Metadata, 9)]);
        }

        let partition = |index, leader, replicas: &[i32]| {
            MetadataResponsePartition::default()
                .with_partition_index(index)
                .with_leader_id(BrokerId(leader))
                .with_replica_nodes(replicas.iter().map(|id| BrokerId(*id)).collect())
        };
        let topic = MetadataResponseTopic::default()
            .with_name(Some(name("mail")))
            .with_topic_authorized_operations(1 << 3)
            .with_partitions(vec![partition(1, -1, &[1, 2, 3]), partition(0, 1, &[1, 2])]);
        let secret = MetadataResponseTopic::default()
            .with_name(Some(name("secret")))
            .with_error_code(ResponseError::TopicAuthorizationFailed.code());
        let broker = MetadataResponseBroker::default()
            .with_node_id(BrokerId(1))
            .with_host(StrBytes::from_static_str("::1"))
            .with_port(own.port().into());
        let response = MetadataResponse::default().with_brokers(vec![broker]).with_topics(vec![topic, secret]);
        Action::Answer(ResponseKind::Metadata(response))
    })
    .await;
    let mut admin = Admin::open(&Connector::plaintext(vec![broker.address.clone()])).await.expect("a connection");
    let cluster = admin.cluster(&["mail", "secret"]).await.expect("an answer");
    let mail = cluster.topic("mail").expect("a topic");
    assert_eq!((mail.replication(), mail.leaderless()), (2, vec![1]));
    assert!(mail.operations.expect("told").allow(Operation::Read));
    assert!(cluster.brokers[0].address.starts_with("[::1]:"), "{:?}", cluster.brokers);
    assert!(!cluster.is_missing("secret") && cluster.topic("secret").is_none());
    assert!(cluster.is_missing("other") && cluster.controller().is_none());
}

#[test]
fn who_was_not_the_controller_is_told_by_the_code() {
    let refused =
        |code| Creation { topic: Arc::from("mail"), result: Err(super::Refusal::unseen(&wanted("1")[1], 1, code)) };
    assert!(refused(ResponseError::NotController).is_not_controller());
    assert!(!refused(ResponseError::RequestTimedOut).is_not_controller());
}
