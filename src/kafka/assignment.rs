//! The partitions that this process works on: found, positioned, committed.
//!
//! Owns the group's offsets from the first look at a topic to the last commit. Until membership exists one process
//! works on all partitions. Reading them and what becomes of their records is elsewhere: see [`Partitions`].

mod positions;
pub mod status;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::time::{Instant, MissedTickBehavior, interval, interval_at, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use self::{
    positions::Start,
    status::{Status, Topic},
};
use super::{
    SharedClient,
    coordinator::{self, Commit, Coordinator, Refusal},
    offsets::{Position, Tracker},
    topics::Newborn,
};
use crate::{chain::chain, config::OffsetReset};

/// Bytes of metadata that a broker takes with a commit unless it is configured otherwise.
const METADATA_LIMIT: usize = 4096;
/// Offsets of a group without members expire 7 days after their last commit, even while it works: again every hour.
const COMMIT_AGAIN: Duration = Duration::from_secs(3600);
/// Longest time between two looks for topics while one is missing, or the last look failed.
const DISCOVERY_SOON: Duration = Duration::from_secs(2);
/// Time between two reminders that another program holds the group, or that the brokers do not let us in.
const REMINDER: Duration = Duration::from_secs(60);

/// A partition whose offset is committed: what it would commit now.
pub trait Progress: Send + Sync {
    /// The position with at most `limit` bytes of metadata.
    fn position(&self, limit: usize) -> Position;

    /// The broker has stored this offset.
    fn stored(&self, offset: i64) {
        let _ = offset;
    }

    /// Whether the brokers list the partition: a topic that was made anew may have fewer.
    fn listed(&self, listed: bool) {
        let _ = listed;
    }
}

/// Who works on the partitions that are found.
pub trait Partitions: Send + Sync {
    /// Begins to work on a partition whose start is committed.
    fn start(&self, topic: &Arc<str>, partition: i32, tracker: Tracker) -> Arc<dyn Progress>;
}

/// How the work on partitions is set up.
pub struct Settings {
    /// Topics of the lanes.
    pub topics: Vec<Arc<str>>,
    /// Topic of the dead letters, which is only looked for.
    pub dead_letters: Arc<str>,
    /// Where a topic starts for which the group has no commit at all.
    pub reset: OffsetReset,
    /// Topics that were missing when this process set out to create them; `None` where somebody else creates them.
    pub newborn: Option<Newborn>,
    /// Time between two commits.
    pub commit_interval: Duration,
    /// Time between two looks for new topics and partitions.
    pub discovery_interval: Duration,
}

/// Why the work on partitions cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another program became a member of the group.
    #[error(transparent)]
    LiveMembers(coordinator::Error),
}

/// One partition that is worked on.
struct Owned {
    progress: Arc<dyn Progress>,
    committed: Position,
    committed_at: Instant,
    /// The last commit of it was refused, and that was said.
    refused: bool,
    /// The brokers list it no more. What is settled there is still committed, as far as they take it.
    gone: bool,
}

impl Owned {
    /// Whether an offset that should be stored was not.
    fn lacks_commit(&self) -> bool {
        self.refused && !self.gone
    }
}

/// Finds partitions, hands them out, and commits what they have done.
pub struct Assignment {
    coordinator: Coordinator,
    client: SharedClient,
    settings: Settings,
    partitions: Arc<dyn Partitions>,
    owned: BTreeMap<(Arc<str>, i32), Owned>,
    metadata_limit: usize,
    missing: BTreeSet<Arc<str>>,
    dead_letters_missing: bool,
    /// Topics without any commit when they were first looked at, and where their partitions start.
    fresh: BTreeMap<Arc<str>, OffsetReset>,
    foreign_since: Option<Instant>,
    discovery_failed: bool,
    /// What was last told of brokers that do not let us in, and when.
    refusal: Option<(String, Instant)>,
    commit_failed: bool,
    forgotten: u64,
    status: Arc<Status>,
}

impl Assignment {
    /// Prepares; nothing is asked before [`Assignment::run`].
    pub fn new(
        coordinator: Coordinator,
        client: SharedClient,
        settings: Settings,
        partitions: Arc<dyn Partitions>,
    ) -> Self {
        Self {
            coordinator,
            client,
            settings,
            partitions,
            owned: BTreeMap::new(),
            metadata_limit: METADATA_LIMIT,
            missing: BTreeSet::new(),
            dead_letters_missing: false,
            fresh: BTreeMap::new(),
            foreign_since: None,
            discovery_failed: false,
            refusal: None,
            commit_failed: false,
            forgotten: 0,
            status: Arc::default(),
        }
    }

