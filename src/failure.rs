//! Where and why a record fails: the two words that stand in a dead letter, in logs and in metrics.

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
