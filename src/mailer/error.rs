//! What became of a mail that was sent directly, for all of its recipients or for each.

use std::{fmt, time::Duration};

use crate::{
    compose::{ComposeError, MakeError},
    mask,
    smtp::{Class, Reply},
    template::RenderError,
};

/// A mail that the relay has taken over for all of its recipients.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Delivered {
    /// Value of its Message-ID field, angle brackets included.
    pub message_id: String,
    /// Envelope recipients that were served.
    pub recipients: usize,
    /// What the relay said to the mail, or to its last part where it took fewer recipients at a time.
    pub reply: Reply,
}

/// Why a mail is not with its recipients, or not with all of them. The text shows no address and no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The mailer is closed.
    #[error("the mailer is closed: the mail was not sent")]
    Closed,
    /// `message.expires_at` has passed.
    #[error("message.expires_at has passed: the mail was not sent")]
    Expired,
    /// Its template cannot be rendered.
    #[error("the mail was not sent: {0}")]
    Render(RenderError),
    /// What was rendered may not go into a mail.
    #[error("the mail was not sent: {0}")]
    Compose(ComposeError),
    /// Rendering or composing panicked.
    #[error("the mail was not sent: postlane failed on it, which is a defect; please report it")]
    Defect,
    /// The same became of it for all recipients.
    #[error("{0}")]
    Failed(Failed),
    /// Not the same became of it for all recipients; sending it to all again would serve some twice.
    #[error("{}", partly(.0))]
    Partly(Vec<(usize, Result<Reply, Failed>)>),
}

/// Why a recipient does not have the mail, as far as is known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failed {
    /// Refused for good.
    #[error("the relay refused the mail: {}", shown(.0))]
    Refused(Reply),
    /// Larger than what the relay takes.
    #[error("the mail is larger than the {limit} bytes that the relay takes")]
    TooLarge {
        /// The relay's limit in bytes.
        limit: u64,
    },
    /// Refused for now.
    #[error("the relay refused the mail for now: {}", shown(.0))]
    Deferred(Reply),
    /// The relay is down, or lets no session in: nothing was sent.
    #[error("the mail was not sent, the relay is down: {why}{}", again(.retry_in.as_ref()))]
    RelayDown {
        /// What was seen last.
        why: String,
        /// How long nothing is tried with it, as far as is known; the mail itself is not sent again by the mailer.
        retry_in: Option<Duration>,
    },
    /// The session was lost before the mail was handed over.
    #[error("the mail was not sent: the session with the relay broke off: {0}")]
    BrokenOff(String),
    /// Its turn did not come, or it was not handed over whole, within the time that the caller gave.
    #[error("the mail was not sent: {0}")]
    TimedOut(&'static str),
    /// It was handed over and no readable reply came back: the relay may have it.
    #[error("the relay may have the mail or not: {0}")]
    OutcomeUnknown(String),
}

fn shown(reply: &Reply) -> String {
    mask::text(&reply.to_string())
}

fn again(retry_in: Option<&Duration>) -> String {
    retry_in.map(|delay| format!(" (worth another try in {delay:.1?})")).unwrap_or_default()
}

/// The recipients by their index, for an address must not stand in a log.
fn partly(outcomes: &[(usize, Result<Reply, Failed>)]) -> String {
    let served = outcomes.iter().filter(|(_, outcome)| outcome.is_ok()).count();
    let mut text = format!("{served} of {} recipients have the mail", outcomes.len());
    for (index, failed) in outcomes.iter().filter_map(|(index, outcome)| Some((index, outcome.as_ref().err()?))) {
        fmt::Write::write_fmt(&mut text, format_args!("; recipient {index}: {failed}")).expect("a String takes it");
    }
    text
}

impl Error {
    /// Whether sending the same mail again cannot help.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Closed => false,
            Self::Expired | Self::Render(_) | Self::Compose(_) | Self::Defect => true,
            Self::Failed(failed) => failed.is_permanent(),
            Self::Partly(outcomes) => {
                outcomes.iter().filter_map(|(_, outcome)| outcome.as_ref().err()).all(Failed::is_permanent)
            }
        }
    }

    /// Whether some recipient has the mail or may have it.
    pub fn may_have_arrived(&self) -> bool {
        let may = |failed: &Failed| matches!(failed, Failed::OutcomeUnknown(_));
        match self {
            Self::Closed | Self::Expired | Self::Render(_) | Self::Compose(_) | Self::Defect => false,
            Self::Failed(failed) => may(failed),
            Self::Partly(outcomes) => outcomes.iter().any(|(_, outcome)| outcome.as_ref().err().is_none_or(may)),
        }
    }

    /// Indices (in to, cc, bcc order, from 0) of the recipients that have the mail although others have not.
    pub fn accepted(&self) -> impl Iterator<Item = usize> + '_ {
        let outcomes = if let Self::Partly(outcomes) = self { outcomes.as_slice() } else { &[] };
        outcomes.iter().filter(|(_, outcome)| outcome.is_ok()).map(|(index, _)| *index)
    }

    /// From what became of each recipient; at least one was not served.
    fn of(outcomes: Vec<(usize, Result<Reply, Failed>)>) -> Self {
        let kind = |outcome: &Result<Reply, Failed>| outcome.as_ref().err().map(std::mem::discriminant);
        match outcomes.first() {
            Some((_, Err(failed))) if outcomes.iter().all(|(_, other)| kind(other) == kind(&Err(failed.clone()))) => {
                Self::Failed(failed.clone())
            }
            _ => Self::Partly(outcomes),
        }
    }
}

