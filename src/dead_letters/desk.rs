//! The dead letter topic of a cluster, as far as it reached when it was looked at.
//!
//! Owns what every command needs first: that there is a topic, where its partitions begin and end, and what was sent back.

use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    Filter, Lanes, Marks, Scan, Store,
    memory::{self, Kept},
    store,
};
use crate::{
    config,
    kafka::{SharedClient, client::Connector, fetch::FetchError, topics},
    tls,
};

/// How much later than a letter beside it a letter may say that it died.
const DISORDER: TimeDelta = TimeDelta::minutes(10);
/// What a broker takes beside an offset where it does not tell.
const METADATA_LIMIT: usize = 4096;

/// Why the dead letters cannot be worked with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A certificate file cannot be used.
    #[error(transparent)]
    Tls(#[from] tls::Error),
    /// The brokers do not tell about their topics.
    #[error(transparent)]
    Topics(#[from] topics::Error),
    /// There is no such topic.
    #[error(
        "the brokers list no topic {topic}: it is missing (postlane topics create makes it), or this user may not describe it"
    )]
    NoTopic {
        /// Its name.
        topic: String,
    },
    /// It cannot be read now.
    #[error("the dead letter topic cannot be read")]
    Fetch(#[from] FetchError),
    /// What was sent back cannot be read or written.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// What was sent back is not in a form that we know.
    #[error(
        "the commits of consumer group {group} were not written by this version of postlane, so nobody knows what was sent back; \
         docs/dead-letters.md says what to do"
    )]
    Memory {
        /// The group.
        group: String,
        /// Which partition, and what is wrong.
        #[source]
        source: memory::Unreadable,
    },
}

impl Error {
    /// Whether it may go well later without anybody changing a setting.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Topics(topics::Error::Wire(error)) => error.is_retriable(),
            Self::Fetch(error) => matches!(error, FetchError::Unavailable { .. }),
            Self::Store(store::Error::Coordinator(error)) => {
                error.is_retriable() || matches!(error, crate::kafka::coordinator::Error::LiveMembers { .. })
            }
            Self::Topics(topics::Error::NoLeader { .. })
            | Self::Store(store::Error::Busy { .. } | store::Error::Overtaken { .. }) => true,
            Self::Tls(_)
            | Self::NoTopic { .. }
            | Self::Memory { .. }
            | Self::Topics(_)
            | Self::Store(store::Error::Refused { .. }) => false,
        }
    }
}

/// The dead letter topic at one moment.
pub struct Desk {
    connector: Connector,
    shared: SharedClient,
    cluster: topics::Cluster,
    topic: Arc<str>,
    group: String,
    lanes: Lanes,
    ends: BTreeMap<i32, (i64, i64)>,
}

impl Desk {
    /// Looks where the topic begins and ends.
    ///
    /// # Errors
    ///
    /// When there is no topic, or the brokers do not answer.
    pub async fn open(settings: &config::Kafka) -> Result<Self, Error> {
        let connector = Connector::new(settings)?;
        let topic = settings.topic_dead_letters.as_str();
        let lanes = Lanes::new(settings);
        let [high, normal, low] = lanes.topics();
        let cluster = topics::Admin::open(&connector).await?.cluster(&[topic, high, normal, low]).await?;
        if cluster.topic(topic).is_none_or(|topic| topic.partitions.is_empty()) {
            return Err(Error::NoTopic { topic: topic.to_owned() });
        }
        let ends = topics::ends(&connector, &cluster, &[topic]).await?;
        Ok(Self {
            shared: SharedClient::new(connector.clone()),
            connector,
            topic: Arc::from(topic),
            group: settings.group_id.clone(),
            lanes: lanes.without(|topic| cluster.is_missing(topic)),
            ends: ends.into_iter().map(|((_, partition), ends)| (partition, ends)).collect(),
            cluster,
        })
    }

    /// The topic.
    pub fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    /// The lanes that letters go back to.
    pub fn lanes(&self) -> &Lanes {
        &self.lanes
    }

