//! The retry policy: from what was seen of a mail to what follows for it.
//!
//! Pure: the SMTP adapter says what it saw ([`Class`]), time and the count of accepted mails come in as arguments, and
//! a [`Decision`] comes out. Does not wait, send or settle.

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, Utc};
use tokio::time::Instant;

use crate::{
    config,
    delay::Delays,
    event::Message,
    kafka::dead_letter::Reason,
    smtp::{Class, Reply},
};

/// How long a mail may be throttled, while others are accepted, before that costs it attempts.
const THROTTLED_FOR_FREE: Duration = Duration::from_secs(3600);

/// What became of one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Fate {
    /// No outcome yet.
    Open,
    /// Accepted, and the message with it.
    Sent,
    /// It will not be sent to this one; the reply that said so.
    Failed(Reason, Option<Reply>),
}

/// What follows for a mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// All recipients are served: settle it.
    Sent,
    /// It ends here for at least one recipient.
    DeadLetter(Ending),
    /// It is tried again after this delay.
    Wait(Duration),
    /// Refused at MAIL for good: the mail's fault or the relay's, which the next mails tell.
    Suspect,
    /// The relay's fault: the mail goes back to its lane.
    RelayDown,
    /// Nothing came of the attempt: the mail is the next of its lane.
    AtOnce,
}

/// Why a mail ends as a dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// The reason of the failed recipients; where they differ, the one that a redrive is most likely to heal.
    pub reason: Reason,
    /// The failed recipients, where others were served.
    pub recipients: Option<Vec<usize>>,
    /// The last reply that a failed recipient got.
    pub reply: Option<Reply>,
}

/// What the process knows at the moment of a decision.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// For delays and spans.
    pub instant: Instant,
    /// For `expires_at`.
    pub time: DateTime<Utc>,
    /// Mails that the relay has accepted since the start.
    pub accepted: u64,
}

/// What one mail has behind it.
#[derive(Debug)]
pub struct Attempts {
    used: u32,
    allowed: u32,
    expires_at: Option<DateTime<Utc>>,
    delays: Delays,
    fates: BTreeMap<usize, Fate>,
    accepted: Option<Reply>,
    refusal: Option<Reply>,
    /// An attempt ended without an answer: the relay may have the mail.
    unknown: bool,
    /// The session broke on this mail; the count of accepted mails then.
    broken_off: Option<u64>,
    /// The relay locked itself on this mail; the count of accepted mails then.
    locked_out: Option<u64>,
    /// Throttled since then, without another outcome; the count of accepted mails then.
    throttled: Option<(Instant, u64)>,
}

impl Attempts {
    /// A mail that was not tried yet; `recipients` are the indices to be served.
    pub fn new(message: &Message, recipients: impl IntoIterator<Item = usize>, settings: &config::Retry) -> Self {
        let allowed = message.max_retries.unwrap_or(settings.max_attempts).clamp(1, settings.max_attempts_limit);
        Self {
            // at least one attempt is made
            used: message.retry_count.min(allowed - 1),
            allowed,
            expires_at: message.expires_at,
            delays: Delays::new(settings.initial_delay, settings.multiplier, settings.jitter, settings.max_delay),
            fates: recipients.into_iter().map(|index| (index, Fate::Open)).collect(),
            accepted: None,
            refusal: None,
            unknown: false,
            broken_off: None,
            locked_out: None,
            throttled: None,
        }
    }

    /// Attempts used up so far, those of others included.
    pub fn used(&self) -> u32 {
        self.used
    }

