//! Bearer tokens of a token endpoint: OAuth 2.0 client credentials (RFC 6749 4.4, KIP-768).
//!
//! Owns the request, and the token until shortly before it expires. One request at a time: whoever needs a token
//! meanwhile waits for that one, and shares its failure. When to ask again after a failure is up to the caller.

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
    foreign, https, tls,
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
    failures: Mutex<Failures>,
    asking: tokio::sync::Mutex<()>,
}

#[derive(Debug, Clone)]
struct Cached {
    token: Secret,
    until: Instant,
}

/// How often there was no token, and why there was none last.
#[derive(Debug, Default)]
struct Failures {
    count: u64,
    last: String,
}

/// Why there is no token.
#[derive(Debug)]
pub(super) struct Failure {
    /// In a sentence.
    pub(super) why: String,
    /// Whether it is that of a request which somebody else has made and reported.
    pub(super) shared: bool,
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    /// Seconds; as a number (RFC 6749 5.1), or as text as some endpoints have it.
    expires_in: Option<serde_json::Value>,
}

impl Granted {
    fn life(&self) -> Duration {
        let given = self.expires_in.as_ref().and_then(|value| value.as_f64().or_else(|| value.as_str()?.parse().ok()));
        given.map_or_else(|| life_of(&self.access_token), life_from_seconds)
    }
}

#[derive(Deserialize)]
struct Refused {
    error: Option<String>,
    error_description: Option<String>,
}

impl Tokens {
    /// Reads the file of authorities once, to see that it can be used.
    pub(super) fn new(endpoint: TokenEndpoint) -> Result<Self, tls::Error> {
        let tokens = Self {
            endpoint,
            cached: Mutex::default(),
            failures: Mutex::default(),
            asking: tokio::sync::Mutex::default(),
        };
        tokens.settings().client_config()?;
        Ok(tokens)
    }

    fn settings(&self) -> tls::Settings {
        let authorities = self.endpoint.authorities.clone();
        tls::Settings { public_authorities: authorities.is_none(), authorities, ..tls::Settings::default() }
    }

    async fn client(&self) -> Result<https::Client, tls::Error> {
        Ok(https::Client::new(self.settings().load().await?, "KAFKA_HTTPS_CA_FILE"))
    }

    /// A token that is good for a while yet; else why there is none.
    pub(super) async fn get(&self) -> Result<Secret, Failure> {
        if let Some(token) = self.current() {
            return Ok(token);
        }
        let before = self.failures().count;
        let _one_asks = self.asking.lock().await;
        if let Some(token) = self.current() {
            return Ok(token);
        }
        {
            let failures = self.failures();
            if failures.count != before {
                return Err(Failure { why: failures.last.clone(), shared: true });
            }
        }
        let (token, life) = self.ask().await.map_err(|why| {
            let mut failures = self.failures();
            *failures = Failures { count: failures.count + 1, last: why.clone() };
            Failure { why, shared: false }
        })?;
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

    fn failures(&self) -> std::sync::MutexGuard<'_, Failures> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask(&self) -> Result<(Secret, Duration), String> {
        let url = self.endpoint.url.split('?').next().unwrap_or_default();
        let secret = self.endpoint.client_secret.load().await.map_err(|error| chain(&error))?;
        let client = self.client().await.map_err(|error| chain(&error))?;
        // RFC 6749 2.3.1
        let encoded = form_encoded(secret.reveal());
        let basic = BASE64.encode(format!("{}:{encoded}", form_encoded(&self.endpoint.client_id)).as_bytes());
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
            return Err(refusal(url, status, &body, &[secret.reveal(), &encoded]));
        }
        let granted: Granted = serde_json::from_slice(&body).map_err(|_| {
            format!("{url} answers with something that is no token (see KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL)")
        })?;
        let life = granted.life();
        let token = plain_token(Secret::new(granted.access_token));
        Ok((token.map_err(|why| format!("the token of {url} cannot be sent: {why}"))?, life))
    }
}

fn refusal(url: &str, status: StatusCode, body: &Bytes, secrets: &[&str]) -> String {
    let refused = serde_json::from_slice(body).unwrap_or(Refused { error: None, error_description: None });
    let said = [refused.error, refused.error_description].into_iter().flatten().collect::<Vec<_>>().join(", ");
    let said = foreign::clean(&said, secrets);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_that_is_given_as_text_is_read() {
        // as Azure AD's v1 endpoint and several gateways write it
        let body = br#"{"access_token":"a.b.c","token_type":"Bearer","expires_in":"3599"}"#;
        let granted: Granted = serde_json::from_slice(body).expect("a token");
        assert_eq!(granted.life(), Duration::from_secs(3599));
        let body = br#"{"access_token":"a.b.c","expires_in":"soon"}"#;
        let granted: Granted = serde_json::from_slice(body).expect("a token");
        assert_eq!(granted.life(), Duration::ZERO);
    }

    #[test]
    fn what_an_endpoint_says_is_short_clean_and_without_the_secret() {
        let said = format!("bad header Basic {}\u{1b}[31m{}", BASE64.encode(b"client:hunter2"), "x".repeat(200_000));
        let body = serde_json::json!({"error": "invalid_client", "error_description": said}).to_string();
        let text = refusal("https://idp.example.com/token", StatusCode::BAD_REQUEST, &body.into(), &["hunter2"]);
        assert!(text.len() < 2000 && !text.contains('\u{1b}'), "{} bytes", text.len());
        assert!(!text.contains(&BASE64.encode(b"client:hunter2")));
        assert!(text.contains("400 Bad Request: invalid_client, bad header Basic ***"), "{text}");
    }

    #[tokio::test]
    async fn client_id_and_secret_are_form_encoded() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let endpoint = TokenEndpoint {
            url: format!("http://{}/token", listener.local_addr().expect("bound")),
            client_id: "https://me".to_owned(),
            client_secret: crate::config::SecretSource::Value(Secret::new("a:b %ü")),
            scope: None,
            authorities: None,
        };
        let tokens = Tokens::new(endpoint).expect("no files");
        let served = async {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut asked = Vec::new();
            while !asked.ends_with(b"client_credentials") {
                assert_ne!(stream.read_buf(&mut asked).await.expect("a request"), 0);
            }
            let json = br#"{"access_token":"t0ken","expires_in":60}"#;
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", json.len());
            stream.write_all(&[head.as_bytes(), json].concat()).await.expect("written");
            String::from_utf8(asked).expect("text")
        };
        let (token, asked) = tokio::join!(tokens.get(), served);
        assert_eq!(token.expect("a token").reveal(), "t0ken");
        let basic = BASE64.encode(b"https%3A%2F%2Fme:a%3Ab+%25%C3%BC");
        assert!(asked.contains(&format!("authorization: Basic {basic}\r\n")), "{asked}");
    }
}