    /// Where it tells how it fares.
    pub fn status(&self) -> Arc<Status> {
        Arc::clone(&self.status)
    }

    /// Works until `stop` is cancelled.
    ///
    /// # Errors
    ///
    /// [`Error::LiveMembers`] where another program joined the group while its partitions are worked on here.
    pub async fn run(&mut self, stop: &CancellationToken) -> Result<(), Error> {
        // the starts are committed by the first look: the interval counts from here
        let mut commits = interval_at(Instant::now() + self.settings.commit_interval, self.settings.commit_interval);
        commits.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut discover_at = Instant::now();
        loop {
            let step = async {
                tokio::select! {
                    _ = commits.tick() => self.commit().await,
                    () = tokio::time::sleep_until(discover_at) => {
                        let soon = self.discover().await;
                        let interval = self.settings.discovery_interval;
                        discover_at = Instant::now() + if soon { interval.min(DISCOVERY_SOON) } else { interval };
                        Ok(())
                    }
                }
            };
            match stop.run_until_cancelled(step).await {
                None => return Ok(()),
                Some(outcome) => outcome?,
            }
        }
    }

    /// Goes on committing what is being finished, without new partitions, until `stop` is cancelled.
    pub async fn commit_until(&mut self, stop: &CancellationToken) {
        let mut commits = interval(self.settings.commit_interval);
        commits.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let committing = async {
            loop {
                commits.tick().await;
                if let Err(error) = self.commit().await {
                    error!(%error, "offsets cannot be committed any more");
                    return;
                }
            }
        };
        let _ = stop.run_until_cancelled(committing).await;
    }

    /// The last commit, within `limit`. True if all that was settled is committed.
    pub async fn finish(&mut self, limit: Duration) -> bool {
        let outcome = timeout(limit, self.commit()).await;
        let refused = self.owned.values().any(Owned::lacks_commit);
        let complete = matches!(outcome, Ok(Ok(()))) && !self.commit_failed && !refused;
        if complete {
            info!(partitions = self.owned.len(), "offsets are committed");
        } else {
            error!("the last commit failed: mails settled since the one before will be sent again");
        }
        complete
    }

    /// Commits every partition whose position has changed, or was committed long ago.
    async fn commit(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        let mut forgotten = 0;
        let mut due: Vec<(Commit, Position)> = Vec::new();
        for ((topic, partition), owned) in &self.owned {
            let position = owned.progress.position(self.metadata_limit);
            forgotten += position.forgotten;
            if position != owned.committed || now.duration_since(owned.committed_at) >= COMMIT_AGAIN {
                due.push((commit_of(topic, *partition, &position), position));
            }
        }
        if forgotten > 0 && self.forgotten == 0 {
            warn!(
                forgotten,
                "the commits' metadata has no room for all that is settled: a crash now would send these mails again"
            );
        }
        self.status.commit_begins(!due.is_empty(), forgotten.saturating_sub(self.forgotten));
        self.forgotten = forgotten;
        let outcome = self.store(due).await;
        self.status.commit_ends(match &outcome {
            Ok(()) => self.refusal(),
            Err(error) => Err(chain(error)),
        });
        match outcome {
            Ok(()) => {
                if std::mem::take(&mut self.commit_failed) {
                    info!("offsets are committed again");
                }
                Ok(())
            }
            Err(error @ coordinator::Error::LiveMembers { .. }) => Err(Error::LiveMembers(error)),
            Err(error) => {
                if !std::mem::replace(&mut self.commit_failed, true) {
                    warn!(error = chain(&error), "offsets cannot be committed: trying again");
                }
                Ok(())
            }
        }
    }

    /// Stores positions; one whose metadata the broker finds too large is stored without.
    async fn store(&mut self, due: Vec<(Commit, Position)>) -> Result<(), coordinator::Error> {
        let mut bare = Vec::new();
        for (commit, result) in self.try_store(due).await? {
            match result {
                Ok(()) => {}
                Err(Refusal::MetadataTooLarge) => {
                    bare.push((Commit { metadata: String::new(), ..commit.0 }, commit.1));
                }
                Err(refusal) => self.refused(&commit.0, refusal),
            }
        }
        if bare.is_empty() {
            return Ok(());
        }
        self.metadata_limit /= 2;
        warn!(
            partitions = bare.len(),
            limit = self.metadata_limit,
            "the broker accepts less metadata (offset.metadata.max.bytes): committing without it, and with less from now on"
        );
        for (commit, result) in self.try_store(bare).await? {
            if let Err(refusal) = result {
                self.refused(&commit.0, refusal);
            }
        }
        Ok(())
    }

