//! The circuit at work: gives leave to ask Kafka, hears what came of it, and looks in the background whether it is back.
//!
//! Owns the task that probes and the lines in the log. When the circuit opens and closes is [`circuit`](super::circuit)'s.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};

use super::{
    circuit::{Circuit, Leave, Opened, Outage},
    partitions::{Routes, Unrouted},
    publisher::Trouble,
};
use crate::kafka::{client::Connector, wire};

/// Time for each answer of a leader that is probed.
const ANSWER: Duration = Duration::from_secs(5);

pub(super) struct Breaker {
    state: Mutex<State>,
    /// A task probes.
    probing: AtomicBool,
    connector: Connector,
    /// What becomes of mails while nobody waits for Kafka, for the log.
    meanwhile: &'static str,
}

struct State {
    circuit: Circuit,
    /// Of the mail that had no answer last: what the probe asks for.
    topic: Arc<str>,
}

/// Leave to ask Kafka for one mail; nothing has come of it where it is dropped.
pub(super) struct Asked<'a> {
    breaker: &'a Arc<Breaker>,
    leave: Option<Leave>,
}

impl Breaker {
    /// `topic` is the one that is asked for where no mail has told.
    pub(super) fn new(connector: Connector, topic: Arc<str>, meanwhile: &'static str) -> Arc<Self> {
        let state = Mutex::new(State { circuit: Circuit::new(), topic });
        Arc::new(Self { state, probing: AtomicBool::new(false), connector, meanwhile })
    }

    /// Leave to ask Kafka for one mail, or why there is no use in that.
    pub(super) fn ask(self: &Arc<Self>) -> Result<Asked<'_>, Outage> {
        let admitted = self.lock().circuit.admit();
        match admitted {
            Ok(leave) => Ok(Asked { breaker: self, leave: Some(leave) }),
            Err(outage) => {
                // the runtime in which the last probe was to run may have ended
                self.probe();
                Err(outage)
            }
        }
    }

    /// Whether mails go to Kafka.
    pub(super) fn is_closed(&self) -> bool {
        self.lock().circuit.is_closed()
    }

    /// Sees to it that a task probes for as long as probes are due.
    fn probe(self: &Arc<Self>) {
        if self.lock().circuit.probe_at().is_some() && !self.probing.swap(true, Ordering::AcqRel) {
            // does not keep the producer alive
            let breaker = Arc::downgrade(self);
            tokio::spawn(Probing(breaker).run());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // no method panics between two changes that belong together
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Asked<'_> {
    /// Kafka has answered, whatever it said.
    pub(super) fn answered(mut self) {
        let Some(leave) = self.leave.take() else { return };
        let back = self.breaker.lock().circuit.answered(leave, Instant::now());
        if let Some(after) = back {
            info!(?after, "Kafka answers again: mails go to it");
        }
    }

    /// Kafka has not answered in time.
    pub(super) fn failed(mut self, trouble: &Trouble, topic: &Arc<str>) {
        let Some(leave) = self.leave.take() else { return };
        let opened = {
            let mut state = self.breaker.lock();
            state.topic = Arc::clone(topic);
            state.circuit.failed(leave, trouble.clone(), Instant::now())
        };
        match opened {
            Some(Opened::First) => {
                warn!(why = %trouble, "Kafka does not answer: until it does, mails {}", self.breaker.meanwhile);
            }
            Some(Opened::Again) => debug!(why = %trouble, "Kafka answers probes, but takes no mail"),
            None => return,
        }
        self.breaker.probe();
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if let Some(leave) = self.leave.take() {
            self.breaker.lock().circuit.released(leave);
        }
    }
}

/// The task that probes; where it ends in any way, another one may.
struct Probing(Weak<Breaker>);

impl Probing {
    async fn run(self) {
        while let Some(at) = self.due() {
            sleep_until(at).await;
            let Some(breaker) = self.0.upgrade() else { return };
            let (connector, topic) = (breaker.connector.clone(), Arc::clone(&breaker.lock().topic));
            drop(breaker);
            let outcome = reach(connector, &topic).await;
            let Some(breaker) = self.0.upgrade() else { return };
            if let Err(trouble) = &outcome {
                debug!(why = %trouble, "Kafka does not answer yet");
            }
            breaker.lock().circuit.probed(outcome, Instant::now());
        }
    }

    fn due(&self) -> Option<Instant> {
        self.0.upgrade()?.lock().circuit.probe_at()
    }
}

impl Drop for Probing {
    fn drop(&mut self) {
        if let Some(breaker) = self.0.upgrade() {
            breaker.probing.store(false, Ordering::Release);
        }
    }
}

/// Asks the brokers for a topic and one of its leaders whether it lets us in, over connections of their own: writes
/// nothing.
async fn reach(connector: Connector, topic: &str) -> Result<(), Trouble> {
    let routes = match Routes::ask(connector.clone(), Vec::new(), topic).await {
        Ok(routes) => routes,
        // that is an answer
        Err(Unrouted::Missing | Unrouted::Denied(_)) => return Ok(()),
        Err(Unrouted::Unavailable(trouble)) => return Err(trouble),
    };
    let mut last = Trouble::passing(format!("no partition of topic {topic} has a leader"));
    let mut leaders: Vec<&i32> = routes.leaders.values().collect();
    leaders.sort_unstable();
    leaders.dedup();
    for address in leaders.into_iter().filter_map(|leader| routes.addresses.get(leader)) {
        match wire::Connection::open(&connector, address, ANSWER).await {
            Ok(_) => return Ok(()),
            Err(error) => last = error.into(),
        }
    }
    Err(last)
}
