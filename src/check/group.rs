//! The consumer group: its coordinator, who is in it, what it has committed, and how much of it waits.

use std::{sync::Arc, time::Duration};

use kafka_protocol::ResponseError;
use tokio::time::timeout;

use super::{Row, count};
use crate::{
    chain::chain,
    config,
    kafka::{
        client::Connector,
        coordinator::{self, Coordinator, State},
        topics::{self, Cluster, Error},
    },
};

/// Time for each of the two calls to the coordinator.
const CALL: Duration = Duration::from_secs(6);
/// What the notes beside a commit may need; brokers allow so much by default.
const METADATA: usize = 4096;

pub(super) async fn check(connector: &Connector, cluster: &Cluster, settings: &config::Kafka) -> Vec<Row> {
    let label = format!("group {}", settings.group_id);
    let mut coordinator = Coordinator::new(connector.clone(), settings.group_id.as_str()).with_deadline(CALL);
    let group = match coordinator.describe().await {
        Ok(group) => group,
        Err(error) => return vec![Row::fail(label, chain(&error), advice(&error))],
    };
    let state = match &group.state {
        State::Absent => Row::ok(&*label, "free: nobody has used it yet"),
        State::Empty => Row::ok(&*label, "free: it has offsets, and no members"),
        State::Live(state) => {
            let members: Vec<String> = group.members.iter().take(3).map(ToString::to_string).collect();
            let members = if members.is_empty() { "unknown".to_owned() } else { members.join(", ") };
            let text = format!("in use by another program ({members}; {state})");
            Row::fail(&*label, text, "stop that program, or set another KAFKA_GROUP_ID")
        }
    };
    let mut rows = vec![state];
    if group.may_commit == Some(false) {
        rows.push(Row::fail(&*label, "READ is not allowed: nothing could be committed", "grant READ on the group"));
    }
    let (notes, lag) = tokio::join!(notes(connector, cluster), lag(connector, cluster, &mut coordinator, settings));
    rows.extend(notes);
    rows.push(lag);
    rows
}

const NO_ANSWER: &str = "look into the brokers' logs, or try again";

fn advice(error: &coordinator::Error) -> &'static str {
    match error {
        coordinator::Error::GroupUnauthorized { .. } => "grant READ and DESCRIBE on the group",
        coordinator::Error::TopicUnauthorized { .. } => "grant READ and DESCRIBE on the topic",
        _ => NO_ANSWER,
    }
}

/// Whether the brokers take the notes beside a commit whole. Only an administrator may know; nobody else is told.
async fn notes(connector: &Connector, cluster: &Cluster) -> Option<Row> {
    let broker = cluster.brokers.first()?;
    let limit = timeout(CALL, topics::offset_metadata_limit(connector, broker)).await.ok()?.ok()??;
    (limit < METADATA).then(|| {
        let text = format!("the brokers keep {limit} bytes beside an offset (offset.metadata.max.bytes)");
        Row::warn("offsets", text, "raise it to 4096: else a crash sends more mails again")
    })
}

async fn lag(connector: &Connector, cluster: &Cluster, coordinator: &mut Coordinator, settings: &config::Kafka) -> Row {
    const CHECK: &str = "lag";
    let lanes = [&settings.topic_high, &settings.topic_normal, &settings.topic_low];
    let there = lanes.into_iter().filter_map(|lane| Some((lane.as_str(), cluster.topic(lane)?)));
    let asked: Vec<(Arc<str>, Vec<i32>)> =
        there.map(|(lane, topic)| (Arc::from(lane), topic.partitions.iter().map(|it| it.index).collect())).collect();
    if asked.is_empty() {
        return Row::skip(CHECK, "not tried: there is no lane");
    }
    let names: Vec<&str> = asked.iter().map(|(name, _)| &**name).collect();
    let ends = timeout(CALL, topics::ends(connector, cluster, &names));
    let (committed, ends) = tokio::join!(coordinator.committed(&asked), ends);
    let committed = match committed {
        Ok(committed) => committed,
        Err(error) => return Row::fail(CHECK, chain(&error), advice(&error)),
    };
    let ends = match ends {
        Ok(Ok(ends)) => ends,
        Ok(Err(Error::Refused { code: ResponseError::TopicAuthorizationFailed, .. } | Error::NoLeader { .. })) => {
            return Row::skip(CHECK, "not told: see the topics");
        }
        Ok(Err(error)) => return Row::fail(CHECK, chain(&error), NO_ANSWER),
        Err(_) => {
            return Row::fail(CHECK, format!("the leaders of the lanes do not answer within {CALL:?}"), NO_ANSWER);
        }
    };
    let waiting = |lane: &str| -> i64 {
        let of_lane = committed.iter().filter(|commit| *commit.topic == *lane);
        let lag = of_lane.filter_map(|commit| {
            let (start, end) = *ends.get(&(lane.to_owned(), commit.partition))?;
            let next = commit.offset.unwrap_or(match settings.auto_offset_reset {
                config::OffsetReset::Earliest => start,
                config::OffsetReset::Latest => end,
            });
            Some((end - next.max(start)).max(0))
        });
        lag.sum()
    };
    let by_lane: Vec<i64> = lanes.iter().map(|lane| waiting(lane)).collect();
    let all = usize::try_from(by_lane.iter().sum::<i64>()).unwrap_or_default();
    let text =
        format!("{} to work on: {} high, {} normal, {} low", count(all, "record"), by_lane[0], by_lane[1], by_lane[2]);
    Row::ok(CHECK, text)
}
