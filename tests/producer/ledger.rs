//! What was said of each mail, held against what is in the topic.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use devkit::kafka::Cluster;
use postlane::{Producer, SendError};
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval},
};

use super::common::{keys, mail};

/// What was said of a mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    /// It is stored; perhaps twice.
    Stored { twice_possible: bool },
    /// It is not, and will not be.
    NotSent,
    /// It may be.
    Unknown,
}

/// Said of mails by their ids, and how long that took at the most.
#[derive(Debug, Default, Clone)]
pub(crate) struct Ledger {
    pub(crate) said: BTreeMap<String, Said>,
    pub(crate) longest: Duration,
}

impl Ledger {
    pub(crate) fn count(&self, is: impl Fn(&Said) -> bool) -> usize {
        self.said.values().filter(|said| is(said)).count()
    }

    pub(crate) fn stored(&self) -> usize {
        self.count(|said| matches!(said, Said::Stored { .. }))
    }

    /// Nothing that was said is wrong.
    pub(crate) async fn check(&self, cluster: &Cluster, topic: &str) {
        let keys = keys(cluster, topic).await;
        for (id, said) in &self.said {
            let times = keys.get(id).copied().unwrap_or(0);
            let right = match said {
                Said::Stored { twice_possible: false } => times == 1,
                Said::Stored { twice_possible: true } => times >= 1,
                Said::NotSent => times == 0,
                Said::Unknown => true,
            };
            assert!(right, "{id} was called {said:?} and is there {times} times");
        }
        assert!(keys.keys().all(|key| self.said.contains_key(key)), "all that is there was sent");
    }
}

/// A load that goes on until it is told to stop.
pub(crate) struct Load {
    ledger: Arc<Mutex<Ledger>>,
    stop: Arc<tokio::sync::Notify>,
    task: tokio::task::JoinHandle<()>,
}

impl Load {
    /// Sends `rate` mails a second, whatever becomes of those before.
    pub(crate) fn start(producer: &Producer, rate: u32) -> Self {
        let (ledger, stop) = (Arc::new(Mutex::new(Ledger::default())), Arc::new(tokio::sync::Notify::new()));
        let (producer, noted, stopped) = (producer.clone(), Arc::clone(&ledger), Arc::clone(&stop));
        let task = tokio::spawn(async move {
            let mut sends = JoinSet::new();
            let mut ticks = interval(Duration::from_secs(1) / rate);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            for number in 0.. {
                tokio::select! {
                    _ = ticks.tick() => {}
                    () = stopped.notified() => break,
                }
                let (producer, noted) = (producer.clone(), Arc::clone(&noted));
                sends.spawn(async move {
                    let id = format!("mail-{number}");
                    let start = Instant::now();
                    let said = said(producer.send(mail(&id)).await);
                    let mut ledger = noted.lock().expect("no panic");
                    ledger.said.insert(id, said);
                    ledger.longest = ledger.longest.max(start.elapsed());
                });
            }
            while let Some(sent) = sends.join_next().await {
                sent.expect("no send panics");
            }
        });
        Self { ledger, stop, task }
    }

    pub(crate) fn so_far(&self) -> Ledger {
        self.ledger.lock().expect("no panic").clone()
    }

    /// Waits until so many more were stored.
    pub(crate) async fn until_stored(&self, more: usize) {
        let start = self.so_far().stored();
        while self.so_far().stored() < start + more {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until something was said of so many more.
    pub(crate) async fn until_said(&self, more: usize) {
        let start = self.so_far().said.len();
        while self.so_far().said.len() < start + more {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn stop(self) -> Ledger {
        self.stop.notify_one();
        self.task.await.expect("no panic");
        self.ledger.lock().expect("no panic").clone()
    }
}

pub(crate) fn said(outcome: Result<postlane::Receipt, SendError>) -> Said {
    match outcome {
        Ok(receipt) => Said::Stored { twice_possible: receipt.twice_possible() },
        Err(SendError::NotPublished { .. } | SendError::Full) => Said::NotSent,
        Err(SendError::OutcomeUnknown { .. }) => Said::Unknown,
        Err(other) => panic!("{other:?}"),
    }
}
