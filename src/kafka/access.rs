//! What it takes to be let in by a broker: TLS, who we are, and the patience after a refusal.
//!
//! Owns the settings, read anew for each connection so that a replaced file counts from the next one on, and the pause
//! after a refused login, which is one for all connections: many partitions must not lock an account. Opens no
//! connection.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::future::BoxFuture;
use rskafka::client::{Credentials as RskafkaCredentials, OauthBearerCredentials, SaslConfig};
use rustls::ClientConfig;
use tokio::time::Instant;
use tracing::{info, warn};

use super::{
    sasl::Credentials,
    token::{Tokens, plain_token},
    wire::Error,
};
use crate::{
    chain::chain,
    config::{Login, PasswordMechanism, Secret, SecretSource, Security, TokenSource},
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
}

/// What one connection is opened with.
#[derive(Debug, Clone, Default)]
pub(super) struct Keys {
    pub(super) tls: Option<Arc<ClientConfig>>,
    /// Whether we have a certificate to show.
    pub(super) identity: bool,
    pub(super) credentials: Option<Credentials>,
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
    until: Instant,
    pause: Duration,
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
        Ok(Self { security, tokens, gate: Mutex::default() })
    }

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
            Some(settings) => Some(settings.client_config().map_err(|error| Error::Files { why: chain(&error) })?),
            None => None,
        };
        let identity = self.security.tls.as_ref().is_some_and(|tls| tls.identity.is_some());
        Ok(Keys { tls, identity, credentials: self.credentials().await? })
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
                let password = password.read().map_err(unread)?;
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
                        let token = file.read().map_err(unread)?;
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
            *gate = Gate { refused: None, replaced: secret.cloned() };
            info!("the file of the brokers' password or token has changed: trying again");
            return Ok(());
        }
        let now = Instant::now();
        if now < refused.until {
            let why = refused.why.clone();
            return Err(match &refused.address {
                Some(address) => Error::Login { address: address.clone(), why },
                None => Error::Token { why },
            });
        }
        refused.until = now + refused.pause;
        Ok(())
    }

    fn no_token(&self, why: String) -> Error {
        self.close(None, None, &why);
        Error::Token { why }
    }

    /// A broker has refused these credentials: nobody tries them again for a while.
    pub(super) fn refused(&self, credentials: &Credentials, address: &str, why: &str) {
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
        self.close(secret, Some(address), why);
    }

    fn close(&self, secret: Option<Secret>, address: Option<&str>, why: &str) {
        let mut gate = self.gate();
        let pause = gate.refused.as_ref().map_or(FIRST_PAUSE, |refused| (refused.pause * 2).min(MAX_PAUSE));
        let until = Instant::now() + pause;
        if gate.replaced.is_some() && gate.replaced == secret {
            gate.replaced = None;
            warn!(why, "the brokers refuse what the file holds now");
        }
        gate.refused = Some(Refused { secret, address: address.map(str::to_owned), why: why.to_owned(), until, pause });
    }

    /// A broker has let us in.
    pub(super) fn admitted(&self) {
        *self.gate() = Gate::default();
    }

    /// The same credentials for rskafka. Tokens are asked for anew at each of its connections.
    pub(super) fn sasl_config(self: &Arc<Self>, credentials: Credentials) -> SaslConfig {
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
        let used = credentials(&access).await.expect("nothing was refused");
        let mut pauses = Vec::new();
        for _ in 0..8 {
            access.refused(&used, "b:1", "no");
            let start = Instant::now();
            let error = credentials(&access).await.expect_err("too early");
            assert_eq!(error.to_string(), "broker b:1 refuses the login: no");
            while credentials(&access).await.is_err() {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
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
        access.refused(&credentials(&access).await.expect("read"), "b:1", "no");
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
}
