//! Where the mails of a test are kept.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use super::{Failure, Sent};
use crate::{config, email::Prepared, producer::SendError, template::Templates};

/// Keeps what a producer was given.
pub(crate) struct Store {
    templates: Arc<Templates>,
    settings: Arc<config::Mail>,
    /// Whether a mail that cannot be rendered is refused.
    checks: bool,
    state: Mutex<State>,
    count: watch::Sender<usize>,
}

#[derive(Default)]
struct State {
    sent: Vec<Sent>,
    failure: Option<Failure>,
    /// How often; `None` is always.
    times: Option<usize>,
}

impl Store {
    pub(super) fn new(templates: Templates, settings: config::Mail, checks: bool) -> Self {
        let (templates, settings) = (Arc::new(templates), Arc::new(settings));
        Self { templates, settings, checks, state: Mutex::default(), count: watch::Sender::new(0) }
    }

    /// Takes a mail, unless it is to fail; gives its id.
    pub(crate) fn take(&self, prepared: Prepared) -> Result<String, SendError> {
        if self.checks {
            prepared.check_with(&self.templates, &self.settings)?;
        }
        let id = prepared.id.clone();
        let mut state = self.lock();
        let failure = state.next_failure();
        if failure.is_none_or(|failure| failure == Failure::OutcomeUnknown) {
            state.sent.push(Sent::new(prepared, Arc::clone(&self.templates), Arc::clone(&self.settings)));
            self.count.send_replace(state.sent.len());
        }
        let why = "the test wants it so".to_owned();
        match failure {
            None => Ok(id),
            Some(Failure::Full) => Err(SendError::Full),
            Some(Failure::NotPublished) => Err(SendError::NotPublished { id, why }),
            Some(Failure::OutcomeUnknown) => Err(SendError::OutcomeUnknown { id, why }),
            Some(Failure::Refused) => Err(SendError::Refused { id, why }),
            Some(Failure::Setup) => Err(SendError::Setup { id, why }),
        }
    }

    pub(super) fn all(&self) -> Vec<Sent> {
        self.lock().sent.clone()
    }

    pub(super) fn clear(&self) {
        self.lock().sent.clear();
        self.count.send_replace(0);
    }

    /// Waits for that many mails.
    pub(super) async fn reached(&self, count: usize) {
        let mut counts = self.count.subscribe();
        _ = counts.wait_for(|&there| there >= count).await;
    }

    pub(super) fn fail(&self, failure: Failure, times: Option<usize>) {
        let mut state = self.lock();
        (state.failure, state.times) = (Some(failure), times);
    }

    pub(super) fn recover(&self) {
        self.lock().failure = None;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn next_failure(&mut self) -> Option<Failure> {
        let failure = self.failure?;
        if let Some(times) = &mut self.times {
            *times = times.saturating_sub(1);
            if *times == 0 {
                self.failure = None;
            }
        }
        Some(failure)
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("mails", &self.lock().sent.len()).finish_non_exhaustive()
    }
}
