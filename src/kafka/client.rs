//! The one place that makes the address, TLS and SASL settings with which rskafka and our own connections dial.
//!
//! Owns how a broker is reached. What is said on a connection is [`super::wire`]'s; who keeps one, and when it is
//! built anew, is up to each user.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use kafka_protocol::{messages::MetadataRequest, protocol::Message};
use rskafka::{
    BackoffConfig,
    client::{Client, ClientBuilder},
};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::{
    access::{Access, Keys},
    wire,
};
use crate::{config, tcp, tls};

/// Name under which brokers see us in their logs, quotas and group descriptions.
pub const CLIENT_ID: &str = "postlane";

/// Time for one TCP connect, name lookup included: an address that swallows packets must not use up a whole call.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Time for a TLS handshake.
const TLS_TIMEOUT: Duration = Duration::from_secs(5);

/// Time for each answer of a broker that is asked whether it lets us in.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

/// Time for a new rskafka client to have spoken to one of the brokers.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(10);

/// Time after which an rskafka call stops repeating itself and reports what it saw.
pub(super) const RETRY_DEADLINE: Duration = Duration::from_secs(5);

/// Below rskafka's first delay, so that it repeats nothing.
const NO_RETRY: Duration = Duration::from_millis(1);

/// Least size of the frames that rskafka may receive: a broker returns a whole batch even beyond the bytes asked for.
const MIN_MAX_FRAME: usize = 64 * 1024 * 1024;

/// A byte stream to a broker: TCP, with TLS around it where that is set.
pub type Stream = Box<dyn Transport>;

/// What [`Stream`] asks of a transport.
pub trait Transport: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Transport for T {}

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

/// Knows how brokers are reached, and opens connections to them. Cheap to clone, holds no connection.
#[derive(Debug, Clone)]
pub struct Connector {
    brokers: Vec<String>,
    access: Arc<Access>,
    max_frame: usize,
    /// Index of the broker that is probed first, modulo their number: the one that answered last.
    first: Arc<AtomicUsize>,
}

impl Connector {
    /// Takes the addresses, the limits and how brokers are reached from the settings.
    ///
    /// # Errors
    ///
    /// When a certificate file cannot be used; the error names its variable.
    pub fn new(settings: &config::Kafka) -> Result<Self, tls::Error> {
        let max_frame = settings.fetch_max_bytes.saturating_mul(2).max(MIN_MAX_FRAME);
        let access = Arc::new(Access::new(settings.security.clone())?);
        Ok(Self { access, max_frame, ..Self::plaintext(settings.brokers.clone()) })
    }

    /// Reaches the brokers at these addresses, `host:port`, in this way.
    ///
    /// # Errors
    ///
    /// As [`Connector::new`].
    pub fn secured(brokers: Vec<String>, security: config::Security) -> Result<Self, tls::Error> {
        Ok(Self { access: Arc::new(Access::new(security)?), ..Self::plaintext(brokers) })
    }

    /// Reaches the brokers at these addresses, `host:port`, over plain TCP, for programs without the service's settings.
    pub fn plaintext(brokers: Vec<String>) -> Self {
        Self { brokers, access: Arc::default(), max_frame: MIN_MAX_FRAME, first: Arc::default() }
    }

    /// The same with other bootstrap addresses.
    #[must_use]
    pub fn with_brokers(&self, brokers: Vec<String>) -> Self {
        Self { brokers, ..self.clone() }
    }

    /// The bootstrap addresses, `host:port`.
    pub fn brokers(&self) -> &[String] {
        &self.brokers
    }

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
    pub(super) fn rskafka_retries(&self) -> bool {
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
    pub(super) async fn probe(&self, address: &str) -> Result<Keys, wire::Error> {
        let (mut connection, keys) = self.open(address, PROBE_TIMEOUT).await?;
        let version = connection.version::<MetadataRequest>(MetadataRequest::VERSIONS)?;
        // an empty list is for no topic from version 1 on
        connection.call(version, &MetadataRequest::default().with_topics(Some(Vec::new()))).await?;
        Ok(keys)
    }

    /// Connects, agrees on versions and logs in.
    pub(super) async fn open(&self, address: &str, timeout: Duration) -> Result<(wire::Connection, Keys), wire::Error> {
        let keys = Box::pin(self.access.keys()).await?;
        let stream = self.dial(address, &keys).await?;
        let mut connection = wire::Connection::over(stream, address, timeout, &keys).await?;
        if let Some(credentials) = &keys.credentials {
            let _turn = self.access.turn(&keys).await?;
            let outcome = connection.log_in(credentials).await;
            match &outcome {
                Ok(()) => self.access.admitted(),
                Err(wire::Error::Login { why, .. }) => self.access.refused(&keys, address, why),
                Err(_) => {}
            }
            outcome?;
        }
        Ok((connection, keys))
    }

    /// Opens a stream to `address` (`host:port`) with `TCP_NODELAY`, TLS included.
    async fn dial(&self, address: &str, keys: &Keys) -> Result<Stream, wire::Error> {
        let stream = tcp::connect(address, CONNECT_TIMEOUT)
            .await
            .map_err(|source| wire::Error::Connect { address: address.to_owned(), source })?;
        let Some(config) = &keys.tls else { return Ok(Box::new(stream)) };
        secure(stream, address, Arc::clone(config)).await
    }
}

async fn secure(stream: TcpStream, address: &str, config: Arc<ClientConfig>) -> Result<Stream, wire::Error> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
    let name = ServerName::try_from(host.to_owned()).map_err(|_| wire::Error::Tls {
        address: address.to_owned(),
        why: format!("{host} is not a name that a certificate could be for"),
        passing: false,
    })?;
    match timeout(TLS_TIMEOUT, Box::pin(TlsConnector::from(config).connect(name, stream))).await {
        Ok(Ok(stream)) => Ok(Box::new(stream)),
        Ok(Err(error)) => Err(wire::Error::tls(address, &error)),
        Err(_) => Err(wire::Error::Tls {
            address: address.to_owned(),
            why: format!("no handshake within {TLS_TIMEOUT:?}"),
            passing: true,
        }),
    }
}