    /// Says once that an offset was not stored; it stays due.
    fn refused(&mut self, commit: &Commit, refusal: Refusal) {
        let owned = self.owned.get_mut(&(Arc::clone(&commit.topic), commit.partition));
        if owned.is_none_or(|owned| !std::mem::replace(&mut owned.refused, true)) {
            warn!(topic = %commit.topic, partition = commit.partition, %refusal, "an offset was not stored: trying again");
        }
    }

    /// Names a partition whose offset was not stored.
    fn refusal(&self) -> Result<(), String> {
        match self.owned.iter().find(|(_, owned)| owned.lacks_commit()) {
            Some(((topic, partition), _)) => Err(format!("the offset of {topic}-{partition} was not stored")),
            None => Ok(()),
        }
    }

    async fn try_store(
        &mut self,
        due: Vec<(Commit, Position)>,
    ) -> Result<Vec<((Commit, Position), Result<(), Refusal>)>, coordinator::Error> {
        let (commits, positions): (Vec<Commit>, Vec<Position>) = due.into_iter().unzip();
        let results = self.coordinator.commit(&commits).await?;
        let mut stored = Vec::with_capacity(commits.len());
        for ((commit, position), settled) in commits.into_iter().zip(positions).zip(results) {
            if settled.result.is_ok()
                && let Some(owned) = self.owned.get_mut(&(Arc::clone(&commit.topic), commit.partition))
            {
                owned.committed = position.clone();
                owned.committed_at = Instant::now();
                owned.refused = false;
                owned.progress.stored(position.offset);
            }
            stored.push(((commit, position), settled.result));
        }
        Ok(stored)
    }

    /// Looks for partitions that are not worked on yet. True if another look is wanted soon.
    async fn discover(&mut self) -> bool {
        match self.try_discover().await {
            Ok(()) => {
                if std::mem::take(&mut self.discovery_failed) {
                    info!("the brokers answer again");
                }
                (self.foreign_since, self.refusal) = (None, None);
                !self.missing.is_empty() || self.dead_letters_missing
            }
            Err(positions::Error::Coordinator(error @ coordinator::Error::LiveMembers { .. })) => {
                if self.foreign_since.is_none_or(|since| since.elapsed() >= REMINDER) {
                    self.status.group_is_in_use(error.to_string());
                    error!(error = %error, "waiting until the group is free; nothing is read or committed before");
                    self.foreign_since = Some(Instant::now());
                }
                true
            }
            Err(error) => {
                let text = chain(&error);
                // a refusal waits for somebody to read of it, also where it follows an outage
                let refused = error.is_refusal() && self.refusal_is_news(&text);
                if !std::mem::replace(&mut self.discovery_failed, true) || refused {
                    warn!(error = text, "the partitions cannot be determined: trying again");
                }
                true
            }
        }
    }

    /// Whether a refusal was not told yet, or not for a while.
    fn refusal_is_news(&mut self, text: &str) -> bool {
        let told = self.refusal.as_ref().is_some_and(|(told, when)| told == text && when.elapsed() < REMINDER);
        if !told {
            self.refusal = Some((text.to_owned(), Instant::now()));
        }
        !told
    }

