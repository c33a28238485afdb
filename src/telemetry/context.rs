//! The context that a producer hands over in the record's headers (W3C Trace Context).
//!
//! Strict where the propagator of the OpenTelemetry SDK is not: it takes short and signed fields.

use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

use crate::{
    kafka::Record,
    trace_parent::{TraceParent, is_state},
};

/// The producer's span; `None` where the record names none, or not by the rules.
pub(super) fn of(record: &Record) -> Option<SpanContext> {
    let text = |name: &str| record.headers.get(name).and_then(|value| std::str::from_utf8(value).ok());
    let parent = TraceParent::parse(text("traceparent")?)?;
    let (trace, span) = (TraceId::from_hex(parent.trace).ok()?, SpanId::from_hex(parent.span).ok()?);
    let flags = if parent.sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
    // a state that is wrong does not take the parent with it
    let state = text("tracestate").filter(|state| is_state(state));
    let state = state.and_then(|state| state.parse::<TraceState>().ok()).unwrap_or_default();
    Some(SpanContext::new(trace, span, flags, true, state))
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
    }

    #[test]
    fn what_is_no_parent_is_none() {
        for text in ["", "00", &format!("00-{}-{SPAN}-01", "0".repeat(32)), &format!("ff-{TRACE}-{SPAN}-01")] {
            assert_eq!(of(&record(&[("traceparent", text)])), None, "{text:?}");
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
        for wrong in
            ["no pair".to_owned(), "UPPER=1".to_owned(), format!("a={}", "x".repeat(crate::trace_parent::STATE_LIMIT))]
        {
            assert_eq!(state(&wrong), "", "{wrong}");
        }
    }
}
