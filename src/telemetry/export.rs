//! Spans to the collector: batches, requests, and patience with a collector that is away.

use std::{io, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Request, StatusCode, Uri,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT},
    http::uri::Authority,
};
use opentelemetry_proto::{
    tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse},
    transform::{common::tonic::ResourceAttributesWithSchema, trace::tonic::group_spans_by_resource_and_scope},
};
use opentelemetry_sdk::{Resource, trace::SpanData};
use prost::Message as _;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::queue::Dropped;
use crate::{
    chain::chain,
    config,
    delay::Delays,
    https,
    tls::{self, PemFile},
};

/// Spans of one request at the most.
const BATCH: usize = 512;

/// How long a span waits for others to travel with.
const BATCH_DELAY: Duration = Duration::from_secs(1);

/// Requests for one batch at the most; with the delays between them about half a minute.
const TRIES: usize = 6;

/// Largest answer that is read, in bytes.
const ANSWER_LIMIT: usize = 64 * 1024;

/// Takes spans to the collector until it is stopped.
pub(super) struct Exporter {
    client: https::Client,
    collector: Uri,
    headers: HeaderMap,
    timeout: Duration,
    resource: ResourceAttributesWithSchema,
    spans: mpsc::Receiver<SpanData>,
    dropped: Dropped,
    stop: CancellationToken,
    /// Whether the collector took the last batch: one log line for each change.
    healthy: bool,
    /// Spans that left the queue and are not at the collector.
    in_hand: usize,
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.spans.close();
        self.dropped.add(self.in_hand + self.spans.len());
    }
}

/// Why a batch was not taken.
enum Refusal {
    /// Another time it may be.
    Passing(String),
    /// It never will be.
    Final(String),
}

impl Exporter {
    pub(super) fn new(
        settings: &config::Telemetry,
        collector: &str,
        resource: &Resource,
        spans: mpsc::Receiver<SpanData>,
        dropped: Dropped,
        stop: CancellationToken,
    ) -> Result<Self, tls::Error> {
        let variable = "OTEL_EXPORTER_OTLP_CERTIFICATE";
        let authorities = settings.ca_file.clone().map(|path| PemFile { variable, path });
        let tls = tls::Settings { authorities, ..tls::Settings::default() }.client_config()?;
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("postlane/", env!("CARGO_PKG_VERSION"))));
        for (name, value) in &settings.headers {
            let name = name.parse::<HeaderName>().expect("the configuration holds valid header fields");
            let mut value = HeaderValue::from_str(value.reveal()).expect("the configuration holds valid header fields");
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        Ok(Self {
            client: https::Client::new(tls, variable),
            collector: collector.parse().expect("the configuration holds valid URLs"),
            headers,
            timeout: settings.timeout,
            resource: ResourceAttributesWithSchema::from(resource),
            spans,
            dropped,
            stop,
            healthy: true,
            in_hand: 0,
        })
    }

    /// Host and port of the collector, for log lines: a path or a query may hold a secret.
    pub(super) fn collector(&self) -> &str {
        self.collector.authority().map_or("", Authority::as_str)
    }

    /// Exports until it is stopped and nothing is left, or nothing more can come.
    pub(super) async fn run(mut self) {
        loop {
            let batch = self.next_batch().await;
            if !batch.is_empty() {
                self.export(batch).await;
            } else if self.stop.is_cancelled() || self.spans.is_closed() {
                return;
            }
        }
    }

    async fn next_batch(&mut self) -> Vec<SpanData> {
        let mut batch = Vec::new();
        if let Some(first) = self.stop.run_until_cancelled(self.spans.recv()).await.flatten() {
            batch.push(first);
            let until = Instant::now() + BATCH_DELAY;
            while batch.len() < BATCH {
                let room = BATCH - batch.len();
                tokio::select! {
                    biased;
                    () = self.stop.cancelled() => break,
                    () = sleep_until(until) => break,
                    count = self.spans.recv_many(&mut batch, room) => if count == 0 { break },
                }
            }
        }
        // at the end: without waiting
        while batch.len() < BATCH
            && let Ok(span) = self.spans.try_recv()
        {
            batch.push(span);
        }
        batch
    }

    async fn export(&mut self, batch: Vec<SpanData>) {
        self.in_hand = batch.len();
        let request =
            ExportTraceServiceRequest { resource_spans: group_spans_by_resource_and_scope(batch, &self.resource) };
        let body = Bytes::from(request.encode_to_vec());
        let mut delays = Delays::new(Duration::from_secs(1), 2.0, 0.2, Duration::from_secs(30));
        for tried in 1..=TRIES {
            match self.post(body.clone()).await {
                Ok(refused) => {
                    self.in_hand = 0;
                    self.dropped.add(refused);
                    return self.succeeded();
                }
                Err(Refusal::Final(why)) => {
                    self.failed(&why);
                    break;
                }
                Err(Refusal::Passing(why)) => {
                    self.failed(&why);
                    // at the end there is one more try, and no waiting for it
                    if tried == TRIES || self.stop.is_cancelled() {
                        break;
                    }
                    let _ = self.stop.run_until_cancelled(sleep(delays.advance())).await;
                }
            }
        }
        self.dropped.add(std::mem::take(&mut self.in_hand));
    }

    /// How many spans of the batch the collector did not want.
    async fn post(&self, body: Bytes) -> Result<usize, Refusal> {
        let mut request = Request::post(self.collector.clone()).body(Full::new(body)).expect("the URI is valid");
        request.headers_mut().extend(self.headers.clone());
        let answer = self.client.send(request, ANSWER_LIMIT, self.timeout).await;
        let (status, body) = answer.map_err(|error| Refusal::Passing(why(&error)))?;
        match status {
            StatusCode::OK => {
                let partly = ExportTraceServiceResponse::decode(body).ok().and_then(|answer| answer.partial_success);
                Ok(partly.and_then(|partly| usize::try_from(partly.rejected_spans).ok()).unwrap_or(0))
            }
            status if status.is_success() => Ok(0),
            // those that the protocol's specification calls retryable
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => Err(Refusal::Passing(format!("it answers {status}"))),
            status => Err(Refusal::Final(format!("it answers {status}"))),
        }
    }

    fn failed(&mut self, why: &str) {
        if self.healthy {
            warn!(
                collector = self.collector(),
                why, "the collector takes no spans: mails go on, and spans that find no room are dropped"
            );
        }
        self.healthy = false;
    }

    fn succeeded(&mut self) {
        if !self.healthy {
            info!(dropped = self.dropped.count(), "the collector takes spans again");
        }
        self.healthy = true;
    }
}

fn why(error: &https::Error) -> String {
    match error {
        https::Error::Connect { source, .. } if source.kind() == io::ErrorKind::ConnectionRefused => {
            "nobody listens there".to_owned()
        }
        error => chain(error),
    }
}
