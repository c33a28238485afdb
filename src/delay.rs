//! Growing delays between attempts: the one place that touches the `backoff` crate.
//!
//! The crate is unmaintained (RUSTSEC-2025-0012), so only its calculation is used, and only here.

use std::time::Duration;

use backoff::{ExponentialBackoff, backoff::Backoff as _};

/// An endless row of growing delays.
#[derive(Debug, Clone)]
pub struct Delays {
    backoff: ExponentialBackoff,
    max: Duration,
}

impl Delays {
    /// Starts at `initial` and grows by `multiplier` (1 and up) to `max`; each delay is varied by the share `jitter`
    /// (0..1) up and down, but never above `max`.
    pub fn new(initial: Duration, multiplier: f64, jitter: f64, max: Duration) -> Self {
        let initial = initial.min(max);
        let backoff = ExponentialBackoff {
            current_interval: initial,
            initial_interval: initial,
            randomization_factor: jitter,
            multiplier,
            max_interval: max,
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        };
        Self { backoff, max }
    }

    /// Delays that double from `initial` to `max` without jitter.
    pub fn doubling(initial: Duration, max: Duration) -> Self {
        Self::new(initial, 2.0, 0.0, max)
    }

    /// The next delay.
    pub fn advance(&mut self) -> Duration {
        self.backoff.next_backoff().unwrap_or(self.max).min(self.max)
    }

    /// Whether the delays have stopped growing.
    pub fn at_limit(&self) -> bool {
        self.backoff.current_interval >= self.max
    }

    /// Starts again at the first delay.
    pub fn reset(&mut self) {
        self.backoff.reset();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn millis(delays: &mut Delays, count: usize) -> Vec<u128> {
        (0..count).map(|_| delays.advance().as_millis()).collect()
    }

    #[test]
    fn grows_to_the_limit_and_starts_again() {
        let mut delays = Delays::doubling(Duration::from_millis(100), Duration::from_secs(1));
        assert_eq!(millis(&mut delays, 6), [100, 200, 400, 800, 1000, 1000]);
        assert!(delays.at_limit());
        delays.reset();
        assert_eq!(millis(&mut delays, 2), [100, 200]);
    }

    #[test]
    fn the_default_retry_schedule() {
        let minutes = |number: u64| Duration::from_secs(60 * number);
        let mut delays = Delays::new(minutes(1), 5.0, 0.0, minutes(15));
        assert_eq!(
            [delays.advance(), delays.advance(), delays.advance(), delays.advance()].map(|d| d.as_secs() / 60),
            [1, 5, 15, 15]
        );
    }

    proptest! {
        #[test]
        fn jitter_stays_within_its_share(initial in 1..100_000_u64, jitter in 0.0..0.9_f64, max in 1..1_000_000_u64) {
            let max = Duration::from_millis(max);
            let expected = Duration::from_millis(initial).min(max);
            let delay = Delays::new(Duration::from_millis(initial), 5.0, jitter, max).advance();
            prop_assert!(delay <= max);
            prop_assert!(delay >= expected.mul_f64((1.0 - jitter) * 0.999));
            prop_assert!(delay <= expected.mul_f64((1.0 + jitter) * 1.001));
        }
    }
}
