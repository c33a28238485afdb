//! A letter for people.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use postlane::dead_letters::{self, Desk, Letter, Marks, Skip};
use serde_json::Value;

use super::{
    super::view::{View, time},
    mail::Kitchen,
};
use crate::cli::{
    columns::{visible, visible_lines},
    table::Tone,
    terminal::Terminal,
};

/// Bytes of a value that is no JSON that are shown.
const SHOWN: usize = 2048;

/// Columns for the names of facts, and for those of headers at the most.
const FACTS: usize = 12;
const NAMES: usize = 40;

/// Bytes in a line of a dump.
const LINE: usize = 16;

pub(super) fn letter(letter: &Letter, desk: &Desk, marks: Option<&Marks>, kitchen: &Kitchen) -> String {
    let mut page = Page { out: String::new(), terminal: Terminal::stdout(), names: FACTS };
    page.title(&format!("Letter {} of {}", letter.place(), desk.topic()));
    facts(&mut page, letter, desk, marks);
    page.section("Headers");
    page.names = letter.record.headers.keys().map(|name| name.chars().count()).max().unwrap_or_default().min(NAMES);
    for (name, value) in &letter.record.headers {
        let value = match dead_letters::header(name, value) {
            Value::String(text) => text,
            other => other.to_string(),
        };
        page.fact(name, &value);
    }
    page.names = FACTS;
    page.section("Event");
    match &letter.record.value {
        None => page.block("(no value)"),
        Some(value) => page.block(&event(value)),
    }
    page.section("Mail, as it would go out now");
    match kitchen.make(letter) {
        Err(why) => page.block(&format!("none: {why}")),
        Ok((rendered, mail)) => {
            page.fact("Message-ID", &mail.message_id);
            page.fact("from", mail.envelope_from.as_ref());
            let to: Vec<String> = mail.recipients.iter().map(|it| it.address.to_string()).collect();
            page.fact("to", &to.join(", "));
            page.fact("subject", rendered.subject.as_deref().unwrap_or_default());
            page.fact("size", &format!("{} bytes", mail.bytes.len()));
            page.out.push('\n');
            page.block(rendered.text.as_deref().unwrap_or("(no text part; --eml shows the HTML)"));
        }
    }
    page.section("Redrive");
    let verdict = match dead_letters::judge(letter, desk.lanes(), Utc::now()) {
        Ok(target) => {
            let instead = match target.instead_of.as_deref() {
                Some("") => ", as its priority says".to_owned(),
                Some(topic) => format!(", as its priority says: {topic} is no lane"),
                None => String::new(),
            };
            let again = match marks.map(|marks| marks.contains(letter.place())) {
                Some(true) => "\nIt was sent back already; that needs --again.",
                _ => "",
            };
            format!(
                "postlane dlq redrive {} sends it to {}{instead}, with its attempts at 0.{again}",
                letter.place(),
                target.topic
            )
        }
        Err(skip @ Skip::GroupDiffers { .. }) => {
            format!("It needs --any-group, or the KAFKA_GROUP_ID that gave it up: {skip}.")
        }
        Err(skip) => format!("It cannot be sent back: {skip}."),
    };
    page.block(&verdict);
    page.out
}

