//! One connection to one broker: length-framed requests and answers in the versions that both sides know.
//!
//! Owns framing, correlation and the negotiation of versions; encoding is left to `kafka-protocol`. Retries nothing:
//! a connection on which a call failed, timed out or was dropped is out of step and refuses further calls, so that
//! no answer is ever taken for that of another request.
//!
//! A known limit: `kafka-protocol` sets aside memory for as many elements of a list as an answer announces, and a number
//! beyond all memory ends the process. Nobody can do that before the login: what is answered until then is read with
//! care (in `early`). A broker that has let us in is trusted with it, and so is any where there is no login.

mod early;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, error, io, mem, time::Duration};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::{
    ResponseError,
    messages::{ApiKey, ApiVersionsRequest, RequestHeader, ResponseHeader},
    protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes, VersionRange},
};
use rustls::CertificateError;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, timeout},
};

use super::{
    access::Keys,
    client::{CLIENT_ID, Connector, Stream},
    sasl,
};
use crate::tls;

/// Longest answer that is read, in bytes.
const MAX_FRAME: usize = 64 * 1024 * 1024;

/// Bytes set aside for an answer before any of it has come: a length alone reserves no memory.
const FIRST_READ: usize = 64 * 1024;

/// Share of a session's life after which its connection is given up for a new one.
const SESSION_USED: f64 = 0.85;

/// The version of `ApiVersions` that is tried first; brokers before 2.4 do not know it and are asked again with 0.
const API_VERSIONS: i16 = 3;

/// Why a call on a connection failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No connection came about.
    #[error("cannot connect to broker {address}")]
    Connect {
        /// The broker.
        address: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// There are no addresses.
    #[error("no brokers are configured")]
    NoBrokers,
    /// A file with certificates or a secret cannot be used now.
    #[error("{why}")]
    Files {
        /// What is wrong, the variable named.
        why: String,
    },
    /// There is no bearer token to log in with.
    #[error("{why}")]
    Token {
        /// What is wrong, the variable named.
        why: String,
    },
    /// The TLS handshake failed.
    #[error("no TLS with broker {address}: {why}")]
    Tls {
        /// The broker.
        address: String,
        /// What is wrong, in a clause.
        why: String,
        /// Whether a broker that starts or stops could have done this too.
        passing: bool,
    },
    /// The broker does not let us in.
    #[error("broker {address} refuses the login: {why}")]
    Login {
        /// The broker.
        address: String,
        /// What is wrong, in a clause.
        why: String,
    },
    /// The other side seems to want another protocol.
    #[error("broker {address} {why}")]
    Mismatch {
        /// The broker.
        address: String,
        /// What it did, and what that could mean.
        why: &'static str,
        /// Whether a broker that starts or stops could have done this too.
        passing: bool,
    },
    /// The connection broke or was closed.
    #[error("the connection to broker {address} broke")]
    Io {
        /// The broker.
        address: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The answer did not come in time.
    #[error("broker {address} did not answer {api:?} within {after:?}")]
    Timeout {
        /// The broker.
        address: String,
        /// What it was asked.
        api: ApiKey,
        /// How long was waited.
        after: Duration,
    },
    /// An earlier call on this connection did not end well.
    #[error("the connection to broker {address} is out of step")]
    OutOfStep {
        /// The broker.
        address: String,
    },
    /// The answer belongs to another request.
    #[error("broker {address} answered request {found} where {expected} was asked")]
    Correlation {
        /// The broker.
        address: String,
        /// Number of the request that was sent.
        expected: i32,
        /// Number that the answer bears.
        found: i32,
    },
    /// The length of the answer cannot be true; mostly the other side does not speak Kafka, or speaks TLS.
    #[error("{address} announced an answer of {length} bytes: is it a Kafka listener without TLS?")]
    Frame {
        /// The broker.
        address: String,
        /// The announced length in bytes.
        length: i32,
    },
    /// A message could not be written or read as its version asks.
    #[error("cannot encode or decode {api:?} version {version} for broker {address}")]
    Codec {
        /// The broker.
        address: String,
        /// The API.
        api: ApiKey,
        /// The version that was agreed.
        version: i16,
        /// What was wrong.
        #[source]
        source: Box<dyn error::Error + Send + Sync>,
    },
    /// No version is known to both sides.
    #[error("broker {address} knows {api:?} {}, postlane {ours}", versions(*.theirs))]
    Unsupported {
        /// The broker.
        address: String,
        /// The API.
        api: ApiKey,
        /// The versions that the broker knows, if it knows the API.
        theirs: Option<VersionRange>,
        /// The versions that we know.
        ours: VersionRange,
    },
    /// The broker does not tell its versions.
    #[error("broker {address} refused to list its API versions: {code}")]
    Refused {
        /// The broker.
        address: String,
        /// Kafka's error code.
        code: ResponseError,
    },
}

fn versions(range: Option<VersionRange>) -> String {
    range.map_or_else(|| "not at all".to_owned(), |range| format!("in versions {range}"))
}

impl Error {
    /// A failed TLS handshake, in our words.
    pub(super) fn tls(address: &str, error: &io::Error) -> Self {
        let passing = error.get_ref().is_none_or(|inner| !inner.is::<rustls::Error>());
        let mut why = tls::explain(error, "KAFKA_SSL_CA_FILE");
        if let Some(rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) = rustls_error(error)
        {
            why.push_str(" (see KAFKA_BROKERS and the broker's advertised.listeners)");
        } else if matches!(rustls_error(error), None | Some(rustls::Error::InvalidMessage(_))) {
            why.push_str(" (see KAFKA_SECURITY_PROTOCOL and the port in KAFKA_BROKERS)");
        }
        Self::Tls { address: address.to_owned(), why, passing }
    }

    /// Whether the same call on a new connection may go well.
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Connect { .. }
            | Self::Io { .. }
            | Self::Timeout { .. }
            | Self::OutOfStep { .. }
            | Self::Correlation { .. } => true,
            Self::Tls { passing, .. } | Self::Mismatch { passing, .. } => *passing,
            Self::NoBrokers
            | Self::Files { .. }
            | Self::Token { .. }
            | Self::Login { .. }
            | Self::Frame { .. }
            | Self::Codec { .. }
            | Self::Unsupported { .. }
            | Self::Refused { .. } => false,
        }
    }
}

