//! The bounded queue between those who end spans and the one who exports them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use opentelemetry::Context;
use opentelemetry_sdk::{
    error::OTelSdkResult,
    trace::{Span, SpanData, SpanProcessor},
};
use tokio::sync::mpsc;

/// Takes ended spans in without waiting; one that finds it full is dropped and counted.
#[derive(Debug)]
pub(super) struct Queue {
    spans: mpsc::Sender<SpanData>,
    dropped: Dropped,
}

/// A count of spans that no collector gets.
#[derive(Debug, Clone, Default)]
pub(super) struct Dropped(Arc<AtomicU64>);

impl Dropped {
    pub(super) fn add(&self, spans: usize) {
        self.0.fetch_add(spans as u64, Ordering::Relaxed);
    }

    pub(super) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Queue {
    /// A queue for so many spans, and its other end.
    pub(super) fn new(capacity: usize) -> (Self, mpsc::Receiver<SpanData>) {
        let (spans, receiver) = mpsc::channel(capacity);
        (Self { spans, dropped: Dropped::default() }, receiver)
    }

    pub(super) fn dropped(&self) -> Dropped {
        self.dropped.clone()
    }
}

impl SpanProcessor for Queue {
    fn on_start(&self, _span: &mut Span, _context: &Context) {}

    fn on_end(&self, span: SpanData) {
        if self.spans.try_send(span).is_err() {
            self.dropped.add(1);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        // the exporter is ended by its own token
        Ok(())
    }
}
