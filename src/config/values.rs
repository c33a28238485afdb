//! Texts of variables to values: durations, sizes, weights, addresses.
//!
//! Each function answers `None` for a text that it does not take; the caller knows the variable and says so.

use std::time::Duration;

use super::{RateLimit, ReplyPattern, Sampler};

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
pub(crate) fn duration_text(duration: Duration) -> String {
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

/// The same, or `30d` in days, which only suits what is kept for long.
pub(super) fn retention(text: &str) -> Option<Duration> {
    match text.strip_suffix('d') {
        Some(days) => days.parse::<u64>().ok()?.checked_mul(86_400).map(Duration::from_secs),
        None => duration(text),
    }
}

/// A duration as the settings and the command line have it: `250ms`, `30s`, `5m`, `2h` or `30d`; `None` for any other text.
pub fn parse_duration(text: &str) -> Option<Duration> {
    retention(text)
}

/// The text that [`retention`] reads back.
pub(super) fn retention_text(retention: Duration) -> String {
    match retention.as_secs() {
        seconds if retention.subsec_nanos() == 0 && seconds >= 86_400 && seconds.is_multiple_of(86_400) => {
            format!("{}d", seconds / 86_400)
        }
        _ => duration_text(retention),
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

/// The samplers by their names.
const SAMPLERS: [(&str, Sampler); 6] = [
    ("always_on", Sampler::AlwaysOn),
    ("always_off", Sampler::AlwaysOff),
    ("traceidratio", Sampler::Ratio),
    ("parentbased_always_on", Sampler::ParentAlwaysOn),
    ("parentbased_always_off", Sampler::ParentAlwaysOff),
    ("parentbased_traceidratio", Sampler::ParentRatio),
];

/// A sampler by the name that OpenTelemetry gives it, any case.
pub(super) fn sampler(text: &str) -> Option<Sampler> {
    SAMPLERS.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(text)).map(|(_, sampler)| sampler)
}

/// The text that [`sampler`] reads back.
pub(super) fn sampler_text(sampler: Sampler) -> &'static str {
    let (name, _) = SAMPLERS.into_iter().find(|(_, listed)| *listed == sampler).expect("every sampler is listed");
    name
}

/// `name=value,name=value` with percent-encoded values (W3C Baggage), as OpenTelemetry writes lists.
pub(super) fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let pair = |part: &str| {
        let (name, value) = part.split_once('=')?;
        let name = name.trim();
        (!name.is_empty()).then(|| Some((name.to_owned(), percent_decoded(value.trim())?)))?
    };
    text.split(',').filter(|part| !part.trim().is_empty()).map(pair).collect()
}

/// UTF-8 text whose `%XX` are bytes (RFC 3986 2.1).
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first == b'%' {
            let digits = after.get(..2).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
            bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
            rest = &after[2..];
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).ok()
}

/// The text that [`pairs`] reads back: all but what is plain in a URL becomes `%XX`.
pub(super) fn percent_encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        plain if plain.is_ascii_alphanumeric() || b"-._~:/".contains(&plain) => char::from(plain).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(byte).collect()
}

/// A URL as it may be shown: a query or a fragment may hold a key.
pub(super) fn url_shown(url: &str) -> String {
    url.find(['?', '#']).map_or_else(|| url.to_owned(), |end| format!("{}***", &url[..=end]))
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
    fn retentions() {
        for (text, hours) in [("30d", 720), ("36h", 36), ("1d", 24), ("2h", 2)] {
            let retention = retention(text).expect(text);
            assert_eq!(retention, Duration::from_secs(hours * 3600));
            assert_eq!(retention_text(retention), text);
        }
        for text in ["", "d", "-1d", "1.5d", "30", "99999999999999999999d", "18446744073709551615d"] {
            assert_eq!(retention(text), None, "{text}");
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

    #[test]
    fn lists_of_pairs() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            pairs("authorization=Basic%20dXNlcjpwYXNz==, x-tenant = shop%2Cfront ,"),
            Some(vec![pair("authorization", "Basic dXNlcjpwYXNz=="), pair("x-tenant", "shop,front")])
        );
        assert_eq!(pairs("a=1+1"), Some(vec![pair("a", "1+1")]));
        for text in ["a", "=b", "a=%2", "a=%zz", "a=%+1", "a=%ff"] {
            assert_eq!(pairs(text), None, "{text}");
        }
        let odd = "a,b=c %\u{e9}\"";
        assert_eq!(pairs(&format!("n={}", percent_encoded(odd))), Some(vec![pair("n", odd)]));
    }

    #[test]
    fn samplers() {
        for (name, listed) in SAMPLERS {
            assert_eq!((sampler(name), sampler_text(listed)), (Some(listed), name));
        }
        assert_eq!(sampler("jaeger_remote"), None);
    }
}
