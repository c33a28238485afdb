//! Texts of variables to values: durations, sizes, weights, addresses.
//!
//! Each function answers `None` for a text that it does not take; the caller knows the variable and says so.

use std::time::Duration;

use super::{RateLimit, ReplyPattern};

/// `250ms`, `30s`, `5m`, `2h`: a whole number and its unit.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let number: u64 = text[..digits].parse().ok()?;
    match &text[digits..] {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs),
        "h" => number.checked_mul(3600).map(Duration::from_secs),
        _ => None,
    }
}

/// The text that [`duration`] reads back.
pub(super) fn duration_text(duration: Duration) -> String {
    let millis = duration.as_millis();
    if !millis.is_multiple_of(1000) || millis == 0 {
        return format!("{millis}ms");
    }
    let seconds = duration.as_secs();
    match seconds {
        s if s.is_multiple_of(3600) => format!("{}h", s / 3600),
        s if s.is_multiple_of(60) => format!("{}m", s / 60),
        s => format!("{s}s"),
    }
}

/// `4096`, `64KiB`, `10MB`: bytes, or a whole number of a decimal or binary unit.
pub(super) fn size(text: &str) -> Option<usize> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: usize = text[..digits].parse().ok()?;
    let unit = match text[digits..].trim() {
        "" | "B" => 1,
        "kB" | "KB" => 1000,
        "MB" => 1_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(unit)
}

/// The text that [`size`] reads back, in the largest unit without a remainder.
pub(super) fn size_text(bytes: usize) -> String {
    for (unit, name) in [(1 << 30, "GiB"), (1 << 20, "MiB"), (1_000_000, "MB"), (1 << 10, "KiB"), (1000, "kB")] {
        if bytes != 0 && bytes.is_multiple_of(unit) {
            return format!("{}{name}", bytes / unit);
        }
    }
    bytes.to_string()
}

/// `6:3:1`: the weights of the high, normal and low lane, each 1..=1000.
pub(super) fn weights(text: &str) -> Option<[u32; 3]> {
    let parts: Vec<u32> = text.split(':').map(|part| part.trim().parse().ok()).collect::<Option<_>>()?;
    let weights: [u32; 3] = parts.try_into().ok()?;
    weights.iter().all(|weight| (1..=1000).contains(weight)).then_some(weights)
}

/// `452` or `5.4.5`.
pub(super) fn reply_pattern(text: &str) -> Option<ReplyPattern> {
    let numbers: Vec<u16> = text.split('.').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    match numbers[..] {
        [code @ 400..=599] => Some(ReplyPattern::Code(code)),
        [class @ 4..=5, subject @ 0..=999, detail @ 0..=999] => {
            Some(ReplyPattern::Enhanced(u8::try_from(class).ok()?, subject, detail))
        }
        _ => None,
    }
}

/// The text that [`reply_pattern`] reads back.
pub(super) fn reply_pattern_text(pattern: ReplyPattern) -> String {
    match pattern {
        ReplyPattern::Code(code) => code.to_string(),
        ReplyPattern::Enhanced(class, subject, detail) => format!("{class}.{subject}.{detail}"),
    }
}

/// `14/s`, `600/min`, `50000/h`: up to a million mails in a second, a minute or an hour.
pub(super) fn rate_limit(text: &str) -> Option<RateLimit> {
    let (count, unit) = text.split_once('/')?;
    let per = match unit.trim() {
        "s" => Duration::from_secs(1),
        "min" | "m" => Duration::from_secs(60),
        "h" => Duration::from_secs(3600),
        _ => return None,
    };
    let count = count.trim_end().parse().ok().filter(|count| (1..=1_000_000).contains(count))?;
    Some(RateLimit { count, per })
}

/// The text that [`rate_limit`] reads back.
pub(super) fn rate_limit_text(limit: RateLimit) -> String {
    let unit = match limit.per.as_secs() {
        1 => "s",
        60 => "min",
        _ => "h",
    };
    format!("{}/{unit}", limit.count)
}

/// `host:port`, or `host` with Kafka's port 9092; IPv6 in brackets.
pub(super) fn broker(text: &str) -> Option<String> {
    let text = text.trim();
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse::<u16>().ok().filter(|port| *port > 0)?),
        _ => (text, 9092),
    };
    let bracketed = host.starts_with('[') && host.ends_with(']');
    let plain = host.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c));
    (!host.is_empty() && (bracketed || plain)).then(|| format!("{host}:{port}"))
}

/// A topic's or group's name as Kafka takes it: letters, digits, `.`, `_`, `-`, at most 249 bytes.
pub(super) fn topic(text: &str) -> Option<String> {
    let legal = text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    (legal && (1..=249).contains(&text.len()) && text != "." && text != "..").then(|| text.to_owned())
}

/// `true`, `false`, `1`, `0`, `yes`, `no`, any case.
pub(super) fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" => Some(true),
        "false" | "0" | "no" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, millis) in [("250ms", 250), ("30s", 30_000), ("5m", 300_000), ("2h", 7_200_000), ("0ms", 0)] {
            let duration = duration(text).expect(text);
            assert_eq!(duration, Duration::from_millis(millis));
            assert_eq!(duration_text(duration), text);
        }
        for text in ["", "30", "s", "-1s", "1.5s", "30 s", "1d", "99999999999999999999s", "18446744073709551615h"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [("10MB", 10_000_000), ("64KiB", 65_536), ("1MiB", 1_048_576), ("17", 17)] {
            assert_eq!(size(text), Some(bytes));
            assert_eq!(size_text(bytes), text);
        }
        for text in ["", "MB", "1.5MB", "-1", "10 potatoes", "99999999999GiB"] {
            assert_eq!(size(text), None, "{text}");
        }
    }

    #[test]
    fn lane_weights() {
        assert_eq!(weights("6:3:1"), Some([6, 3, 1]));
        for text in ["6:3", "6:3:1:1", "0:3:1", "6:3:x", "6:3:1001", ""] {
            assert_eq!(weights(text), None, "{text}");
        }
    }

    #[test]
    fn reply_patterns() {
        for (text, pattern) in [("452", ReplyPattern::Code(452)), ("5.4.5", ReplyPattern::Enhanced(5, 4, 5))] {
            assert_eq!(reply_pattern(text), Some(pattern));
            assert_eq!(reply_pattern_text(pattern), text);
        }
        for text in ["250", "2.0.0", "5.4", "abc", ""] {
            assert_eq!(reply_pattern(text), None, "{text}");
        }
    }

    #[test]
    fn rate_limits() {
        for (text, count, seconds) in [("14/s", 14, 1), ("600/min", 600, 60), ("50000/h", 50_000, 3600)] {
            let limit = rate_limit(text).expect(text);
            assert_eq!(limit, RateLimit { count, per: Duration::from_secs(seconds) });
            assert_eq!(rate_limit_text(limit), text);
        }
        assert_eq!(rate_limit("10 / m"), rate_limit("10/min"));
        for text in ["", "14", "/s", "0/s", "-1/s", "1.5/s", "14/d", "1000001/h", "14/s/s"] {
            assert_eq!(rate_limit(text), None, "{text}");
        }
    }

    #[test]
    fn brokers() {
        assert_eq!(broker("kafka").as_deref(), Some("kafka:9092"));
        assert_eq!(broker(" kafka-1.example.com:19092").as_deref(), Some("kafka-1.example.com:19092"));
        assert_eq!(broker("[::1]:9092").as_deref(), Some("[::1]:9092"));
        for text in ["", ":9092", "kafka:port", "kafka:0", "http://kafka:9092"] {
            assert_eq!(broker(text), None, "{text}");
        }
    }
}
