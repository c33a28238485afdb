//! What a worker holds of the relay: leave to send, and a place for its session.
//!
//! Owns what dropping them means. Who gets them is [`Relay`]'s to say.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{Gate, Relay};

/// Leave to send one mail. A probe's pass that is dropped without a word lets the next probe go.
#[derive(Debug)]
pub struct Pass {
    pub(super) relay: Arc<Relay>,
    pub(super) probe: bool,
    /// How often the gate had been shut when it was given.
    pub(super) shut: u64,
}

impl Pass {
    /// Whether a relay that is down is being tried: with a new session.
    pub fn is_probe(&self) -> bool {
        self.probe
    }

    /// Waits until the relay is known to be down since: a mail needs a new pass.
    pub async fn overtaken(&self) {
        loop {
            let changed = self.relay.changed.notified();
            if self.relay.lock().shut != self.shut {
                return;
            }
            changed.await;
        }
    }
}

/// Why there is no leave to send right now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// What was seen last.
    pub why: String,
    /// When it is tried again; `None` while it is being tried.
    pub retry_in: Option<Duration>,
}

impl Relay {
    /// The same as [`Relay::admit`] for those who do not wait.
    ///
    /// # Errors
    ///
    /// [`Closed`] while the relay is down and its time has not come, or another one probes it.
    pub fn try_admit(self: &Arc<Self>) -> Result<Pass, Closed> {
        let mut state = self.lock();
        self.ask(&mut state).map_err(|at| Closed {
            why: state.outage.as_ref().map(|(_, why)| why.clone()).unwrap_or_default(),
            retry_in: at.map(|at| at.saturating_duration_since(Instant::now())),
        })
    }

    /// Waits until no probe is on its way.
    pub async fn probed(&self) {
        loop {
            let changed = self.changed.notified();
            if !matches!(self.lock().gate, Gate::Probing) {
                return;
            }
            changed.await;
        }
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
pub struct SessionPlace {
    pub(super) relay: Arc<Relay>,
    pub(super) established: bool,
}

impl SessionPlace {
    /// Its session is open.
    pub fn establish(&mut self) {
        if !std::mem::replace(&mut self.established, true) {
            let mut state = self.relay.lock();
            state.established += 1;
            state.open_again = None;
            state.open_delays.reset();
            state.login_delays.reset();
            drop(state);
            self.relay.changed.notify_waiters();
        }
    }

    /// Its session is over, and another one is to take its place.
    pub fn vacate(&mut self) {
        if std::mem::take(&mut self.established) {
            self.relay.lock().established -= 1;
        }
    }
}

impl Drop for SessionPlace {
    fn drop(&mut self) {
        let mut state = self.relay.lock();
        state.open -= 1;
        state.established -= usize::from(self.established);
        drop(state);
        self.relay.changed.notify_waiters();
    }
}