    /// Recipients without an outcome, in ascending order.
    pub fn open(&self) -> impl Iterator<Item = usize> + '_ {
        self.fates.iter().filter(|(_, fate)| **fate == Fate::Open).map(|(index, _)| *index)
    }

    /// The reply to the final dot of the last transaction that was accepted.
    pub fn accepted(&self) -> Option<&Reply> {
        self.accepted.as_ref()
    }

    /// The last reply that refused or deferred this mail, if the last attempt had one.
    pub fn refusal(&self) -> Option<&Reply> {
        self.refusal.as_ref()
    }

    /// Whether the relay has locked itself on this mail.
    pub fn was_locked_out(&self) -> bool {
        self.locked_out.is_some()
    }

    /// Whether the relay has locked itself on this mail before, and accepted others since: it means this mail.
    pub fn is_locked_out_alone(&self, now: Now) -> bool {
        self.locked_out.is_some_and(|accepted| now.accepted > accepted)
    }

    /// Before an attempt: `None` if it may be made.
    pub fn begin(&mut self, now: Now) -> Option<Decision> {
        if self.expires_at.is_some_and(|expiry| now.time >= expiry) {
            return Some(self.end(Reason::Expired));
        }
        if self.broken_off.take().is_some_and(|accepted| now.accepted > accepted) {
            self.used += 1;
            if self.used >= self.allowed {
                return Some(self.end(self.exhausted()));
            }
        }
        None
    }

    /// After an attempt: the class of each recipient that took part in it.
    pub fn conclude(&mut self, classes: Vec<(usize, Class)>, now: Now) -> Decision {
        let mut seen = Seen::default();
        for (index, class) in classes {
            self.note(index, class, &mut seen, now);
        }
        if !seen.throttled {
            self.throttled = None;
        }
        if !seen.locked_out {
            self.locked_out = None;
        }
        if self.open().next().is_none() {
            self.used += 1;
            return self.finish();
        }
        if seen.relay_down && !seen.used {
            return Decision::RelayDown;
        }
        if seen.suspect {
            return Decision::Suspect;
        }
        self.put_off(&seen, now)
    }

    /// There is somebody to be tried again: counts the attempt where it has used one up, and says when.
    fn put_off(&mut self, seen: &Seen, now: Now) -> Decision {
        if seen.used || (seen.throttled && self.throttled_for_long(now)) {
            self.used += 1;
            if self.used >= self.allowed {
                return self.end(self.exhausted());
            }
        }
        let delay = self.delays.advance();
        let next = chrono::Duration::from_std(delay).ok().and_then(|delay| now.time.checked_add_signed(delay));
        if self.expires_at.is_some_and(|expiry| next.is_none_or(|next| next >= expiry)) {
            return self.end(Reason::Expired);
        }
        Decision::Wait(delay)
    }

    /// After an attempt that ended early, because no session could be had for the rest of the recipients.
    pub fn interrupt(&mut self, classes: Vec<(usize, Class)>, now: Now) -> Decision {
        let mut seen = Seen::default();
        for (index, class) in classes {
            self.note(index, class, &mut seen, now);
        }
        if self.open().next().is_none() {
            self.used += 1;
            return self.finish();
        }
        // what was seen of those who are tried again counts as ever
        if seen.used || seen.throttled { self.put_off(&seen, now) } else { Decision::AtOnce }
    }

    /// A suspect of [`Decision::Suspect`] was the mail's fault: it is refused.
    pub fn refused(&mut self) -> Decision {
        self.used += 1;
        self.end(Reason::Rejected)
    }

    fn note(&mut self, index: usize, class: Class, seen: &mut Seen, now: Now) {
        let fate = self.fates.entry(index).or_insert(Fate::Open);
        match class {
            Class::Sent(reply) => {
                *fate = Fate::Sent;
                self.accepted = Some(reply);
            }
            Class::Refused { reply, at_mail: false } => {
                *fate = Fate::Failed(Reason::Rejected, Some(reply));
            }
            Class::Refused { reply, at_mail: true } => {
                seen.suspect = true;
                self.refusal = Some(reply);
            }
            Class::TooLarge { .. } => *fate = Fate::Failed(Reason::TooLarge, None),
            Class::RelayDown(reply) => {
                seen.locked_out = true;
                // where others were accepted since, it is this mail that the relay means
                match self.locked_out.replace(now.accepted) {
                    Some(accepted) if now.accepted > accepted => seen.used = true,
                    _ => seen.relay_down = true,
                }
                self.refusal = Some(reply);
            }
            Class::Deferred(reply) | Class::Split(reply) => {
                seen.used = true;
                self.refusal = Some(reply);
            }
            Class::OutcomeUnknown { .. } => {
                seen.used = true;
                self.unknown = true;
                self.refusal = None;
            }
            Class::Throttled(reply) => {
                seen.throttled = true;
                self.throttled.get_or_insert((now.instant, now.accepted));
                self.refusal = Some(reply);
            }
            Class::Stale { .. } | Class::BrokenOff { .. } => {
                self.broken_off = Some(now.accepted);
                self.refusal = None;
            }
        }
    }

    fn throttled_for_long(&self, now: Now) -> bool {
        self.throttled.is_some_and(|(since, accepted)| {
            now.instant.duration_since(since) >= THROTTLED_FOR_FREE && now.accepted > accepted
        })
    }

    fn exhausted(&self) -> Reason {
        if self.unknown { Reason::OutcomeUnknown } else { Reason::RetriesExhausted }
    }

    /// Ends all that is open for this reason.
    fn end(&mut self, reason: Reason) -> Decision {
        for fate in self.fates.values_mut().filter(|fate| **fate == Fate::Open) {
            *fate = Fate::Failed(reason, self.refusal.clone());
        }
        self.finish()
    }

    /// Every recipient has an outcome.
    fn finish(&self) -> Decision {
        let failed: Vec<(usize, Reason, &Option<Reply>)> = self
            .fates
            .iter()
            .filter_map(|(index, fate)| match fate {
                Fate::Failed(reason, reply) => Some((*index, *reason, reply)),
                Fate::Open | Fate::Sent => None,
            })
            .collect();
        let Some((_, reason, reply)) = failed.iter().min_by_key(|(_, reason, _)| hope(*reason)) else {
            return Decision::Sent;
        };
        let partly = failed.len() < self.fates.len();
        Decision::DeadLetter(Ending {
            reason: *reason,
            recipients: partly.then(|| failed.iter().map(|(index, ..)| *index).collect()),
            reply: (*reply).clone(),
        })
    }
}

/// Where recipients failed for different reasons: the lower, the likelier a redrive heals it.
fn hope(reason: Reason) -> u8 {
    match reason {
        Reason::OutcomeUnknown => 0,
        Reason::RetriesExhausted => 1,
        Reason::Expired => 2,
        Reason::Rejected => 3,
        _ => 4,
    }
}

/// What the recipients of one attempt have in common.
#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "each may have been seen beside each other")]
struct Seen {
    used: bool,
    throttled: bool,
    relay_down: bool,
    locked_out: bool,
    suspect: bool,
}
