//! Why a message cannot become a mail.

use crate::failure::Reason;

/// A message that cannot become a mail. The text names the field and shows no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ComposeError {
    /// An address or its display name.
    #[error("{field}: {problem}")]
    BadAddress {
        /// Field of the event, or the setting.
        field: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A header field other than those with addresses.
    #[error("{field}: {problem}")]
    BadHeader {
        /// Field of the event.
        field: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Something that a mail needs is not there.
    #[error("{field}: {problem}")]
    Malformed {
        /// Field of the event, or header of the record.
        field: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Too many bytes or recipients.
    #[error("mail too large: {problem}")]
    TooLarge {
        /// What there is and what may be.
        problem: String,
    },
}

impl ComposeError {
    /// The reason that its dead letter names.
    pub fn reason(&self) -> Reason {
        match self {
            Self::BadAddress { .. } => Reason::BadAddress,
            Self::BadHeader { .. } => Reason::BadHeader,
            Self::Malformed { .. } => Reason::Malformed,
            Self::TooLarge { .. } => Reason::TooLarge,
        }
    }

    /// The field of the event, or the setting; `message` for the mail as a whole.
    pub fn field(&self) -> &str {
        match self {
            Self::BadAddress { field, .. } | Self::BadHeader { field, .. } => field,
            Self::Malformed { field, .. } => field,
            Self::TooLarge { .. } => "message",
        }
    }

    /// What is wrong with it.
    pub fn problem(&self) -> &str {
        match self {
            Self::BadAddress { problem, .. } | Self::BadHeader { problem, .. } | Self::Malformed { problem, .. } => {
                problem
            }
            Self::TooLarge { problem } => problem,
        }
    }

    pub(super) fn bad_address(field: impl Into<String>, problem: &'static str) -> Self {
        Self::BadAddress { field: field.into(), problem }
    }

    pub(super) fn bad_header(field: impl Into<String>, problem: &'static str) -> Self {
        Self::BadHeader { field: field.into(), problem }
    }

    pub(super) fn malformed(field: &'static str, problem: &'static str) -> Self {
        Self::Malformed { field, problem }
    }

    pub(super) fn too_large(problem: String) -> Self {
        Self::TooLarge { problem }
    }
}
