//! What became of all mails so far.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts since the producer was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Mails that a topic has.
    pub published: u64,
    /// Mails that went straight by SMTP.
    pub sent_by_smtp: u64,
    /// Mails that were wrong, or that Kafka does not take.
    pub refused: u64,
    /// Mails that found no room in the buffer.
    pub full: u64,
    /// Mails that Kafka did not take in time and that were taken back, or that it was not asked for at all because it takes
    /// none (the circuit); with a fallback they went on to it.
    pub withdrawn: u64,
    /// Mails of which Kafka did not say in time whether it has them.
    pub unknown_outcome: u64,
    /// Mails that the relay did not take for all of their recipients, when they went straight to it.
    pub failed_by_smtp: u64,
    /// Mails that may come twice, whatever way each copy went.
    pub twice_possible: u64,
    /// Mails in the buffer now.
    pub buffered_records: usize,
    /// Their bytes.
    pub buffered_bytes: usize,
    /// Whether Kafka is asked at all.
    pub circuit: Circuit,
}

/// Whether Kafka is asked at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Circuit {
    /// Mails go to Kafka.
    #[default]
    Closed,
    /// Kafka has not answered for a while: nobody waits for it until a probe gets through.
    Open,
}

/// The counts of [`Stats`], while they grow.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) published: Counter,
    pub(crate) sent_by_smtp: Counter,
    pub(crate) refused: Counter,
    pub(crate) full: Counter,
    pub(crate) withdrawn: Counter,
    pub(crate) unknown_outcome: Counter,
    pub(crate) failed_by_smtp: Counter,
    pub(crate) twice_possible: Counter,
}

impl Counters {
    pub(crate) fn read(&self) -> Stats {
        Stats {
            published: self.published.get(),
            sent_by_smtp: self.sent_by_smtp.get(),
            refused: self.refused.get(),
            full: self.full.get(),
            withdrawn: self.withdrawn.get(),
            unknown_outcome: self.unknown_outcome.get(),
            failed_by_smtp: self.failed_by_smtp.get(),
            twice_possible: self.twice_possible.get(),
            ..Stats::default()
        }
    }
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
