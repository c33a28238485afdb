//! From a host name to a session that is ready for its first mail.
//!
//! Owns connecting, the order of the phases and their deadlines; what is said in them is in `greeting` and in lettre's
//! AUTH. Keeps no state between two sessions.

use std::{
    fmt,
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use data_encoding::BASE64;
use lettre::transport::smtp::{
    authentication::{self, Mechanism},
    client::AsyncSmtpConnection,
    extension::ClientId,
};
use rustls::pki_types::ServerName;
use tokio::{
    net::{TcpStream, lookup_host},
    time::{Instant, timeout},
};
use tokio_rustls::TlsConnector;

use super::{
    Observer, Phase, Reply, Session,
    greeting::{self, Capabilities, Greeter},
    reply::clean,
    transport::{Stream, Wire},
};
use crate::{
    chain::chain,
    config,
    tls::{self, PemFile},
};

/// How far opening a session got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenPhase {
    /// Name lookup and TCP connect.
    Connect,
    /// The server's first reply.
    Banner,
    /// EHLO, or HELO where the server knows no EHLO.
    Ehlo,
    /// The STARTTLS command.
    StartTls,
    /// The TLS handshake.
    Tls,
    /// The AUTH exchange.
    Auth,
}

impl fmt::Display for OpenPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connecting",
            Self::Banner => "the banner",
            Self::Ehlo => "EHLO",
            Self::StartTls => "STARTTLS",
            Self::Tls => "the TLS handshake",
            Self::Auth => "AUTH",
        })
    }
}

/// Why no session came about; prints as one sentence with host and port and without secrets.
#[derive(Debug, thiserror::Error)]
#[error("no session with {host}:{port}: {phase} failed: {cause}")]
pub struct OpenError {
    host: Arc<str>,
    port: u16,
    phase: OpenPhase,
    cause: Cause,
}

impl OpenError {
    /// The phase that failed.
    pub fn phase(&self) -> OpenPhase {
        self.phase
    }

