//! The pace of sending: unlimited until the relay throttles, then halved, then recovering step by step.

use std::time::Duration;

use tokio::time::Instant;

/// The rate never falls below this many mails a second.
const LEAST: f64 = 1.0;
/// Throttling replies within this span are one and the same signal.
const ONE_SIGNAL: Duration = Duration::from_secs(2);
/// Time between two steps back up.
const STEP: Duration = Duration::from_secs(10);
/// Share of the rate at which throttling began that each step adds.
const STEP_SHARE: f64 = 0.1;
/// Span over which the actual rate is measured.
const SPAN: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Rate {
    limit: Option<Limit>,
    measured: Measured,
}

#[derive(Debug)]
struct Limit {
    per_second: f64,
    /// The rate at which throttling began.
    peak: f64,
    /// When it was last halved or raised.
    changed: Instant,
    halved: Instant,
    /// When the next mail may go.
    next: Instant,
}

#[derive(Debug)]
struct Measured {
    since: Instant,
    count: u32,
    last: f64,
}

impl Rate {
    pub(super) fn new(now: Instant) -> Self {
        Self { limit: None, measured: Measured { since: now, count: 0, last: 0.0 } }
    }

    /// A mail was accepted.
    pub(super) fn sent(&mut self, now: Instant) {
        let elapsed = now.duration_since(self.measured.since);
        if elapsed >= SPAN {
            self.measured =
                Measured { since: now, count: 0, last: f64::from(self.measured.count) / elapsed.as_secs_f64() };
        }
        self.measured.count += 1;
    }

    /// Halves the rate; the new one, unless it was halved just now.
    pub(super) fn halve(&mut self, now: Instant) -> Option<f64> {
        let current = match &self.limit {
            Some(limit) if now.duration_since(limit.halved) < ONE_SIGNAL => return None,
            Some(limit) => limit.per_second,
            None => self.current(now),
        };
        let per_second = (current / 2.0).max(LEAST);
        let peak = self.limit.as_ref().map_or(current, |limit| limit.peak).max(LEAST);
        // places that were given out stay given: who waits for one does not ask again
        let next = self.limit.as_ref().map_or(now, |limit| limit.next.max(now));
        self.limit = Some(Limit { per_second, peak, changed: now, halved: now, next });
        Some(per_second)
    }

    /// The most mails per second; `None` where there is no limit.
    pub(super) fn in_force(&self) -> Option<f64> {
        self.limit.as_ref().map(|limit| limit.per_second)
    }

    /// When the next mail may go, if not now. Each call takes one place.
    pub(super) fn next(&mut self, now: Instant) -> Option<Instant> {
        let limit = self.limit.as_mut()?;
        while now.duration_since(limit.changed) >= STEP {
            limit.changed += STEP;
            limit.per_second += limit.peak * STEP_SHARE;
            if limit.per_second >= limit.peak {
                self.limit = None;
                return None;
            }
        }
        let at = limit.next.max(now);
        limit.next = at + Duration::from_secs_f64(1.0 / limit.per_second);
        (at > now).then_some(at)
    }

    fn current(&self, now: Instant) -> f64 {
        let elapsed = now.duration_since(self.measured.since).as_secs_f64();
        let running = if elapsed > 0.1 { f64::from(self.measured.count) / elapsed } else { 0.0 };
        running.max(self.measured.last)
    }
}
