//! Bearer tokens of a token endpoint: OAuth 2.0 client credentials (RFC 6749 4.4, KIP-768).
//!
//! Owns the request, and the token until shortly before it expires. One request at a time: whoever needs a token
//! meanwhile waits for that one. When to ask again after a failure is up to the caller.

use std::{
    fmt::Write as _,
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use data_encoding::{BASE64, BASE64URL_NOPAD};
use http_body_util::Full;
use hyper::{
    Request, StatusCode,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE},
};
use serde::Deserialize;
use tokio::time::Instant;

use crate::{
    chain::chain,
    config::{Secret, TokenEndpoint},
    https, tls,
};

/// Time for the endpoint's whole answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Longest answer, in bytes.
const LIMIT: usize = 256 * 1024;
/// Share of its life during which a token is used.
const USED: f64 = 0.8;

/// Hands out tokens.
#[derive(Debug)]
pub(super) struct Tokens {
    endpoint: TokenEndpoint,
    cached: Mutex<Option<Cached>>,
    asking: tokio::sync::Mutex<()>,
}

#[derive(Debug, Clone)]
struct Cached {
    token: Secret,
    until: Instant,
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    expires_in: Option<f64>,
}

#[derive(Deserialize)]
struct Refused {
    error: Option<String>,
    error_description: Option<String>,
}

impl Tokens {
    /// Reads the file of authorities once, to see that it can be used.
    pub(super) fn new(endpoint: TokenEndpoint) -> Result<Self, tls::Error> {
        let tokens = Self { endpoint, cached: Mutex::default(), asking: tokio::sync::Mutex::default() };
        tokens.client()?;
        Ok(tokens)
    }

    fn client(&self) -> Result<https::Client, tls::Error> {
        let authorities = self.endpoint.authorities.clone();
        let settings =
            tls::Settings { public_authorities: authorities.is_none(), authorities, ..tls::Settings::default() };
        Ok(https::Client::new(settings.client_config()?, "KAFKA_HTTPS_CA_FILE"))
    }

    /// A token that is good for a while yet; else, in a sentence, why there is none.
    pub(super) async fn get(&self) -> Result<Secret, String> {
        if let Some(token) = self.current() {
            return Ok(token);
        }
        let _one_asks = self.asking.lock().await;
        if let Some(token) = self.current() {
            return Ok(token);
        }
        let (token, life) = self.ask().await?;
        let until = Instant::now() + life.mul_f64(USED);
        *self.cached() = Some(Cached { token: token.clone(), until });
        Ok(token)
    }

    /// Forgets a token that a broker has refused.
    pub(super) fn discard(&self, token: &Secret) {
        let mut cached = self.cached();
        if cached.as_ref().is_some_and(|cached| cached.token == *token) {
            *cached = None;
        }
    }

    fn current(&self) -> Option<Secret> {
        self.cached().as_ref().filter(|cached| Instant::now() < cached.until).map(|cached| cached.token.clone())
    }

    fn cached(&self) -> std::sync::MutexGuard<'_, Option<Cached>> {
        self.cached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask(&self) -> Result<(Secret, Duration), String> {
        let url = self.endpoint.url.split('?').next().unwrap_or_default();
        let secret = self.endpoint.client_secret.load().await.map_err(|error| chain(&error))?;
        let client = self.client().map_err(|error| chain(&error))?;
        let basic = BASE64.encode(format!("{}:{}", self.endpoint.client_id, secret.reveal()).as_bytes());
        let mut form = "grant_type=client_credentials".to_owned();
        if let Some(scope) = &self.endpoint.scope {
            form.push_str("&scope=");
            form.push_str(&form_encoded(scope));
        }
        let request = Request::post(&self.endpoint.url)
            .header(AUTHORIZATION, format!("Basic {basic}"))
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(ACCEPT, "application/json")
            .body(Full::from(form))
            .map_err(|error| format!("KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL: {error}"))?;
        let (status, body) = client.send(request, LIMIT, TIMEOUT).await.map_err(|error| {
            format!("no token from {url}: {} (see KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL)", chain(&error))
        })?;
        if status != StatusCode::OK {
            return Err(refusal(url, status, &body));
        }
        let granted: Granted = serde_json::from_slice(&body).map_err(|_| {
            format!("{url} answers with something that is no token (see KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL)")
        })?;
        let life = granted.expires_in.map_or_else(|| life_of(&granted.access_token), life_from_seconds);
        let token = plain_token(Secret::new(granted.access_token));
        Ok((token.map_err(|why| format!("the token of {url} cannot be sent: {why}"))?, life))
    }
}

fn refusal(url: &str, status: StatusCode, body: &Bytes) -> String {
    let refused = serde_json::from_slice(body).unwrap_or(Refused { error: None, error_description: None });
    let said = [refused.error, refused.error_description].into_iter().flatten().collect::<Vec<_>>().join(", ");
    let said = if said.is_empty() { String::new() } else { format!(": {said}") };
    let hint = if status.is_server_error() {
        "KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL"
    } else {
        "KAFKA_SASL_OAUTHBEARER_CLIENT_ID, KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET and KAFKA_SASL_OAUTHBEARER_SCOPE"
    };
    format!("no token from {url}: {status}{said} (see {hint})")
}

/// A token as it can stand in a message (RFC 6750 2.1).
pub(super) fn plain_token(token: Secret) -> Result<Secret, String> {
    let legal = !token.reveal().is_empty() && token.reveal().chars().all(|c| c.is_ascii_graphic());
    if legal { Ok(token) } else { Err("it holds characters that no token may hold".to_owned()) }
}

fn life_from_seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.min(1e8)).unwrap_or_default()
}

/// The rest of a JSON web token's life by its claim `exp`; nothing where it has none.
fn life_of(token: &str) -> Duration {
    let expiry = || {
        let claims = BASE64URL_NOPAD.decode(token.split('.').nth(1)?.as_bytes()).ok()?;
        serde_json::from_slice::<serde_json::Value>(&claims).ok()?.get("exp")?.as_f64()
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    expiry().map_or(Duration::ZERO, |expiry| life_from_seconds(expiry - now.as_secs_f64()))
}

fn form_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'.' | b'_' | b'*' => encoded.push(char::from(byte)),
            b' ' => encoded.push('+'),
            byte => {
                let _ = write!(encoded, "%{byte:02X}");
            }
        }
    }
    encoded
}
