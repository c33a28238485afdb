//! The one place that makes the address, TLS and SASL settings with which rskafka and our own connections dial.
//!
//! Owns how a broker is reached. What is said on a connection is [`super::wire`]'s; who keeps one, and when it is
//! built anew, is up to each user.

use std::{io, time::Duration};

use rskafka::{
    BackoffConfig,
    client::{Client, ClientBuilder},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};

use crate::config;

/// Name under which brokers see us in their logs, quotas and group descriptions.
pub const CLIENT_ID: &str = "postlane";

/// Time for one TCP connect, name lookup included: an address that swallows packets must not use up a whole call.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Time for a new rskafka client to have spoken to one of the brokers.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(10);

/// Time after which an rskafka call stops repeating itself and reports what it saw.
const RETRY_DEADLINE: Duration = Duration::from_secs(5);

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

/// How a connection is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Security {
    /// Plain TCP.
    Plaintext,
}

/// Knows how brokers are reached, and opens connections to them. Cheap to clone, holds no connection.
#[derive(Debug, Clone)]
pub struct Connector {
    brokers: Vec<String>,
    security: Security,
    max_frame: usize,
}

impl Connector {
    /// Takes the addresses and limits from the settings.
    pub fn new(settings: &config::Kafka) -> Self {
        let max_frame = settings.fetch_max_bytes.saturating_mul(2).max(MIN_MAX_FRAME);
        Self { max_frame, ..Self::plaintext(settings.brokers.clone()) }
    }

    /// Reaches the brokers at these addresses, `host:port`, over plain TCP, for programs without the service's settings.
    pub fn plaintext(brokers: Vec<String>) -> Self {
        Self { brokers, security: Security::Plaintext, max_frame: MIN_MAX_FRAME }
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
    /// A call of it that was cancelled or timed out can leave a dead connection cached: drop the client and every
    /// partition client made of it, and build anew.
    ///
    /// # Errors
    ///
    /// When no broker answers within ten seconds.
    pub async fn rskafka(&self) -> Result<Client, Error> {
        let builder = ClientBuilder::new(self.brokers.clone())
            .client_id(CLIENT_ID)
            .max_message_size(self.max_frame)
            .backoff_config(BackoffConfig {
                init_backoff: Duration::from_millis(100),
                max_backoff: Duration::from_secs(2),
                base: 2.0,
                deadline: Some(RETRY_DEADLINE),
            });
        let builder = match self.security {
            Security::Plaintext => builder,
        };
        match timeout(CLIENT_TIMEOUT, builder.build()).await {
            Ok(Ok(client)) => Ok(client),
            Ok(Err(source)) => Err(Error::Client { brokers: self.brokers.clone(), source }),
            Err(_) => Err(Error::Timeout { brokers: self.brokers.clone(), after: CLIENT_TIMEOUT }),
        }
    }

    /// Opens a stream to `address` (`host:port`) with `TCP_NODELAY`.
    ///
    /// # Errors
    ///
    /// When the name does not resolve, nobody listens, or three seconds have passed.
    pub async fn dial(&self, address: &str) -> io::Result<Stream> {
        let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await.map_err(|_| {
            io::Error::new(io::ErrorKind::TimedOut, format!("no TCP connection within {CONNECT_TIMEOUT:?}"))
        })??;
        stream.set_nodelay(true)?;
        match self.security {
            Security::Plaintext => Ok(Box::new(stream)),
        }
    }
}