    /// The reply with which the server refused, if it did.
    pub fn reply(&self) -> Option<&Reply> {
        match &self.cause {
            Cause::Greeting(greeting::Error::Refused(reply)) => Some(reply),
            _ => None,
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum Cause {
    #[error("no answer within {0:?}")]
    Deadline(Duration),
    #[error("{0}")]
    Greeting(greeting::Error),
    #[error("{0}")]
    Other(String),
}

impl<E: Into<greeting::Error>> From<E> for Cause {
    fn from(error: E) -> Self {
        Self::Greeting(error.into())
    }
}

/// Opens sessions to the one relay of the configuration; cheap to clone.
#[derive(Debug, Clone)]
pub struct Connector {
    shared: Arc<Shared>,
    observer: Observer,
}

#[derive(Debug)]
struct Shared {
    host: Arc<str>,
    port: u16,
    encryption: config::Encryption,
    tls: TlsSettings,
    credentials: Option<config::Credentials>,
    allow_insecure_auth: bool,
    hello_name: String,
    timeouts: config::Timeouts,
}

/// Absent where nothing is encrypted: a host need not be a name that a certificate could be for.
type TlsSettings = Option<(Arc<rustls::ClientConfig>, ServerName<'static>)>;

impl Connector {
    /// Reads the certificate authorities; connects to nothing yet.
    ///
    /// # Errors
    ///
    /// When the authorities of `SMTP_CA_FILE` or the host's name cannot be used for TLS.
    pub fn new(smtp: &config::Smtp) -> Result<Self, tls::Error> {
        let tls = match smtp.encryption {
            config::Encryption::None => None,
            config::Encryption::StartTls | config::Encryption::Tls => {
                let name = ServerName::try_from(smtp.host.clone()).map_err(|source| tls::Error::Host {
                    variable: "SMTP_HOST",
                    host: smtp.host.clone(),
                    source,
                })?;
                let authorities = smtp.ca_file.clone().map(|path| PemFile { variable: "SMTP_CA_FILE", path });
                let settings = tls::Settings { authorities, ..tls::Settings::default() };
                Some((settings.client_config()?, name))
            }
        };
        let shared = Shared {
            host: smtp.host.as_str().into(),
            port: smtp.port,
            encryption: smtp.encryption,
            tls,
            credentials: smtp.credentials.clone(),
            allow_insecure_auth: smtp.allow_insecure_auth || is_local(&smtp.host),
            hello_name: smtp.hello_name.clone(),
            timeouts: smtp.timeouts,
        };
        Ok(Self { shared: Arc::new(shared), observer: Observer::default() })
    }

    /// The same, with somebody who hears of each phase of its sessions.
    #[must_use]
    pub fn observed(self, observer: Observer) -> Self {
        Self { observer, ..self }
    }

    /// Opens a session: connect, banner, EHLO, STARTTLS and TLS, AUTH, each within its deadline.
    ///
    /// # Errors
    ///
    /// When a phase fails; nothing of a mail was sent.
    pub async fn open(&self) -> Result<Session, OpenError> {
        let Shared { host, port, encryption, hello_name, timeouts, .. } = &*self.shared;
        let tcp = self.phase(OpenPhase::Connect, timeouts.connect, connect(host, *port, timeouts.connect)).await?;
        let stream = match encryption {
            config::Encryption::Tls => self.encrypt(tcp).await?,
            config::Encryption::None | config::Encryption::StartTls => Stream::Plain(tcp),
        };

        let mut greeter = Greeter::new(stream);
        self.phase(OpenPhase::Banner, timeouts.greeting, greeter.banner()).await?;
        let mut capabilities = self.phase(OpenPhase::Ehlo, timeouts.greeting, greeter.hello(hello_name)).await?;
        if *encryption == config::Encryption::StartTls {
            let tcp = self.phase(OpenPhase::StartTls, timeouts.greeting, starttls(greeter, &capabilities)).await?;
            greeter = Greeter::new(self.encrypt(tcp).await?);
            capabilities = self.phase(OpenPhase::Ehlo, timeouts.greeting, greeter.hello(hello_name)).await?;
        }

        let stream = greeter.into_stream().map_err(|error| self.error(OpenPhase::Ehlo, error.into()))?;
        let encrypted = stream.is_encrypted();
        let wire = Wire::rehearse(stream, capabilities.rehearsal());
        let hello = ClientId::Domain(hello_name.clone());
        let connected = AsyncSmtpConnection::connect_with_transport(Box::new(wire.clone()), &hello).await;
        let mut connection =
            connected.map_err(|error| self.error(OpenPhase::Ehlo, Cause::Other(clean(&error.to_string()))))?;
        wire.go_live();

        if let Some(credentials) = &self.shared.credentials {
            let exchange = self.authenticate(&mut connection, credentials, &capabilities, encrypted);
            self.phase(OpenPhase::Auth, timeouts.auth, exchange).await?;
            if !wire.is_in_step() {
                let extra = greeting::Error::Protocol("the server sent more than it was asked for");
                return Err(self.error(OpenPhase::Auth, extra.into()));
            }
        }
        wire.forget_codes();
        Ok(Session::new(connection, wire, capabilities, *timeouts, self.observer.clone()))
    }

    async fn encrypt(&self, tcp: TcpStream) -> Result<Stream, OpenError> {
        let (config, name) = self.shared.tls.clone().expect("TLS settings are made wherever encryption is asked for");
        let handshake = async {
            let tls = TlsConnector::from(config).connect(name, tcp).await?;
            Ok::<_, Cause>(Stream::Tls(Box::new(tls)))
        };
        self.phase(OpenPhase::Tls, self.shared.timeouts.tls, handshake).await
    }

    async fn authenticate(
        &self,
        connection: &mut AsyncSmtpConnection,
        credentials: &config::Credentials,
        capabilities: &Capabilities,
        encrypted: bool,
    ) -> Result<(), Cause> {
        if !encrypted && !self.shared.allow_insecure_auth {
            return Err(Cause::Other("the password would cross an unencrypted connection".to_owned()));
        }
        if !capabilities.auth_plain && !capabilities.auth_login {
            return Err(Cause::Other("the server offers neither AUTH PLAIN nor AUTH LOGIN".to_owned()));
        }
        let config::Credentials { user, password } = credentials;
        let password = password.read().map_err(|error| Cause::Other(chain(&error)))?;
        let secret = authentication::Credentials::new(user.clone(), password.reveal().to_owned());
        match connection.auth(&[Mechanism::Plain, Mechanism::Login], &secret).await {
            Ok(response) if Reply::from_response(&response).is_positive() => Ok(()),
            Ok(response) => Err(Cause::Other(format!("the server answered {} to the last step", response.code()))),
            Err(error) => Err(match Reply::from_error(&error) {
                Some(reply) => {
                    let reply = Reply { text: redact(&reply.text, user, password.reveal()), ..reply };
                    greeting::Error::Refused(reply).into()
                }
                None => Cause::Other(redact(&clean(&error.to_string()), user, password.reveal())),
            }),
        }
    }

    async fn phase<T, E: Into<Cause>>(
        &self,
        phase: OpenPhase,
        deadline: Duration,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, OpenError> {
        let observed = match phase {
            OpenPhase::Connect => Phase::Connect,
            OpenPhase::Banner | OpenPhase::Ehlo | OpenPhase::StartTls => Phase::Greeting,
            OpenPhase::Tls => Phase::Tls,
            OpenPhase::Auth => Phase::Auth,
        };
        match self.observer.time(observed, timeout(deadline, work)).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(self.error(phase, error.into())),
            Err(_) => Err(self.error(phase, Cause::Deadline(deadline))),
        }
    }

    fn error(&self, phase: OpenPhase, cause: Cause) -> OpenError {
        OpenError { host: self.shared.host.clone(), port: self.shared.port, phase, cause }
    }
}

async fn connect(host: &str, port: u16, deadline: Duration) -> io::Result<TcpStream> {
    let end = Instant::now() + deadline;
    connect_any(&lookup_host((host, port)).await?.collect::<Vec<_>>(), end).await
}

/// Tries the addresses in order, each for its even share of the time that is left, so that one that swallows packets
/// does not hide the next.
async fn connect_any(addresses: &[SocketAddr], end: Instant) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for (address, left) in addresses.iter().zip((1..=u32::try_from(addresses.len()).unwrap_or(u32::MAX)).rev()) {
        let share = end.saturating_duration_since(Instant::now()) / left;
        match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(tcp)) => {
                tcp.set_nodelay(true)?;
                return Ok(tcp);
            }
            Ok(Err(error)) => last = error,
            Err(_) => last = io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {share:?}")),
        }
    }
    Err(last)
}

async fn starttls(mut greeter: Greeter, capabilities: &Capabilities) -> Result<TcpStream, greeting::Error> {
    if !capabilities.starttls {
        return Err(greeting::Error::Protocol("the server does not offer it"));
    }
    greeter.starttls().await?;
    match greeter.into_stream()? {
        Stream::Plain(tcp) => Ok(tcp),
        Stream::Tls(_) => Err(greeting::Error::Protocol("the connection is encrypted already")),
    }
}

fn is_local(host: &str) -> bool {
    let host = host.trim_end_matches('.');
    host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(|ip: IpAddr| ip.to_canonical().is_loopback())
}

/// Servers do repeat a command that they did not understand.
fn redact(text: &str, user: &str, password: &str) -> String {
    let encoded = BASE64.encode(password.as_bytes());
    let plain = BASE64.encode(format!("\0{user}\0{password}").as_bytes());
    [plain.as_str(), encoded.as_str(), password]
        .into_iter()
        .filter(|secret| !secret.is_empty())
        .fold(text.to_owned(), |text, secret| text.replace(secret, "***"))
}

#[cfg(test)]
mod tests;
