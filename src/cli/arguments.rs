//! Values that several commands take: durations, times, rates. What is wrong with one is said as clap says it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use postlane::config::{RateLimit, parse_duration};

/// `250ms`, `30s`, `5m`, `2h` or `30d`, above zero.
pub(super) fn duration(text: &str) -> Result<Duration, &'static str> {
    parse_duration(text).filter(|duration| !duration.is_zero()).ok_or("expected a duration such as 30s, 5m, 2h or 30d")
}

/// A time as RFC 3339 has it.
pub(super) fn time(text: &str) -> Result<DateTime<Utc>, &'static str> {
    DateTime::parse_from_rfc3339(text)
        .map(|time| time.with_timezone(&Utc))
        .map_err(|_| "expected a time as RFC 3339 has it, such as 2026-01-05T08:00:00Z")
}

/// `14/s`, `600/min` or `50000/h`.
pub(super) fn rate(text: &str) -> Result<RateLimit, &'static str> {
    RateLimit::parse(text).ok_or("expected a rate such as 14/s, 600/min or 50000/h, at most 1000000")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken() {
        assert_eq!(duration("2h"), Ok(Duration::from_secs(7200)));
        assert_eq!(time("2026-01-05T09:00:00+01:00").map(|time| time.timestamp()), Ok(1_767_600_000));
        assert_eq!(rate("14/s").map(|rate| rate.count), Ok(14));
        for text in ["", "0s", "5", "1.5h"] {
            assert!(duration(text).is_err(), "{text}");
            assert!(time(text).is_err(), "{text}");
            assert!(rate(text).is_err(), "{text}");
        }
    }
}
