//! A token endpoint: OAuth 2.0 client credentials over HTTP, with unsecured tokens.
//!
//! Owns the listener and what it was asked. Knows nothing of Kafka but how a token looks that its test listeners take.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use data_encoding::BASE64;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::kafka::unsecured_token;

/// The client that the endpoint knows.
pub const CLIENT_ID: &str = "postlane";
/// Its secret.
pub const CLIENT_SECRET: &str = "client-secret";

/// A running endpoint; gone when dropped.
#[derive(Debug)]
pub struct TokenServer {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct State {
    life: Duration,
    down: bool,
    requests: Vec<String>,
}

impl TokenServer {
    /// Listens on a free port; tokens live so long.
    ///
    /// # Errors
    /// When the system has no port.
    pub async fn start(life: Duration) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let state = Arc::new(Mutex::new(State { life, down: false, requests: Vec::new() }));
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&shared);
                connections.spawn(async move {
                    let _ = answer(stream, &state).await;
                });
            }
        });
        Ok(Self { address, state, task })
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/oauth/token", self.address)
    }

    /// Whether it answers 503 from now on.
    pub fn set_down(&self, down: bool) {
        lock(&self.state).down = down;
    }

    /// The bodies of the requests so far.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        lock(&self.state).requests.clone()
    }
}

impl Drop for TokenServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn answer(mut stream: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut request = Vec::new();
    let (head, body) = loop {
        if stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&request).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let head = head.to_ascii_lowercase();
        let length =
            head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok()).unwrap_or(0);
        if body.len() >= length {
            break (text[..head.len()].to_owned(), body.to_owned());
        }
    };
    let expected = format!("Basic {}", BASE64.encode(format!("{CLIENT_ID}:{CLIENT_SECRET}").as_bytes()));
    let (status, json) = {
        let mut state = lock(state);
        state.requests.push(body.clone());
        if state.down {
            ("503 Service Unavailable", String::new())
        } else if !head.contains(&expected) || !body.starts_with("grant_type=client_credentials") {
            ("401 Unauthorized", "{\"error\":\"invalid_client\"}".to_owned())
        } else {
            let token = unsecured_token("mailer", state.life);
            let seconds = state.life.as_secs_f64();
            ("200 OK", format!("{{\"access_token\":\"{token}\",\"token_type\":\"Bearer\",\"expires_in\":{seconds}}}"))
        }
    };
    let head = format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", json.len());
    stream.write_all(format!("{head}{json}").as_bytes()).await
}
