//! The queue before the rate: who may send one more mail, and when.
//!
//! One worker at a time watches the clock; of the others the one that came last is next, since its session is the
//! warmest. No mail is chosen before its worker may send, so whichever is the most urgent then goes.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use super::{Relay, rate::Share};

/// Who watches the clock.
#[derive(Debug, Default)]
pub(super) struct Queue {
    taken: AtomicBool,
    free: Notify,
    /// A share came back, or the rate has changed: the clock may be watched for too late a time.
    pub(super) changed: Notify,
}

impl Queue {
    async fn turn(&self) -> Turn<'_> {
        loop {
            let free = self.free.notified();
            if !self.taken.swap(true, Ordering::AcqRel) {
                return Turn(self);
            }
            free.await;
        }
    }
}

struct Turn<'a>(&'a Queue);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.taken.store(false, Ordering::Release);
        self.0.free.notify_last();
    }
}

/// Leave to send one mail as far as the rate goes; given back when it is dropped unused.
#[derive(Debug)]
#[must_use]
pub struct Permit {
    relay: Arc<Relay>,
    share: Option<Share>,
    used: bool,
}

impl Permit {
    /// A mail is being sent from now on; it counts until this is dropped, and for one unit of the limit more.
    pub fn begin(&mut self) {
        if let Some(share) = self.share
            && !std::mem::replace(&mut self.used, true)
        {
            self.relay.lock().rate.begin(share, Instant::now());
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(share) = self.share {
            let mut state = self.relay.lock();
            if self.used {
                state.rate.answered(share, Instant::now());
            } else {
                state.rate.give_back(share);
            }
            drop(state);
            self.relay.pace.changed.notify_one();
        }
    }
}

impl Relay {
    /// Waits until the rate in force allows one more mail. At once where there is none.
    pub async fn pace(self: &Arc<Self>) -> Permit {
        let permit = |share| Permit { relay: Arc::clone(self), share, used: false };
        if self.lock().rate.in_force(Instant::now()).is_none() {
            return permit(None);
        }
        let _turn = self.pace.turn().await;
        loop {
            let changed = self.pace.changed.notified();
            let taken = self.lock().rate.take(Instant::now());
            match taken {
                None => return permit(None),
                Some(Ok(share)) => return permit(Some(share)),
                Some(Err(at)) => _ = timeout_at(at, changed).await,
            }
        }
    }

    /// Mails a second that may be sent right now: the limit of the settings, or less while the relay throttles. `None`
    /// where nothing limits them.
    pub fn rate(&self) -> Option<f64> {
        self.report().rate
    }
}
