//! The HTTP server for operators: `/livez`, `/readyz`, `/metrics`.
//!
//! Owns the socket, the bounds on its clients and the routes. What is answered comes from [`Endpoints`]. A connection
//! serves one request and lives for ten seconds at the most; where there are too many, the oldest is closed whose request
//! is not complete, so that no client can keep others out by holding on.

#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    task::AbortHandle,
    time::{sleep, timeout},
};
use tracing::{debug, warn};

/// Connections at the most.
const CONNECTIONS: usize = 256;
/// Time in which a client has to send its request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for a whole connection.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes that a connection buffers; a longer request head is refused.
const BUFFER: usize = 16 * 1024;
/// Pause where the system has no connection to give, for lack of file descriptors mostly.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Content type of the Prometheus text format.
const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Content type of the `OpenMetrics` text format.
const OPEN_METRICS_TEXT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What is answered. Called on each request; must not block.
pub trait Endpoints: Send + Sync {
    /// Whether the process makes progress, and the JSON that says so.
    fn live(&self) -> (bool, String);

    /// Whether all is in order, and the JSON that says what is not.
    fn ready(&self) -> (bool, String);

    /// All metrics, in `OpenMetrics` or in Prometheus' own text format.
    fn metrics(&self, open_metrics: bool) -> String;
}

/// The address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("HTTP_ADDR={address}: cannot listen there")]
pub struct BindError {
    address: SocketAddr,
    source: io::Error,
}

/// A socket that listens.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
}

impl Server {
    /// Listens; nobody is answered before [`Server::run`].
    ///
    /// # Errors
    ///
    /// When the address is not ours or the port is taken.
    pub async fn bind(address: SocketAddr) -> Result<Self, BindError> {
        let failed = |source| BindError { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address })
    }

    /// Where it listens, with the port that the system chose for port 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until the future is dropped, and closes all connections then.
    pub async fn run(self, endpoints: Arc<dyn Endpoints>) -> Infallible {
        let mut connections = Connections::default();
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => connections.add(stream, Arc::clone(&endpoints)),
                Err(error) => {
                    warn!(%error, "HTTP: a connection cannot be accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// One client's connection.
struct Connection {
    task: AbortHandle,
    /// Its request is complete, and the answer on its way.
    answered: Arc<AtomicBool>,
}

/// The connections that may be open, the oldest first.
#[derive(Default)]
struct Connections(VecDeque<Connection>);

impl Connections {
    fn add(&mut self, stream: TcpStream, endpoints: Arc<dyn Endpoints>) {
        self.0.retain(|connection| !connection.task.is_finished());
        if self.0.len() >= CONNECTIONS {
            let waits = |connection: &Connection| !connection.answered.load(Ordering::Relaxed);
            let which = self.0.iter().position(waits).unwrap_or(0);
            if let Some(evicted) = self.0.remove(which) {
                evicted.task.abort();
            }
        }
        let answered = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(converse(stream, endpoints, Arc::clone(&answered))).abort_handle();
        self.0.push_back(Connection { task, answered });
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        for connection in &self.0 {
            connection.task.abort();
        }
    }
}

async fn converse(stream: TcpStream, endpoints: Arc<dyn Endpoints>, answered: Arc<AtomicBool>) {
    let service = service_fn(move |request| {
        answered.store(true, Ordering::Relaxed);
        let response = answer(&request, &*endpoints);
        async move { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .keep_alive(false)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), service);
    match timeout(CONNECTION_TIMEOUT, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "HTTP: a request failed"),
        Err(_) => debug!("HTTP: a client was too slow"),
    }
}

fn answer(request: &Request<Incoming>, endpoints: &dyn Endpoints) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    if !matches!(path, "/livez" | "/readyz" | "/metrics") {
        return respond(StatusCode::NOT_FOUND, "text/plain; charset=utf-8", "here are /livez, /readyz and /metrics\n");
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refusal = respond(StatusCode::METHOD_NOT_ALLOWED, "text/plain; charset=utf-8", "GET or HEAD\n");
        refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refusal;
    }
    let state = |(good, json): (bool, String)| {
        let status = if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        respond(status, "application/json", json)
    };
    match path {
        "/livez" => state(endpoints.live()),
        "/readyz" => state(endpoints.ready()),
        _ => {
            let accepted = request.headers().get_all(ACCEPT);
            let open_metrics = accepted.iter().any(|value| {
                value.to_str().is_ok_and(|value| value.to_ascii_lowercase().contains("application/openmetrics-text"))
            });
            let content_type = if open_metrics { OPEN_METRICS_TEXT } else { PROMETHEUS_TEXT };
            respond(StatusCode::OK, content_type, endpoints.metrics(open_metrics))
        }
    }
}

fn respond(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
