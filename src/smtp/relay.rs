//! What is known of the relay as a whole: up or down, how many sessions it takes, how fast it may be sent to.
//!
//! Owns the gate that all sessions pass before a mail. Knows nothing of single mails; opens no connection.

mod pace;
mod pass;
mod rate;
mod report;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};
use tracing::{debug, error, info, warn};

use self::rate::Rate;
pub use self::{
    pace::Permit,
    pass::{Closed, Pass, SessionPlace},
    report::{GateReport, Report},
};
use crate::{config::RateLimit, delay::Delays};

/// First delay before a relay that is down is tried again.
const FIRST_PROBE: Duration = Duration::from_secs(1);
/// Mails in a row that are refused at MAIL before that is the relay's fault.
pub const MISCONFIGURED_AFTER: u32 = 20;
/// Time after which one more session is tried where the relay took no further one.
const FULL_FOR: Duration = Duration::from_secs(30);
/// Longest delay between two probes of a relay that answers, but lets no session through or refuses every mail.
const ANSWERING_DELAY: Duration = Duration::from_secs(30);
/// Longest delay between two probes where nobody answers: a connect costs nobody anything.
const UNREACHABLE_DELAY: Duration = Duration::from_secs(10);
/// Senders that are remembered as refused at the most.
const REFUSED_SENDERS: usize = 1000;
/// First delay after a login that was refused, and its growth: three logins in ten minutes lock no account.
const FIRST_LOGIN: (Duration, f64) = (Duration::from_secs(30), 4.0);
/// Probes in vain of which each has its line in the log, and the time between two lines from then on.
const SAY_EACH: u32 = 10;
const SAY_AGAIN: Duration = Duration::from_secs(60);
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
    /// Since when it is shut, and what was seen last.
    outage: Option<(Instant, String)>,
    /// Lines that the log has got of this outage, and when it got the last one.
    said: (u32, Instant),
    /// How often it went from open to shut.
    outages: u64,
    /// Replies that asked for a slower pace.
    throttled: u64,
    delays: Delays,
    /// For a login that was refused, beside working sessions too.
    login_delays: Delays,
    /// Sessions open or being opened.
    open: usize,
    /// Those of them that are open.
    established: usize,
    /// The most of them at once.
    limit: usize,
    limited_at: Instant,
    /// Where a further session failed while others work: when one more may be tried, and the delays until then.
    open_again: Option<Instant>,
    /// That one is on its way.
    open_trying: bool,
    open_delays: Delays,
    last_accepted: Option<Instant>,
    refused_at_mail: u32,
    /// Senders that were refused at MAIL since they were accepted last, and the count of accepted mails then.
    refused_senders: HashMap<String, u64>,
    rate: Rate,
    queue: pace::Queue,
}

/// Why a session could not be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// There is no connection.
    Unreachable,
    /// The relay answered 421.
    Full,
    /// The relay refused the login: it locks accounts that fail too often.
    Login,
    /// Something between the banner and the login.
    Other,
}

