//! What is known of the relay as a whole: up or down, how many sessions it takes, how fast it may be sent to.
//!
//! Owns the gate that all sessions pass before a mail. Knows nothing of single mails; opens no connection.

mod rate;
#[cfg(test)]
mod tests;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until, timeout_at},
};
use tracing::{debug, error, info, warn};

use self::rate::Rate;
use crate::delay::Delays;

/// First delay before a relay that is down is tried again.
const FIRST_PROBE: Duration = Duration::from_secs(1);
/// Mails in a row that are refused at MAIL before that is the relay's fault.
pub const MISCONFIGURED_AFTER: u32 = 20;
/// Time after which one more session is tried where the relay took no further one.
const FULL_FOR: Duration = Duration::from_secs(30);
/// A session that had a mail accepted this long ago still shows that the relay works.
const STILL_WORKING: Duration = Duration::from_secs(60);

/// Whether mails may be sent.
#[derive(Debug)]
enum Gate {
    Open,
    /// One probe may go at this time.
    Down(Instant),
    /// A probe is on its way.
    Probing,
}

#[derive(Debug)]
struct State {
    gate: Gate,
    /// Counts how often the gate was shut: what was begun before says nothing about the relay now.
    shut: u64,
    delays: Delays,
    /// Sessions open or being opened.
    open: usize,
    /// The most of them at once.
    limit: usize,
    limited_at: Instant,
    last_accepted: Option<Instant>,
    refused_at_mail: u32,
    rate: Rate,
}

/// What is known of the relay; shared by all workers.
#[derive(Debug)]
pub struct Relay {
    state: Mutex<State>,
    changed: Notify,
    accepted: AtomicU64,
    sessions: usize,
    reserved: usize,
}

impl Relay {
    /// A relay that is taken to be up, for `sessions` sessions of which `reserved` are for the high lane alone.
    ///
    /// `max_delay` bounds the delay between two probes of a relay that is down.
    pub fn new(sessions: usize, reserved: usize, max_delay: Duration) -> Self {
        let now = Instant::now();
        Self {
            state: Mutex::new(State {
                gate: Gate::Open,
                shut: 0,
                delays: Delays::new(FIRST_PROBE, 2.0, 0.1, max_delay),
                open: 0,
                limit: sessions,
                limited_at: now,
                last_accepted: None,
                refused_at_mail: 0,
                rate: Rate::new(now),
            }),
            changed: Notify::new(),
            accepted: AtomicU64::new(0),
            sessions,
            reserved,
        }
    }

    /// Waits until the relay is up, or until the caller is the one to probe it with a new session.
    pub async fn admit(self: &Arc<Self>) -> Pass {
        loop {
            let changed = self.changed.notified();
            let probe_at = {
                let mut state = self.lock();
                match state.gate {
                    Gate::Open => return Pass { relay: Arc::clone(self), probe: false, shut: state.shut },
                    Gate::Down(at) if Instant::now() >= at => {
                        state.gate = Gate::Probing;
                        return Pass { relay: Arc::clone(self), probe: true, shut: state.shut };
                    }
                    Gate::Down(at) => Some(at),
                    Gate::Probing => None,
                }
            };
            match probe_at {
                Some(at) => _ = timeout_at(at, changed).await,
                None => changed.await,
            }
        }
    }

    /// A place for one more session, if the relay takes one more.
    pub fn try_session(self: &Arc<Self>) -> Option<SessionPlace> {
        let mut state = self.lock();
        self.recover(&mut state);
        (state.open < state.limit).then(|| {
            state.open += 1;
            SessionPlace(Arc::clone(self))
        })
    }

    /// Waits until [`Relay::try_session`] may give a place.
    pub async fn session_free(&self) {
        let changed = self.changed.notified();
        let retry_at = {
            let state = self.lock();
            if state.open < state.limit {
                return;
            }
            state.limited_at + FULL_FOR
        };
        // an elapsed deadline is the other way in which a place may have become free
        let _ = timeout_at(retry_at, changed).await;
    }

    /// Waits until the rate in force allows one more mail.
    pub async fn pace(&self) {
        let at = self.lock().rate.next(Instant::now());
        if let Some(at) = at {
            sleep_until(at).await;
        }
    }

