//! The text form of a trace's context (W3C Trace Context), in both directions, without a library for traces.

/// Longest `tracestate` that is carried on, in bytes; 512 is what the recommendation asks for.
pub(crate) const STATE_LIMIT: usize = 1024;

/// Bit of the flags that says that the caller records its trace.
const SAMPLED: u8 = 1;

/// A `traceparent`, checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TraceParent<'a> {
    /// 32 hex digits, not all of them 0.
    pub(crate) trace: &'a str,
    /// 16 hex digits, not all of them 0.
    pub(crate) span: &'a str,
    /// Whether the caller records its trace; the other flags are not ours to carry on.
    pub(crate) sampled: bool,
}

impl<'a> TraceParent<'a> {
    /// Reads `00-<32 hex digits>-<16 hex digits>-<2 hex digits>`, lower case; later versions may go on behind a further
    /// dash.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let bytes = text.as_bytes();
        let field = |from: usize, to: usize| {
            let digits = bytes.get(from..to)?.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            text.get(from..to).filter(|_| digits)
        };
        let id = |from: usize, to: usize| field(from, to).filter(|digits| digits.bytes().any(|digit| digit != b'0'));
        let dashes = [2, 35, 52].into_iter().all(|at| bytes.get(at) == Some(&b'-'));
        let complete = match field(0, 2)? {
            "00" => bytes.len() == 55,
            "ff" => false,
            _ => bytes.len() == 55 || bytes.get(55) == Some(&b'-'),
        };
        if !dashes || !complete {
            return None;
        }
        let flags = u8::from_str_radix(field(53, 55)?, 16).ok()?;
        Some(Self { trace: id(3, 35)?, span: id(36, 52)?, sampled: flags & SAMPLED != 0 })
    }

    /// As it goes into a header.
    pub(crate) fn header(&self) -> String {
        format!("00-{}-{}-{:02x}", self.trace, self.span, u8::from(self.sampled))
    }
}

/// Whether a `tracestate` is worth carrying on: printable ASCII of a bounded length that names something.
pub(crate) fn is_state(text: &str) -> bool {
    text.len() <= STATE_LIMIT && text.contains('=') && text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    #[test]
    fn a_parent_by_the_rules() {
        for (flags, sampled) in [("00", false), ("01", true), ("03", true), ("fe", false)] {
            let text = format!("00-{TRACE}-{SPAN}-{flags}");
            let parent = TraceParent::parse(&text).expect("a parent");
            assert_eq!(parent, TraceParent { trace: TRACE, span: SPAN, sampled });
            assert_eq!(parent.header(), format!("00-{TRACE}-{SPAN}-0{}", u8::from(sampled)));
        }
        for later in [format!("01-{TRACE}-{SPAN}-01"), format!("cc-{TRACE}-{SPAN}-01-what-the-future-brings")] {
            assert!(TraceParent::parse(&later).is_some(), "{later}");
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
            assert_eq!(TraceParent::parse(&text), None, "{text:?}");
        }
    }

    #[test]
    fn states() {
        assert!(is_state("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"));
        for wrong in ["", "no pair", "a=\u{e9}", "a=b\n", &format!("a={}", "x".repeat(STATE_LIMIT))] {
            assert!(!is_state(wrong), "{wrong}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_a_panic(text in "\\PC{0,60}") {
            let _ = TraceParent::parse(&text);
        }
    }
}
