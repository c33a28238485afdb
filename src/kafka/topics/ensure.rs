//! Making what is missing, once, and telling what is there already and how it differs.

use std::{fmt, sync::Arc};

use super::{Admin, Configs, Error, Refusal, Topic, Wanted};
use crate::kafka::client::Connector;

/// What became of one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// Its name.
    pub topic: Arc<str>,
    /// What became of it.
    pub state: State,
    wanted: Wanted,
}

/// What became of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It was missing and is there now.
    Created,
    /// It was there, as it should be.
    Exists,
    /// It was there and stays as it is: where it differs.
    Differs(Vec<String>),
    /// It is missing still.
    Refused(Refusal),
}

impl fmt::Display for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.state {
            State::Created => {
                write!(f, "{}, partitions: {}", self.wanted.role, self.wanted.partitions)?;
                if self.wanted.replication > 0 {
                    write!(f, ", replicas: {}", self.wanted.replication)?;
                }
                Ok(())
            }
            State::Exists => write!(f, "{}", self.wanted.role),
            State::Differs(differences) => write!(f, "{}, {}", self.wanted.role, differences.join(", ")),
            State::Refused(refusal) => refusal.fmt(f),
        }
    }
}

/// Creates the topics that are missing, and says for each what became of it, in their order.
///
/// # Errors
///
/// When no broker can be reached, or one does not answer. What the brokers refuse for a topic stands beside it.
pub async fn ensure(connector: &Connector, wanted: &[Wanted]) -> Result<Vec<Made>, Error> {
    let mut admin = Admin::open(connector).await?;
    let names: Vec<&str> = wanted.iter().map(|wanted| &*wanted.name).collect();
    let cluster = admin.cluster(&names).await?;
    let missing: Vec<Wanted> = wanted.iter().filter(|wanted| cluster.is_missing(&wanted.name)).cloned().collect();
    let created = if missing.is_empty() { Vec::new() } else { admin.create(&cluster, &missing, false).await? };
    let (seen, _) = admin.seen(&cluster, wanted).await?;
    let state = |wanted: &Wanted| {
        if let Some(creation) = created.iter().find(|creation| creation.topic == wanted.name) {
            return match &creation.result {
                Ok(true) => State::Created,
                // made by somebody else in between
                Ok(false) => State::Exists,
                Err(refusal) => State::Refused(refusal.clone()),
            };
        }
        match cluster.topics.get(&*wanted.name) {
            Some(Ok(topic)) => {
                let configs = seen.iter().find(|seen| seen.name == wanted.name).map(|seen| &seen.configs);
                let differences = differences(wanted, topic, configs);
                if differences.is_empty() { State::Exists } else { State::Differs(differences) }
            }
            Some(Err(code)) => State::Refused(Refusal::unseen(wanted, cluster.brokers.len(), *code)),
            None => State::Refused(Refusal::unseen(
                wanted,
                cluster.brokers.len(),
                kafka_protocol::ResponseError::UnknownServerError,
            )),
        }
    };
    let made = |wanted: &Wanted| Made { topic: Arc::clone(&wanted.name), state: state(wanted), wanted: wanted.clone() };
    Ok(wanted.iter().map(made).collect())
}

/// Where a topic is not what would be made now.
pub(super) fn differences(wanted: &Wanted, topic: &Topic, configs: Option<&Configs>) -> Vec<String> {
    let mut found = Vec::new();
    let partitions = topic.partitions.len();
    if usize::try_from(wanted.partitions) != Ok(partitions) {
        found.push(format!("partitions: {partitions}, not {}", wanted.partitions));
    }
    let replication = topic.replication();
    if wanted.replication > 0 && usize::try_from(wanted.replication) != Ok(replication) {
        found.push(format!("replicas: {replication}, not {}", wanted.replication));
    }
    let Some(configs) = configs else { return found };
    let limit = |limit: Option<u64>| limit.map_or_else(|| "-1".to_owned(), |limit| limit.to_string());
    for (name, value) in &wanted.configs {
        let own = match *name {
            "cleanup.policy" if configs.compacted => "compact".to_owned(),
            "min.insync.replicas" => configs.min_insync.to_string(),
            "retention.ms" => limit(configs.retention_ms),
            "retention.bytes" => limit(configs.retention_bytes),
            _ => continue,
        };
        if own != *value {
            found.push(format!("{name}: {own}, not {value}"));
        }
    }
    found
}
