//! The wire format: a record's value to a [`Message`].
//!
//! Pure: no I/O. Everything that a producer may write ends here as types or as an error that names the field.

mod decode;
mod encode;
#[cfg(test)]
mod tests;

use std::fmt;

use chrono::{DateTime, Utc};
use lettre::message::Mailbox;

pub use decode::{DecodeError, MAX_EVENT_SIZE, Problem, decode, parse_mailbox};
pub(crate) use decode::{decode_value, is_zero_time, kind_of};
pub(crate) use encode::time;
pub use encode::{encode, mailbox_text};

/// How urgent a mail is; each priority has a lane of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Somebody waits for it: password resets, codes.
    High,
    /// The usual case.
    Normal,
    /// Bulk: newsletters, digests.
    Low,
}

impl Priority {
    /// All of them, the most urgent first.
    pub const ALL: [Self; 3] = [Self::High, Self::Normal, Self::Low];

    /// Place in [`Priority::ALL`].
    pub fn index(self) -> usize {
        match self {
            Self::High => 0,
            Self::Normal => 1,
            Self::Low => 2,
        }
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::High => "high",
            Self::Normal => "normal",
            Self::Low => "low",
        })
    }
}

/// A mail as an application asked for it.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// What kind of event it was, `notification` if the producer did not say.
    pub kind: String,
    /// Identity of the mail: the same id always gives the same `Message-ID`.
    pub id: String,
    /// Sender; `None` leaves it to `MAIL_FROM`.
    pub from: Option<Mailbox>,
    /// Recipients of the To field, at least one.
    pub to: Vec<Mailbox>,
    /// Recipients of the Cc field.
    pub cc: Vec<Mailbox>,
    /// Recipients that stand in no field.
    pub bcc: Vec<Mailbox>,
    /// Where answers go.
    pub reply_to: Vec<Mailbox>,
    /// Subject; `None` leaves it to the template.
    pub subject: Option<String>,
    /// Name of the template.
    pub template: String,
    /// Context of the template, a JSON object.
    pub data: serde_json::Map<String, serde_json::Value>,
    /// Extra header fields in the order they were given; names and values not yet checked against the header rules.
    pub headers: Vec<(String, String)>,
    /// Lane in which it is scheduled.
    pub priority: Priority,
    /// When the event was made.
    pub timestamp: DateTime<Utc>,
    /// From then on it is not sent any more.
    pub expires_at: Option<DateTime<Utc>>,
    /// Attempts already made by someone else.
    pub retry_count: u32,
    /// Attempts allowed in all; `None` leaves it to `RETRY_MAX_ATTEMPTS`.
    pub max_retries: Option<u32>,
    /// Only these recipients (indices in to, cc, bcc order) are still to be served; `None` means all of them.
    pub only_recipients: Option<Vec<usize>>,
}

/// Name of the folder beside the templates that holds what they share.
pub(crate) const LAYOUTS: &str = "layouts";

/// Whether a text can name a folder of templates, and so may be shown in an error.
pub(crate) fn is_template_folder(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && !name.starts_with('.')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// Whether a template could have that name.
pub(crate) fn is_template_name(name: &str) -> bool {
    is_template_folder(name) && name != LAYOUTS
}