    /// No new session got through. `full` says that the relay answered 421.
    pub fn session_failed(&self, pass: Pass, full: bool, why: &str) {
        {
            let mut state = self.lock();
            let now = Instant::now();
            // the session that failed still has its place
            let others = state.open.saturating_sub(1);
            let working = state.last_accepted.is_some_and(|at| now.duration_since(at) < STILL_WORKING);
            // where several are opened at once, 421 to one of them says nothing of the others: the last one decides
            if !pass.probe && others > 0 && (working || full) {
                if state.limit > others {
                    if state.limit == self.sessions {
                        warn!(full, why, "the relay takes no further session: going on with fewer");
                    }
                    debug!(sessions = others, "the most sessions from now on");
                    state.limit = others;
                    state.limited_at = now;
                }
                drop(state);
                self.changed.notify_waiters();
                return;
            }
        }
        self.down(pass, why);
    }

    /// The relay takes no mail at all: nothing is sent until a probe gets through.
    pub fn down(&self, mut pass: Pass, why: &str) {
        pass.probe = false;
        let mut state = self.lock();
        let delay = match state.gate {
            // others that fail at the same time say nothing new
            Gate::Down(_) => return,
            Gate::Open | Gate::Probing => state.delays.advance(),
        };
        if matches!(state.gate, Gate::Open) {
            error!(why, retry_in = ?delay, "the relay is down: sending pauses, no attempt is used up");
        } else {
            warn!(why, retry_in = ?delay, "the relay is still down");
        }
        state.gate = Gate::Down(Instant::now() + delay);
        state.shut += 1;
        // how many sessions it took before says nothing of how many it takes when it is back
        state.limit = self.sessions;
        drop(state);
        self.changed.notify_waiters();
    }

    /// The relay gave a mail an answer of its own, whatever it was: it is up, unless it went down after the mail began.
    pub fn answered(&self, mut pass: Pass) {
        pass.probe = false;
        let mut state = self.lock();
        if state.shut == pass.shut && !matches!(state.gate, Gate::Open) {
            state.gate = Gate::Open;
            state.delays.reset();
            drop(state);
            info!("the relay is up again");
            self.changed.notify_waiters();
        }
    }

    /// The relay has accepted a mail.
    pub fn accepted(&self) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        let mut state = self.lock();
        let now = Instant::now();
        state.last_accepted = Some(now);
        state.refused_at_mail = 0;
        state.rate.sent(now);
    }

    /// The relay has refused a mail at MAIL for good; true if it has refused so many in a row that it is its own fault.
    pub fn refused_at_mail(&self) -> bool {
        let mut state = self.lock();
        state.refused_at_mail = state.refused_at_mail.saturating_add(1);
        state.refused_at_mail >= MISCONFIGURED_AFTER
    }

    /// Whether the relay has refused so many mails in a row at MAIL that it is its own fault.
    pub fn is_misconfigured(&self) -> bool {
        self.lock().refused_at_mail >= MISCONFIGURED_AFTER
    }

    /// The relay asked for a slower pace.
    pub fn throttled(&self) {
        let now = Instant::now();
        if let Some(rate) = self.lock().rate.halve(now) {
            warn!(mails_per_second = rate, "the relay throttles: the rate is halved");
        }
    }

    /// Mails accepted since the start.
    pub fn count(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// The most mails of the normal and low lane at once: what the reserved sessions leave of those in use.
    pub fn others_limit(&self) -> usize {
        let limit = self.lock().limit;
        // fewer than eight sessions have none to reserve, unless so configured
        let reserved = if limit < self.sessions && limit < 8 { 0 } else { self.reserved };
        limit.saturating_sub(reserved).max(1)
    }

    /// One session more for each span without a further refusal.
    fn recover(&self, state: &mut State) {
        let now = Instant::now();
        while state.limit < self.sessions && now.duration_since(state.limited_at) >= FULL_FOR {
            state.limit += 1;
            state.limited_at += FULL_FOR;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // no method panics between two changes that belong together
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Leave to send one mail. A probe's pass that is dropped without a word lets the next probe go.
#[derive(Debug)]
pub struct Pass {
    relay: Arc<Relay>,
    probe: bool,
    shut: u64,
}

impl Pass {
    /// Whether a relay that is down is being tried: with a new session.
    pub fn is_probe(&self) -> bool {
        self.probe
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if self.probe {
            let mut state = self.relay.lock();
            if matches!(state.gate, Gate::Probing) {
                state.gate = Gate::Down(Instant::now());
                drop(state);
                self.relay.changed.notify_waiters();
            }
        }
    }
}

/// A place among the relay's sessions; free when dropped.
#[derive(Debug)]
pub struct SessionPlace(Arc<Relay>);

impl Drop for SessionPlace {
    fn drop(&mut self) {
        self.0.lock().open -= 1;
        self.0.changed.notify_waiters();
    }
}
