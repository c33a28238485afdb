//! The pace of sending: what the settings allow, and less while the relay throttles.
//!
//! Pure; the caller has the clock. Two rules hold at once. *Spacing*: mails go evenly, one interval after the other, and
//! only what 50 ms of delay have held up may go at once. *The window*: a mail may go only if fewer than the limit are on their
//! way or were answered within the last unit. So at most the limit begin in any span of that length, and of those that
//! take no longer than the unit the relay sees no more at any other moment of a mail either.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use crate::config::RateLimit;

/// Throttling never brings the rate below this many mails a second, or the limit, if that is lower.
const LEAST: f64 = 1.0;
/// Throttling replies within this span are one and the same signal.
const ONE_SIGNAL: Duration = Duration::from_secs(2);
/// Time between two steps back up.
const STEP: Duration = Duration::from_secs(10);
/// Share of the rate at which throttling began that each step adds.
const STEP_SHARE: f64 = 0.1;
/// Span over which the actual rate is measured.
const SPAN: Duration = Duration::from_secs(5);
/// What a mail comes late by this much the next ones may make up for: a timer is no more exact.
const SLACK: Duration = Duration::from_millis(50);
/// A share that is not used within this time lapses: its holder is held up by something else.
const LAPSE: Duration = Duration::from_secs(1);
/// Answers within this part of the window's length are kept as one.
const GRAIN: u32 = 1024;

#[derive(Debug)]
pub(super) struct Rate {
    window: Option<Window>,
    throttle: Option<Throttle>,
    /// When the next mail may go, by spacing.
    next: Instant,
    measured: Measured,
}

#[derive(Debug)]
struct Throttle {
    per_second: f64,
    /// The rate at which throttling began.
    peak: f64,
    /// When it was last halved or raised.
    changed: Instant,
    halved: Instant,
}

#[derive(Debug)]
struct Measured {
    since: Instant,
    count: u32,
    last: f64,
}

/// One mail's share of the rate; goes back by [`Rate::give_back`] or [`Rate::answered`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Share {
    number: u64,
    interval: Duration,
    taken: Instant,
}

impl Share {
    fn lapses(&self) -> Instant {
        self.taken + LAPSE
    }
}

impl Rate {
    pub(super) fn new(limit: Option<RateLimit>, now: Instant) -> Self {
        let measured = Measured { since: now, count: 0, last: 0.0 };
        Self { window: limit.map(Window::new), throttle: None, next: now, measured }
    }

    /// A mail was accepted.
    pub(super) fn sent(&mut self, now: Instant) {
        let elapsed = now.duration_since(self.measured.since);
        if elapsed >= SPAN {
            self.measured =
                Measured { since: now, count: 0, last: f64::from(self.measured.count) / elapsed.as_secs_f64() };
        }
        self.measured.count += 1;
    }

    /// Halves the rate; the new one, unless it was halved just now.
    pub(super) fn halve(&mut self, now: Instant) -> Option<f64> {
        let limit = self.limit();
        let current = match &self.throttle {
            Some(throttle) if now.duration_since(throttle.halved) < ONE_SIGNAL => return None,
            Some(throttle) => throttle.per_second,
            None => limit.map_or_else(|| self.current(now), |limit| limit.min(self.current(now))),
        };
        let least = limit.map_or(LEAST, |limit| limit.min(LEAST));
        let per_second = (current / 2.0).max(least);
        let peak = self.throttle.as_ref().map_or(current, |throttle| throttle.peak).max(least);
        self.throttle = Some(Throttle { per_second, peak, changed: now, halved: now });
        Some(per_second)
    }

    /// Mails a second that may go now; `None` where nothing limits them.
    pub(super) fn in_force(&mut self, now: Instant) -> Option<f64> {
        while let Some(throttle) = &mut self.throttle
            && now.duration_since(throttle.changed) >= STEP
        {
            throttle.changed += STEP;
            throttle.per_second += throttle.peak * STEP_SHARE;
            if throttle.per_second >= throttle.peak {
                self.throttle = None;
            }
        }
        let throttled = self.throttle.as_ref().map(|throttle| throttle.per_second);
        throttled.into_iter().chain(self.limit()).reduce(f64::min)
    }

