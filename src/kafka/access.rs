//! What it takes to be let in by a broker: TLS, who we are, and the patience after a refusal.
//!
//! Owns the settings, read anew for each connection so that a replaced file counts from the next one on, and the pause
//! after a refused login, which is one for all connections: many partitions must not lock an account. Until a broker
//! has let us in, logins are tried one after the other for the same reason. Opens no connection.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rustls::ClientConfig;
use tokio::time::Instant;
use tracing::{info, warn};

use super::{
    sasl::Credentials,
    token::{Failure, Tokens, plain_token},
    wire::Error,
};
use crate::{
    chain::chain,
    config::{Login, Secret, SecretSource, Security, TokenSource},
    tls,
};

/// First pause after a refused login; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause after a refused login. Other credentials, read from a file that has changed, are tried at once.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// How brokers are reached.
#[derive(Debug, Default)]
pub(super) struct Access {
    security: Security,
    tokens: Option<Tokens>,
    gate: Mutex<Gate>,
    /// Whether the credentials of last time were good.
    proven: AtomicBool,
    turn: tokio::sync::Mutex<()>,
}

/// What one connection is opened with.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    pub(super) tls: Option<Arc<ClientConfig>>,
    /// Whether we have a certificate to show.
    pub(super) identity: bool,
    pub(super) credentials: Option<Credentials>,
    /// When the settings were read.
    read: Instant,
}

impl Default for Keys {
    /// Neither TLS nor a login.
    fn default() -> Self {
        Self { tls: None, identity: false, credentials: None, read: Instant::now() }
    }
}

/// What is known of logins that failed.
#[derive(Debug, Default)]
struct Gate {
    refused: Option<Refused>,
    /// What a file holds instead of what was refused, until a broker has said something to it.
    replaced: Option<Secret>,
}

/// A login that failed, and when the next may be tried.
#[derive(Debug)]
struct Refused {
    /// What was refused, where another one is worth a try at once.
    secret: Option<Secret>,
    /// The broker; `None` where there was no token to show to one.
    address: Option<String>,
    why: String,
    since: Instant,
    until: Instant,
    pause: Duration,
}

impl Refused {
    fn error(&self) -> Error {
        let why = self.why.clone();
        match &self.address {
            Some(address) => Error::Login { address: address.clone(), why },
            None => Error::Token { why },
        }
    }
}

impl Access {
    /// Reads the certificate files once, to see that they can be used.
    pub(super) fn new(security: Security) -> Result<Self, tls::Error> {
        if let Some(tls) = &security.tls {
            tls.client_config()?;
        }
        let tokens = match &security.login {
            Some(Login::OauthBearer { token: TokenSource::Endpoint(endpoint), .. }) => {
                Some(Tokens::new(endpoint.clone())?)
            }
            _ => None,
        };
        Ok(Self { security, tokens, ..Self::default() })
    }

    #[cfg(feature = "service")]
    pub(super) fn has_login(&self) -> bool {
        self.security.login.is_some()
    }

    /// What a connection is to be opened with now.
    ///
    /// # Errors
    ///
    /// When a file cannot be read, no token can be had, or a refused login has to wait.
    pub(super) async fn keys(&self) -> Result<Keys, Error> {
        let tls = match &self.security.tls {
            Some(settings) => Some(settings.load().await.map_err(|error| Error::Files { why: chain(&error) })?),
            None => None,
        };
        let identity = self.security.tls.as_ref().is_some_and(|tls| tls.identity.is_some());
        let credentials = self.credentials().await?;
        Ok(Keys { tls, identity, credentials, read: Instant::now() })
    }

    async fn credentials(&self) -> Result<Option<Credentials>, Error> {
        let unread = |error: crate::config::SecretError| Error::Files { why: chain(&error) };
        Ok(Some(match &self.security.login {
            None => return Ok(None),
            Some(Login::Password { mechanism, username, password }) => {
                let variables = match password {
                    SecretSource::Value(_) => "KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD",
                    SecretSource::File { .. } => "KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD_FILE",
                };
                let password = password.load().await.map_err(unread)?;
                self.pass(Some(&password))?;
                Credentials::Password { mechanism: *mechanism, username: username.clone(), password, variables }
            }
            Some(Login::OauthBearer { token, extensions }) => {
                let (token, variables) = match (token, &self.tokens) {
                    (TokenSource::Endpoint(_), Some(tokens)) => {
                        self.pass(None)?;
                        let token = tokens.get().await.map_err(|why| self.no_token(why))?;
                        (token, "KAFKA_SASL_OAUTHBEARER_CLIENT_ID and KAFKA_SASL_OAUTHBEARER_SCOPE")
                    }
                    (TokenSource::File(file), _) => {
                        let token = file.load().await.map_err(unread)?;
                        self.pass(Some(&token))?;
                        let variable = "KAFKA_SASL_OAUTHBEARER_TOKEN_FILE";
                        let token =
                            plain_token(token).map_err(|why| Error::Files { why: format!("{variable}: {why}") })?;
                        (token, variable)
                    }
                    (TokenSource::Endpoint(_), None) => unreachable!("made together"),
                };
                Credentials::Token { token, extensions: extensions.clone(), variables }
            }
        }))
    }

