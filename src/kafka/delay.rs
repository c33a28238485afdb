//! Delays between attempts that grow: each twice the one before, up to a limit.

use std::time::Duration;

/// An endless row of growing delays.
#[derive(Debug, Clone)]
pub(super) struct Delays {
    next: Duration,
    initial: Duration,
    max: Duration,
}

impl Delays {
    /// Starts at `initial` and doubles up to `max`.
    pub(super) fn new(initial: Duration, max: Duration) -> Self {
        Self { next: initial.min(max), initial, max }
    }

    /// The next delay.
    pub(super) fn advance(&mut self) -> Duration {
        let delay = self.next;
        self.next = self.next.saturating_mul(2).min(self.max);
        delay
    }

    /// Whether the delays have stopped growing.
    pub(super) fn at_limit(&self) -> bool {
        self.next >= self.max
    }

    /// Starts again at the first delay.
    pub(super) fn reset(&mut self) {
        self.next = self.initial.min(self.max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_limit_and_start_again() {
        let mut delays = Delays::new(Duration::from_millis(100), Duration::from_secs(1));
        let row: Vec<u128> = (0..6).map(|_| delays.advance().as_millis()).collect();
        assert_eq!(row, [100, 200, 400, 800, 1000, 1000]);
        assert!(delays.at_limit());
        delays.reset();
        assert_eq!(delays.advance(), Duration::from_millis(100));
    }
}
