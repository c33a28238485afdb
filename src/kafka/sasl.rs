//! The login on a connection of our own: `SaslHandshake` and `SaslAuthenticate` (KIP-43, KIP-152, KIP-368).
//!
//! Owns the exchange and what a refusal means. The mechanisms are rsasl's; in SCRAM it also demands that the broker
//! proves to know the password.
//!
//! A known limit: rskafka's connections log in by an exchange of their own, after ours has gone well with one of the
//! brokers. In SCRAM it takes any number of iterations and derives on the runtime's threads. With `SASL_SSL` only a broker
//! that has a trusted certificate can make use of that; with `SASL_PLAINTEXT` also whoever can change what is on the wire:
//! he gets a proof on which passwords can be tried cheaply, or holds up threads. A password that cannot be guessed bears
//! the former.

#[cfg(test)]
mod tests;

use std::{ops::RangeInclusive, sync::Arc, time::Duration};

use kafka_protocol::{
    ResponseError,
    messages::{SaslAuthenticateRequest, SaslHandshakeRequest},
    protocol::{StrBytes, VersionRange},
};
use rsasl::{
    callback::{Context, Request, SessionCallback, SessionData},
    prelude::{Mechname, SASLClient, SASLConfig, SASLError, Session, SessionError, State},
    property::{OAuthBearerKV, OAuthBearerToken},
};

use super::wire::{Connection, Error};
use crate::{
    config::{PasswordMechanism, Secret},
    foreign,
};

/// Version 0 of the handshake is followed by bare tokens without frames of Kafka's (before 1.0).
const HANDSHAKE: VersionRange = VersionRange { min: 1, max: 1 };
const AUTHENTICATE: VersionRange = VersionRange { min: 0, max: 2 };

/// With what a client admits that its token was refused (RFC 7628 3.2.3), so that the broker can say why.
const ADMIT_FAILURE: &[u8] = &[1];

/// Iterations of SCRAM that a broker may ask for: with fewer (RFC 7677 4) our proof would be a cheap thing to try passwords
/// on, and more hold us up.
const ITERATIONS: RangeInclusive<u32> = 4096..=1_000_000;

/// Who we are, for one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Credentials {
    /// User and password, and the variables to look at when they are refused.
    Password { mechanism: PasswordMechanism, username: String, password: Secret, variables: &'static str },
    /// A bearer token, and the variables to look at when it is refused.
    Token { token: Secret, extensions: Vec<(String, String)>, variables: &'static str },
}

impl Credentials {
    fn mechanism(&self) -> &'static str {
        match self {
            Self::Password { mechanism, .. } => mechanism.name(),
            Self::Token { .. } => "OAUTHBEARER",
        }
    }

    pub(super) fn secret(&self) -> &Secret {
        match self {
            Self::Password { password: secret, .. } | Self::Token { token: secret, .. } => secret,
        }
    }

    /// What a broker says, without what it has been told.
    fn clean(&self, text: &str) -> String {
        foreign::clean(text, &[self.secret().reveal()])
    }

    fn is_scram(&self) -> bool {
        matches!(self, Self::Password { mechanism, .. } if *mechanism != PasswordMechanism::Plain)
    }

    /// The variables to look at when they are refused.
    fn variables(&self) -> &'static str {
        match self {
            Self::Password { variables, .. } | Self::Token { variables, .. } => variables,
        }
    }

    fn config(&self) -> Result<Arc<SASLConfig>, SASLError> {
        match self {
            Self::Password { username, password, .. } => {
                SASLConfig::with_credentials(None, username.clone(), password.reveal().to_owned())
            }
            Self::Token { token, extensions, .. } => {
                let bearer = Bearer { token: token.clone(), extensions: extensions.clone() };
                SASLConfig::builder().with_default_mechanisms().with_callback(bearer)
            }
        }
    }
}

/// Answers what the OAUTHBEARER mechanism asks.
struct Bearer {
    token: Secret,
    extensions: Vec<(String, String)>,
}

impl SessionCallback for Bearer {
    fn callback(&self, _: &SessionData, _: &Context<'_>, request: &mut Request<'_>) -> Result<(), SessionError> {
        let extensions: Vec<(&str, &str)> =
            self.extensions.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        request.satisfy::<OAuthBearerKV>(&extensions)?.satisfy::<OAuthBearerToken>(self.token.reveal())?;
        Ok(())
    }
}

/// Logs in on a connection whose versions are agreed. Returns for how long the broker lets the session live, if it
/// says so (KIP-368).
pub(super) async fn authenticate(
    connection: &mut Connection,
    credentials: &Credentials,
) -> Result<Option<Duration>, Error> {
    handshake(connection, credentials).await?;
    let address = connection.address().to_owned();
    let broken = |why: String| Error::Login { address: address.clone(), why };
    let mut session = start(credentials).map_err(|error| broken(format!("SASL cannot be set up: {error}")))?;
    let mut received: Option<Vec<u8>> = None;
    let mut lifetime = None;
    loop {
        match (&received, credentials) {
            // an empty answer is the broker's consent, and anything else a refusal
            (Some(answer), Credentials::Token { .. }) if !answer.is_empty() => {
                let why = refused_token(connection, answer, credentials).await?;
                return Err(broken(format!("{why} (see {})", credentials.variables())));
            }
            (Some(answer), _) if credentials.is_scram() => check_iterations(answer).map_err(&broken)?,
            _ => {}
        }
        let (state, message);
        (session, state, message) = step(session, received.take(), credentials).await.map_err(&broken)?;
        if state.has_sent_message() {
            let answer = send(connection, message).await?;
            if let Some(code) = ResponseError::try_from_code(answer.code) {
                let said = answer.message.map_or_else(|| code.to_string(), |text| credentials.clean(&text));
                return Err(broken(format!("{said} (see {})", credentials.variables())));
            }
            received = Some(answer.bytes);
            lifetime = answer.lifetime;
        }
        if state.is_finished() {
            return Ok(lifetime);
        }
    }
}