impl From<MakeError> for Error {
    fn from(error: MakeError) -> Self {
        match error {
            MakeError::Render(error) => Self::Render(error),
            MakeError::Compose(error) => Self::Compose(error),
            MakeError::Panicked(_) => Self::Defect,
        }
    }
}

impl Failed {
    /// Whether sending the same mail again cannot help.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Refused(_) | Self::TooLarge { .. } => true,
            Self::Deferred(_)
            | Self::RelayDown { .. }
            | Self::BrokenOff(_)
            | Self::TimedOut(_)
            | Self::OutcomeUnknown(_) => false,
        }
    }

    /// What a class means for somebody who tries once.
    fn of(class: Class) -> Result<Reply, Self> {
        let lost = |reply: Option<Reply>, detail: String| match reply {
            Some(reply) => Self::BrokenOff(mask::text(&reply.to_string())),
            None => Self::BrokenOff(mask::text(&detail)),
        };
        match class {
            Class::Sent(reply) => Ok(reply),
            Class::RelayDown(reply) => Err(Self::RelayDown { why: shown(&reply), retry_in: None }),
            Class::Stale { reply, detail } | Class::BrokenOff { reply, detail } => Err(lost(reply, detail)),
            Class::OutcomeUnknown { detail } => Err(Self::OutcomeUnknown(mask::text(&detail))),
            Class::Deferred(reply) | Class::Throttled(reply) | Class::Split(reply) => Err(Self::Deferred(reply)),
            Class::Refused { reply, .. } => Err(Self::Refused(reply)),
            Class::TooLarge { limit } => Err(Self::TooLarge { limit }),
        }
    }
}

/// What an attempt gave: a class for those recipients that were served or refused, and for the others one reason.
pub(super) fn conclude(
    message_id: String,
    classes: Vec<(usize, Class)>,
    rest: &[usize],
    why: Option<Failed>,
) -> Result<Delivered, Error> {
    let mut outcomes: Vec<_> = classes.into_iter().map(|(index, class)| (index, Failed::of(class))).collect();
    let why = why.unwrap_or(Failed::TimedOut("no transaction was made for it"));
    if outcomes.is_empty() && rest.is_empty() {
        return Err(Error::Failed(why));
    }
    outcomes.extend(rest.iter().map(|index| (*index, Err(why.clone()))));
    outcomes.sort_by_key(|(index, _)| *index);
    let recipients = outcomes.len();
    let last = outcomes.iter().rev().find_map(|(_, outcome)| outcome.as_ref().ok().cloned());
    match last {
        Some(reply) if outcomes.iter().all(|(_, outcome)| outcome.is_ok()) => {
            Ok(Delivered { message_id, recipients, reply })
        }
        _ => Err(Error::of(outcomes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent() -> Class {
        Class::Sent(Reply::new(250, "2.0.0 queued"))
    }

    fn refused() -> Class {
        Class::Refused { reply: Reply::new(550, "5.1.1 <ann@example.com> is nobody"), at_mail: false }
    }

    fn of(classes: impl IntoIterator<Item = Class>) -> Result<Delivered, Error> {
        conclude("<id@example.com>".to_owned(), classes.into_iter().enumerate().collect(), &[], None)
    }

    #[test]
    fn served_is_only_who_was_accepted() {
        let delivered = of([sent(), sent()]).expect("both");
        assert_eq!((delivered.recipients, delivered.reply.code), (2, 250));
        let error = of([refused(), refused()]).expect_err("neither");
        assert!(matches!(&error, Error::Failed(Failed::Refused(reply)) if reply.code == 550));
        assert!(error.is_permanent() && !error.may_have_arrived());
        let error = of([sent(), refused(), Class::Deferred(Reply::new(450, "4.2.0 later"))]).expect_err("one of them");
        assert_eq!(error.accepted().collect::<Vec<_>>(), [0]);
        assert!(!error.is_permanent() && error.may_have_arrived());
        let text = error.to_string();
        assert!(text.starts_with("1 of 3 recipients have the mail; recipient 1: the relay refused"), "{text}");
        assert!(text.contains("; recipient 2: ") && !text.contains("ann@"), "{text}");
        assert!(!format!("{error:?}").contains("ann@"), "{error:?}");
    }

    #[test]
    fn whoever_has_no_class_was_not_served() {
        let why = Failed::OutcomeUnknown("the time is over".to_owned());
        let error = conclude(String::new(), vec![(0, sent())], &[1], Some(why)).expect_err("one is unknown");
        assert!(error.may_have_arrived());
        assert!(matches!(&error, Error::Partly(outcomes) if outcomes[1].0 == 1 && outcomes[1].1.is_err()));
        let error = conclude(String::new(), vec![], &[0], None).expect_err("none is served");
        assert!(!error.may_have_arrived() && !error.is_permanent());
    }

    #[test]
    fn a_doubt_is_never_permanent_and_may_have_arrived() {
        let error = of([Class::OutcomeUnknown { detail: "no reply".to_owned() }]).expect_err("unknown");
        assert!(error.may_have_arrived() && !error.is_permanent());
    }
}
