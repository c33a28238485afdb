//! From a host name to a session that is ready for its first mail.
//!
//! Owns connecting, the order of the phases and their deadlines; what is said in them is in `greeting` and `auth`.
//! Keeps nothing from one session to the next but what it knows of the secrets.

mod error;
mod logins;
#[cfg(test)]
mod tests;

use std::{
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use lettre::transport::smtp::{client::AsyncSmtpConnection, extension::ClientId};
use rustls::pki_types::ServerName;
use tokio::{
    net::{TcpStream, lookup_host},
    time::{Instant, timeout},
};
use tokio_rustls::TlsConnector;

pub use self::error::{OpenError, OpenPhase};
use self::{error::Cause, logins::Logins};
use super::{
    Observer, Phase, Session,
    auth::{self, Login},
    greeting::{self, Capabilities, Greeter},
    reply::clean,
    transport::{Stream, Wire},
};
use crate::{
    chain::chain,
    config::{self, SecretSource},
    tls::{self, PemFile},
};

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
    auth: config::AuthMethod,
    logins: Logins,
    allow_insecure_auth: bool,
    hello_name: String,
    timeouts: config::Timeouts,
}

/// Absent where nothing is encrypted: a host need not be a name that a certificate could be for.
type TlsSettings = Option<(Arc<rustls::ClientConfig>, ServerName<'static>)>;

impl Connector {
    /// Reads the certificate authorities and our certificate; connects to nothing yet.
    ///
    /// # Errors
    ///
    /// When the authorities of `SMTP_CA_FILE`, our certificate or the host's name cannot be used for TLS.
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
                let identity = smtp.identity.clone().map(|(certificates, key)| tls::Identity {
                    certificates: PemFile { variable: "SMTP_CERTIFICATE_FILE", path: certificates },
                    key: PemFile { variable: "SMTP_KEY_FILE", path: key },
                });
                let settings = tls::Settings { authorities, identity, ..tls::Settings::default() };
                Some((settings.client_config()?, name))
            }
        };
        let shared = Shared {
            host: smtp.host.as_str().into(),
            port: smtp.port,
            encryption: smtp.encryption,
            tls,
            credentials: smtp.credentials.clone(),
            auth: smtp.auth,
            logins: Logins::new(smtp.sessions),
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
        let refusals = self.shared.logins.refusals();
        let connecting = connect(host, *port, timeouts.connect);
        let tcp = self.phase(OpenPhase::Connect, false, timeouts.connect, connecting).await?;
        let stream = match encryption {
            config::Encryption::Tls => self.encrypt(tcp).await?,
            config::Encryption::None | config::Encryption::StartTls => Stream::Plain(tcp),
        };

        let mut encrypted = stream.is_encrypted();
        let mut greeter = Greeter::new(stream);
        self.phase(OpenPhase::Banner, encrypted, timeouts.greeting, greeter.banner()).await?;
        let hello = greeter.hello(hello_name);
        let mut capabilities = self.phase(OpenPhase::Ehlo, encrypted, timeouts.greeting, hello).await?;
        if *encryption == config::Encryption::StartTls {
            let starting = starttls(greeter, &capabilities);
            let tcp = self.phase(OpenPhase::StartTls, false, timeouts.greeting, starting).await?;
            greeter = Greeter::new(self.encrypt(tcp).await?);
            encrypted = true;
            let hello = greeter.hello(hello_name);
            capabilities = self.phase(OpenPhase::Ehlo, encrypted, timeouts.greeting, hello).await?;
        }
        let mut last = OpenPhase::Ehlo;
        if let Some(credentials) = &self.shared.credentials {
            last = OpenPhase::Auth;
            let exchange = self.authenticate(&mut greeter, credentials, refusals, &capabilities, encrypted);
            self.phase(last, encrypted, timeouts.auth, exchange).await?;
        }

        let stream = greeter.into_stream().map_err(|error| self.error(last, error.into(), encrypted))?;
        // all is said already; what lettre is told instead is that the server can do nothing special
        let wire = Wire::rehearse(stream, b"220 relay\r\n250 relay\r\n".to_vec());
        let hello = ClientId::Domain(hello_name.clone());
        let connection = AsyncSmtpConnection::connect_with_transport(Box::new(wire.clone()), &hello).await;
        let connection =
            connection.map_err(|error| self.error(last, Cause::Other(clean(&error.to_string())), encrypted))?;
        wire.go_live();
        wire.forget_codes();
        Ok(Session::new(connection, wire, capabilities, *timeouts, self.observer.clone()))
    }

    /// Waits until the file of a secret that was refused, or could not be read, holds another one. False where a login
    /// with the same one has gone well meanwhile, and at once where the secret is in no file, or another task waits for it
    /// already.
    pub async fn secret_replaced(&self) -> bool {
        self.shared.logins.replaced().await
    }

    async fn encrypt(&self, tcp: TcpStream) -> Result<Stream, OpenError> {
        let (config, name) = self.shared.tls.clone().expect("TLS settings are made wherever encryption is asked for");
        let handshake = async {
            let tls = TlsConnector::from(config).connect(name, tcp).await.map_err(Cause::Handshake)?;
            Ok::<_, Cause>(Stream::Tls(Box::new(tls)))
        };
        self.phase(OpenPhase::Tls, false, self.shared.timeouts.tls, handshake).await
    }

    async fn authenticate(
        &self,
        greeter: &mut Greeter,
        credentials: &config::Credentials,
        refusals: u64,
        capabilities: &Capabilities,
        encrypted: bool,
    ) -> Result<(), Cause> {
        let Shared { host, port, auth, logins, .. } = &*self.shared;
        if !encrypted && !self.shared.allow_insecure_auth {
            return Err(Cause::InTheClear(if credentials.password.is_some() { "password" } else { "token" }));
        }
        let (mechanism, source) = auth::choose(*auth, credentials, capabilities).map_err(Cause::Offer)?;
        let secret = source.load().await.map_err(|error| {
            logins.unreadable(source);
            Cause::Secret(chain(&error))
        })?;
        let login = Login { mechanism, user: &credentials.user, secret: secret.reveal(), host, port: *port };
        let variables = match source {
            SecretSource::Value(_) => "look at SMTP_USER and SMTP_PASSWORD",
            SecretSource::File { variable: "SMTP_TOKEN_FILE", .. } => "look at SMTP_USER and SMTP_TOKEN_FILE",
            SecretSource::File { .. } => "look at SMTP_USER and SMTP_PASSWORD_FILE",
        };
        let proven = logins.has_proven(&secret);
        let outcome = logins.log_in(source, &secret, refusals, login.run(greeter)).await;
        outcome.map_err(|error| Cause::Login { error, variables, proven })
    }

    async fn phase<T, E: Into<Cause>>(
        &self,
        phase: OpenPhase,
        encrypted: bool,
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
            Ok(Err(error)) => Err(self.error(phase, error.into(), encrypted)),
            Err(_) => Err(self.error(phase, Cause::Deadline(deadline), encrypted)),
        }
    }

    fn error(&self, phase: OpenPhase, cause: Cause, encrypted: bool) -> OpenError {
        OpenError::new((self.shared.host.clone(), self.shared.port), phase, cause, encrypted)
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
