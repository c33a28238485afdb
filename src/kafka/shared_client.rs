//! One rskafka client for all partition readers and writers, thrown away when one of them has lost trust in it.
//!
//! Owns when that client is built and dropped. Each user keeps its own partition client, and with it its own
//! connection to the leader; the shared part is the connection for metadata. A client of which a call has timed out
//! may hold a dead connection for ever, so the user that saw it discards the client, and whoever asks next builds
//! one anew from the bootstrap addresses. The others keep what they have for as long as it works.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rskafka::client::{
    Client,
    error::{Error as ClientError, ProtocolError, RequestError},
    partition::{PartitionClient, UnknownTopicHandling},
};
use tokio::time::{Instant, error::Elapsed, sleep, timeout};

use super::client::{self, Connector, RETRY_DEADLINE};
use crate::delay::Delays;

/// Time to learn why a broker does not let us in.
const REASON_TIMEOUT: Duration = Duration::from_secs(10);

/// What rskafka's errors say of TLS and logins. Their types are private; the texts only decide whether to look closer.
const NOT_LET_IN: [&str; 4] =
    ["Sasl handshake failed", "invalid peer certificate", "received fatal alert", "Invalid Hostname"];

/// First and longest pause before a call is repeated.
const FIRST_DELAY: Duration = Duration::from_millis(50);
const MAX_DELAY: Duration = Duration::from_secs(2);

/// Time for the brokers to list their topics.
const LIST_TIMEOUT: Duration = Duration::from_secs(15);

/// Hands out one client until it is discarded. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SharedClient {
    connector: Connector,
    current: Arc<Mutex<Option<Arc<Client>>>>,
    building: Arc<tokio::sync::Mutex<()>>,
}

/// Why there is no client for a partition.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No broker can be reached.
    #[error(transparent)]
    Connect(#[from] client::Error),
    /// The brokers list no such topic to us.
    #[error("the brokers list no topic {topic}: it is missing, or this user may not describe it")]
    UnknownTopic {
        /// Name of the topic.
        topic: String,
    },
    /// The topic has no such partition.
    #[error("topic {topic} has no partition {partition}")]
    UnknownPartition {
        /// Name of the topic.
        topic: String,
        /// The partition that was asked for.
        partition: i32,
    },
    /// A call failed.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The brokers let us in again, with what we have to show by now.
    #[error("{before}; by now the brokers let us in")]
    LetInAgain {
        /// What failed.
        before: String,
    },
    /// A call was not answered in time.
    #[error("no answer from the brokers within {after:?}")]
    Timeout {
        /// How long was waited.
        after: Duration,
    },
}

/// Repeats a call where rskafka does not: for as long as that would, and once where the brokers let us in again.
pub(super) struct Again {
    until: Option<Instant>,
    delays: Delays,
    let_in: bool,
}

impl Again {
    fn new(connector: &Connector) -> Self {
        Self {
            until: (!connector.rskafka_retries()).then(|| Instant::now() + RETRY_DEADLINE),
            delays: Delays::doubling(FIRST_DELAY, MAX_DELAY),
            let_in: false,
        }
    }

    /// Whether the call is to be made again, after a while if need be.
    pub(super) async fn after(&mut self, error: &Error) -> bool {
        if matches!(error, Error::LetInAgain { .. }) && !std::mem::replace(&mut self.let_in, true) {
            return true;
        }
        let again = error.is_passing() && self.until.is_some_and(|until| Instant::now() < until);
        if again {
            sleep(self.delays.advance()).await;
        }
        again
    }
}

/// What a failed call leaves of the connections that it used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaves {
    /// The broker answered and would answer again.
    All,
    /// The partition's connection may lead to the wrong broker.
    Client,
    /// Nothing: a connection is broken, or answers no more.
    Nothing,
}

impl Error {
    fn leaves(&self) -> Leaves {
        match self {
            Self::UnknownTopic { .. } | Self::UnknownPartition { .. } => Leaves::Client,
            Self::Client(ClientError::ServerError { protocol_error, .. }) => match protocol_error {
                ProtocolError::MessageTooLarge
                | ProtocolError::RecordListTooLarge
                | ProtocolError::InvalidRecord
                | ProtocolError::NotEnoughReplicas
                | ProtocolError::NotEnoughReplicasAfterAppend => Leaves::All,
                _ => Leaves::Client,
            },
            Self::Client(ClientError::Request(RequestError::ReadVersionedError(_) | RequestError::WriteError(_))) => {
                Leaves::Client
            }
            Self::Connect(_) | Self::Timeout { .. } | Self::LetInAgain { .. } | Self::Client(_) => Leaves::Nothing,
        }
    }

    /// Whether a connection broke, or the way to the leader was another: what rskafka repeats by itself if it may.
    fn is_passing(&self) -> bool {
        match self {
            Self::Client(
                ClientError::Request(RequestError::Poisoned(_) | RequestError::IO(_))
                | ClientError::RetryFailed(_)
                | ClientError::Connection(_),
            ) => true,
            Self::Connect(client::Error::Wire(error)) => error.is_retriable(),
            _ => false,
        }
    }

    /// Whether a broker does not let us in, and somebody has to do something about it.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self, Self::Connect(client::Error::Wire(error)) if !error.is_retriable())
    }
}

/// Whether the text of an rskafka error is about TLS or the login.
fn is_not_let_in(text: &str) -> bool {
    NOT_LET_IN.iter().any(|part| text.contains(part))
}

/// The broker that an rskafka error names, if it names one.
fn named_broker(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("error connecting to broker \"")?;
    Some(rest.split_once('"')?.0)
}

impl SharedClient {
    /// Connects only when it is first used.
    pub fn new(connector: Connector) -> Self {
        Self { connector, current: Arc::default(), building: Arc::default() }
    }