fn rustls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// A connection whose versions have been agreed, and on which the broker knows us if it asks for that.
pub struct Connection {
    address: String,
    stream: Stream,
    versions: BTreeMap<i16, VersionRange>,
    correlation_id: i32,
    in_step: bool,
    timeout: Duration,
    /// Answers that were read whole.
    answers: u32,
    /// TLS is spoken, and whether with a certificate of ours.
    tls: Option<bool>,
    /// We have told who we are.
    logged_in: bool,
    /// When the broker may end the session (KIP-368), less a margin.
    until: Option<Instant>,
}

impl Connection {
    /// Dials `address`, asks for its versions and logs in. `timeout` bounds each call, the first ones included.
    ///
    /// # Errors
    ///
    /// As a call's, [`Error::Connect`], and what keeps us from being let in.
    pub async fn open(connector: &Connector, address: &str, timeout: Duration) -> Result<Self, Error> {
        Ok(connector.open(address, timeout).await?.0)
    }

    /// Asks the broker behind `stream` for its versions.
    pub(super) async fn over(stream: Stream, address: &str, timeout: Duration, keys: &Keys) -> Result<Self, Error> {
        let mut connection = Self {
            address: address.to_owned(),
            stream,
            versions: BTreeMap::new(),
            correlation_id: 0,
            in_step: true,
            timeout,
            answers: 0,
            tls: keys.tls.as_ref().map(|_| keys.identity),
            logged_in: false,
            until: None,
        };
        connection.negotiate().await?;
        Ok(connection)
    }

