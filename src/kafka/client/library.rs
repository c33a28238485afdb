//! Clients of rskafka, which fetch records and write dead letters.
//!
//! Owns the choice of a broker that lets us in, how long calls go on, and why there is no client.

use std::{sync::atomic::Ordering, time::Duration};

use kafka_protocol::{messages::MetadataRequest, protocol::Message};
use rskafka::{
    BackoffConfig,
    client::{Client, ClientBuilder},
};
use tokio::time::timeout;

use super::{
    super::{access::Keys, wire},
    CLIENT_ID, Connector,
};

/// Time for each answer of a broker that is asked whether it lets us in.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

/// Time for a new rskafka client to have spoken to one of the brokers.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(10);

/// Time after which an rskafka call stops repeating itself and reports what it saw.
pub(in crate::kafka) const RETRY_DEADLINE: Duration = Duration::from_secs(5);

/// Below rskafka's first delay, so that it repeats nothing.
const NO_RETRY: Duration = Duration::from_millis(1);

/// Why no client could be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No broker could be reached, or none lets us in.
    #[error(transparent)]
    Wire(#[from] wire::Error),
    /// None of the brokers answered in time.
    #[error("no answer from any of the brokers {brokers:?} within {after:?}")]
    Timeout {
        /// The bootstrap addresses.
        brokers: Vec<String>,
        /// How long was waited.
        after: Duration,
    },
    /// rskafka gave up by itself.
    #[error("cannot reach the brokers {brokers:?}")]
    Client {
        /// The bootstrap addresses.
        brokers: Vec<String>,
        /// What it saw.
        #[source]
        source: rskafka::client::error::Error,
    },
}

impl Connector {
    /// Builds an rskafka client whose calls give up after some seconds instead of never.
    ///
    /// One of the brokers is asked over a connection of ours first, because rskafka cannot say why it is not let in,
    /// and tries a wrong password several times.
    ///
    /// A call of it that was cancelled or timed out can leave a dead connection cached: drop the client and every
    /// partition client made of it, and build anew.
    ///
    /// # Errors
    ///
    /// When no broker lets us in, or rskafka's client is not ready within ten seconds.
    pub async fn rskafka(&self) -> Result<Client, Error> {
        let (broker, keys) = self.admitted().await?;
        let patience = if keys.credentials.is_some() { NO_RETRY } else { RETRY_DEADLINE };
        let builder = ClientBuilder::new(vec![broker])
            .client_id(CLIENT_ID)
            .max_message_size(self.max_frame)
            .backoff_config(BackoffConfig {
                init_backoff: Duration::from_millis(100),
                max_backoff: Duration::from_secs(2),
                base: 2.0,
                deadline: Some(patience),
            });
        let builder = match keys.tls {
            Some(tls) => builder.tls_config(tls),
            None => builder,
        };
        let builder = match keys.credentials {
            Some(credentials) => builder.sasl_config(self.access.sasl_config(credentials)),
            None => builder,
        };
        match timeout(CLIENT_TIMEOUT, builder.build()).await {
            Ok(Ok(client)) => Ok(client),
            Ok(Err(source)) => Err(Error::Client { brokers: self.brokers.clone(), source }),
            Err(_) => Err(Error::Timeout { brokers: self.brokers.clone(), after: CLIENT_TIMEOUT }),
        }
    }

    /// Whether rskafka repeats calls itself. Not with a login: it would try a password that has changed since a dozen
    /// times for each partition, and the one that has replaced it never.
    pub(in crate::kafka) fn rskafka_retries(&self) -> bool {
        !self.access.has_login()
    }

    /// The first bootstrap broker that lets us in, and with what.
    async fn admitted(&self) -> Result<(String, Keys), wire::Error> {
        let (count, first) = (self.brokers.len(), self.first.load(Ordering::Relaxed));
        let mut failed: Option<wire::Error> = None;
        for index in (first..).take(count) {
            let broker = &self.brokers[index % count];
            match self.probe(broker).await {
                Ok(keys) => {
                    self.first.store(index % count, Ordering::Relaxed);
                    return Ok((broker.clone(), keys));
                }
                // what somebody has to change is worth more than that a broker is away
                Err(error) if failed.as_ref().is_none_or(|failed| failed.is_retriable() && !error.is_retriable()) => {
                    failed = Some(error);
                }
                Err(_) => {}
            }
        }
        Err(failed.unwrap_or(wire::Error::NoBrokers))
    }

    /// Asks one broker something harmless, to learn whether it lets us in.
    pub(in crate::kafka) async fn probe(&self, address: &str) -> Result<Keys, wire::Error> {
        let (mut connection, keys) = self.open(address, PROBE_TIMEOUT).await?;
        let version = connection.version::<MetadataRequest>(MetadataRequest::VERSIONS)?;
        // an empty list is for no topic from version 1 on
        connection.call(version, &MetadataRequest::default().with_topics(Some(Vec::new()))).await?;
        Ok(keys)
    }
}
