//! What `serve` does about topics beside its work: creates missing ones where it may, and warns of dangerous settings.
//!
//! Owns when that happens and that each fact is said once. Delays nothing: reading and sending go on meanwhile.

use std::{collections::BTreeSet, time::Duration};

use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::{Admin, Cluster, Creation, Error, Newborn, Wanted, findings};
use crate::{chain::chain, delay::Delays, kafka::client::Connector};

/// Time between two looks while nothing is missing.
const SELDOM: Duration = Duration::from_secs(3600);
/// Time between two looks while a topic is missing that somebody else has to create.
const WAITING: Duration = Duration::from_secs(30);
/// First and longest delay after a look that failed, or a creation that was refused.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(60);

/// Looks at the topics now and then until the service ends.
pub struct Watch {
    connector: Connector,
    wanted: Vec<Wanted>,
    create: bool,
    newborn: Newborn,
    said: Said,
    refused: Said,
    unreadable: bool,
}

/// When to look again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Retry,
    Waiting,
    Seldom,
}

impl Watch {
    /// Watches these topics; missing ones are created if `create`, and noted in `newborn` before.
    pub fn new(connector: Connector, wanted: Vec<Wanted>, create: bool, newborn: Newborn) -> Self {
        Self { connector, wanted, create, newborn, said: Said::default(), refused: Said::default(), unreadable: false }
    }

    /// Works until `stop` is cancelled.
    pub async fn run(mut self, stop: CancellationToken) {
        let _ = stop.run_until_cancelled(self.work()).await;
    }

    async fn work(&mut self) {
        let mut delays = Delays::doubling(FIRST_RETRY, LAST_RETRY);
        loop {
            let next = self.look().await.unwrap_or_else(|error| {
                // who reads and commits has said so already
                debug!(error = chain(&error), "the topics cannot be looked at");
                Next::Retry
            });
            let pause = match next {
                Next::Retry => delays.advance(),
                Next::Waiting => WAITING,
                Next::Seldom => SELDOM,
            };
            if next != Next::Retry {
                delays.reset();
            }
            tokio::time::sleep(pause).await;
        }
    }

    async fn look(&mut self) -> Result<Next, Error> {
        let mut admin = Admin::open(&self.connector).await?;
        let names: Vec<String> = self.wanted.iter().map(|wanted| wanted.name.to_string()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut cluster = admin.cluster(&names).await?;
        let missing: Vec<Wanted> =
            self.wanted.iter().filter(|wanted| cluster.is_missing(&wanted.name)).cloned().collect();
        let mut next = if missing.is_empty() { Next::Seldom } else { Next::Waiting };
        if self.create && !missing.is_empty() {
            for wanted in &missing {
                self.newborn.insert(&wanted.name);
            }
            let all_there = self.say_created(&admin.create(&cluster, &missing, false).await?);
            cluster = admin.cluster(&names).await?;
            // a topic that was just made may not be known to this broker yet
            let known = missing.iter().all(|wanted| !cluster.is_missing(&wanted.name));
            next = if all_there && known { Next::Seldom } else { Next::Retry };
        }
        self.warn(&mut admin, &cluster).await?;
        Ok(next)
    }

    /// Says what became of the wishes, each refusal once. True if all of the topics exist now.
    fn say_created(&mut self, creations: &[Creation]) -> bool {
        let sentences = creations.iter().filter_map(|it| it.result.as_ref().err()).map(ToString::to_string);
        let new = self.refused.replace(sentences.collect());
        for Creation { topic, result } in creations {
            match result {
                Ok(true) => info!(%topic, "created"),
                Ok(false) => debug!(%topic, "somebody else has created it"),
                Err(refusal) if new.contains(&refusal.to_string()) => {
                    error!(%topic, error = %refusal, "a topic cannot be created: trying again");
                }
                Err(refusal) => debug!(%topic, error = %refusal, "a topic still cannot be created"),
            }
        }
        self.refused.is_empty()
    }

    async fn warn(&mut self, admin: &mut Admin, cluster: &Cluster) -> Result<(), Error> {
        let (seen, unreadable) = admin.seen(cluster, &self.wanted).await?;
        if let Some((topic, code)) = unreadable.first()
            && !std::mem::replace(&mut self.unreadable, true)
        {
            info!(%topic, %code, "the settings of topics cannot be looked at (DESCRIBE_CONFIGS)");
        }
        let findings = findings(&seen, cluster.brokers.len());
        let new = self.said.replace(findings.iter().map(ToString::to_string).collect());
        for finding in findings {
            let sentence = finding.to_string();
            if new.contains(&sentence) {
                warn!(topic = %finding.topic, advice = finding.advice(), "{sentence}");
            }
        }
        Ok(())
    }
}

/// Sentences that hold, each of which is said when it begins to.
#[derive(Debug, Default)]
pub(super) struct Said(BTreeSet<String>);

impl Said {
    /// Takes what holds now, and returns what of it did not hold before.
    pub(super) fn replace(&mut self, now: BTreeSet<String>) -> BTreeSet<String> {
        let new = now.difference(&self.0).cloned().collect();
        self.0 = now;
        new
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