    /// A share for one mail, or when to ask again; `None` where nothing limits.
    pub(super) fn take(&mut self, now: Instant) -> Option<Result<Share, Instant>> {
        let interval = Duration::from_secs_f64(1.0 / self.in_force(now)?);
        if self.next > now {
            return Some(Err(self.next));
        }
        let number = match &mut self.window {
            None => 0,
            Some(window) => match window.take(now) {
                Ok(number) => number,
                Err(at) => return Some(Err(at)),
            },
        };
        self.next = self.next.max(now.checked_sub(SLACK).unwrap_or(now)) + interval;
        Some(Ok(Share { number, interval, taken: now }))
    }

    /// When one more mail may go, as things stand.
    pub(super) fn ready_at(&mut self, now: Instant) -> Instant {
        match self.take(now) {
            None => now,
            Some(Err(at)) => at,
            Some(Ok(share)) => {
                self.give_back(share, now);
                now
            }
        }
    }

    /// A mail is sent with this share from now on; false if the share has lapsed.
    pub(super) fn begin(&mut self, share: Share, now: Instant) -> bool {
        if now >= share.lapses() {
            return false;
        }
        let flying = self.window.iter_mut().flat_map(|window| &mut window.flying);
        flying.filter(|flight| flight.number == share.number).for_each(|flight| flight.start = Some(now));
        true
    }

    /// No mail was sent with this share.
    pub(super) fn give_back(&mut self, share: Share, now: Instant) {
        if now < share.lapses() {
            // or its turn is over
            self.next = self.next.checked_sub(share.interval).unwrap_or(self.next);
        }
        if let Some(window) = &mut self.window {
            window.flying.retain(|flight| flight.number != share.number);
        }
    }

    /// The mail of this share was answered, or given up.
    pub(super) fn answered(&mut self, share: Share, now: Instant) {
        if let Some(window) = &mut self.window {
            window.answered(share.number, now);
        }
    }

    fn limit(&self) -> Option<f64> {
        self.window.as_ref().map(|window| window.limit.per_second())
    }

    fn current(&self, now: Instant) -> f64 {
        let elapsed = now.duration_since(self.measured.since).as_secs_f64();
        let running = if elapsed > 0.1 { f64::from(self.measured.count) / elapsed } else { 0.0 };
        running.max(self.measured.last)
    }
}

/// The mails that count for the limit: those on their way, and those answered within the last unit.
#[derive(Debug)]
struct Window {
    limit: RateLimit,
    next_number: u64,
    /// As many as there are sessions.
    flying: Vec<Flight>,
    /// First and last time of each group, and how many there are; oldest first.
    answered: VecDeque<(Instant, Instant, u32)>,
}

/// A share that is out.
#[derive(Debug)]
struct Flight {
    number: u64,
    /// When it counts no longer if it is not used by then.
    lapses: Instant,
    /// When its mail began.
    start: Option<Instant>,
}

impl Window {
    fn new(limit: RateLimit) -> Self {
        Self { limit, next_number: 0, flying: Vec::new(), answered: VecDeque::new() }
    }

    /// A mail's number, or the earliest time at which another one may go.
    fn take(&mut self, now: Instant) -> Result<u64, Instant> {
        let per = self.limit.per;
        while self.answered.front().is_some_and(|(_, last, _)| *last + per <= now) {
            self.answered.pop_front();
        }
        let answered: usize = self.answered.iter().map(|(_, _, count)| *count as usize).sum();
        // one that takes longer than the unit counts as answered then, or a slow relay would stop itself
        let flying = self.flying.iter().map(|flight| flight.start.map_or(flight.lapses, |start| start + 2 * per));
        let flying = flying.filter(|end| *end > now);
        if answered + flying.clone().count() < self.limit.count as usize {
            self.next_number += 1;
            self.flying.push(Flight { number: self.next_number, lapses: now + LAPSE, start: None });
            return Ok(self.next_number);
        }
        let first = self.answered.front().map(|(_, last, _)| *last + per);
        Err(first.into_iter().chain(flying).min().expect("the limit is at least one, so one of them counts"))
    }

    fn answered(&mut self, number: u64, now: Instant) {
        let Some(at) = self.flying.iter().position(|flight| flight.number == number) else { return };
        let time = self.flying.swap_remove(at).start.map_or(now, |start| now.min(start + self.limit.per));
        let grain = self.limit.per / GRAIN;
        match self.answered.back_mut() {
            // kept until the last of them, so that none is forgotten too early
            Some((first, last, count)) if time < *first + grain => (*last, *count) = (time.max(*last), *count + 1),
            Some((_, last, _)) => {
                let time = time.max(*last);
                self.answered.push_back((time, time, 1));
            }
            None => self.answered.push_back((time, time, 1)),
        }
    }
}

#[cfg(test)]
mod tests;
