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

/// The circuit of one topic: what cannot be written to one may well be written to another.
pub(super) struct Breaker {
    circuit: Mutex<Circuit>,
    /// A task probes.
    probing: AtomicBool,
    connector: Connector,
    topic: Arc<str>,
    /// What becomes of mails while nobody waits for Kafka, for the log.
    meanwhile: &'static str,
}

/// Leave to ask Kafka for one mail; nothing has come of it where it is dropped.
pub(super) struct Asked<'a> {
    breaker: &'a Arc<Breaker>,
    leave: Option<Leave>,
}

impl Breaker {
    /// Connects to nothing.
    pub(super) fn new(connector: Connector, topic: Arc<str>, meanwhile: &'static str) -> Arc<Self> {
        let circuit = Mutex::new(Circuit::new());
        Arc::new(Self { circuit, probing: AtomicBool::new(false), connector, topic, meanwhile })
    }

    /// Leave to ask Kafka for one mail, or why there is no use in that.
    pub(super) fn ask(self: &Arc<Self>) -> Result<Asked<'_>, Outage> {
        let admitted = self.lock().admit(Instant::now());
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
        self.lock().is_closed()
    }

    /// Sees to it that a task probes for as long as probes are due.
    fn probe(self: &Arc<Self>) {
        if self.lock().probe_at().is_some() && !self.probing.swap(true, Ordering::AcqRel) {
            // does not keep the producer alive
            let breaker = Arc::downgrade(self);
            tokio::spawn(Probing(breaker).run());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Circuit> {
        // no method panics between two changes that belong together
        self.circuit.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Asked<'_> {
    /// Kafka has answered, whatever it said.
    pub(super) fn answered(mut self) {
        let Some(leave) = self.leave.take() else { return };
        let back = self.breaker.lock().answered(leave, Instant::now());
        if let Some(after) = back {
            info!(topic = %self.breaker.topic, ?after, "Kafka answers again: mails go to it");
        }
    }

    /// Kafka has not taken a mail: not answered in time, or not let us in.
    pub(super) fn failed(mut self, trouble: &Trouble) {
        let Some(leave) = self.leave.take() else { return };
        let opened = self.breaker.lock().failed(leave, trouble.clone(), Instant::now());
        let Breaker { topic, meanwhile, .. } = &**self.breaker;
        match opened {
            Some(Opened::First) => {
                warn!(%topic, why = %trouble, "Kafka takes no mails: until it does, they {meanwhile}");
            }
            Some(Opened::Again) => debug!(%topic, why = %trouble, "Kafka answers probes, but takes no mail"),
            None => return,
        }
        self.breaker.probe();
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if let Some(leave) = self.leave.take() {
            self.breaker.lock().released(leave);
        }
    }
}

/// The task that probes; where it ends in any way, another one may.
struct Probing(Weak<Breaker>);

impl Probing {
    async fn run(mut self) {
        loop {
            while let Some(at) = self.due() {
                sleep_until(at).await;
                self.probe().await;
            }
            let Some(breaker) = self.0.upgrade() else { return };
            breaker.probing.store(false, Ordering::Release);
            // it may have opened again in between
            if self.due().is_none() || breaker.probing.swap(true, Ordering::AcqRel) {
                self.0 = Weak::new();
                return;
            }
        }
    }

    async fn probe(&self) {
        let Some(breaker) = self.0.upgrade() else { return };
        let (connector, topic) = (breaker.connector.clone(), Arc::clone(&breaker.topic));
        drop(breaker);
        let outcome = reach(connector, &topic).await;
        if let Err(trouble) = &outcome {
            debug!(%topic, why = %trouble, "Kafka does not answer yet");
        }
        if let Some(breaker) = self.0.upgrade() {
            breaker.lock().probed(outcome, Instant::now());
        }
    }

    fn due(&self) -> Option<Instant> {
        self.0.upgrade()?.lock().probe_at()
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