    /// Tells the broker who we are.
    pub(super) async fn log_in(&mut self, credentials: &sasl::Credentials) -> Result<(), Error> {
        self.logged_in = true;
        let lifetime = sasl::authenticate(self, credentials).await?;
        self.until = lifetime.map(|lifetime| Instant::now() + lifetime.mul_f64(SESSION_USED));
        Ok(())
    }

    /// The broker's address.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Whether a further call can be made: all went well so far, and the session does not end soon.
    pub fn is_usable(&self) -> bool {
        self.in_step && self.until.is_none_or(|until| Instant::now() < until)
    }

    /// Gives each further call so much time.
    pub(crate) fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    /// Ends when the other side closes the connection or says something that it was not asked, which is as bad; the
    /// connection is out of step then.
    pub(crate) async fn unasked(&mut self) {
        let _ = self.stream.read_u8().await;
        self.in_step = false;
    }

    /// Whether the broker knows the API at all.
    pub fn knows(&self, api: ApiKey) -> bool {
        self.versions.contains_key(&(api as i16))
    }

    /// The highest version of `R` that the broker and `ours` have in common.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] where there is none.
    pub fn version<R: Request>(&self, ours: VersionRange) -> Result<i16, Error> {
        let theirs = self.versions.get(&R::KEY).copied();
        match theirs.map(|theirs| theirs.intersect(&ours)) {
            Some(common) if !common.is_empty() => Ok(common.max),
            _ => Err(Error::Unsupported { address: self.address.clone(), api: api::<R>(), theirs, ours }),
        }
    }

    /// Sends a request and returns its answer.
    ///
    /// # Errors
    ///
    /// Whatever went wrong on the way; error codes inside the answer are the caller's to read.
    pub async fn call<R: Request>(&mut self, version: i16, request: &R) -> Result<R::Response, Error> {
        let answer = self.send(version, request).await?;
        self.decode::<R>(version, answer)
    }

