//! Header fields: what may stand in them, encoding (RFC 2047) and folding (RFC 5322 2.2.3).

use std::collections::HashSet;

use data_encoding::BASE64;

use super::{ComposeError, address::Party};

/// Preferred length of a line, without CRLF.
const LINE: usize = 76;

/// Longest piece that is not broken, its blanks included: with the longest name before it still below 998.
const PIECE: usize = 900;

/// Longest name of an extra field.
const NAME: usize = 76;

/// Bytes of text in one encoded word: `=?utf-8?B?` + 60 + `?=` is below the 75 of RFC 2047.
const WORD: usize = 45;

pub(super) const CONTROLS: &str = "control characters";

/// Fields that are ours to write, or those of servers on the way.
const RESERVED: [&str; 13] = [
    "from",
    "sender",
    "to",
    "cc",
    "bcc",
    "reply-to",
    "subject",
    "date",
    "message-id",
    "mime-version",
    "received",
    "return-path",
    "auto-submitted",
];
const RESERVED_PREFIXES: [&str; 5] = ["content-", "dkim-", "arc-", "resent-", "x-postlane-"];

/// C0 controls, DEL, and the two that some take for line breaks.
pub(super) fn has_controls(text: &str) -> bool {
    text.chars().any(|c| c.is_ascii_control() || matches!(c, '\u{2028}' | '\u{2029}'))
}

/// The header under construction.
#[derive(Default)]
pub(super) struct Fields(String);

impl Fields {
    pub(super) fn push(&mut self, name: &str, value: &Tokens) {
        self.0.push_str(name);
        self.0.push(':');
        let mut line = name.len() + 1;
        for (at, token) in value.0.iter().enumerate() {
            // The first one stays beside the name: a line of blanks alone is obsolete syntax.
            if at > 0 && line + 1 + token.len() > LINE {
                self.0.push_str("\r\n");
                line = 0;
            }
            self.0.push(' ');
            self.0.push_str(token);
            line += 1 + token.len();
        }
        self.0.push_str("\r\n");
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0.into_bytes()
    }
}

/// A field's value in pieces that a blank separates; between them the line may be broken.
pub(super) struct Tokens(Vec<String>);

impl Tokens {
    /// A value of ours that needs no encoding.
    pub(super) fn raw(value: String) -> Self {
        Self(vec![value])
    }

    /// Unstructured text, encoded unless it is plain words.
    pub(super) fn text(name: &str, text: &str) -> Self {
        let plain =
            is_printable(text) && !text.contains("=?") && text.split(' ').all(|word| (1..LINE).contains(&word.len()));
        if plain {
            Self(text.split(' ').map(str::to_owned).collect())
        } else {
            Self(encoded_words(text, name.len() + 2))
        }
    }

    /// A list of mailboxes.
    pub(super) fn parties(parties: &[Party]) -> Self {
        let mut tokens = Vec::new();
        for (at, party) in parties.iter().enumerate() {
            let mut address = party.address.to_string();
            if let Some(name) = &party.name {
                address = format!("<{address}>");
                tokens.extend(phrase(name));
            }
            if at + 1 < parties.len() {
                address.push(',');
            }
            tokens.push(address);
        }
        Self(tokens)
    }

    /// The value of an extra field: ASCII stays as it is, for the field may be a structured one.
    fn extra(name: &str, value: &str) -> Option<Self> {
        if !is_printable(value) {
            return Some(Self(encoded_words(value, name.len() + 2)));
        }
        let mut tokens = Vec::new();
        let mut blanks = 0;
        for word in value.split(' ') {
            if word.is_empty() {
                blanks += 1;
                continue;
            }
            tokens.push(format!("{}{word}", " ".repeat(std::mem::take(&mut blanks))));
        }
        tokens.iter().all(|token| token.len() <= PIECE).then_some(Self(tokens))
    }
}

fn is_printable(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, b' '..=b'~'))
}

/// A display name: atoms, a quoted string or encoded words.
fn phrase(name: &str) -> Vec<String> {
    if !is_printable(name) || name.contains("=?") || name.len() > 60 {
        return encoded_words(name, LINE / 2);
    }
    if name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b' ' | b'-' | b'_' | b'\''))
        && !name.contains("  ")
    {
        return name.split(' ').map(str::to_owned).collect();
    }
    let mut quoted = String::from('"');
    for c in name.chars() {
        if matches!(c, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted.push('"');
    vec![quoted]
}

/// Encoded words, none of which splits a character; the first leaves room for what stands before it on its line.
fn encoded_words(text: &str, before: usize) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = text;
    let mut room = (LINE.saturating_sub(before + "=?utf-8?B??=".len()) / 4 * 3).clamp(9, WORD);
    while !rest.is_empty() {
        let end = (1..=room.min(rest.len())).rev().find(|&at| rest.is_char_boundary(at)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        words.push(format!("=?utf-8?B?{}?=", BASE64.encode(word.as_bytes())));
        rest = after;
        room = WORD;
    }
    words
}

/// Problems that are told of one mail at the most.
const PROBLEMS: usize = 100;

/// Checks and adds `message.headers`.
pub(super) fn extra(headers: &[(String, String)], fields: &mut Fields, found: &mut Vec<ComposeError>) {
    let mut seen = HashSet::new();
    for (at, (name, value)) in headers.iter().enumerate() {
        if found.len() >= PROBLEMS {
            break;
        }
        match extra_value(name, value, &mut seen) {
            Ok(tokens) => fields.push(name, &tokens),
            Err(problem) => found.push(ComposeError::bad_header(shown(name, at), problem)),
        }
    }
}

fn extra_value(name: &str, value: &str, seen: &mut HashSet<String>) -> Result<Tokens, &'static str> {
    if name.is_empty() || name.len() > NAME || !name.bytes().all(|b| matches!(b, b'!'..=b'~') && b != b':') {
        return Err("the name of the field is not valid");
    }
    let lower = name.to_ascii_lowercase();
    if RESERVED.contains(&lower.as_str()) || RESERVED_PREFIXES.iter().any(|prefix| lower.starts_with(prefix)) {
        return Err("this field may not be set by an event");
    }
    if !seen.insert(lower) {
        return Err("the field appears twice");
    }
    if has_controls(value) {
        return Err(CONTROLS);
    }
    Tokens::extra(name, value.trim_matches(' ')).ok_or("a word is too long for a line")
}

/// The field for an error message: by its name only where that is surely no address and no rubbish.
fn shown(name: &str, at: usize) -> String {
    let harmless =
        (1..=NAME).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    if harmless { format!("message.headers.{name}") } else { format!("message.headers[{at}]") }
}