/// Whose fault a refusal at MAIL is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The sender's: it was refused before, and others were accepted since.
    Sender,
    /// The next mails will tell.
    Undecided,
    /// The relay's: it has refused [`MISCONFIGURED_AFTER`] mails in a row.
    Relay,
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
    /// `max_delay` bounds the delay between two probes of a relay that refuses our login; others are probed more often.
    pub fn new(sessions: usize, reserved: usize, max_delay: Duration) -> Self {
        let now = Instant::now();
        Self {
            state: Mutex::new(State {
                gate: Gate::Open,
                shut: 0,
                outage: None,
                said: (0, now),
                outages: 0,
                throttled: 0,
                delays: Delays::new(FIRST_PROBE, 2.0, 0.1, max_delay),
                login_delays: Delays::new(FIRST_LOGIN.0, FIRST_LOGIN.1, 0.1, max_delay),
                open: 0,
                established: 0,
                limit: sessions,
                limited_at: now,
                open_again: None,
                open_trying: false,
                open_delays: Delays::doubling(FIRST_PROBE, FULL_FOR),
                last_accepted: None,
                refused_at_mail: 0,
                refused_senders: HashMap::new(),
                rate: Rate::new(None, now),
                queue: pace::Queue::default(),
            }),
            changed: Notify::new(),
            accepted: AtomicU64::new(0),
            sessions,
            reserved,
        }
    }

    /// The same with a limit on mails.
    #[must_use]
    pub fn limited_to(self, limit: Option<RateLimit>) -> Self {
        self.lock().rate = Rate::new(limit, Instant::now());
        self
    }

    /// Waits until the relay is up, or until the caller is the one to probe it with a new session.
    pub async fn admit(self: &Arc<Self>) -> Pass {
        loop {
            let changed = self.changed.notified();
            let probe_at = match self.ask(&mut self.lock()) {
                Ok(pass) => return pass,
                Err(probe_at) => probe_at,
            };
            match probe_at {
                Some(at) => _ = timeout_at(at, changed).await,
                None => changed.await,
            }
        }
    }

    /// Leave to send one mail, or when the next probe may go; nothing while one is on its way.
    fn ask(self: &Arc<Self>, state: &mut State) -> Result<Pass, Option<Instant>> {
        let probe = match state.gate {
            Gate::Open => false,
            Gate::Down(at) if Instant::now() >= at => {
                state.gate = Gate::Probing;
                true
            }
            Gate::Down(at) => return Err(Some(at)),
            Gate::Probing => return Err(None),
        };
        Ok(Pass { relay: Arc::clone(self), probe, shut: state.shut })
    }

    /// A place for one more session, if the relay takes one more.
    pub fn try_session(self: &Arc<Self>) -> Option<SessionPlace> {
        let mut state = self.lock();
        self.recover(&mut state);
        if let Some(at) = state.open_again.filter(|_| state.established > 0) {
            let now = Instant::now();
            if now < at {
                return None;
            }
            // one at a time
            state.open_again = Some(now + FIRST_PROBE);
            state.open_trying = true;
        }
        (state.open < state.limit).then(|| {
            state.open += 1;
            SessionPlace { relay: Arc::clone(self), established: false }
        })
    }

    /// Whether mails may be sent, as far as is known.
    pub fn is_open(&self) -> bool {
        matches!(self.lock().gate, Gate::Open)
    }

    /// Waits until [`Relay::try_session`] may give a place.
    pub async fn session_free(&self) {
        let changed = self.changed.notified();
        let retry_at = {
            let state = self.lock();
            match state.open_again {
                Some(at) if state.established > 0 => at,
                _ if state.open < state.limit => return,
                _ => state.limited_at + FULL_FOR,
            }
        };
        // an elapsed deadline is the other way in which a place may have become free
        let _ = timeout_at(retry_at, changed).await;
    }

    /// What was wrong may be right again: the next session is tried at once.
    pub fn try_again(&self) {
        let mut state = self.lock();
        let now = Instant::now();
        state.login_delays.reset();
        state.delays.reset();
        if let Gate::Down(at) = &mut state.gate {
            *at = now;
        }
        if let Some(at) = &mut state.open_again {
            *at = now;
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// No new session got through.
    ///
    /// Where other sessions work nothing pauses: with 421 there are fewer sessions for a while, with anything else a
    /// further one is tried after growing delays.
    pub fn session_failed(&self, pass: Pass, trouble: Trouble, why: &str) {
        let (full, login) = (trouble == Trouble::Full, trouble == Trouble::Login);
        {
            let mut state = self.lock();
            let now = Instant::now();
            // the session that failed still has its place
            let others = state.open.saturating_sub(1);
            let working = state.last_accepted.is_some_and(|at| now.duration_since(at) < STILL_WORKING);
            // where several are opened at once, 421 to one of them says nothing of the others: the last one decides
            if !pass.probe && !full && working && state.established > 0 {
                if std::mem::take(&mut state.open_trying) || state.open_again.is_none_or(|at| now >= at) {
                    let delays = if login { &mut state.login_delays } else { &mut state.open_delays };
                    let delay = delays.advance();
                    warn!(why, retry_in = ?delay, "a further session cannot be opened: going on with the others");
                    state.open_again = Some(now + delay);
                }
                return;
            }
            if !pass.probe && full && others > 0 {
                if state.limit > others {
                    if state.limit == self.sessions {
                        warn!(why, "the relay takes no further session: going on with fewer");
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
        let most = match trouble {
            Trouble::Unreachable => UNREACHABLE_DELAY,
            Trouble::Full | Trouble::Other => ANSWERING_DELAY,
            Trouble::Login => Duration::MAX,
        };
        self.shut(pass, why, login, most);
    }

    /// The relay locks us out: nothing is sent until a probe gets through.
    pub fn down(&self, pass: Pass, why: &str) {
        self.shut(pass, why, false, Duration::MAX);
    }

    /// The relay refuses every mail or breaks off, or so it seems: it answers, so it is asked again within half a minute.
    pub fn unfit(&self, pass: Pass, why: &str) {
        self.shut(pass, why, false, ANSWERING_DELAY);
    }

    fn shut(&self, mut pass: Pass, why: &str, login: bool, most: Duration) {
        let mut state = self.lock();
        if pass.shut != state.shut {
            // begun before the relay was known to be down: it says nothing new, least of all of a probe
            return;
        }
        pass.probe = false;
        let delay = match state.gate {
            Gate::Down(_) => return,
            Gate::Open | Gate::Probing if login => state.login_delays.advance(),
            Gate::Open | Gate::Probing => state.delays.advance().min(most),
        };
        let now = Instant::now();
        let news = state.outage.as_ref().is_none_or(|(_, said)| said != why);
        if matches!(state.gate, Gate::Open) {
            error!(why, retry_in = ?delay, "the relay is down: sending pauses, no attempt is used up");
            state.said = (1, now);
        } else if news || state.said.0 <= SAY_EACH || now.duration_since(state.said.1) >= SAY_AGAIN {
            warn!(why, retry_in = ?delay, "the relay is still down");
            state.said = (state.said.0.saturating_add(1), now);
        }
        state.outages += u64::from(state.outage.is_none());
        let since = state.outage.as_ref().map_or(now, |(since, _)| *since);
        state.outage = Some((since, why.to_owned()));
        state.gate = Gate::Down(now + delay);
        state.shut += 1;
        // how many sessions it took before says nothing of how many it takes when it is back
        state.limit = self.sessions;
        state.open_again = None;
        state.open_delays.reset();
        drop(state);
        self.changed.notify_waiters();
    }

    /// The relay gave a mail an answer of its own, whatever it was: it is up, unless it went down after the mail began.
    pub fn answered(&self, mut pass: Pass) {
        self.answers(&mut pass);
    }

    /// The same for a mail that goes on: others need not wait for the rest of it.
    pub fn answers(&self, pass: &mut Pass) {
        pass.probe = false;
        let mut state = self.lock();
        if state.shut == pass.shut && !matches!(state.gate, Gate::Open) {
            state.gate = Gate::Open;
            state.outage = None;
            state.delays.reset();
            state.login_delays.reset();
            drop(state);
            info!("the relay is up again");
            self.changed.notify_waiters();
        }
    }

    /// The relay has accepted a mail of this envelope sender.
    pub fn accepted(&self, sender: &str) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        let mut state = self.lock();
        let now = Instant::now();
        state.last_accepted = Some(now);
        state.refused_at_mail = 0;
        state.refused_senders.remove(sender);
        state.rate.sent(now);
    }

    /// The relay has refused a mail of this envelope sender at MAIL for good.
    pub fn refused_at_mail(&self, sender: &str) -> Fault {
        let count = self.count();
        let mut state = self.lock();
        // they count for the row as well: a relay that refuses everyone refuses this sender too
        state.refused_at_mail = state.refused_at_mail.saturating_add(1);
        let known = state.refused_senders.get(sender).copied();
        if known.is_none() && state.refused_senders.len() < REFUSED_SENDERS {
            state.refused_senders.insert(sender.to_owned(), count);
        }
        if state.refused_at_mail >= MISCONFIGURED_AFTER {
            Fault::Relay
        } else if known.is_some_and(|accepted| count > accepted) {
            Fault::Sender
        } else {
            Fault::Undecided
        }
    }

    /// Whether this envelope sender was refused at MAIL and not accepted since: a probe should try another mail.
    pub fn was_refused(&self, sender: &str) -> bool {
        self.lock().refused_senders.contains_key(sender)
    }

    /// Whether the relay has refused so many mails in a row at MAIL that it is its own fault.
    pub fn is_misconfigured(&self) -> bool {
        self.lock().refused_at_mail >= MISCONFIGURED_AFTER
    }

    /// The relay asked for a slower pace.
    pub fn throttled(&self) {
        let now = Instant::now();
        let halved = {
            let mut state = self.lock();
            state.throttled += 1;
            let halved = state.rate.halve(now);
            state.queue.call(now);
            halved
        };
        if let Some(rate) = halved {
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

    /// The clock is read behind the lock, so that it never seems to go back.
    fn lock_now(&self) -> (MutexGuard<'_, State>, Instant) {
        (self.lock(), Instant::now())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // no method panics between two changes that belong together
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
