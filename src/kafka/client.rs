//! The one place that makes the address, TLS and SASL settings with which rskafka and our own connections dial.
//!
//! Owns how a broker is reached. What is said on a connection is [`super::wire`]'s; who keeps one, and when it is
//! built anew, is up to each user.

#[cfg(feature = "service")]
mod library;

use std::{
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

#[cfg(feature = "service")]
pub use self::library::Error;
#[cfg(feature = "service")]
pub(super) use self::library::RETRY_DEADLINE;
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

/// Least size of the frames that rskafka may receive: a broker returns a whole batch even beyond the bytes asked for.
const MIN_MAX_FRAME: usize = 64 * 1024 * 1024;

/// A byte stream to a broker: TCP, with TLS around it where that is set.
pub type Stream = Box<dyn Transport>;

/// What [`Stream`] asks of a transport.
pub trait Transport: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Transport for T {}

/// Knows how brokers are reached, and opens connections to them. Cheap to clone, holds no connection.
#[derive(Debug, Clone)]
pub struct Connector {
    brokers: Vec<String>,
    access: Arc<Access>,
    #[cfg_attr(not(feature = "service"), expect(dead_code, reason = "rskafka's"))]
    max_frame: usize,
    /// Index of the broker that is probed first, modulo their number: the one that answered last.
    #[cfg_attr(not(feature = "service"), expect(dead_code, reason = "rskafka's"))]
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
