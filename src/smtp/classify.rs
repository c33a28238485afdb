//! What an [`Attempt`] means for each recipient.
//!
//! Pure, and the one place that reads reply codes. Says what kind of outcome it was; whether there is a retry, a pause
//! or a dead letter, and whether an attempt was used, is the policy's to say.

use std::collections::BTreeSet;

use super::{Attempt, Data, Reply};
use crate::config::ReplyPattern;

/// What kind of outcome a recipient has had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Class {
    /// 2xx to this recipient's RCPT and 2xx to the final dot: the server has taken the mail over.
    Sent(Reply),
    /// 530, 534, 535 or 538: the relay does not let us in, whoever the mail is for.
    RelayDown(Reply),
    /// The session was lost before the final dot, and it had been used before: it may just have been old.
    Stale {
        /// What the server said last, if anything.
        reply: Option<Reply>,
        /// What happened, for a log.
        detail: String,
    },
    /// The session was lost before the final dot on its first mail.
    BrokenOff {
        /// What the server said last, if anything.
        reply: Option<Reply>,
        /// What happened, for a log.
        detail: String,
    },
    /// The final dot was handed over and no readable reply came back.
    OutcomeUnknown {
        /// What happened, for a log.
        detail: String,
    },
    /// Refused for now.
    Deferred(Reply),
    /// The server asks to go slower.
    Throttled(Reply),
    /// Too many recipients for one transaction, others of which were accepted: this one goes into another at once.
    Split(Reply),
    /// Refused for good.
    Refused {
        /// The refusal.
        reply: Reply,
        /// Whether it was MAIL that was refused: many such in a row are the relay's fault.
        at_mail: bool,
    },
    /// Larger than what the server takes.
    TooLarge {
        /// The server's limit in bytes.
        limit: u64,
    },
}

impl Class {
    /// Whether a relay that works has said so.
    pub fn is_an_answer(&self) -> bool {
        match self {
            Self::Sent(_) | Self::Deferred(_) | Self::Throttled(_) | Self::Split(_) | Self::TooLarge { .. } => true,
            Self::Refused { at_mail, .. } => !at_mail,
            Self::RelayDown(_) | Self::Stale { .. } | Self::BrokenOff { .. } | Self::OutcomeUnknown { .. } => false,
        }
    }
}

/// The classes of a mail's recipients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// One class for all recipients.
    All(Class),
    /// A class for each recipient, in the order of the envelope.
    Each(Vec<Class>),
}

/// Reads an attempt; `throttle` holds the replies that mean "slower" beside those that always do.
pub fn classify(attempt: &Attempt, throttle: &BTreeSet<ReplyPattern>) -> Verdict {
    match attempt {
        Attempt::TooLarge { limit } => Verdict::All(Class::TooLarge { limit: *limit }),
        Attempt::Lost { fresh, reply, detail } => Verdict::All(lost(*fresh, reply.as_ref(), detail)),
        Attempt::MailRefused(reply) => Verdict::All(refusal(reply, Command::Mail, throttle)),
        Attempt::Recipients { replies, data } => {
            let any_accepted = replies.iter().any(Reply::is_positive);
            let class = |reply: &Reply| {
                if reply.is_positive() {
                    accepted(data, throttle)
                } else if is_too_many_recipients(reply) {
                    if any_accepted { Class::Split(reply.clone()) } else { Class::Deferred(reply.clone()) }
                } else {
                    refusal(reply, Command::Other, throttle)
                }
            };
            Verdict::Each(replies.iter().map(class).collect())
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Command {
    Mail,
    Other,
}

fn lost(fresh: bool, reply: Option<&Reply>, detail: &str) -> Class {
    let (reply, detail) = (reply.cloned(), detail.to_owned());
    match reply {
        Some(reply) if is_locked_out(&reply) => Class::RelayDown(reply),
        reply if fresh => Class::BrokenOff { reply, detail },
        reply => Class::Stale { reply, detail },
    }
}

fn accepted(data: &Data, throttle: &BTreeSet<ReplyPattern>) -> Class {
    match data {
        Data::Dot(reply) if reply.is_positive() => Class::Sent(reply.clone()),
        Data::Dot(reply) | Data::Refused(reply) => refusal(reply, Command::Other, throttle),
        Data::Unknown { detail } => Class::OutcomeUnknown { detail: detail.clone() },
        Data::NotAsked => Class::BrokenOff { reply: None, detail: "no message was sent".to_owned() },
    }
}

fn refusal(reply: &Reply, command: Command, throttle: &BTreeSet<ReplyPattern>) -> Class {
    let at_mail = command == Command::Mail;
    let reply = reply.clone();
    if is_locked_out(&reply) {
        Class::RelayDown(reply)
    } else if is_throttle(&reply) || (at_mail && reply.is_transient()) || throttle.iter().any(|p| reply.matches(p)) {
        Class::Throttled(reply)
    } else if reply.is_transient() {
        Class::Deferred(reply)
    } else {
        Class::Refused { reply, at_mail }
    }
}

/// Authentication is required, too weak or refused (RFC 4954 6).
fn is_locked_out(reply: &Reply) -> bool {
    matches!(reply.code, 530 | 534 | 535 | 538)
}

/// Replies that speak of the moment and not of the mail: 432 and 454 (RFC 4954 6), and a full system.
fn is_throttle(reply: &Reply) -> bool {
    matches!((reply.code, reply.enhanced), (432 | 454, _) | (452, Some((_, 3, 1))))
}

/// RFC 5321 4.5.3.1.10: a 552 here is a 452 of old.
fn is_too_many_recipients(reply: &Reply) -> bool {
    matches!((reply.code, reply.enhanced), (452 | 552, Some((_, 5, 3))))
}

#[cfg(test)]
mod tests;
