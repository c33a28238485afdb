//! What the work on partitions tells of itself: which topics are there, how the group answers, how commits fare.
//!
//! Written by the assignment alone, read by whoever wants to know.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// What is known of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Topic {
    /// The brokers do not list it.
    Missing,
    /// It is there; its partitions are worked on as far as they can be.
    Listed,
    /// It is there, but some of its partitions cannot be begun.
    Failing(String),
}

/// What is known of the brokers as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Brokers {
    /// None of them has answered since the start.
    Unheard,
    /// The last question was answered.
    Answering,
    /// The last question was not answered.
    Silent(String),
}

/// What is known at one moment.
#[derive(Debug, Clone)]
pub struct Report {
    /// The brokers, as the last look for topics found them.
    pub brokers: Brokers,
    /// How long ago they listed their topics last.
    pub listed: Option<Duration>,
    /// Lanes and dead letters by topic, after the first look at them.
    pub topics: BTreeMap<Arc<str>, Topic>,
    /// Whether the group's coordinator has answered since the start.
    pub group_answered: bool,
    /// Another program uses the group: who.
    pub group_in_use: Option<String>,
    /// Why the last commit failed.
    pub commit_failure: Option<String>,
    /// For how long the commit waits that is on its way.
    pub commit_waits: Option<Duration>,
    /// Since when all that is settled was committed last, as far as was looked.
    pub clean: Duration,
    /// Whether something is to be committed that the last commit did not store.
    pub due: bool,
    /// How long ago the work on partitions went on to its next step.
    pub turned: Duration,
    /// Commits that were stored.
    pub commits_ok: u64,
    /// Commits that failed, at least for one partition.
    pub commits_failed: u64,
    /// Records that were settled beyond a commit and for which its metadata had no room.
    pub forgotten: u64,
}

#[derive(Debug)]
struct State {
    report: Report,
    listed: Option<Instant>,
    commit_begun: Option<Instant>,
    clean: Instant,
    turned: Instant,
}

/// Shared between the assignment and those who want to know.
#[derive(Debug)]
pub struct Status(Mutex<State>);

impl Default for Status {
    fn default() -> Self {
        let now = Instant::now();
        let report = Report {
            brokers: Brokers::Unheard,
            listed: None,
            topics: BTreeMap::new(),
            group_answered: false,
            group_in_use: None,
            commit_failure: None,
            commit_waits: None,
            clean: Duration::ZERO,
            due: false,
            turned: Duration::ZERO,
            commits_ok: 0,
            commits_failed: 0,
            forgotten: 0,
        };
        Self(Mutex::new(State { report, listed: None, commit_begun: None, clean: now, turned: now }))
    }
}

impl Status {
    /// What is known now.
    pub fn report(&self) -> Report {
        let state = self.lock();
        let now = Instant::now();
        Report {
            listed: state.listed.map(|listed| now.duration_since(listed)),
            commit_waits: state.commit_begun.map(|begun| now.duration_since(begun)),
            clean: now.duration_since(state.clean),
            turned: now.duration_since(state.turned),
            ..state.report.clone()
        }
    }

    /// The next step begins.
    pub(crate) fn turn(&self) {
        self.lock().turned = Instant::now();
    }

    /// The brokers have listed their topics, or failed to.
    pub(super) fn listed(&self, outcome: Result<(), String>) {
        let mut state = self.lock();
        let now = Instant::now();
        state.report.brokers = match outcome {
            Ok(()) => {
                state.listed = Some(now);
                Brokers::Answering
            }
            Err(why) => Brokers::Silent(why),
        };
        state.turned = now;
    }

    pub(super) fn topic(&self, name: &Arc<str>, topic: Topic) {
        let mut state = self.lock();
        state.report.topics.insert(Arc::clone(name), topic);
        state.turned = Instant::now();
    }

    /// The coordinator answers, and nobody else uses the group.
    pub(super) fn group_is_free(&self) {
        let mut state = self.lock();
        state.report.group_answered = true;
        state.report.group_in_use = None;
    }

    pub(super) fn group_is_in_use(&self, by: String) {
        let mut state = self.lock();
        state.report.group_answered = true;
        state.report.group_in_use = Some(by);
    }

    /// A commit begins; `due` says whether there is anything to be stored, `forgotten` counts what has newly no room.
    pub(super) fn commit_begins(&self, due: bool, forgotten: u64) {
        let mut state = self.lock();
        let now = Instant::now();
        state.turned = now;
        state.report.forgotten += forgotten;
        state.report.due = due;
        if due {
            state.commit_begun = Some(now);
        } else {
            state.clean = now;
        }
    }

    /// The commit that began last has ended.
    pub(super) fn commit_ends(&self, outcome: Result<(), String>) {
        let mut state = self.lock();
        let now = Instant::now();
        state.turned = now;
        let was_due = state.commit_begun.take().is_some();
        match outcome {
            Ok(()) => {
                state.report.commits_ok += u64::from(was_due);
                state.report.commit_failure = None;
                state.report.due = false;
                state.clean = now;
            }
            Err(why) => {
                state.report.commits_failed += u64::from(was_due);
                state.report.commit_failure = Some(why);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // no method panics between two changes that belong together
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
