//! Times, and where most of them lie.

use std::{fmt, time::Duration};

/// What a load has shown.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Measured {
    pub(super) rate: f64,
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) p999: f64,
    pub(super) max: f64,
}

impl Measured {
    /// Of so many times, which came about within `span`.
    pub(super) fn new(mut times: Vec<Duration>, span: Duration) -> Self {
        times.sort_unstable();
        let at = |share: f64| {
            let millis = |time: &Duration| time.as_secs_f64() * 1e3;
            times.get(rank(share, times.len())).map_or(f64::NAN, millis)
        };
        #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
        let rate = times.len() as f64 / span.as_secs_f64();
        Self { rate, p50: at(0.5), p99: at(0.99), p999: at(0.999), max: at(1.0) }
    }
}

/// Index of the least value that is not below this share of so many (the nearest rank).
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of a count far below 2^52"
)]
fn rank(share: f64, count: usize) -> usize {
    ((share * count as f64).ceil() as usize).clamp(1, count.max(1)) - 1
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rate, p50, p99, p999, max } = self;
        write!(f, "{rate:>9.0} {p50:>9.2} {p99:>9.2} {p999:>9.2} {max:>9.2}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_time_that_was_seen() {
        let times = (1..=1000).rev().map(Duration::from_millis).collect();
        let measured = Measured::new(times, Duration::from_secs(10));
        assert_eq!(measured, Measured { rate: 100.0, p50: 500.0, p99: 990.0, p999: 999.0, max: 1000.0 });
        let one = Measured::new(vec![Duration::from_millis(3)], Duration::from_secs(1));
        assert_eq!((one.p50, one.p999, one.max), (3.0, 3.0, 3.0));
    }
}
