//! Says once that letters cannot be written, and once that they can again.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use tracing::{debug, error, info, warn};

use crate::kafka::shared_client::Error;

/// Which part of the writing fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// Finding the topic.
    Topic,
    /// Writing to one of its partitions.
    Partition(i32),
}

/// The parts that fail at the moment. The first and the last of them make the news.
#[derive(Debug, Default)]
pub(super) struct Health {
    failing: Mutex<BTreeSet<Part>>,
}

impl Health {
    /// Whether letters can be written, as far as is known.
    pub(super) fn is_good(&self) -> bool {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    pub(super) fn failing(&self, topic: &str, part: Part, error: &Error) {
        let news = {
            let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
            let first = failing.is_empty();
            failing.insert(part);
            first
        };
        match error {
            _ if !news => debug!(topic, ?part, %error, "still cannot write dead letters"),
            Error::UnknownTopic { .. } => error!(
                topic,
                "the dead letter topic does not exist, or this user may not describe it; postlane does not create \
                 it. Dead letters wait for it, and their records stay uncommitted"
            ),
            _ => warn!(topic, ?part, %error, "cannot write dead letters; their records stay uncommitted; trying again"),
        }
    }

    pub(super) fn recovered(&self, topic: &str, part: Part) {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        if failing.remove(&part) && failing.is_empty() {
            info!(topic, "writing dead letters again");
        }
    }

    /// Makes the end of an attempt forget that `part` fails: where the attempt was given up, nobody knows.
    pub(super) fn attempt(&self, part: Part) -> Attempt<'_> {
        Attempt { health: self, part }
    }
}

/// See [`Health::attempt`].
pub(super) struct Attempt<'a> {
    health: &'a Health,
    part: Part,
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        self.health.failing.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.part);
    }
}
