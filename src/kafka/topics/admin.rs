//! One connection for administrative requests: opened at any bootstrap broker, used for one look, and dropped.

use std::{sync::Arc, time::Duration};

use kafka_protocol::{
    ResponseError,
    messages::{ApiKey, MetadataRequest},
    protocol::{Request, VersionRange},
};

use super::{
    Broker, Cluster, Configs, Creation, Seen, Wanted,
    create::{self, Attempt},
    describe,
};
use crate::kafka::{client::Connector, wire};

/// Time for the answer to a request; a creation has its own.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest time in which the brokers may create topics, and how much longer their answer is waited for.
const CREATION: Duration = Duration::from_secs(6);
const MARGIN: Duration = Duration::from_secs(2);

/// Why an administrative request failed as a whole.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The connection failed.
    #[error(transparent)]
    Wire(#[from] wire::Error),
    /// There is no broker to ask.
    #[error("no brokers are configured")]
    NoBrokers,
    /// A broker refused the request.
    #[error("broker {address} refused {api:?}: {code}")]
    Refused {
        /// The broker.
        address: String,
        /// What it was asked.
        api: ApiKey,
        /// Kafka's error code.
        code: ResponseError,
    },
    /// A partition has no leader that could be asked.
    #[error("partition {partition} of topic {topic} has no leader")]
    NoLeader {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
    },
}

impl Error {
    /// Whether it may go well later without anybody changing a setting.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Wire(error) => error.is_retriable(),
            Self::NoLeader { .. } => true,
            Self::NoBrokers | Self::Refused { .. } => false,
        }
    }
}

/// Asks a cluster for its topics and creates some. Repeats nothing: after an error open another one.
pub struct Admin {
    connector: Connector,
    connection: wire::Connection,
}

impl Admin {
    /// Connects to the first bootstrap broker that answers.
    ///
    /// # Errors
    ///
    /// That of the last broker where none answers.
    pub async fn open(connector: &Connector) -> Result<Self, Error> {
        let mut failed = Error::NoBrokers;
        for address in connector.brokers() {
            match wire::Connection::open(connector, address, REQUEST_TIMEOUT).await {
                Ok(connection) => return Ok(Self::over(connector, connection)),
                Err(error) => failed = error.into(),
            }
        }
        Err(failed)
    }

    /// Goes on with a connection that is open already.
    pub fn over(connector: &Connector, connection: wire::Connection) -> Self {
        Self { connector: connector.clone(), connection }
    }

    /// The brokers and these topics; asking creates none.
    ///
    /// # Errors
    ///
    /// When the broker does not answer; what is wrong with a single topic stands beside it.
    pub async fn cluster(&mut self, topics: &[&str]) -> Result<Cluster, Error> {
        let version = self.connection.version::<MetadataRequest>(describe::METADATA)?;
        let response = self.connection.call(version, &describe::metadata(topics, version)).await?;
        describe::cluster(&response, version).map_err(|code| self.refused(ApiKey::Metadata, code))
    }

    /// The settings of these topics, in their order.
    ///
    /// # Errors
    ///
    /// When the broker does not answer; where it does not tell them for a topic, the reason stands in their place.
    pub async fn configs(&mut self, topics: &[&str]) -> Result<Vec<Result<Configs, ResponseError>>, Error> {
        let response = self.call(describe::CONFIGS, &describe::topic_configs(topics)).await?;
        Ok(describe::configs(topics, &response))
    }

    /// The topics that exist with their settings, and those whose settings are not told, with the reason.
    ///
    /// # Errors
    ///
    /// When the broker does not answer.
    pub async fn seen(
        &mut self,
        cluster: &Cluster,
        wanted: &[Wanted],
    ) -> Result<(Vec<Seen>, Vec<(Arc<str>, ResponseError)>), Error> {
        let there: Vec<_> = wanted.iter().filter_map(|it| Some((it, cluster.topic(&it.name)?))).collect();
        let (mut seen, mut untold) = (Vec::new(), Vec::new());
        if there.is_empty() {
            return Ok((seen, untold));
        }
        let names: Vec<&str> = there.iter().map(|(wanted, _)| &*wanted.name).collect();
        for ((wanted, topic), configs) in there.into_iter().zip(self.configs(&names).await?) {
            let name = Arc::clone(&wanted.name);
            match configs {
                Ok(configs) => {
                    seen.push(Seen { name, role: wanted.role, replication: topic.replication(), configs });
                }
                // it has gone again
                Err(ResponseError::UnknownTopicOrPartition) => {}
                Err(code) => untold.push((name, code)),
            }
        }
        Ok((seen, untold))
    }

    /// Creates topics, or with `validate_only` asks whether they could be, and tells for each what came of it.
    ///
    /// The request goes to the controller, and once more to another one where that has just changed.
    ///
    /// # Errors
    ///
    /// When the controller cannot be reached or does not answer.
    pub async fn create(
        &mut self,
        cluster: &Cluster,
        wanted: &[Wanted],
        validate_only: bool,
    ) -> Result<Vec<Creation>, Error> {
        let mut controller = cluster.controller().cloned();
        let attempt = Attempt { wanted, brokers: cluster.brokers.len(), validate_only, within: CREATION };
        for last in [false, true] {
            let outcome = match &controller {
                Some(broker) => {
                    let mut controller = Self::at(&self.connector, broker, CREATION + MARGIN).await?;
                    controller.create_here(&attempt).await?
                }
                None => self.create_here(&attempt).await?,
            };
            if last || !outcome.iter().any(Creation::is_not_controller) {
                return Ok(outcome);
            }
            controller = self.cluster(&[]).await?.controller().cloned();
        }
        unreachable!("the last attempt returns")
    }

    async fn create_here(&mut self, attempt: &Attempt<'_>) -> Result<Vec<Creation>, Error> {
        let response = self.call(attempt.versions(), &attempt.request()).await;
        match response {
            Ok(response) => Ok(attempt.read(&response)),
            Err(Error::Wire(wire::Error::Unsupported { theirs: Some(theirs), .. })) if create::is_too_old(theirs) => {
                Ok(attempt.without_default())
            }
            Err(error) => Err(error),
        }
    }

    /// Connects to one broker of the cluster.
    pub(super) async fn at(connector: &Connector, broker: &Broker, timeout: Duration) -> Result<Self, Error> {
        let connection = wire::Connection::open(connector, &broker.address, timeout).await?;
        Ok(Self::over(connector, connection))
    }

    pub(super) async fn call<R: Request>(&mut self, ours: VersionRange, request: &R) -> Result<R::Response, Error> {
        let version = self.connection.version::<R>(ours)?;
        Ok(self.connection.call(version, request).await?)
    }

    pub(super) fn refused(&self, api: ApiKey, code: ResponseError) -> Error {
        Error::Refused { address: self.connection.address().to_owned(), api, code }
    }
}

/// The longest text that this broker takes with a commit, `None` where it does not tell.
///
/// # Errors
///
/// When the broker does not answer.
pub async fn offset_metadata_limit(connector: &Connector, broker: &Broker) -> Result<Option<usize>, Error> {
    let mut admin = Admin::at(connector, broker, REQUEST_TIMEOUT).await?;
    let response = admin.call(describe::CONFIGS, &describe::offset_metadata(broker.id)).await?;
    Ok(describe::offset_metadata_limit(&response))
}
