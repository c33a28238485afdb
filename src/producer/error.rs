//! What can keep a mail from being sent, and whether it may go out all the same.

use crate::{config::ConfigError, email::InvalidEmail, tls};

/// Why there is no producer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// Settings are wrong or missing; each is named.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A certificate file cannot be used.
    #[error(transparent)]
    Tls(#[from] tls::Error),
    /// The templates cannot be loaded.
    #[cfg(feature = "templates")]
    #[error(transparent)]
    Templates(#[from] crate::template::LoadError),
}

/// Why a mail was not sent, as far as is known.
///
/// The text says whether the mail may still go out, and so does [`may_go_out`](Self::may_go_out).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The mail is wrong; it did not leave.
    #[error("the mail was not sent: {0}")]
    Invalid(#[from] InvalidEmail),
    /// There was no room in the buffer (`PUBLISH_BUFFER_RECORDS`, `PUBLISH_BUFFER_BYTES`).
    #[error("the mail was not sent: the buffer is full")]
    Full,
    /// The producer was closed.
    #[error("the mail was not sent: the producer is closed")]
    Closed,
    /// Kafka did not take it in time. It was taken back and does not go out.
    #[error("the mail was not sent: {why}")]
    #[non_exhaustive]
    NotPublished {
        /// Its message id.
        id: String,
        /// What kept Kafka from it.
        why: String,
    },
    /// It left, and no answer came in time: it may go out. Sent again under the same [id](crate::Email::id), both
    /// copies have the same Message-ID.
    #[error("the mail may go out all the same: {why}")]
    #[non_exhaustive]
    OutcomeUnknown {
        /// Its message id.
        id: String,
        /// What was seen last.
        why: String,
    },
    /// Kafka does not take this mail (it is too large, say); it does not go out.
    #[error("the mail was not sent: {why}")]
    #[non_exhaustive]
    Refused {
        /// Its message id.
        id: String,
        /// What the broker said.
        why: String,
    },
    /// It went straight to the relay, and not all of its recipients have it.
    #[cfg(feature = "smtp")]
    #[error("{error}")]
    #[non_exhaustive]
    Smtp {
        /// Its message id.
        id: String,
        /// What became of it.
        error: Box<crate::mailer::Error>,
    },
    /// Kafka did not take it in time, and then the relay did not take it for all of its recipients.
    #[cfg(feature = "smtp")]
    #[error("{}", both_ways(kafka, *unknown, smtp))]
    #[non_exhaustive]
    BothWays {
        /// Its message id.
        id: String,
        /// What kept Kafka from taking it.
        kafka: String,
        /// Kafka may have it all the same, and then the service delivers it.
        unknown: bool,
        /// What became of it by SMTP.
        smtp: Box<crate::mailer::Error>,
    },
    /// Kafka takes no mail from us: a topic is missing, or we may not write it, or are not let in. Somebody has to
    /// change something. The mail does not go out.
    #[error("the mail was not sent: {why}")]
    #[non_exhaustive]
    Setup {
        /// Its message id.
        id: String,
        /// What the brokers said.
        why: String,
    },
}

impl SendError {
    /// Whether the mail may go out although this is an error. Everywhere else it surely does not.
    pub fn may_go_out(&self) -> bool {
        match self {
            Self::OutcomeUnknown { .. } => true,
            #[cfg(feature = "smtp")]
            Self::Smtp { error, .. } => error.may_have_arrived(),
            #[cfg(feature = "smtp")]
            Self::BothWays { unknown, smtp, .. } => *unknown || smtp.may_have_arrived(),
            Self::Invalid(_)
            | Self::Full
            | Self::Closed
            | Self::NotPublished { .. }
            | Self::Refused { .. }
            | Self::Setup { .. } => false,
        }
    }

    /// Whether the same mail may be taken at a later time, with nothing changed. After
    /// [`OutcomeUnknown`](Self::OutcomeUnknown) that is so, too, but it can then come twice.
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Full | Self::NotPublished { .. } | Self::OutcomeUnknown { .. } => true,
            #[cfg(feature = "smtp")]
            Self::Smtp { error, .. } | Self::BothWays { smtp: error, .. } => !error.is_permanent(),
            Self::Invalid(_) | Self::Closed | Self::Refused { .. } | Self::Setup { .. } => false,
        }
    }
}

#[cfg(feature = "smtp")]
fn both_ways(kafka: &str, unknown: bool, smtp: &crate::mailer::Error) -> String {
    if unknown {
        format!("the mail may go out by Kafka all the same ({kafka}); straight by SMTP: {smtp}")
    } else {
        format!("{smtp}; before that Kafka did not take it ({kafka})")
    }
}
