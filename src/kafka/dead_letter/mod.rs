//! What becomes of a record that cannot be sent: a letter in the dead letter topic.
//!
//! Owns the shape of a dead letter ([`letter`], [`stub`]; pure) and the writing of it ([`DeadLetters`]). When a record
//! dies is decided elsewhere. A letter counts as written only when the in-sync replicas have acknowledged it; until
//! then it is tried again without end, since nothing else may settle its record.

pub(crate) mod headers;
mod health;
mod lane;
mod letter;
mod sender;
mod writer;

pub use crate::failure::{Reason, Stage};
pub use letter::{letter, stub};
pub use sender::{Parcel, Sender, Sent};
pub use writer::{DeadLetters, Stopped, Timing};

/// What a dead letter says about its record's end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Where it failed.
    pub stage: Stage,
    /// Why it failed.
    pub reason: Reason,
    /// The same for people. Addresses and the queries of URLs are masked and the text is cut when it is written.
    pub message: String,
    /// Where only a part of the recipients failed: their indices in to, cc, bcc order.
    pub recipients: Option<Vec<usize>>,
    /// Attempts that were made, those of others included.
    pub attempts: u32,
    /// The reply code, where a server answered.
    pub smtp_code: Option<u16>,
    /// The enhanced status code (RFC 3463), where the answer had one.
    pub smtp_enhanced: Option<(u8, u16, u16)>,
    /// The id under which the mail was to be sent, where that is known.
    pub message_id: Option<String>,
}