    async fn try_discover(&mut self) -> Result<(), positions::Error> {
        self.status.turn();
        let listed = self.client.topics().await;
        self.status.listed(listed.as_ref().map(|_| ()).map_err(|error| chain(error)));
        let listed = listed?;
        let dead_letters = Arc::clone(&self.settings.dead_letters);
        let there = listed.contains_key(&*dead_letters);
        self.status.topic(&dead_letters, if there { Topic::Listed } else { Topic::Missing });
        self.dead_letters_missing = !there;
        let mut first_failure = Ok(());
        for topic in self.settings.topics.clone() {
            let Some(partitions) = listed.get(&*topic) else {
                if self.missing.insert(Arc::clone(&topic)) {
                    if self.settings.newborn.is_some() {
                        info!(%topic, "a lane's topic does not exist yet");
                    } else {
                        warn!(%topic, "a lane's topic does not exist: waiting for it");
                    }
                }
                self.mark_listed(&topic, &[]);
                self.status.topic(&topic, Topic::Missing);
                continue;
            };
            self.mark_listed(&topic, partitions);
            if self.missing.remove(&topic) {
                info!(%topic, "a lane's topic exists now");
                // whatever it holds was published while it was waited for
                self.fresh.insert(Arc::clone(&topic), OffsetReset::Earliest);
            }
            let is_new = |partition: &&i32| !self.owned.contains_key(&(Arc::clone(&topic), **partition));
            let new: Vec<i32> = partitions.iter().filter(is_new).copied().collect();
            if new.is_empty() {
                self.status.topic(&topic, Topic::Listed);
                continue;
            }
            // trouble with one topic is none of the others'
            let outcome = self.take_over(&topic, partitions, &new).await;
            self.status
                .topic(&topic, outcome.as_ref().map_or_else(|error| Topic::Failing(chain(error)), |()| Topic::Listed));
            if first_failure.is_ok() {
                first_failure = outcome;
            }
        }
        first_failure
    }

    /// Notes which of a topic's partitions are listed. One that is not goes on being tried, and comes back by itself.
    fn mark_listed(&mut self, topic: &Arc<str>, listed: &[i32]) {
        let all = (Arc::clone(topic), i32::MIN)..=(Arc::clone(topic), i32::MAX);
        for ((_, partition), owned) in self.owned.range_mut(all) {
            let gone = !listed.contains(partition);
            if std::mem::replace(&mut owned.gone, gone) == gone {
                continue;
            }
            owned.progress.listed(!gone);
            if gone {
                warn!(%topic, partition, "a partition is not listed any more: trying on, without counting it");
            } else {
                info!(%topic, partition, "a partition is listed again");
            }
        }
    }

    /// Finds the starts of new partitions of a topic, commits them, and only then hands the partitions out.
    ///
    /// A partition whose start cannot be had now does not hold up the others.
    async fn take_over(&mut self, topic: &Arc<str>, all: &[i32], new: &[i32]) -> Result<(), positions::Error> {
        let committed = self.coordinator.committed(&[(Arc::clone(topic), all.to_vec())]).await?;
        let reset = if committed.iter().all(|commit| commit.offset.is_none()) {
            let newborn = self.settings.newborn.as_ref().is_some_and(|newborn| newborn.contains(topic));
            let reset = if newborn { OffsetReset::Earliest } else { self.settings.reset };
            *self.fresh.entry(Arc::clone(topic)).or_insert(reset)
        } else {
            // what came to a topic that was worked on before came later, unless it belongs to its first start
            self.fresh.get(topic).copied().unwrap_or(OffsetReset::Earliest)
        };
        let new: Vec<_> = committed.into_iter().filter(|commit| new.contains(&commit.partition)).collect();
        let (starts, mut outcome) = positions::starts(&self.client, topic, new, reset).await;
        // the commit also tells whether the group is in use by another program
        let commits: Vec<Commit> = starts
            .iter()
            .map(|start| commit_of(topic, start.partition, &start.tracker.commit(self.metadata_limit)))
            .collect();
        let results = self.coordinator.commit(&commits).await?;
        self.status.group_is_free();
        for (Start { partition, tracker }, settled) in starts.into_iter().zip(results) {
            match settled.result {
                Ok(()) | Err(Refusal::MetadataTooLarge) => {}
                Err(refusal) => {
                    outcome = Err(positions::Error::Refused { topic: Arc::clone(topic), partition, refusal });
                    continue;
                }
            }
            let committed = tracker.commit(self.metadata_limit);
            info!(%topic, partition, offset = tracker.position(), "reading");
            let progress = self.partitions.start(topic, partition, tracker);
            progress.stored(committed.offset);
            let owned = Owned { progress, committed, committed_at: Instant::now(), refused: false, gone: false };
            self.owned.insert((Arc::clone(topic), partition), owned);
        }
        if outcome.is_ok() {
            // the topic has its first start behind it
            self.fresh.insert(Arc::clone(topic), OffsetReset::Earliest);
        }
        outcome
    }
}

fn commit_of(topic: &Arc<str>, partition: i32, position: &Position) -> Commit {
    Commit { topic: Arc::clone(topic), partition, offset: position.offset, metadata: position.metadata.clone() }
}
