//! Whether the service makes progress where there is work: what a restart would heal, and nothing else.
//!
//! A relay or broker that is away, slow or silent is no standstill: everything that waits for one of them has a
//! deadline of its own, and what has overrun it is stuck. So is work that nobody takes up though nothing is in its way.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::Facts;
use crate::{config, pipeline::Reading, smtp::relay::GateReport};

/// Time for a free worker to take up a mail that may be sent.
const TAKE_UP: Duration = Duration::from_secs(60);
/// Added to the sum of the deadlines of an attempt.
const MARGIN: Duration = Duration::from_secs(60);
/// Beyond what the broker may hold a fetch: twice the 30 seconds for an answer, and the longest pause between two.
const FETCH: Duration = Duration::from_secs(180);
/// Beyond the time between two steps: every call to the group or the brokers ends within half a minute, but a look at
/// many new partitions has many of them.
const STEP: Duration = Duration::from_secs(600);

/// How long each part may take for one step.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// One fetch, its failure and the pause after it included.
    pub fetch: Duration,
    /// From one step of the work on partitions to the next.
    pub step: Duration,
}

impl Limits {
    /// What the settings permit.
    pub fn new(kafka: &config::Kafka) -> Self {
        Self {
            fetch: kafka.fetch_max_wait.saturating_add(FETCH),
            step: kafka.commit_interval.min(kafka.discovery_interval).saturating_add(STEP),
        }
    }
}

/// What a worker is busy with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Busy {
    /// It waits for work, or for a place to do it.
    No,
    /// It waits for the rate.
    Waits,
    /// With something that takes as long as it takes.
    Yes,
    /// With something that has ended by then.
    Until(Instant),
}

/// Where one worker says what it does.
#[derive(Debug)]
pub struct Station {
    busy: Mutex<Busy>,
    begun: Arc<AtomicU64>,
}

impl Station {
    /// It waits for work.
    pub fn free(&self) {
        *self.lock() = Busy::No;
    }

    /// It waits for its turn to send a mail, as long as the rate in force asks for.
    pub fn waits(&self) {
        *self.lock() = Busy::Waits;
    }

    /// It works, for as long as that takes.
    pub fn busy(&self) {
        self.begin(Busy::Yes);
    }

    /// It works on something whose deadlines add up to this.
    pub fn busy_within(&self, deadlines: Duration) {
        let until = Instant::now().checked_add(deadlines.saturating_add(MARGIN));
        self.begin(until.map_or(Busy::Yes, Busy::Until));
    }

    fn begin(&self, busy: Busy) {
        self.begun.fetch_add(1, Ordering::Relaxed);
        *self.lock() = busy;
    }

    fn lock(&self) -> MutexGuard<'_, Busy> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The workers' stations.
#[derive(Debug, Default)]
pub struct Crew {
    stations: Mutex<Vec<Weak<Station>>>,
    begun: Arc<AtomicU64>,
}

impl Crew {
    /// A station for one more worker.
    pub fn join(&self) -> Arc<Station> {
        let station = Arc::new(Station { busy: Mutex::new(Busy::No), begun: Arc::clone(&self.begun) });
        self.stations.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&station));
        station
    }

    fn all(&self) -> Vec<Busy> {
        let stations = self.stations.lock().unwrap_or_else(PoisonError::into_inner);
        stations.iter().filter_map(Weak::upgrade).map(|station| *station.lock()).collect()
    }
}

/// Remembers from one question to the next since when mails stand about.
#[derive(Debug, Default)]
pub(super) struct Judge {
    /// Mails could be taken and nobody works; since when, and how much was begun before.
    idle: Option<(Instant, u64)>,
}

impl Judge {
    /// What stands still at `now` that should not.
    pub(super) fn standstills(&mut self, facts: &Facts, crew: &Crew, limits: Limits, now: Instant) -> Vec<String> {
        if facts.draining {
            // the end has its own deadlines, and a restart is what is coming anyway
            return Vec::new();
        }
        let mut found = Vec::new();
        let busy = crew.all();
        let overrun = busy.iter().filter(|busy| matches!(busy, Busy::Until(until) if *until < now)).count();
        if overrun > 0 {
            found.push(format!("{overrun} of {} workers have overrun all deadlines of their mail", busy.len()));
        }
        if self.nobody_works(facts, crew, &busy, now) {
            let waiting: usize = facts.waiting.iter().sum();
            found.push(format!("{waiting} mails could be sent, and no worker takes one"));
        }
        for partition in &facts.partitions {
            if let Reading::Asking(since) = partition.vitals.reading
                && since > limits.fetch
            {
                let (topic, number, seconds) = (&partition.topic, partition.number, since.as_secs());
                found.push(format!("the fetch of {topic}-{number} has hung for {seconds}s"));
            }
        }
        if facts.assignment.turned > limits.step {
            let seconds = facts.assignment.turned.as_secs();
            found.push(format!("commits and the look for partitions have stood still for {seconds}s"));
        }
        found
    }

    fn nobody_works(&mut self, facts: &Facts, crew: &Crew, busy: &[Busy], now: Instant) -> bool {
        let may_go = match &facts.relay.gate {
            GateReport::Open | GateReport::Shut { retry_in: None, .. } => true,
            GateReport::Shut { retry_in: Some(delay), .. } => delay.is_zero(),
        };
        let waits = busy.contains(&Busy::Waits);
        let works = busy.iter().any(|busy| !matches!(busy, Busy::No | Busy::Waits));
        // to wait for the rate is no standstill, but nobody waits for a rate that would let a mail go
        let paced = waits && !facts.relay.next_mail.is_zero();
        if !(facts.takeable || waits) || !may_go || works || paced {
            self.idle = None;
            return false;
        }
        let begun = crew.begun.load(Ordering::Relaxed);
        match self.idle {
            Some((since, before)) if before == begun => now.duration_since(since) > TAKE_UP,
            _ => {
                self.idle = Some((now, begun));
                false
            }
        }
    }
}
