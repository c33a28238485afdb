//! Which sends have not been answered yet, so that somebody can wait for them.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

/// The sends under way.
#[derive(Debug, Default)]
pub(super) struct Pending {
    state: Mutex<State>,
    ended: Notify,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    under_way: BTreeSet<u64>,
    closed: bool,
}

/// One send under way, until this is dropped.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    pending: &'a Pending,
    number: u64,
}

impl Pending {
    /// `None` once [`close`](Self::close) was called.
    pub(super) fn enter(&self) -> Option<Entry<'_>> {
        let mut state = self.lock();
        if state.closed {
            return None;
        }
        let number = state.next;
        state.next += 1;
        state.under_way.insert(number);
        Some(Entry { pending: self, number })
    }

    /// Lets no more in.
    pub(super) fn close(&self) {
        self.lock().closed = true;
    }

    /// Waits for all that have entered before.
    pub(super) async fn flush(&self) {
        let until = self.lock().next;
        loop {
            let ended = self.ended.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            if self.lock().under_way.first().is_none_or(|first| *first >= until) {
                return;
            }
            ended.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.pending.lock().under_way.remove(&self.number);
        self.pending.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flush_waits_for_what_came_before_and_not_for_what_comes_after() {
        let pending = Arc::new(Pending::default());
        let first = pending.enter().expect("open");
        let flush = tokio::spawn({
            let pending = Arc::clone(&pending);
            async move { pending.flush().await }
        });
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        assert!(!flush.is_finished());
        let _later = pending.enter().expect("open");
        drop(first);
        flush.await.expect("no panic");
        pending.close();
        assert!(pending.enter().is_none());
    }
}
