//! The trace that a mail belongs to, as headers of its record (W3C Trace Context).

use std::collections::BTreeMap;

use crate::trace_parent::{TraceParent, is_state};

/// A `traceparent` and its `tracestate`.
pub(super) type Trace = (String, Option<String>);

/// Names the trace: the one that was given, else the caller's span. What is not valid is left out.
pub(super) fn add(headers: &mut BTreeMap<String, Vec<u8>>, given: Option<Trace>) {
    let Some((parent, state)) = given.or_else(current) else { return };
    let Some(parent) = TraceParent::parse(&parent) else { return };
    headers.insert("traceparent".to_owned(), parent.header().into_bytes());
    if let Some(state) = state.filter(|state| is_state(state)) {
        headers.insert("tracestate".to_owned(), state.into_bytes());
    }
}

/// The span in which the caller is.
#[cfg(feature = "opentelemetry")]
fn current() -> Option<Trace> {
    use opentelemetry::{Context, trace::TraceContextExt as _};

    Context::map_current(|context| {
        let span = context.span();
        let span = span.span_context();
        if !span.is_valid() {
            return None;
        }
        let parent = format!("00-{}-{}-{:02x}", span.trace_id(), span.span_id(), span.trace_flags().to_u8());
        Some((parent, Some(span.trace_state().header())))
    })
}

#[cfg(not(feature = "opentelemetry"))]
fn current() -> Option<Trace> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn added(given: Option<(&str, Option<&str>)>) -> Vec<(String, String)> {
        let mut headers = BTreeMap::new();
        add(&mut headers, given.map(|(parent, state)| (parent.to_owned(), state.map(str::to_owned))));
        headers.into_iter().map(|(name, value)| (name, String::from_utf8(value).expect("text"))).collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn what_was_given_goes_into_the_headers_if_it_is_valid() {
        let both = [("traceparent", PARENT), ("tracestate", "rojo=1")];
        assert_eq!(added(Some((PARENT, Some("rojo=1")))), pairs(&both));
        assert_eq!(added(Some((PARENT, Some("\n")))), pairs(&both[..1]));
        assert_eq!(added(Some((PARENT, None))), pairs(&both[..1]));
        assert_eq!(added(Some(("00-1-2-01", Some("rojo=1")))), []);
        assert_eq!(added(None), []);
    }

    #[cfg(feature = "opentelemetry")]
    #[test]
    fn the_callers_span_is_taken_unless_one_was_given() {
        use opentelemetry::{
            Context,
            trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState},
        };

        let span = |flags, state: &str| {
            let state = state.parse::<TraceState>().expect("a state");
            let (trace, span) = (TraceId::from(0xabc), SpanId::from(0xdef));
            Context::new().with_remote_span_context(SpanContext::new(trace, span, flags, false, state)).attach()
        };
        let parent = |flags| format!("00-{:032x}-{:016x}-{flags}", 0xabc, 0xdef);
        {
            let _in_span = span(TraceFlags::SAMPLED, "rojo=1");
            assert_eq!(added(None), pairs(&[("traceparent", &parent("01")), ("tracestate", "rojo=1")]));
            assert_eq!(added(Some((PARENT, None))), pairs(&[("traceparent", PARENT)]));
        }
        let _in_span = span(TraceFlags::NOT_SAMPLED, "");
        assert_eq!(added(None), pairs(&[("traceparent", &parent("00"))]));
    }
}