    /// The current client, built if there is none. Of several callers one builds and the others wait for it.
    async fn get(&self) -> Result<Arc<Client>, Error> {
        let _building = match self.current() {
            Some(client) => return Ok(client),
            None => self.building.lock().await,
        };
        if let Some(client) = self.current() {
            return Ok(client);
        }
        let client = Arc::new(self.connector.rskafka().await?);
        *self.lock() = Some(Arc::clone(&client));
        Ok(client)
    }

    /// All topics that the brokers list to us, with their partitions in ascending order.
    ///
    /// # Errors
    ///
    /// When the brokers cannot be reached or do not answer in time.
    pub async fn topics(&self) -> Result<BTreeMap<String, Vec<i32>>, Error> {
        let mut again = self.again();
        loop {
            match self.list().await {
                Err(error) if again.after(&error).await => {}
                outcome => return outcome,
            }
        }
    }

    fn again(&self) -> Again {
        Again::new(&self.connector)
    }

    async fn list(&self) -> Result<BTreeMap<String, Vec<i32>>, Error> {
        let client = timeout(LIST_TIMEOUT, self.get()).await.map_err(|_| Error::Timeout { after: LIST_TIMEOUT })??;
        let listed = match timeout(LIST_TIMEOUT, client.list_topics()).await {
            Ok(Ok(listed)) => listed,
            Ok(Err(error)) => {
                self.discard(&client);
                return Err(self.reason(error.into()).await);
            }
            Err(_) => {
                self.discard(&client);
                return Err(Error::Timeout { after: LIST_TIMEOUT });
            }
        };
        Ok(listed.into_iter().map(|topic| (topic.name, topic.partitions.into_iter().collect())).collect())
    }

    /// Drops `client` for all who ask later, unless another has replaced it already.
    fn discard(&self, client: &Arc<Client>) {
        let mut current = self.lock();
        if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, client)) {
            *current = None;
        }
    }

    /// rskafka's account of why a broker does not let us in, in our words: the broker is asked again over a connection
    /// of ours. What rskafka showed may have been replaced since (a password, a certificate): then we are let in.
    async fn reason(&self, error: Error) -> Error {
        let Error::Client(client_error) = &error else { return error };
        let before = client_error.to_string();
        if !is_not_let_in(&before) {
            return error;
        }
        let first = self.connector.brokers().first().map(String::as_str);
        let address = named_broker(&before).or(first).unwrap_or_default();
        match timeout(REASON_TIMEOUT, self.connector.probe(address)).await {
            Ok(Ok(_)) => Error::LetInAgain { before },
            Ok(Err(reason)) => Error::Connect(reason.into()),
            Err(_) => error,
        }
    }

    fn current(&self) -> Option<Arc<Client>> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<Client>>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A partition client and the shared client that it was made of, connected when it is first needed.
#[derive(Debug)]
pub(super) struct PartitionLink {
    shared: SharedClient,
    topic: Arc<str>,
    client: Option<Arc<Client>>,
    partition: Option<PartitionClient>,
}

impl PartitionLink {
    pub(super) fn new(shared: SharedClient, topic: Arc<str>) -> Self {
        Self { shared, topic, client: None, partition: None }
    }

    /// For the repetition of one call.
    pub(super) fn again(&self) -> Again {
        self.shared.again()
    }

    /// Number of partitions that the brokers list for the topic, at least 1.
    ///
    /// Asks for all topics, because asking for one by its name can create it.
    pub(super) async fn partition_count(&mut self) -> Result<i32, Error> {
        let client = match &self.client {
            Some(client) => client,
            None => self.client.insert(self.shared.get().await?),
        };
        let topics = client.list_topics().await?;
        let found = topics.into_iter().find(|listed| listed.name == *self.topic);
        let count = found.map_or(0, |topic| i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX));
        if count == 0 { Err(Error::UnknownTopic { topic: self.topic.to_string() }) } else { Ok(count) }
    }

    /// The client of the partition that `choose` takes of so many; connects if there is none.
    pub(super) async fn partition(
        &mut self,
        choose: impl FnOnce(i32) -> i32 + Send,
    ) -> Result<&PartitionClient, Error> {
        let connected = match self.partition.take() {
            Some(connected) => connected,
            None => self.connect(choose).await?,
        };
        Ok(self.partition.insert(connected))
    }

    async fn connect(&mut self, choose: impl FnOnce(i32) -> i32 + Send) -> Result<PartitionClient, Error> {
        let count = self.partition_count().await?;
        let partition = choose(count);
        let client = self.client.as_ref().filter(|_| (0..count).contains(&partition));
        let client = client.ok_or_else(|| Error::UnknownPartition { topic: self.topic.to_string(), partition })?;
        Ok(client.partition_client(&*self.topic, partition, UnknownTopicHandling::Error).await?)
    }

    /// What became of a call that had `limit` to finish; a failure lets go of all that it has made doubtful.
    pub(super) async fn settle<T>(
        &mut self,
        limit: Duration,
        outcome: Result<Result<T, Error>, Elapsed>,
    ) -> Result<T, Error> {
        let result = outcome.unwrap_or(Err(Error::Timeout { after: limit }));
        match result.as_ref().map_err(Error::leaves) {
            Ok(_) | Err(Leaves::All) => {}
            Err(Leaves::Client) => {
                self.partition = None;
                self.client = None;
            }
            Err(Leaves::Nothing) => {
                self.partition = None;
                if let Some(client) = self.client.take() {
                    self.shared.discard(&client);
                }
            }
        }
        match result {
            Ok(value) => Ok(value),
            Err(error) => Err(self.shared.reason(error).await),
        }
    }
}