fn facts(page: &mut Page, letter: &Letter, desk: &Desk, marks: Option<&Marks>) {
    for flaw in &letter.flaws {
        page.fact("flaw", flaw);
    }
    page.fact("failed at", &format!("{} UTC", time(letter.died())));
    let optional: [(&str, Option<&str>); 3] = [
        ("reason", letter.reason.as_deref()),
        ("stage", letter.stage.as_deref()),
        ("message", letter.message.as_deref()),
    ];
    for (name, value) in optional {
        page.fact(name, value.unwrap_or("(not said)"));
    }
    if let Some(code) = &letter.smtp_code {
        page.fact("SMTP reply", &format!("{code} {}", letter.smtp_enhanced.as_deref().unwrap_or_default()));
    }
    page.fact("attempts", &letter.attempts.map_or_else(|| "(not said)".to_owned(), |it| it.to_string()));
    let view = View { marks, lanes: desk.lanes(), show_addresses: true };
    let recipients = view.addresses(letter);
    page.fact("still for", if recipients.is_empty() { "(nobody known)" } else { &recipients });
    if let Some(original) = &letter.original {
        let written = DateTime::from_timestamp_millis(original.timestamp)
            .filter(|_| original.timestamp > 0)
            .map(|at| format!(", written {} UTC", time(at)))
            .unwrap_or_default();
        page.fact("came from", &format!("{original}{written}"));
    }
    if let Some(group) = &letter.group {
        page.fact("given up by", group);
    }
    if let Some(id) = letter.id() {
        page.fact("mail id", &id);
    }
    let key = letter.record.key.as_deref().map(String::from_utf8_lossy);
    page.fact("key", key.as_deref().unwrap_or("(none)"));
    page.fact(
        "sent back",
        match view.is_back(letter) {
            Some(true) => "yes",
            Some(false) => "no",
            None => "not known",
        },
    );
}

/// A page of facts and blocks.
struct Page {
    out: String,
    terminal: Terminal,
    /// Columns for the names of facts.
    names: usize,
}

impl Page {
    fn title(&mut self, text: &str) {
        let (start, end) = if self.terminal.colours { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
        let _ = writeln!(self.out, "{start}{}{end}", visible(text));
    }

    fn section(&mut self, text: &str) {
        self.out.push('\n');
        self.title(text);
    }

    fn fact(&mut self, name: &str, value: &str) {
        let name = visible(name);
        let pad = self.names.saturating_sub(name.chars().count());
        let (start, end) = if self.terminal.colours {
            (format!("\x1b[{}m", Tone::Quiet.colour()), "\x1b[0m")
        } else {
            (String::new(), "")
        };
        let _ = writeln!(self.out, "  {start}{name}{end}{:pad$}  {}", "", visible(value));
    }

    fn block(&mut self, text: &str) {
        for line in visible_lines(text).trim_end().lines() {
            let _ = writeln!(self.out, "{}", format!("  {line}").trim_end());
        }
    }
}

/// JSON with indents, text as it is, and other bytes as numbers.
fn event(value: &[u8]) -> String {
    if let Ok(json) = serde_json::from_slice::<Value>(value) {
        return format!("{json:#}");
    }
    let shown = &value[..value.len().min(SHOWN)];
    let mut text = match std::str::from_utf8(shown) {
        Ok(text) => text.to_owned(),
        // cut within a character
        Err(error) if error.error_len().is_none() && shown.len() < value.len() => {
            String::from_utf8_lossy(&shown[..error.valid_up_to()]).into_owned()
        }
        Err(_) => dump(shown),
    };
    if value.len() > SHOWN {
        let _ = write!(text, "\n… {} bytes in all; --raw prints them", value.len());
    }
    text
}

fn dump(bytes: &[u8]) -> String {
    let mut out = String::new();
    for (index, line) in bytes.chunks(LINE).enumerate() {
        let numbers = line.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x} ");
            text
        });
        let text: String =
            line.iter().map(|byte| if matches!(byte, b' '..=b'~') { char::from(*byte) } else { '.' }).collect();
        let _ = writeln!(out, "{:08x}  {numbers:<48} {text}", index * LINE);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_the_value_is_it_can_be_read() {
        assert_eq!(event(br#"{"a":1}"#), "{\n  \"a\": 1\n}");
        assert_eq!(event(b"{not json"), "{not json");
        assert_eq!(event(b"\xff\x00A"), "00000000  ff 00 41                                         ..A\n");
        let long = "ä".repeat(SHOWN);
        assert!(event(&long.as_bytes()[..SHOWN * 2 - 1]).ends_with("--raw prints them"));
        let odd = format!("x{long}");
        assert!(event(odd.as_bytes()).starts_with("xä"), "a character that is cut is no reason for a dump");
    }
}
