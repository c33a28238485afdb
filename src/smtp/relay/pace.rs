//! The queue before the rate: who may send one more mail, and when.
//!
//! Whoever holds a mail already, for a further transaction of it, takes turns with those who choose one only when they may
//! send it. Of the former the highest lane is first, and in it who came first; of the latter the one that came last, since
//! its session is the warmest. Only who is next watches the clock. Nobody need hold a share but while it sends a mail.

use std::{cmp::Reverse, collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use super::{Relay, State, rate::Share};
use crate::event::Priority;

/// A session that is being opened keeps others from it for this long at the most: it may hang.
const OPENING: Duration = Duration::from_secs(1);

/// Who waits, those first who are next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// With a mail of this lane.
    Mail(usize, u64),
    /// With a session, for whichever mail is next by then.
    Session(Reverse<u64>),
    /// For the need of one more session.
    Opening(Reverse<u64>),
}

impl Place {
    fn is_mail(self) -> bool {
        matches!(self, Self::Mail(..))
    }
}

/// Those who wait.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: BTreeMap<Place, Arc<Notify>>,
    /// Counts those who came.
    came: u64,
    /// Whether the last share went to one that had a mail already.
    mail_went: bool,
    /// When one more session may be opened.
    open_at: Option<Instant>,
}

impl Queue {
    fn enter(&mut self, place: impl FnOnce(u64) -> Place) -> (Place, Arc<Notify>) {
        self.came += 1;
        let (place, called) = (place(self.came), Arc::new(Notify::new()));
        self.waiting.insert(place, Arc::clone(&called));
        (place, called)
    }

    /// Who is next.
    fn next(&self, now: Instant) -> Option<(Place, &Notify)> {
        let mail = self.waiting.iter().next().filter(|(place, _)| place.is_mail());
        let mut fresh = self.waiting.range(Place::Session(Reverse(u64::MAX))..).next();
        if mail.is_some() && self.open_at.is_some_and(|at| now < at) {
            fresh = fresh.filter(|(place, _)| !matches!(place, Place::Opening(_)));
        }
        let next = if self.mail_went { fresh.or(mail) } else { mail.or(fresh) };
        next.map(|(place, called)| (*place, &**called))
    }

    /// Lets the one who is next look anew: a share came back, or the rate has changed.
    pub(super) fn call(&self, now: Instant) {
        if let Some((_, called)) = self.next(now) {
            called.notify_one();
        }
    }
}

/// One who waits; leaves the queue when dropped.
struct Waiter<'a> {
    relay: &'a Relay,
    place: Place,
    called: Arc<Notify>,
}

impl Waiter<'_> {
    /// Waits until it is the next one and gets what it asks for; `ask` says when to ask again.
    async fn get<T>(self, ask: impl Fn(&mut State, Instant) -> Result<T, Instant>) -> T {
        loop {
            let asked = {
                let (mut state, now) = self.relay.lock_now();
                if state.queue.next(now).is_some_and(|(place, _)| place == self.place) {
                    let asked = ask(&mut state, now);
                    if asked.is_ok() {
                        state.queue.mail_went = self.place.is_mail();
                    }
                    Some(asked)
                } else {
                    // whose turn it is may depend on the time
                    state.queue.call(now);
                    None
                }
            };
            match asked {
                Some(Ok(got)) => return got,
                Some(Err(at)) => _ = timeout_at(at, self.called.notified()).await,
                None => self.called.notified().await,
            }
        }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let (mut state, now) = self.relay.lock_now();
        state.queue.waiting.remove(&self.place);
        state.queue.call(now);
    }
}

/// Leave to send one mail as far as the rate goes; given back when it is dropped unused, and lapsed where it is not used
/// at once.
#[derive(Debug)]
#[must_use]
pub struct Permit {
    relay: Arc<Relay>,
    share: Option<Share>,
    used: bool,
}

impl Permit {
    /// A mail is being sent from now on; it counts until this is dropped, and for one unit of the limit more. False if the
    /// permit has lapsed.
    pub fn begin(&mut self) -> bool {
        if let Some(share) = self.share
            && !self.used
        {
            let (mut state, now) = self.relay.lock_now();
            self.used = state.rate.begin(share, now);
            return self.used;
        }
        true
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(share) = self.share {
            let (mut state, now) = self.relay.lock_now();
            if self.used {
                state.rate.answered(share, now);
            } else {
                state.rate.give_back(share, now);
            }
            state.queue.call(now);
        }
    }
}

impl Relay {
    /// Waits until the rate in force allows one more mail, for a caller that has a session and chooses the mail only then.
    /// At once where there is no rate. Whoever has the permit must not wait for anything but the relay's answers.
    pub async fn pace(self: &Arc<Self>) -> Permit {
        self.share(|came| Place::Session(Reverse(came))).await
    }

    /// The same for a further transaction of a mail of this lane.
    pub async fn pace_further(self: &Arc<Self>, lane: Priority) -> Permit {
        self.share(|came| Place::Mail(lane.index(), came)).await
    }

    /// Waits until the rate in force would allow one more mail and nobody with a session waits to send it: until one more
    /// session is of use. At once where there is no rate.
    pub async fn short_of_sessions(&self) {
        if self.is_unlimited() {
            return;
        }
        let open = |state: &mut State, now: Instant| {
            let at = state.rate.ready_at(now).max(state.queue.open_at.unwrap_or(now));
            if at > now {
                return Err(at);
            }
            // the next one only where the time of another mail has come by then: this one is on its way
            let interval = state.rate.in_force(now).map_or(Duration::ZERO, |rate| Duration::from_secs_f64(1.0 / rate));
            state.queue.open_at = Some(now + interval.min(OPENING));
            Ok(())
        };
        self.queue_up(|came| Place::Opening(Reverse(came))).get(open).await;
    }

    async fn share(self: &Arc<Self>, place: impl FnOnce(u64) -> Place) -> Permit {
        let mut share = None;
        if !self.is_unlimited() {
            let take = |state: &mut State, now: Instant| state.rate.take(now).transpose();
            share = self.queue_up(place).get(take).await;
        }
        Permit { relay: Arc::clone(self), share, used: false }
    }

    fn queue_up(&self, place: impl FnOnce(u64) -> Place) -> Waiter<'_> {
        let (place, called) = self.lock().queue.enter(place);
        Waiter { relay: self, place, called }
    }

    fn is_unlimited(&self) -> bool {
        let (mut state, now) = self.lock_now();
        state.rate.in_force(now).is_none()
    }

    /// Mails a second that may be sent right now: the limit of the settings, or less while the relay throttles. `None`
    /// where nothing limits them.
    pub fn rate(&self) -> Option<f64> {
        self.report().rate
    }
}

#[cfg(test)]
pub(super) mod tests;