    /// Fails while a refused login has to wait. Who passes when the time is up tries for all the others.
    fn pass(&self, secret: Option<&Secret>) -> Result<(), Error> {
        let mut gate = self.gate();
        let Some(refused) = gate.refused.as_mut() else { return Ok(()) };
        if refused.secret.is_some() && refused.secret.as_ref() != secret {
            self.proven.store(false, Ordering::Release);
            *gate = Gate { refused: None, replaced: secret.cloned() };
            info!("the file of the brokers' password or token has changed: trying again");
            return Ok(());
        }
        let now = Instant::now();
        if now < refused.until {
            return Err(refused.error());
        }
        refused.until = now + refused.pause;
        Ok(())
    }

    fn no_token(&self, failure: Failure) -> Error {
        if !failure.shared {
            self.close(None, None, &failure.why, Instant::now());
        }
        Error::Token { why: failure.why }
    }

    /// Waits until these keys may be shown to a broker, which is to be done while the guard lives.
    ///
    /// # Errors
    ///
    /// When they have been refused by another broker since they were read.
    pub(super) async fn turn(&self, keys: &Keys) -> Result<Option<tokio::sync::MutexGuard<'_, ()>>, Error> {
        let guard = if self.proven.load(Ordering::Acquire) { None } else { Some(self.turn.lock().await) };
        let shown = keys.credentials.as_ref().map(Credentials::secret);
        match self.gate().refused.as_ref() {
            Some(refused)
                if refused.since > keys.read
                    && refused.address.is_some()
                    && (refused.secret.is_none() || refused.secret.as_ref() == shown) =>
            {
                Err(refused.error())
            }
            _ => Ok(guard),
        }
    }

    /// A broker has refused these keys: nobody tries them again for a while.
    pub(super) fn refused(&self, keys: &Keys, address: &str, why: &str) {
        let Some(credentials) = &keys.credentials else { return };
        let secret = match credentials {
            Credentials::Password { password, .. } => Some(password.clone()),
            Credentials::Token { token, .. } => match &self.tokens {
                Some(tokens) => {
                    tokens.discard(token);
                    None
                }
                None => Some(token.clone()),
            },
        };
        self.proven.store(false, Ordering::Release);
        self.close(secret, Some(address), why, keys.read);
    }

    /// What was refused was read at `read`: several that were shown at the same time make the pause no longer.
    fn close(&self, secret: Option<Secret>, address: Option<&str>, why: &str, read: Instant) {
        let mut gate = self.gate();
        let pause = match gate.refused.as_ref() {
            None => FIRST_PAUSE,
            Some(refused) if refused.since > read => refused.pause,
            Some(refused) => (refused.pause * 2).min(MAX_PAUSE),
        };
        let since = Instant::now();
        let (address, why) = (address.map(str::to_owned), why.to_owned());
        if gate.replaced.is_some() && gate.replaced == secret {
            gate.replaced = None;
            warn!(why, "the brokers refuse what the file holds now");
        }
        gate.refused = Some(Refused { secret, address, why, since, until: since + pause, pause });
    }

    /// A broker has let us in.
    pub(super) fn admitted(&self) {
        *self.gate() = Gate::default();
        self.proven.store(true, Ordering::Release);
    }

    /// The same credentials for rskafka. Tokens are asked for anew at each of its connections.
    #[cfg(feature = "service")]
    pub(super) fn sasl_config(self: &Arc<Self>, credentials: Credentials) -> rskafka::client::SaslConfig {
        use futures::future::BoxFuture;
        use rskafka::client::{Credentials as RskafkaCredentials, OauthBearerCredentials, SaslConfig};

        use crate::config::PasswordMechanism;

        match credentials {
            Credentials::Password { mechanism, username, password, .. } => {
                let credentials = RskafkaCredentials::new(username, password.reveal().to_owned());
                match mechanism {
                    PasswordMechanism::Plain => SaslConfig::Plain(credentials),
                    PasswordMechanism::ScramSha256 => SaslConfig::ScramSha256(credentials),
                    PasswordMechanism::ScramSha512 => SaslConfig::ScramSha512(credentials),
                }
            }
            Credentials::Token { extensions, .. } => {
                let access = Arc::clone(self);
                let callback = move || -> BoxFuture<'static, _> {
                    let access = Arc::clone(&access);
                    Box::pin(async move {
                        match access.credentials().await? {
                            Some(Credentials::Token { token, .. }) => Ok(token.reveal().to_owned()),
                            _ => unreachable!("the login does not change"),
                        }
                    })
                };
                SaslConfig::Oauthbearer(OauthBearerCredentials {
                    callback: Arc::new(callback),
                    authz_id: None,
                    bearer_kvs: extensions,
                })
            }
        }
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PasswordMechanism;

    fn access(password: SecretSource) -> Access {
        let username = "u".to_owned();
        let login = Login::Password { mechanism: PasswordMechanism::Plain, username, password };
        Access::new(Security { tls: None, login: Some(login) }).expect("no files")
    }

    async fn credentials(access: &Access) -> Result<Credentials, Error> {
        access.keys().await.map(|keys| keys.credentials.expect("a login"))
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_password_is_tried_by_one_after_growing_pauses() {
        let access = access(SecretSource::Value(Secret::new("old")));
        let mut used = access.keys().await.expect("nothing was refused");
        let mut pauses = Vec::new();
        for _ in 0..8 {
            access.refused(&used, "b:1", "no");
            let start = Instant::now();
            let error = credentials(&access).await.expect_err("too early");
            assert_eq!(error.to_string(), "broker b:1 refuses the login: no");
            used = loop {
                match access.keys().await {
                    Ok(keys) => break keys,
                    Err(_) => tokio::time::sleep(Duration::from_millis(500)).await,
                }
            };
            pauses.push(start.elapsed().as_secs());
            assert!(credentials(&access).await.is_err(), "one tries for all");
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        access.admitted();
        assert!(credentials(&access).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn another_password_is_tried_at_once() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let write = |text: &str| std::fs::write(file.path(), text).expect("written");
        write("old\n");
        let access = access(SecretSource::File { variable: "KAFKA_SASL_PASSWORD_FILE", path: file.path().into() });
        access.refused(&access.keys().await.expect("read"), "b:1", "no");
        assert!(credentials(&access).await.is_err());
        write("new\n");
        let Credentials::Password { password, variables, .. } = credentials(&access).await.expect("tried") else {
            panic!("a password");
        };
        assert_eq!(password.reveal(), "new");
        assert_eq!(variables, "KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD_FILE");
        std::fs::remove_file(file.path()).expect("removed");
        let text = credentials(&access).await.expect_err("no file").to_string();
        assert!(text.starts_with("KAFKA_SASL_PASSWORD_FILE: cannot read"), "{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_wrong_is_tried_by_one_until_somebody_was_let_in() {
        let access = Arc::new(access(SecretSource::Value(Secret::new("old"))));
        let keys = access.keys().await.expect("nothing was refused");
        let first = access.turn(&keys).await.expect("nothing was refused").expect("the first turn");
        let second = tokio::spawn({
            let (access, keys) = (Arc::clone(&access), keys.clone());
            async move { access.turn(&keys).await.map(drop) }
        });
        tokio::time::sleep(Duration::from_millis(1)).await;
        access.refused(&keys, "b:1", "no");
        drop(first);
        let error = second.await.expect("no panic").expect_err("refused already");
        assert_eq!(error.to_string(), "broker b:1 refuses the login: no");
        // shown before the first was refused
        access.refused(&keys, "b:2", "no");
        assert_eq!(access.gate().refused.as_ref().expect("closed").pause, FIRST_PAUSE);
        tokio::time::sleep(FIRST_PAUSE).await;
        let keys = access.keys().await.expect("tried again");
        assert!(access.turn(&keys).await.expect("tried again").is_some());
        access.admitted();
        assert!(access.turn(&keys).await.expect("let in").is_none());
    }

    #[tokio::test]
    async fn a_token_endpoint_that_refuses_is_asked_once_for_all() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/token", listener.local_addr().expect("bound"));
        let asked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n").await;
            }
        });
        let endpoint = crate::config::TokenEndpoint {
            url,
            client_id: "c".to_owned(),
            client_secret: SecretSource::Value(Secret::new("s")),
            scope: None,
            authorities: None,
        };
        let login = Login::OauthBearer { token: TokenSource::Endpoint(endpoint), extensions: Vec::new() };
        let access = Access::new(Security { tls: None, login: Some(login) }).expect("no files");
        // the partitions of three lanes reconnect after a restart of the broker
        futures::future::join_all((0..18).map(|_| access.keys())).await;
        let pause = access.gate().refused.as_ref().expect("refused").pause;
        let asked = asked.load(std::sync::atomic::Ordering::SeqCst);
        assert_eq!((asked, pause), (1, FIRST_PAUSE));
    }
}
