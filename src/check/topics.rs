//! The lanes and the dead letters: there, served, allowed, and set up such that nothing is lost.

use std::sync::Arc;

use kafka_protocol::ResponseError;

use super::{Row, count};
use crate::{
    chain::chain,
    kafka::topics::{Admin, Cluster, Operation, Role, Topic, Wanted, findings},
};

pub(super) async fn check(admin: &mut Admin, cluster: &Cluster, wanted: &[Wanted], create: bool) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for topic in wanted {
        rows.push(match cluster.topics.get(&*topic.name) {
            Some(Ok(found)) => existing(topic, found),
            None | Some(Err(ResponseError::UnknownTopicOrPartition)) => missing(admin, cluster, topic, create).await,
            Some(Err(ResponseError::TopicAuthorizationFailed)) => Row::fail(
                label(topic),
                "not authorized to see it",
                format!("grant DESCRIBE and {}", needed(topic.role).1),
            ),
            Some(Err(code)) => Row::fail(label(topic), code.to_string(), "look into the brokers' logs"),
        });
    }
    rows.extend(settings(admin, cluster, wanted).await);
    rows
}

fn label(topic: &Wanted) -> String {
    format!("topic {}", topic.name)
}

fn needed(role: Role) -> (Operation, &'static str) {
    match role {
        Role::Lane => (Operation::Read, "READ"),
        Role::DeadLetters => (Operation::Write, "WRITE"),
    }
}

fn existing(topic: &Wanted, found: &Topic) -> Row {
    let leaderless = found.leaderless();
    if !leaderless.is_empty() {
        let numbers: Vec<String> = leaderless.iter().map(ToString::to_string).collect();
        let text = format!("no broker serves partition {}", numbers.join(", "));
        return Row::fail(label(topic), text, "bring the brokers back that have it");
    }
    let (operation, word) = needed(topic.role);
    if found.operations.is_some_and(|allowed| !allowed.allow(operation)) {
        return Row::fail(label(topic), format!("{word} is not allowed"), format!("grant {word} on it"));
    }
    let may = match (topic.role, found.operations) {
        (_, None) => "",
        (Role::Lane, _) => ", readable",
        (Role::DeadLetters, _) => ", writable",
    };
    let text =
        format!("{}, {}{may}", count(found.partitions.len(), "partition"), count(found.replication(), "replica"));
    Row::ok(label(topic), text)
}

/// Asks whether `serve` could create it, where it should.
async fn missing(admin: &mut Admin, cluster: &Cluster, topic: &Wanted, create: bool) -> Row {
    if !create {
        let advice = "make it with `postlane topics create`, or set KAFKA_CREATE_TOPICS=true";
        return Row::fail(label(topic), "does not exist", advice);
    }
    let replicas = "look at KAFKA_TOPIC_PARTITIONS and KAFKA_TOPIC_REPLICATION_FACTOR, or make the topic yourself";
    match admin.create(cluster, std::slice::from_ref(topic), true).await {
        Ok(creations) => match creations.into_iter().next().map(|creation| creation.result) {
            Some(Err(refusal)) => Row::fail(label(topic), refusal.to_string(), replicas),
            Some(Ok(_)) | None => Row::ok(label(topic), "does not exist yet: serve will make it"),
        },
        Err(error) => Row::fail(label(topic), format!("does not exist: {}", chain(&error)), replicas),
    }
}

/// What can lose mails although everything works now.
async fn settings(admin: &mut Admin, cluster: &Cluster, wanted: &[Wanted]) -> Vec<Row> {
    const CHECK: &str = "topic settings";
    let (seen, untold) = match admin.seen(cluster, wanted).await {
        Ok(seen) => seen,
        Err(error) => return vec![Row::warn(CHECK, chain(&error), "try again")],
    };
    let found = findings(&seen, cluster.brokers.len());
    let mut rows: Vec<Row> = found
        .iter()
        .map(|finding| Row::warn(format!("topic {}", finding.topic), finding.to_string(), finding.advice()))
        .collect();
    if !untold.is_empty() {
        let names: Vec<&str> = untold.iter().map(|(name, _): &(Arc<str>, _)| &**name).collect();
        let text = format!("not told for {}: {}", names.join(", "), untold[0].1);
        rows.push(Row::skip(CHECK, text));
    } else if rows.is_empty() && !seen.is_empty() {
        rows.push(Row::ok(CHECK, "retention, replication and compaction are safe"));
    }
    rows
}
