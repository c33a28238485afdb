//! The lanes and the dead letters as they are now: their partitions, what waits in them, and where they differ.
//!
//! What cannot be told stands beside what can: a topic without a leader hides none of the others.

use std::{collections::BTreeMap, sync::Arc};

use kafka_protocol::ResponseError;

use super::{Admin, Broker, Cluster, Configs, Error, Role, Wanted, ends, ensure::differences, findings};
use crate::{
    chain::chain,
    config::{Kafka, OffsetReset},
    kafka::{
        client::Connector,
        coordinator::{self, Coordinator},
    },
};

/// All that is told.
#[derive(Debug, Clone)]
pub struct Overview {
    /// The brokers that are up.
    pub brokers: Vec<Broker>,
    /// The lanes from high to low, then the dead letters.
    pub topics: Vec<TopicView>,
    /// What is not told, and why.
    pub untold: Vec<String>,
}

/// One topic.
#[derive(Debug, Clone)]
pub struct TopicView {
    /// Its name.
    pub name: Arc<str>,
    /// What it is for.
    pub role: Role,
    /// The group whose position in it counts.
    pub group: Arc<str>,
    /// Why nothing is known of it.
    pub missing: Option<String>,
    /// Replicas of the partition that has the fewest.
    pub replicas: usize,
    /// Its partitions in ascending order.
    pub partitions: Vec<PartitionView>,
    /// Its settings, where they are told.
    pub configs: Option<Configs>,
    /// Where it differs from what `postlane topics create` would make, and under which settings something can be lost.
    pub remarks: Vec<String>,
}

/// One partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionView {
    /// Its number.
    pub index: i32,
    /// Number of the broker that serves it.
    pub leader: Option<i32>,
    /// Where its log starts and ends.
    pub ends: Option<(i64, i64)>,
    /// What the group has committed.
    pub committed: Option<i64>,
    /// Records behind the group's position, or behind where the group would start.
    pub lag: Option<i64>,
}

impl TopicView {
    /// Records in all partitions; nothing where that is not told for each of them.
    pub fn records(&self) -> Option<i64> {
        self.partitions.iter().map(|it| it.ends.map(|(start, end)| end - start)).sum()
    }

    /// The lag of all partitions; nothing where that is not told for each of them.
    pub fn lag(&self) -> Option<i64> {
        self.partitions.iter().map(|it| it.lag).sum()
    }
}

/// Looks at the topics of these settings, and at the groups that work on them.
///
/// # Errors
///
/// When no broker answers.
pub async fn overview(connector: &Connector, settings: &Kafka) -> Result<Overview, Error> {
    let wanted = Wanted::all(settings);
    let names: Vec<&str> = wanted.iter().map(|wanted| &*wanted.name).collect();
    let mut admin = Admin::open(connector).await?;
    let cluster = admin.cluster(&names).await?;
    let mut untold = Vec::new();
    let seen = match admin.seen(&cluster, &wanted).await {
        Ok((seen, hidden)) => {
            untold.extend(hidden.iter().map(|(name, code)| format!("settings of {name}: {code}")));
            seen
        }
        Err(error) => {
            untold.push(format!("settings: {}", chain(&error)));
            Vec::new()
        }
    };
    let found = findings(&seen, cluster.brokers.len());
    let redrive: Arc<str> = format!("{}-redrive", settings.group_id).into();
    let lanes: Arc<str> = settings.group_id.as_str().into();
    let mut topics = Vec::new();
    for wanted in &wanted {
        let group = Arc::clone(if wanted.role == Role::Lane { &lanes } else { &redrive });
        let configs = seen.iter().find(|it| it.name == wanted.name).map(|it| it.configs.clone());
        let mut remarks = Vec::new();
        let mut view = TopicView {
            name: Arc::clone(&wanted.name),
            role: wanted.role,
            group,
            missing: None,
            replicas: 0,
            partitions: Vec::new(),
            configs,
            remarks: Vec::new(),
        };
        match cluster.topics.get(&*wanted.name) {
            Some(Ok(topic)) => {
                remarks.extend(differences(wanted, topic, view.configs.as_ref()));
                view.replicas = topic.replication();
                view.partitions = partitions(connector, &cluster, settings, &view, &mut untold).await;
            }
            None | Some(Err(ResponseError::UnknownTopicOrPartition)) => {
                view.missing = Some("does not exist: postlane topics create makes it".to_owned());
            }
            Some(Err(code)) => view.missing = Some(code.to_string()),
        }
        let own = found.iter().filter(|finding| finding.topic == wanted.name);
        remarks.extend(own.map(|finding| format!("{finding}: {}", finding.advice())));
        topics.push(TopicView { remarks, ..view });
    }
    Ok(Overview { brokers: cluster.brokers, topics, untold })
}

async fn partitions(
    connector: &Connector,
    cluster: &Cluster,
    settings: &Kafka,
    view: &TopicView,
    untold: &mut Vec<String>,
) -> Vec<PartitionView> {
    let Some(topic) = cluster.topic(&view.name) else { return Vec::new() };
    let names = [&*view.name];
    let (ends, committed) = tokio::join!(
        ends(connector, cluster, &names),
        committed(connector, view, topic.partitions.iter().map(|it| it.index).collect()),
    );
    let ends = ends.unwrap_or_else(|error| {
        untold.push(format!("offsets of {}: {}", view.name, chain(&error)));
        BTreeMap::new()
    });
    let committed =
        committed.map_err(|error| untold.push(format!("commits for {}: {}", view.name, chain(&error)))).ok();
    let mut partitions = Vec::new();
    for partition in &topic.partitions {
        let ends = ends.get(&(view.name.to_string(), partition.index)).copied();
        let offset = committed.as_ref().map(|offsets| offsets.get(&partition.index).copied());
        let lag = ends.zip(offset).map(|((start, end), offset)| {
            let next = offset.unwrap_or(match (view.role, settings.auto_offset_reset) {
                (Role::Lane, OffsetReset::Latest) => end,
                _ => start,
            });
            (end - next.max(start)).max(0)
        });
        partitions.push(PartitionView {
            index: partition.index,
            leader: partition.leader,
            ends,
            committed: offset.flatten(),
            lag,
        });
    }
    partitions
}

async fn committed(
    connector: &Connector,
    view: &TopicView,
    partitions: Vec<i32>,
) -> Result<BTreeMap<i32, i64>, coordinator::Error> {
    let mut coordinator = Coordinator::new(connector.clone(), Arc::clone(&view.group));
    let commits = coordinator.committed(&[(Arc::clone(&view.name), partitions)]).await?;
    Ok(commits.into_iter().filter_map(|commit| Some((commit.partition, commit.offset?))).collect())
}
