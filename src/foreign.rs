//! What the other side says of a refusal, as it may stand in a log, an answer or on a terminal.
//!
//! Owns its length, its characters, and that no secret of ours comes back with it.

use data_encoding::{BASE64_NOPAD, BASE64URL_NOPAD, Encoding};

/// Longest text that is kept, in characters.
const LONGEST: usize = 300;
/// Shortest part of a secret in Base64 that is looked for; anything shorter stands in every text.
const SHORTEST: usize = 5;
const MASK: &str = "***";

/// One line of at most 300 characters without controls, and with `***` for each of `secrets`: as it is, and in a run of
/// Base64 that it is part of, whatever stands before it there.
pub(crate) fn clean(text: &str, secrets: &[&str]) -> String {
    let mut text = text.to_owned();
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        text = text.replace(secret, MASK);
        for core in [BASE64_NOPAD, BASE64URL_NOPAD].iter().flat_map(|encoding| cores(encoding, secret)) {
            text = without_runs(&text, &core);
        }
    }
    let mut kept: String = text.trim().chars().take(LONGEST).map(visible).collect();
    if text.trim().chars().nth(LONGEST).is_some() {
        kept.push('…');
    }
    kept
}

/// Controls become spaces; what turns the direction of writing, or cannot be seen, becomes `?`.
fn visible(c: char) -> char {
    match c {
        c if c.is_control() => ' ',
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' => '?',
        c => c,
    }
}

/// What Base64 makes of `secret` behind no, one or two bytes of something else: the letters that depend on it alone.
fn cores(encoding: &Encoding, secret: &str) -> Vec<String> {
    let core = |before: usize| {
        let whole = encoding.encode(&[&[0; 2][..before], secret.as_bytes()].concat());
        let (from, to) = ((before * 8).div_ceil(6), (before + secret.len()) * 8 / 6);
        whole.get(from..to).unwrap_or_default().to_owned()
    };
    (0..3).map(core).filter(|core| core.len() >= SHORTEST).collect()
}

/// Replaces each run of Base64 that holds `core`.
fn without_runs(text: &str, core: &str) -> String {
    let other = |c: char| !(c.is_ascii_alphanumeric() || "+/-_=".contains(c));
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(core) {
        let start = rest[..at].rfind(other).map_or(0, |at| at + rest[at..].chars().next().map_or(0, char::len_utf8));
        let end = rest[at..].find(other).map_or(rest.len(), |end| at + end);
        out.push_str(&rest[..start]);
        out.push_str(MASK);
        rest = &rest[end..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use data_encoding::{BASE64, BASE64URL};

    use super::*;

    #[test]
    fn a_secret_does_not_come_back() {
        assert_eq!(clean("no hunter2, no", &["hunter2"]), "no ***, no");
        for before in ["", "x", "xy", "client:", "\0user\0", "client-id:"] {
            for after in ["", "x", "xyz\u{1}\u{1}"] {
                let both = format!("{before}hunter2{after}");
                for echo in [BASE64.encode(both.as_bytes()), BASE64URL.encode(both.as_bytes())] {
                    assert_eq!(clean(&format!("bad: Basic {echo} é"), &["hunter2"]), "bad: Basic *** é", "{both:?}");
                }
            }
        }
        assert_eq!(clean("é", &["", "a"]), "é");
    }

    #[test]
    fn a_text_is_one_short_line_without_controls() {
        assert_eq!(clean(" a\r\n\u{1b}[31mb\u{9b}\u{202e}c \n", &[]), "a  \u{20}[31mb ?c");
        let long = clean(&"é".repeat(100_000), &[]);
        assert_eq!((long.chars().count(), long.ends_with("é…")), (LONGEST + 1, true));
        assert_eq!(clean(&"x".repeat(LONGEST), &[]).len(), LONGEST);
    }
}
