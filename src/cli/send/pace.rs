//! So many mails in a span, evenly spread.

use std::time::Duration;

use postlane::config::RateLimit;
use tokio::time::Instant;

/// How far it may lag behind its own times and catch up: timers are no finer than a millisecond.
const SLACK: Duration = Duration::from_millis(20);

/// Says when the next one may go.
#[derive(Debug)]
pub(super) struct Pace {
    gap: Duration,
    next: Instant,
}

impl Pace {
    /// From now on.
    pub(super) fn new(rate: RateLimit) -> Self {
        Self { gap: rate.per / rate.count, next: Instant::now() }
    }

    /// When the next one may go.
    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// One goes.
    pub(super) fn take(&mut self) {
        let now = Instant::now();
        self.next = self.next.max(now.checked_sub(SLACK).unwrap_or(now)) + self.gap;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_rate_is_kept_and_not_made_up_for_after_a_pause() {
        let mut pace = Pace::new(RateLimit { count: 1000, per: Duration::from_secs(1) });
        let start = Instant::now();
        for _ in 0..500 {
            tokio::time::sleep_until(pace.next()).await;
            pace.take();
        }
        let took = start.elapsed();
        assert!((Duration::from_millis(479)..=Duration::from_millis(502)).contains(&took), "{took:?}");

        tokio::time::sleep(Duration::from_secs(60)).await;
        let start = Instant::now();
        for _ in 0..500 {
            tokio::time::sleep_until(pace.next()).await;
            pace.take();
        }
        assert!(start.elapsed() >= Duration::from_millis(478), "{:?}", start.elapsed());
    }
}
