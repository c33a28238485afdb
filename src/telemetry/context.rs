//! The context that a producer hands over in the record's headers (W3C Trace Context).
//!
//! Strict where the propagator of the OpenTelemetry SDK is not: it takes short and signed fields.

use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

use crate::kafka::Record;

/// Longest `tracestate` that is carried on, in bytes; 512 is what the recommendation asks for.
const STATE_LIMIT: usize = 1024;

/// The producer's span; `None` where the record names none, or not by the rules.
pub(super) fn of(record: &Record) -> Option<SpanContext> {
    let text = |name: &str| record.headers.get(name).and_then(|value| std::str::from_utf8(value).ok());
    let (trace, span, flags) = parent(text("traceparent")?)?;
    // a state that is wrong does not take the parent with it
    let state = text("tracestate").filter(|state| state.len() <= STATE_LIMIT && state.is_ascii());
    let state = state.and_then(|state| state.parse::<TraceState>().ok()).unwrap_or_default();
    Some(SpanContext::new(trace, span, flags, true, state))
}

/// `00-<32 hex digits>-<16 hex digits>-<2 hex digits>`, lower case; later versions may go on behind a further dash.
fn parent(text: &str) -> Option<(TraceId, SpanId, TraceFlags)> {
    let bytes = text.as_bytes();
    let field = |from: usize, to: usize| {
        let digits = bytes.get(from..to)?.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        text.get(from..to).filter(|_| digits)
    };
    let dashes = [2, 35, 52].into_iter().all(|at| bytes.get(at) == Some(&b'-'));
    let complete = match field(0, 2)? {
        "00" => bytes.len() == 55,
        "ff" => false,
        _ => bytes.len() == 55 || bytes.get(55) == Some(&b'-'),
    };
    if !dashes || !complete {
        return None;
    }
    let trace = TraceId::from_hex(field(3, 35)?).ok().filter(|id| *id != TraceId::INVALID)?;
    let span = SpanId::from_hex(field(36, 52)?).ok().filter(|id| *id != SpanId::INVALID)?;
    // other flags than this one are not ours to carry on
    let flags = TraceFlags::new(u8::from_str_radix(field(53, 55)?, 16).ok()?) & TraceFlags::SAMPLED;
    Some((trace, span, flags))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    fn record(headers: &[(&str, &str)]) -> Record {
        Record {
            topic: "t".into(),
            partition: 0,
            offset: 0,
            timestamp: chrono::DateTime::UNIX_EPOCH,
            arrived: chrono::DateTime::UNIX_EPOCH,
            key: None,
            value: None,
            headers: headers.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect(),
        }
    }

    #[test]
    fn a_parent_by_the_rules() {
        for (flags, sampled) in [("00", false), ("01", true), ("03", true), ("fe", false)] {
            let context = of(&record(&[("traceparent", &format!("00-{TRACE}-{SPAN}-{flags}"))])).expect("a parent");
            assert_eq!((context.trace_id().to_string(), context.span_id().to_string()), (TRACE.into(), SPAN.into()));
            assert_eq!((context.is_sampled(), context.is_remote()), (sampled, true), "{flags}");
        }
        for later in [format!("01-{TRACE}-{SPAN}-01"), format!("cc-{TRACE}-{SPAN}-01-what-the-future-brings")] {
            assert!(parent(&later).is_some(), "{later}");
        }
    }

    #[test]
    fn anything_else_is_none() {
        let zeros = "0".repeat(32);
        for text in [
            String::new(),
            "00".to_owned(),
            format!("00-{TRACE}-{SPAN}"),
            format!("00-{TRACE}-{SPAN}-01 "),
            format!(" 00-{TRACE}-{SPAN}-01"),
            format!("00-{TRACE}-{SPAN}-01-more"),
            format!("00-{TRACE}-{SPAN}-1"),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("01-{TRACE}-{SPAN}-01more"),
            format!("0-{TRACE}-{SPAN}-001"),
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            format!("00-{zeros}-{SPAN}-01"),
            format!("00-{TRACE}-{}-01", &zeros[..16]),
            format!("00-+{}-{SPAN}-01", &TRACE[1..]),
            format!("00-{}-{SPAN}-01", &TRACE[1..]),
            format!("00_{TRACE}_{SPAN}_01"),
            format!("00-{TRACE}-{SPAN}-0g"),
            format!("00-{}\u{e9}-{SPAN}-01", &TRACE[2..]),
            "\u{e9}".repeat(28),
        ] {
            assert_eq!(of(&record(&[("traceparent", &text)])), None, "{text:?}");
        }
        assert_eq!(of(&record(&[("tracestate", "a=b")])), None);
    }

    #[test]
    fn a_state_goes_with_its_parent() {
        let parent = format!("00-{TRACE}-{SPAN}-01");
        let state = |text: &str| {
            let context = of(&record(&[("traceparent", &parent), ("tracestate", text)])).expect("a parent");
            context.trace_state().header()
        };
        assert_eq!(state("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"), "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE");
        for wrong in ["no pair".to_owned(), "UPPER=1".to_owned(), format!("a={}", "x".repeat(STATE_LIMIT))] {
            assert_eq!(state(&wrong), "", "{wrong}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_a_panic(text in "\\PC{0,60}") {
            let _ = parent(&text);
        }
    }
}