/// The next message, if there is one. What is derived from a password takes long and holds up nobody else.
async fn step(
    mut session: Session,
    received: Option<Vec<u8>>,
    credentials: &Credentials,
) -> Result<(Session, State, Vec<u8>), String> {
    let mechanism = credentials.mechanism();
    let derives = received.is_some() && credentials.is_scram();
    let work = move || {
        let mut message = Vec::new();
        let state = session.step(received.as_deref(), &mut message);
        state.map(|state| (session, state, message)).map_err(|error| error.to_string())
    };
    let outcome = if derives {
        tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(error.to_string()))
    } else {
        work()
    };
    outcome.map_err(|error| format!("the {mechanism} exchange failed: {}", credentials.clean(&error)))
}

/// Looks for the iterations (`i=`) in a message of SCRAM before they are done.
fn check_iterations(answer: &[u8]) -> Result<(), String> {
    let counts = answer.split(|byte| *byte == b',').filter_map(|part| part.strip_prefix(b"i="));
    for count in counts {
        let number = str::from_utf8(count).ok().and_then(|text| text.parse::<u32>().ok());
        if !number.is_some_and(|number| ITERATIONS.contains(&number)) {
            let (least, most) = (ITERATIONS.start(), ITERATIONS.end());
            let count = foreign::clean(&String::from_utf8_lossy(count), &[]);
            return Err(format!("it asks for {count} iterations of SCRAM, and {least} to {most} are done"));
        }
    }
    Ok(())
}

async fn handshake(connection: &mut Connection, credentials: &Credentials) -> Result<(), Error> {
    let mechanism = credentials.mechanism();
    let version = connection.version::<SaslHandshakeRequest>(HANDSHAKE)?;
    let request = SaslHandshakeRequest::default().with_mechanism(StrBytes::from_static_str(mechanism));
    let response = connection.call(version, &request).await?;
    let Some(code) = ResponseError::try_from_code(response.error_code) else { return Ok(()) };
    let why = match code {
        ResponseError::UnsupportedSaslMechanism => {
            let offered: Vec<&str> = response.mechanisms.iter().map(StrBytes::as_str).collect();
            let offered = foreign::clean(&offered.join(", "), &[]);
            format!("it offers {offered} here, not {mechanism} (see KAFKA_SASL_MECHANISM)")
        }
        ResponseError::IllegalSaslState => {
            "this listener takes no login (see KAFKA_SECURITY_PROTOCOL and the port in KAFKA_BROKERS)".to_owned()
        }
        code => format!("{code}"),
    };
    Err(Error::Login { address: connection.address().to_owned(), why })
}

fn start(credentials: &Credentials) -> Result<Session, SASLError> {
    let mechanism = Mechname::parse(credentials.mechanism().as_bytes()).expect("a registered name");
    SASLClient::new(credentials.config()?).start_suggested(&[mechanism])
}

struct Answer {
    code: i16,
    message: Option<String>,
    bytes: Vec<u8>,
    lifetime: Option<Duration>,
}

async fn send(connection: &mut Connection, message: Vec<u8>) -> Result<Answer, Error> {
    let version = connection.version::<SaslAuthenticateRequest>(AUTHENTICATE)?;
    let request = SaslAuthenticateRequest::default().with_auth_bytes(message.into());
    let response = connection.call(version, &request).await?;
    let lifetime = u64::try_from(response.session_lifetime_ms).ok().filter(|millis| *millis > 0);
    Ok(Answer {
        code: response.error_code,
        message: response.error_message.map(|text| text.to_string()).filter(|text| !text.is_empty()),
        bytes: response.auth_bytes.to_vec(),
        lifetime: lifetime.map(Duration::from_millis),
    })
}

/// A refused token: the broker answers with JSON, and says why only when that is acknowledged, if at all.
async fn refused_token(connection: &mut Connection, answer: &[u8], credentials: &Credentials) -> Result<String, Error> {
    let status = |json: &[u8]| {
        let json: serde_json::Value = serde_json::from_slice(json).ok()?;
        json.get("status")?.as_str().map(str::to_owned)
    };
    let said = match send(connection, ADMIT_FAILURE.to_vec()).await {
        Ok(answer) => answer.message.map(|text| status(text.as_bytes()).unwrap_or(text)),
        Err(Error::Io { .. } | Error::Mismatch { .. }) => None,
        Err(error) => return Err(error),
    };
    Ok(match said.or_else(|| status(answer)) {
        Some(said) => format!("the token is refused: {}", credentials.clean(&said)),
        None => "the token is refused".to_owned(),
    })
}
