//! Topics that were missing when this process set out to create them.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

/// Names of topics that did not exist when they were first looked at: all that they hold is to be read, whatever the
/// setting for topics without a commit says. Cheap to clone; all clones are the same set.
#[derive(Debug, Clone, Default)]
pub struct Newborn(Arc<Mutex<BTreeSet<Arc<str>>>>);

impl Newborn {
    /// Notes a topic, before it is asked for.
    pub fn insert(&self, topic: &Arc<str>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(Arc::clone(topic));
    }

    /// Whether the topic was noted.
    pub fn contains(&self, topic: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(topic)
    }
}
