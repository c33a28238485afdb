//! A collector of OpenTelemetry traces, by OTLP over HTTP with protobuf.
//!
//! Owns the server and what it was sent, in a form that is easy to ask. Answers as it is told to.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Request, Response, StatusCode, body::Incoming, header::CONTENT_TYPE, server::conn::http1, service::service_fn,
};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::{
    collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse},
    common::v1::{KeyValue, any_value::Value},
    trace::v1 as proto,
};
use prost::Message as _;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::watch,
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

use crate::smtp::tls::Tls;

/// How the collector answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    /// It takes everything.
    Accept,
    /// It answers with this status and takes nothing.
    Refuse(u16),
    /// It reads the request and never answers.
    Hang,
}

/// Attributes by name, their values as text.
pub type Attributes = BTreeMap<String, String>;

/// A span as it was received.
#[derive(Debug, Clone)]
pub struct Span {
    /// Its name.
    pub name: String,
    /// `Consumer`, `Client` and so on.
    pub kind: String,
    /// Trace id in hexadecimal.
    pub trace: String,
    /// Its own id in hexadecimal.
    pub id: String,
    /// Its parent's id in hexadecimal; empty for a root.
    pub parent: String,
    /// `tracestate`.
    pub state: String,
    /// Start and end in nanoseconds since the epoch.
    pub time: (u64, u64),
    /// Its attributes.
    pub attributes: Attributes,
    /// Its events in order.
    pub events: Vec<(String, Attributes)>,
    /// The status' text where it is an error.
    pub error: Option<String>,
    /// Attributes of the resource.
    pub resource: Attributes,
    /// Schema URL of the scope.
    pub schema: String,
}

impl Span {
    /// An attribute's value, empty where there is none.
    #[must_use]
    pub fn get(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }

    /// Names of its events.
    #[must_use]
    pub fn event_names(&self) -> Vec<&str> {
        self.events.iter().map(|(name, _)| name.as_str()).collect()
    }
}

#[derive(Debug)]
struct State {
    behaviour: Behaviour,
    spans: Vec<Span>,
    requests: Vec<(String, BTreeMap<String, String>)>,
}

/// A running collector; gone when dropped.
#[derive(Debug)]
pub struct Collector {
    port: u16,
    state: Arc<Mutex<State>>,
    changed: watch::Sender<()>,
    ca_pem: Option<String>,
    _server: JoinSet<()>,
}

impl Collector {
    /// Starts one on a free port of this host.
    ///
    /// # Panics
    /// When there is no free port.
    pub async fn start(behaviour: Behaviour) -> Self {
        Self::with(behaviour, None).await
    }

    /// The same behind TLS, with a certificate for 127.0.0.1 of an authority of its own.
    ///
    /// # Panics
    /// When there is no free port.
    pub async fn start_tls(behaviour: Behaviour) -> Self {
        let tls = Tls::new(&["127.0.0.1".to_owned()]).expect("a certificate");
        Self::with(behaviour, Some(tls)).await
    }

    async fn with(behaviour: Behaviour, tls: Option<Tls>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let state = Arc::new(Mutex::new(State { behaviour, spans: Vec::new(), requests: Vec::new() }));
        let (changed, _) = watch::channel(());
        let mut server = JoinSet::new();
        let (acceptor, ca_pem) = tls.map(|tls| (tls.acceptor, tls.ca_pem)).unzip();
        server.spawn(accept(listener, acceptor, Arc::clone(&state), changed.clone()));
        Self { port, state, changed, ca_pem, _server: server }
    }