    /// Start and end of each partition's log.
    pub fn ends(&self) -> &BTreeMap<i32, (i64, i64)> {
        &self.ends
    }

    /// The client that readers and writers share.
    pub(super) fn shared(&self) -> &SharedClient {
        &self.shared
    }

    /// Where it is kept what was sent back.
    pub fn store(&self) -> Store {
        Store::new(self.connector.clone(), &self.group, Arc::clone(&self.topic), self.ends.clone())
    }

    /// What was sent back until now.
    ///
    /// # Errors
    ///
    /// When the coordinator does not tell, or somebody else has written there.
    pub async fn marks(&self) -> Result<Marks, Error> {
        let mut store = self.store();
        let (_, kept) = self.kept(&mut store).await?;
        Marks::new(&kept).map_err(|source| Error::Memory { group: store.group().to_owned(), source })
    }

    /// What the group keeps now: as it stands there, and what of it belongs to this topic.
    pub(super) async fn kept(&self, store: &mut Store) -> Result<(Kept, Kept), Error> {
        let (kept, _) = store.read().await?;
        let is_beyond = |(partition, (offset, _)): (&i32, &(i64, String))| {
            self.ends.get(partition).is_none_or(|(_, end)| offset > end)
        };
        if !kept.iter().any(is_beyond) {
            return Ok((kept.clone(), kept));
        }
        // letters have come and were sent back since the ends were read, or the topic was made anew
        let ends = topics::ends(&self.connector, &self.cluster, &[&self.topic]).await?;
        let ends = ends.into_iter().map(|((_, partition), ends)| (partition, ends)).collect();
        let ours = memory::of_this_topic(&kept, &ends);
        Ok((kept, ours))
    }

    /// Reads the whole topic.
    pub fn scan(&self) -> Scan {
        Scan::new(
            &self.shared,
            &self.topic,
            self.ends.iter().map(|(&partition, &(start, end))| (partition, start, end)),
        )
    }

    /// Reads the part of the topic in which the letters of a filter can be.
    ///
    /// # Errors
    ///
    /// When the brokers do not say where a time begins.
    pub async fn scan_for(&self, filter: &Filter) -> Result<Scan, Error> {
        let since = match filter.since {
            Some(since) => self.offsets_at(since - DISORDER).await?,
            None => BTreeMap::new(),
        };
        let spans = self.ends.iter().filter_map(|(&partition, &(start, end))| {
            let mut wanted =
                filter.places.iter().filter(|place| place.partition == partition).map(|place| place.offset);
            let (from, to) = match (filter.places.is_empty(), wanted.next()) {
                (true, _) => (start, end),
                (false, Some(first)) => (first, wanted.next_back().unwrap_or(first).saturating_add(1)),
                (false, None) => return None,
            };
            let from = from.max(start).max(since.get(&partition).copied().unwrap_or(start));
            Some((partition, from, to.min(end)))
        });
        Ok(Scan::new(&self.shared, &self.topic, spans))
    }

    /// Bytes that the brokers take beside an offset.
    pub(super) async fn metadata_limit(&self) -> usize {
        let Some(broker) = self.cluster.brokers.first() else { return METADATA_LIMIT };
        match topics::offset_metadata_limit(&self.connector, broker).await {
            Ok(Some(limit)) => limit,
            // it may not be asked, or the broker is of another make
            Ok(None) | Err(_) => METADATA_LIMIT,
        }
    }

    async fn offsets_at(&self, time: DateTime<Utc>) -> Result<BTreeMap<i32, i64>, Error> {
        let millis = time.timestamp_millis().max(0);
        let offsets = topics::offsets_at(&self.connector, &self.cluster, &self.topic, millis).await?;
        // none is that late
        Ok(self.ends.iter().map(|(partition, (_, end))| (*partition, *offsets.get(partition).unwrap_or(end))).collect())
    }
}
