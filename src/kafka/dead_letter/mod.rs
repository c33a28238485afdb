//! What becomes of a record that cannot be sent: a letter in the dead letter topic.
//!
//! Owns the shape of a dead letter ([`letter`], [`stub`]; pure) and the writing of it ([`DeadLetters`]). When a record
//! dies is decided elsewhere. A letter counts as written only when the in-sync replicas have acknowledged it; until
//! then it is tried again without end, since nothing else may settle its record.

mod health;
mod lane;
mod letter;
mod writer;

pub use letter::{letter, stub};
pub use writer::{DeadLetters, Stopped, Timing};

/// The stage at which a record failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The record's value is no event.
    Decode,
    /// Loading or rendering the template.
    Template,
    /// Building the message.
    Compose,
    /// Handing it to the relay.
    Send,
    /// Its time had passed.
    Expired,
}

impl Stage {
    /// The word in the header `postlane-stage`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Decode => "decode",
            Self::Template => "template",
            Self::Compose => "compose",
            Self::Send => "send",
            Self::Expired => "expired",
        }
    }
}

/// Why a record failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Not an event: not JSON, not UTF-8, a wrong type, a missing field.
    Malformed,
    /// No template of that name.
    UnknownTemplate,
    /// The template failed.
    RenderFailed,
    /// An address that no mail can go to or come from.
    BadAddress,
    /// A header field that may not be in a mail.
    BadHeader,
    /// Asks for something that is not built.
    Unsupported,
    /// Larger than a mail may be.
    TooLarge,
    /// The relay has refused it for good.
    Rejected,
    /// The last attempt has failed.
    RetriesExhausted,
    /// The relay never said whether it took the mail.
    OutcomeUnknown,
    /// Its time had passed.
    Expired,
}

impl Reason {
    /// The word in the header `postlane-reason`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::UnknownTemplate => "unknown-template",
            Self::RenderFailed => "render-failed",
            Self::BadAddress => "bad-address",
            Self::BadHeader => "bad-header",
            Self::Unsupported => "unsupported",
            Self::TooLarge => "too-large",
            Self::Rejected => "rejected",
            Self::RetriesExhausted => "retries-exhausted",
            Self::OutcomeUnknown => "outcome-unknown",
            Self::Expired => "expired",
        }
    }
}

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