    /// The authority of its certificate, where it has one.
    #[must_use]
    pub fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    /// What `OTEL_EXPORTER_OTLP_ENDPOINT` is to be.
    #[must_use]
    pub fn endpoint(&self) -> String {
        let scheme = if self.ca_pem.is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    /// Answers in another way from now on.
    pub fn behave(&self, behaviour: Behaviour) {
        self.state().behaviour = behaviour;
    }

    /// All spans that it has taken.
    #[must_use]
    pub fn spans(&self) -> Vec<Span> {
        self.state().spans.clone()
    }

    /// Path and header fields of each request, taken or not.
    #[must_use]
    pub fn requests(&self) -> Vec<(String, BTreeMap<String, String>)> {
        self.state().requests.clone()
    }

    /// Waits until what it has is enough.
    ///
    /// # Errors
    /// When that takes longer than `within`.
    pub async fn wait_until(&self, within: Duration, enough: impl Fn(&Self) -> bool) -> Result<()> {
        let mut changes = self.changed.subscribe();
        let waiting = async {
            while !enough(self) {
                if changes.changed().await.is_err() {
                    return;
                }
            }
        };
        if timeout(within, waiting).await.is_err() {
            bail!("not within {within:?}: {} requests, {:#?}", self.requests().len(), self.spans());
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, state: Arc<Mutex<State>>, changed: watch::Sender<()>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, state, changed) = (tls.clone(), Arc::clone(&state), changed.clone());
        connections.spawn(async move {
            match tls {
                None => serve(stream, state, changed).await,
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        serve(stream, state, changed).await;
                    }
                }
            }
        });
    }
}

async fn serve<S>(stream: S, state: Arc<Mutex<State>>, changed: watch::Sender<()>)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let service = service_fn(move |request| answer(request, Arc::clone(&state), changed.clone()));
    // a client that goes away is the test's to notice
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(
    request: Request<Incoming>,
    state: Arc<Mutex<State>>,
    changed: watch::Sender<()>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let text = |value: &hyper::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = head.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    let export = match body.collect().await {
        Ok(body) => ExportTraceServiceRequest::decode(body.to_bytes()).ok(),
        Err(_) => None,
    };
    let behaviour = {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        state.requests.push((head.uri.path().to_owned(), headers));
        if let (Behaviour::Accept, Some(export)) = (state.behaviour, &export) {
            state.spans.extend(spans(export));
        }
        state.behaviour
    };
    changed.send_replace(());
    let status = match (behaviour, export) {
        (Behaviour::Hang, _) => std::future::pending().await,
        (Behaviour::Refuse(status), _) => StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE),
        (Behaviour::Accept, None) => StatusCode::BAD_REQUEST,
        (Behaviour::Accept, Some(_)) => StatusCode::OK,
    };
    let body = Full::from(ExportTraceServiceResponse { partial_success: None }.encode_to_vec());
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/x-protobuf"));
    Ok(response)
}

fn spans(export: &ExportTraceServiceRequest) -> impl Iterator<Item = Span> + '_ {
    export.resource_spans.iter().flat_map(|of_resource| {
        let resource = of_resource.resource.as_ref().map(|resource| attributes(&resource.attributes));
        of_resource.scope_spans.iter().flat_map(move |of_scope| {
            let resource = resource.clone().unwrap_or_default();
            of_scope.spans.iter().map(move |span| read(span, &resource, &of_scope.schema_url))
        })
    })
}

fn read(span: &proto::Span, resource: &Attributes, schema: &str) -> Span {
    let status = span.status.clone().unwrap_or_default();
    Span {
        name: span.name.clone(),
        kind: format!("{:?}", span.kind()),
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        state: span.trace_state.clone(),
        time: (span.start_time_unix_nano, span.end_time_unix_nano),
        attributes: attributes(&span.attributes),
        events: span.events.iter().map(|event| (event.name.clone(), attributes(&event.attributes))).collect(),
        error: (status.code() == proto::status::StatusCode::Error).then_some(status.message),
        resource: resource.clone(),
        schema: schema.to_owned(),
    }
}

fn attributes(pairs: &[KeyValue]) -> Attributes {
    let text = |pair: &KeyValue| match pair.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::DoubleValue(number)) => number.to_string(),
        Some(Value::BoolValue(truth)) => truth.to_string(),
        other => format!("{other:?}"),
    };
    pairs.iter().map(|pair| (pair.key.clone(), text(pair))).collect()
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}
