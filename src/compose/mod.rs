//! A message and its rendered parts to the bytes that go over SMTP.
//!
//! Owns what may go into a mail: addresses, header fields, MIME structure, the Message-ID and the envelope. Pure: no
//! I/O, no clock, no randomness, so the same event always gives the same bytes. lettre encodes the MIME parts; header
//! fields are folded here, because lettre leaves long words and plain lists of addresses on one line.

mod address;
mod body;
mod checks;
mod error;
mod header;
#[cfg(feature = "templates")]
mod make;
mod redirect;

use std::{collections::HashSet, fmt};

use chrono::{DateTime, Utc};
use data_encoding::{Encoding, Specification};
use lettre::{Address, message::Mailbox};
use sha2::{Digest, Sha256};

pub use self::error::ComposeError;
#[cfg(feature = "templates")]
pub use self::make::{MakeError, Step, make};
use self::{address::Party, checks::Parties, redirect::Redirected};
pub(crate) use self::{address::is_plain, checks::problems};
use crate::{config, event::Message};

/// Recipients of one mail at the most: what every server must take (RFC 5321 4.5.3.1.8).
pub const MAX_RECIPIENTS: usize = 100;

/// All header fields together in bytes; larger ones are cut off or refused by common servers.
pub const MAX_HEADER_SIZE: usize = 64 * 1024;

/// What the parts of a template gave; at least `text` or `html` is there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rendered {
    /// Subject, if there is one; not yet checked against the header rules.
    pub subject: Option<String>,
    /// Plain text body.
    pub text: Option<String>,
    /// HTML body.
    pub html: Option<String>,
}

/// A mail as it goes over SMTP.
#[derive(Clone, PartialEq, Eq)]
pub struct Mail {
    /// Value of the Message-ID field, angle brackets included.
    pub message_id: String,
    /// Envelope sender (MAIL FROM).
    pub envelope_from: Address,
    /// Envelope recipients (RCPT TO), each address once; at least one.
    pub recipients: Vec<Recipient>,
    /// Header and body, all lines ended by CRLF, not yet dot-stuffed.
    pub bytes: Vec<u8>,
}

/// Shows sizes only: a mail is full of what must not be in a log.
impl fmt::Debug for Mail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mail")
            .field("message_id", &self.message_id)
            .field("recipients", &self.recipients.len())
            .field("bytes", &self.bytes.len())
            .finish_non_exhaustive()
    }
}

/// One envelope recipient.
#[derive(Clone, PartialEq, Eq)]
pub struct Recipient {
    /// Place in to, cc, bcc order, from 0; of an address that stands there more than once, the first.
    pub index: usize,
    /// Where it goes; ASCII.
    pub address: Address,
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recipient").field("index", &self.index).finish_non_exhaustive()
    }
}

/// Builds the mail.
///
/// The header fields name all recipients (less bcc), the envelope those of [`Message::only_recipients`]; with
/// [`config::Mail::redirect_to`] both have that one mailbox alone. The subject is the message's own, or [`Rendered::subject`] where it has none or subjects may hold template expressions.
///
/// # Errors
/// [`ComposeError`] for what may not go into a mail; it names the field and shows no address.
pub fn compose(message: &Message, rendered: Rendered, settings: &config::Mail) -> Result<Mail, ComposeError> {
    let mut found = Vec::new();
    let parties = checks::parties(message, settings.from.as_ref(), &mut found);
    let Some(parties) = parties.filter(|_| found.is_empty()) else { return Err(first(found)) };
    let Parties { from, to, cc, bcc, .. } = &parties;
    let only = message.only_recipients.as_deref();
    let mut recipients = envelope([to, cc, bcc], only)?;
    let redirected = Redirected::new(settings, &parties, only, &mut recipients)?;
    let subject = subject(message, rendered.subject, settings)?;
    let message_id = message_id(&message.id, from.address.domain());
    let named = (subject.as_str(), message_id.clone());
    let mut bytes = checks::fields(message, &parties, redirected.as_ref(), named, &mut found);
    if !found.is_empty() {
        return Err(first(found));
    }

    let boundary = || format!("=_{}", digest("boundary", &message.id));
    bytes.extend(body::build(rendered.text.as_deref(), rendered.html.as_deref(), boundary)?);
    if bytes.len() > settings.max_size {
        return Err(ComposeError::too_large(format!("{} bytes, MAIL_MAX_SIZE is {}", bytes.len(), settings.max_size)));
    }
    let envelope_from = match &settings.envelope_from {
        Some(address) => address::ascii(address, "MAIL_ENVELOPE_FROM")?,
        None => parties.from.address,
    };
    Ok(Mail { message_id, envelope_from, recipients, bytes })
}