    async fn negotiate(&mut self) -> Result<(), Error> {
        let request = ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str(CLIENT_ID))
            .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
        let mut version = API_VERSIONS;
        let mut answer = self.send(version, &request).await?;
        // The error code stands first in every version, and a broker that does not know ours answers in version 0.
        let code = answer.get(..2).map_or(0, |mut code| code.get_i16());
        if code == ResponseError::UnsupportedVersion.code() {
            version = 0;
            answer = self.send(version, &ApiVersionsRequest::default()).await?;
        }
        let read = early::versions(version, answer);
        let (code, versions) = read.map_err(|source| self.codec::<ApiVersionsRequest>(version, source))?;
        if let Some(code) = ResponseError::try_from_code(code) {
            return Err(Error::Refused { address: self.address.clone(), code });
        }
        self.versions = versions;
        Ok(())
    }

    /// Sends a request and returns the bytes of the answer behind its header.
    async fn send<R: Request>(&mut self, version: i16, request: &R) -> Result<Bytes, Error> {
        self.correlation_id = self.correlation_id.wrapping_add(1);
        let frame = self.encode(version, request)?;
        let after = self.timeout;
        let mut answer = timeout(after, self.exchange(&frame)).await.map_err(|_| Error::Timeout {
            address: self.address.clone(),
            api: api::<R>(),
            after,
        })??;
        ResponseHeader::decode(&mut answer, R::Response::header_version(version))
            .map_err(|source| self.codec::<R>(version, source))?;
        Ok(answer)
    }

    fn encode<R: Request>(&self, version: i16, request: &R) -> Result<Bytes, Error> {
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation_id)
            .with_client_id(Some(StrBytes::from_static_str(CLIENT_ID)));
        let mut frame = BytesMut::new();
        frame.put_i32(0);
        header
            .encode(&mut frame, R::header_version(version))
            .and_then(|()| request.encode(&mut frame, version))
            .map_err(|source| self.codec::<R>(version, source))?;
        let length = i32::try_from(frame.len() - 4).map_err(|source| self.codec::<R>(version, source.into()))?;
        frame[..4].copy_from_slice(&length.to_be_bytes());
        Ok(frame.freeze())
    }

    fn decode<R: Request>(&self, version: i16, mut answer: Bytes) -> Result<R::Response, Error> {
        if R::KEY == ApiKey::SaslHandshake as i16 {
            early::check_handshake(&*answer).map_err(|source| self.codec::<R>(version, source))?;
        }
        let response = R::Response::decode(&mut answer, version).map_err(|source| self.codec::<R>(version, source))?;
        if answer.has_remaining() {
            let source = anyhow::anyhow!("{} bytes follow the answer", answer.remaining());
            return Err(self.codec::<R>(version, source));
        }
        Ok(response)
    }

    /// Writes a frame and reads the next one. Only when that has been read whole is the connection in step again.
    async fn exchange(&mut self, frame: &[u8]) -> Result<Bytes, Error> {
        if !mem::replace(&mut self.in_step, false) {
            return Err(Error::OutOfStep { address: self.address.clone() });
        }
        let length = self.write_and_read_length(frame).await.map_err(|source| self.io(source))?;
        let Ok(size @ 4..=MAX_FRAME) = usize::try_from(length) else {
            // the start of a TLS record: an alert, or a handshake
            if self.answers == 0 && matches!(length.to_be_bytes(), [0x15 | 0x16, 3, ..]) {
                return Err(self.mismatch("answers in TLS: set KAFKA_SECURITY_PROTOCOL to SSL or SASL_SSL", false));
            }
            return Err(Error::Frame { address: self.address.clone(), length });
        };
        let answer = self.read(size).await.map_err(|source| self.broken(source))?;
        let found = (&answer[..4]).get_i32();
        if found != self.correlation_id {
            return Err(Error::Correlation { address: self.address.clone(), expected: self.correlation_id, found });
        }
        self.in_step = true;
        self.answers = self.answers.saturating_add(1);
        Ok(answer)
    }

    async fn write_and_read_length(&mut self, frame: &[u8]) -> io::Result<i32> {
        self.stream.write_all(frame).await?;
        self.stream.flush().await?;
        self.stream.read_i32().await
    }

    async fn read(&mut self, size: usize) -> io::Result<Bytes> {
        let mut answer = BytesMut::with_capacity(size.min(FIRST_READ));
        let mut rest = (&mut self.stream).take(size as u64);
        while answer.len() < size {
            if rest.read_buf(&mut answer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(answer.freeze())
    }

    fn mismatch(&self, why: &'static str, passing: bool) -> Error {
        Error::Mismatch { address: self.address.clone(), why, passing }
    }

    /// A broken connection. One that breaks before anything was answered has mostly met the wrong listener.
    fn io(&self, source: io::Error) -> Error {
        let closed = matches!(
            source.kind(),
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
        );
        match (self.answers, self.tls) {
            // in TLS 1.3 the server judges our certificate when for us the handshake is over
            (0, Some(false)) if rustls_error(&source).is_some() => {
                let why = "asks for a client certificate: set KAFKA_SSL_CERTIFICATE_FILE and KAFKA_SSL_KEY_FILE";
                self.mismatch(why, false)
            }
            (0, Some(true)) if rustls_error(&source).is_some() => Error::tls(&self.address, &source),
            (0, None) if closed => {
                let why = "closed the connection at the first request: is it a TLS port? (see KAFKA_SECURITY_PROTOCOL)";
                self.mismatch(why, true)
            }
            (1, _) if closed && !self.logged_in => {
                let why = "closed the connection at the first request after the versions: does it ask for a login? \
                           (see KAFKA_SECURITY_PROTOCOL)";
                self.mismatch(why, true)
            }
            _ => self.broken(source),
        }
    }

    fn broken(&self, source: io::Error) -> Error {
        Error::Io { address: self.address.clone(), source }
    }

    fn codec<R: Request>(&self, version: i16, source: anyhow::Error) -> Error {
        Error::Codec { address: self.address.clone(), api: api::<R>(), version, source: source.into() }
    }
}

fn api<R: Request>() -> ApiKey {
    ApiKey::try_from(R::KEY).expect("each request type has a known API key")
}
