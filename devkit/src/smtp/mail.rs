//! A mail as the server got it: envelope, bytes, and the few things that are read from them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use memchr::memmem;
use tokio::time::Instant;

/// How much of each mail the ledger keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Retention {
    /// All of it.
    #[default]
    Full,
    /// Envelope and headers.
    Headers,
    /// The Message-ID and numbers; no envelope, no bytes. For tens of thousands of mails.
    Ids,
}

/// How the commands before the content arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Group {
    /// Commands that the server read without having to wait for the client in between, up to and with `DATA`.
    pub commands: u32,
    /// Reads from the socket that brought them; 1 means one segment.
    pub reads: u32,
}

/// A mail whose final dot was read.
#[derive(Debug, Clone)]
pub struct Mail {
    /// Order in which the server decided on mails, from 1 over all connections.
    pub sequence: u64,
    /// When the server decided.
    pub at: Instant,
    /// Number of the connection, from 1 in the order of opening.
    pub connection: u64,
    /// Address of `MAIL FROM`, empty for the null sender.
    pub from: String,
    /// Parameters of `MAIL FROM` as they were sent, such as `SIZE=1200 BODY=8BITMIME`.
    pub parameters: String,
    /// The recipients that were accepted, in the order of their `RCPT TO`.
    pub recipients: Vec<String>,
    /// The content without dot-stuffing and final dot, as far as [`Retention`] keeps it.
    pub raw: Vec<u8>,
    /// Octets of the whole content, kept or not.
    pub size: usize,
    /// Code of the decision at the final dot; `None` where there was none.
    pub code: Option<u16>,
    /// How the commands before the content arrived.
    pub group: Group,
    /// Whether the connection was encrypted.
    pub tls: bool,
    /// The user that had logged in.
    pub user: Option<String>,
    pub(super) message_id: Option<String>,
    pub(super) answered: Arc<AtomicBool>,
}

impl Mail {
    /// Whether the whole reply to the final dot has been handed to the socket. Becomes true after the mail is in the
    /// ledger, never before.
    pub fn answered(&self) -> bool {
        self.answered.load(Ordering::Acquire)
    }

    /// The Message-ID with its angle brackets.
    pub fn message_id(&self) -> Option<&str> {
        self.message_id.as_deref()
    }

    /// The first header of this name, in any case: unfolded, encoded words left as they are.
    pub fn header(&self, name: &str) -> Option<String> {
        self.headers().find(|(header, _)| header.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// All headers in their order, unfolded.
    pub fn headers(&self) -> impl Iterator<Item = (&str, String)> {
        headers(&self.raw)
    }

    /// What follows the empty line after the headers, as transferred.
    pub fn body(&self) -> &[u8] {
        memmem::find(&self.raw, b"\r\n\r\n").map_or(&[], |at| &self.raw[at + 4..])
    }

    /// The whole content as text, bytes that are not UTF-8 replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.raw).into_owned()
    }

    /// Subject and texts with all encodings taken off; `None` where the content was not kept.
    pub fn decoded(&self) -> Option<Decoded> {
        let message = mail_parser::MessageParser::default().parse(&self.raw)?;
        // Only a part that is HTML in the mail: the parser would else make one from the text.
        let html = message.html_part(0).filter(|part| part.is_text_html()).and_then(|part| part.text_contents());
        let text = message.text_part(0).filter(|part| !part.is_text_html()).and_then(|part| part.text_contents());
        Some(Decoded {
            subject: message.subject().unwrap_or_default().to_owned(),
            text: text.map(str::to_owned),
            html: html.map(str::to_owned),
        })
    }

    /// Writes the mail to `<sequence>.eml` in this folder and its HTML part, where it has one, to `<sequence>.html`
    /// (four digits or more); returns the paths.
    pub fn save(&self, folder: &Path) -> std::io::Result<Vec<PathBuf>> {
        std::fs::create_dir_all(folder)?;
        let mut paths = vec![folder.join(format!("{:04}.eml", self.sequence))];
        std::fs::write(&paths[0], &self.raw)?;
        if let Some(html) = self.decoded().and_then(|decoded| decoded.html) {
            let path = folder.join(format!("{:04}.html", self.sequence));
            std::fs::write(&path, html)?;
            paths.push(path);
        }
        Ok(paths)
    }

    /// Drops what is not to be kept.
    pub(super) fn trim(&mut self, retention: Retention) {
        if retention == Retention::Full {
            return;
        }
        let end = if retention == Retention::Headers { header_end(&self.raw) } else { 0 };
        self.raw.truncate(end);
        self.raw.shrink_to_fit();
        if retention == Retention::Ids {
            (self.from, self.parameters, self.recipients) = (String::new(), String::new(), Vec::new());
        }
    }
}

/// A mail as a reader would see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded {
    /// The subject, empty where there is none.
    pub subject: String,
    /// The text/plain part.
    pub text: Option<String>,
    /// The text/html part.
    pub html: Option<String>,
}

/// Where the empty line after the headers ends.
fn header_end(raw: &[u8]) -> usize {
    memmem::find(raw, b"\r\n\r\n").map_or(raw.len(), |at| at + 4)
}

fn headers(raw: &[u8]) -> impl Iterator<Item = (&str, String)> {
    let mut rest = &raw[..header_end(raw)];
    std::iter::from_fn(move || {
        loop {
            let mut end = 0;
            // A line that starts with a blank goes on with the header before it (RFC 5322 2.2.3).
            loop {
                end += memchr::memchr(b'\n', &rest[end..])? + 1;
                if !matches!(rest.get(end), Some(b' ' | b'\t')) {
                    break;
                }
            }
            let (field, after) = rest.split_at(end);
            rest = after;
            let Some(colon) = memchr::memchr(b':', field) else { continue };
            let Ok(name) = std::str::from_utf8(&field[..colon]) else { continue };
            let value = String::from_utf8_lossy(&field[colon + 1..]).replace(['\r', '\n'], "");
            return Some((name.trim_end(), value.trim().to_owned()));
        }
    })
}

/// The Message-ID of this content.
pub(super) fn message_id(raw: &[u8]) -> Option<String> {
    headers(raw).find(|(name, _)| name.eq_ignore_ascii_case("Message-ID")).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_unfolded_and_end_at_the_empty_line() {
        let raw = b"Subject: one\r\n two\r\nmessage-id:\r\n <a@b>\r\n\r\nTo: not a header\r\n";
        let all: Vec<_> = headers(raw).collect();
        assert_eq!(all, [("Subject", "one two".to_owned()), ("message-id", "<a@b>".to_owned())]);
        assert_eq!(message_id(raw).as_deref(), Some("<a@b>"));
        assert_eq!(message_id(b"To: a\r\n\r\nMessage-ID: <x>\r\n"), None);
    }
}
