//! What the process tells of itself while it works: log lines, and traces of mails.
//!
//! Owns how logging is set up, how spans are made of what the pipeline says ([`Trace`]), and how they get to a
//! collector, by OTLP over HTTP. Does not decide what is logged, and holds up no mail: where the collector is slow or
//! gone, spans are dropped and counted.
//!
//! Names of spans and attributes follow OpenTelemetry's semantic conventions for messaging, version 1.42.0; what they
//! have no name for begins with `postlane.`.

mod context;
mod export;
mod queue;
mod trace;

use std::{
    io::{self, IsTerminal as _},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use opentelemetry::{InstrumentationScope, KeyValue, trace::TracerProvider as _};
use opentelemetry_sdk::{
    Resource,
    trace::{Sampler, SdkTracerProvider, SpanLimits},
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use tracing_subscriber::{EnvFilter, filter::ParseError};

pub use self::trace::{Begun, Trace, Traces};
use self::{export::Exporter, queue::Queue};
use crate::{
    config::{self, Config, LogFormat},
    tls,
};

/// The conventions that spans follow.
const SCHEMA: &str = "https://opentelemetry.io/schemas/1.42.0";

/// Spans that wait for the collector at the most; one is about 1 KiB.
const QUEUE: usize = 2048;

/// Sets up the log of the process, on standard error.
///
/// # Errors
///
/// When the filter cannot be read.
///
/// # Panics
///
/// When the process has a log already.
pub fn log(config: &Config) -> Result<(), ParseError> {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_new(&config.log_filter)?)
        .with_writer(io::stderr)
        .with_target(false)
        .log_internal_errors(false);
    match config.log_format {
        LogFormat::Text => builder.with_ansi(io::stderr().is_terminal()).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    Ok(())
}

/// The way of spans to the collector.
#[derive(Debug)]
pub struct Telemetry {
    traces: Traces,
    exporting: Option<Exporting>,
}

#[derive(Debug)]
struct Exporting {
    task: Mutex<Option<JoinHandle<()>>>,
    stop: CancellationToken,
}

impl Telemetry {
    /// Starts a task that takes spans to the collector, where one is set; connects to nothing yet.
    ///
    /// # Errors
    ///
    /// When the authorities of `OTEL_EXPORTER_OTLP_CERTIFICATE` cannot be used.
    pub fn start(config: &Config) -> Result<Self, tls::Error> {
        let settings = &config.telemetry;
        let Some(collector) = settings.collector() else {
            return Ok(Self { traces: Traces::default(), exporting: None });
        };
        let resource = resource(settings);
        let (queue, spans) = Queue::new(QUEUE);
        let (stop, dropped) = (CancellationToken::new(), queue.dropped());
        let exporter = Exporter::new(settings, &collector, &resource, spans, dropped.clone(), stop.clone())?;
        let provider = SdkTracerProvider::builder()
            .with_sampler(sampler(settings))
            .with_resource(resource)
            // as they stand, whatever variables of the SDK's say
            .with_span_limits(SpanLimits::default())
            .with_span_processor(queue)
            .build();
        let scope = InstrumentationScope::builder("postlane")
            .with_version(env!("CARGO_PKG_VERSION"))
            .with_schema_url(SCHEMA)
            .build();
        info!(collector = exporter.collector(), sampler = ?settings.sampler, "traces are on");
        let traces = Traces::new(provider.tracer_with_scope(scope), dropped, config);
        let task = Mutex::new(Some(tokio::spawn(exporter.run())));
        Ok(Self { traces, exporting: Some(Exporting { task, stop }) })
    }

    /// What makes the spans of mails.
    pub fn traces(&self) -> &Traces {
        &self.traces
    }

    /// Takes what has ended so far to the collector, for `limit` at the most; later spans go nowhere.
    pub async fn finish(&self, limit: Duration) {
        let Some(exporting) = &self.exporting else { return };
        exporting.stop.cancel();
        let task = exporting.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut task) = task else { return };
        if tokio::time::timeout(limit, &mut task).await.is_err() {
            task.abort();
            // it counts what it had in hand
            let _ = task.await;
        }
        let dropped = self.traces.dropped();
        if dropped > 0 {
            warn!(dropped, "some spans did not get to the collector");
        }
    }
}

fn resource(settings: &config::Telemetry) -> Resource {
    let attributes = settings.resource_attributes.iter().cloned().map(|(name, value)| KeyValue::new(name, value));
    Resource::builder_empty()
        .with_schema_url([KeyValue::new("service.version", env!("CARGO_PKG_VERSION"))], SCHEMA)
        .with_attributes(attributes)
        .with_service_name(settings.service_name.clone())
        .build()
}

fn sampler(settings: &config::Telemetry) -> Sampler {
    let ratio = || Sampler::TraceIdRatioBased(settings.sampler_ratio);
    let by_parent = |root: Sampler| Sampler::ParentBased(Box::new(root));
    match settings.sampler {
        config::Sampler::AlwaysOn => Sampler::AlwaysOn,
        config::Sampler::AlwaysOff => Sampler::AlwaysOff,
        config::Sampler::Ratio => ratio(),
        config::Sampler::ParentAlwaysOn => by_parent(Sampler::AlwaysOn),
        config::Sampler::ParentAlwaysOff => by_parent(Sampler::AlwaysOff),
        config::Sampler::ParentRatio => by_parent(ratio()),
    }
}