/// The problem that the dead letter names.
fn first(found: Vec<ComposeError>) -> ComposeError {
    found.into_iter().next().expect("what stops a mail was found")
}

/// Who is served: each address once, at its first place among those that are asked for.
fn envelope(groups: [&[Party]; 3], only: Option<&[usize]>) -> Result<Vec<Recipient>, ComposeError> {
    let all: Vec<&Party> = groups.into_iter().flatten().collect();
    if only.is_some_and(|only| only.iter().any(|&index| index >= all.len())) {
        return Err(ComposeError::malformed("postlane-recipients", "names a recipient that is not there"));
    }
    let mut seen = HashSet::new();
    let recipients: Vec<Recipient> = all
        .into_iter()
        .enumerate()
        .filter(|(index, _)| only.is_none_or(|only| only.contains(index)))
        .filter(|(_, party)| {
            seen.insert((party.address.user().to_owned(), party.address.domain().to_ascii_lowercase()))
        })
        .map(|(index, party)| Recipient { index, address: party.address.clone() })
        .collect();
    if recipients.is_empty() {
        return Err(ComposeError::malformed("message.to", "leaves nobody to send to"));
    }
    Ok(recipients)
}

fn subject(message: &Message, rendered: Option<String>, settings: &config::Mail) -> Result<String, ComposeError> {
    let own = message.subject.clone().filter(|subject| !subject.trim().is_empty());
    let subject = match (own, rendered) {
        (Some(own), None) => own,
        (Some(own), Some(_)) if !settings.subject_templates => own,
        (_, Some(rendered)) => rendered,
        (None, None) => String::new(),
    };
    if subject.trim().is_empty() {
        return Err(ComposeError::malformed("message.subject", "is absent and the template has none"));
    }
    checks::subject(&subject)
}

/// The event's time (RFC 5322 3.6.1: when the author was done), in years that the format can show.
fn date(timestamp: DateTime<Utc>) -> String {
    let first = DateTime::UNIX_EPOCH;
    let last = DateTime::from_timestamp(253_402_300_799, 0).unwrap_or(first);
    timestamp.clamp(first, last).to_rfc2822()
}

/// The id under which a message goes out: the same id and sender's domain always give the same one.
///
/// `<` first 32 characters of base32 (RFC 4648, lower case) of SHA-256 of the id `@` domain `>`.
pub fn message_id(id: &str, domain: &str) -> String {
    format!("<{}@{domain}>", digest("", id))
}

/// The same for this sender, whose domain may be beyond ASCII; `None` where it is none that mail can come from.
pub(crate) fn message_id_from(id: &str, from: &Mailbox) -> Option<String> {
    address::ascii(&from.email, "message.from").ok().map(|address| message_id(id, address.domain()))
}

fn digest(purpose: &str, id: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(purpose);
    hash.update(id);
    let mut text = base32().encode(&hash.finalize());
    text.truncate(32);
    text
}

fn base32() -> &'static Encoding {
    static BASE32: std::sync::LazyLock<Encoding> = std::sync::LazyLock::new(|| {
        let mut specification = Specification::new();
        specification.symbols.push_str("abcdefghijklmnopqrstuvwxyz234567");
        specification.encoding().expect("32 different symbols without padding are an encoding")
    });
    &BASE32
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
