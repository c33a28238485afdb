//! Whether Kafka is asked at all: a dead one must not cost every caller `PUBLISH_TIMEOUT`.
//!
//! Pure: the time comes in. After [`FAILURES`] publishes without an answer, and none to another one while they waited, the
//! circuit is open, and nobody waits for Kafka. Probes that are no mails look whether it is back; then one mail at a time is tried, until one was answered.

use std::time::Duration;

use tokio::time::Instant;

use super::publisher::Trouble;
use crate::delay::Delays;

/// Publishes without an answer that open the circuit.
pub(super) const FAILURES: u32 = 3;
/// The first delay before a probe, and the longest: it costs nobody anything.
const PROBES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(2));

#[derive(Debug)]
pub(super) struct Circuit {
    state: State,
    /// Counts how often the state changed: what was begun before says nothing about Kafka now, unless it is an answer.
    epoch: u64,
    /// When Kafka answered last.
    answered: Option<Instant>,
    delays: Delays,
}

#[derive(Debug)]
enum State {
    /// Mails go to Kafka. So many in a row had no answer.
    Closed(u32),
    /// None does; a probe is due at this time.
    Open(Outage, Instant),
    /// A probe got through: one mail at a time does; whether one is on its way.
    Trying(Outage, bool),
}

/// Why nobody waits for Kafka.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outage {
    /// Since when.
    pub(super) since: Instant,
    /// What was seen last.
    pub(super) trouble: Trouble,
}

/// That nobody waits for Kafka from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opened {
    /// It has just gone.
    First,
    /// It was back for a probe only.
    Again,
}

/// Leave to ask Kafka for one mail; it must come back by one of the methods that take it.
#[derive(Debug)]
#[must_use]
pub(super) struct Leave {
    epoch: u64,
    begun: Instant,
    trial: bool,
}

impl Circuit {
    pub(super) fn new() -> Self {
        Self { state: State::Closed(0), epoch: 0, answered: None, delays: Delays::new(PROBES.0, 2.0, 0.1, PROBES.1) }
    }

    /// Whether Kafka is to be asked for one more mail.
    pub(super) fn admit(&mut self, now: Instant) -> Result<Leave, Outage> {
        let trial = match &mut self.state {
            State::Closed(_) => false,
            State::Trying(_, busy @ false) => {
                *busy = true;
                true
            }
            State::Trying(outage, true) | State::Open(outage, _) => return Err(outage.clone()),
        };
        Ok(Leave { epoch: self.epoch, begun: now, trial })
    }

    /// Kafka has answered, whatever it said; how long nobody waited for it, if it is asked again from now on.
    pub(super) fn answered(&mut self, _: Leave, now: Instant) -> Option<Duration> {
        self.delays.reset();
        self.answered = Some(now);
        let was = std::mem::replace(&mut self.state, State::Closed(0));
        match was {
            State::Closed(_) => None,
            State::Open(outage, _) | State::Trying(outage, _) => {
                self.epoch += 1;
                Some(now.duration_since(outage.since))
            }
        }
    }

    /// Kafka has not answered in time; whether nobody waits for it from now on, for the first time of this outage or again.
    #[expect(clippy::needless_pass_by_value, reason = "a leave is given back once")]
    pub(super) fn failed(&mut self, leave: Leave, trouble: Trouble, now: Instant) -> Option<Opened> {
        // whoever has answered others since is not dead: one leader of several may be, or this mail waited too long
        if leave.epoch != self.epoch || self.answered.is_some_and(|answered| answered > leave.begun) {
            return None;
        }
        let (since, opened) = match &mut self.state {
            State::Closed(failures) => {
                *failures += 1;
                if *failures < FAILURES {
                    return None;
                }
                (now, Opened::First)
            }
            State::Trying(outage, _) => (outage.since, Opened::Again),
            State::Open(..) => return None,
        };
        self.state = State::Open(Outage { since, trouble }, now + self.delays.advance());
        self.epoch += 1;
        Some(opened)
    }

    /// Nothing came of it, for a reason that is not Kafka's.
    #[expect(clippy::needless_pass_by_value, reason = "a leave is given back once")]
    pub(super) fn released(&mut self, leave: Leave) {
        if let State::Trying(_, busy) = &mut self.state
            && leave.trial
            && leave.epoch == self.epoch
        {
            *busy = false;
        }
    }

    /// When a probe is due, if one is.
    pub(super) fn probe_at(&self) -> Option<Instant> {
        match &self.state {
            State::Open(_, at) => Some(*at),
            State::Closed(_) | State::Trying(..) => None,
        }
    }

    /// What came of a probe.
    pub(super) fn probed(&mut self, outcome: Result<(), Trouble>, now: Instant) {
        let State::Open(outage, at) = &mut self.state else { return };
        match outcome {
            Ok(()) => {
                self.state = State::Trying(outage.clone(), false);
                self.epoch += 1;
            }
            Err(trouble) => {
                outage.trouble = trouble;
                *at = now + self.delays.advance();
            }
        }
    }

    /// Whether mails go to Kafka without being tried one at a time.
    pub(super) fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed(_))
    }
}

#[cfg(test)]
mod tests;
