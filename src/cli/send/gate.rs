//! What happens while the brokers are away: everybody waits, one tries, and after a while all give up.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

/// Time before the first further try.
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// Longest time between two tries.
const LONGEST_DELAY: Duration = Duration::from_secs(5);

/// How an outage stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outage {
    /// Since when.
    pub(super) since: Instant,
    /// What the last try gave.
    pub(super) why: String,
}

#[derive(Debug)]
struct Trouble {
    outage: Outage,
    probing: bool,
    delay: Duration,
}

/// Nobody gets on any more: it took too long, or the run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Closed;

/// Holds those up whose event was not taken.
#[derive(Debug)]
pub(super) struct Gate {
    trouble: Mutex<Option<Trouble>>,
    away: AtomicBool,
    closed: AtomicBool,
    changed: Notify,
    give_up_after: Duration,
}

impl Gate {
    /// Open; an outage may last so long.
    pub(super) fn new(give_up_after: Duration) -> Self {
        Self {
            trouble: Mutex::default(),
            away: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            changed: Notify::new(),
            give_up_after,
        }
    }

    /// Something was taken: an outage is over.
    pub(super) fn passed(&self) {
        if self.away.load(Ordering::Relaxed) {
            *self.trouble() = None;
            self.away.store(false, Ordering::Relaxed);
            self.changed.notify_waiters();
        }
    }

    /// Waits after something was not taken, until it is worth another try. Of all that wait one tries while the others
    /// wait for it; `probing` is what this returned to the same caller the last time.
    pub(super) async fn wait(&self, why: &str, mut probing: bool) -> Result<bool, Closed> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // from here on nothing is missed
            changed.as_mut().enable();
            if self.is_closed() {
                return Err(Closed);
            }
            let now = Instant::now();
            let pause = {
                let mut trouble = self.trouble();
                let trouble = trouble.get_or_insert_with(|| {
                    self.away.store(true, Ordering::Relaxed);
                    let outage = Outage { since: now, why: why.to_owned() };
                    Trouble { outage, probing: false, delay: FIRST_DELAY }
                });
                if now.duration_since(trouble.outage.since) >= self.give_up_after {
                    None
                } else if probing || !trouble.probing {
                    trouble.probing = true;
                    if trouble.outage.why != why {
                        why.clone_into(&mut trouble.outage.why);
                    }
                    let pause = trouble.delay;
                    trouble.delay = (pause * 2).min(LONGEST_DELAY);
                    let left = self.give_up_after.saturating_sub(now.duration_since(trouble.outage.since));
                    Some(Some(pause.min(left)))
                } else {
                    Some(None)
                }
            };
            match pause {
                None => {
                    self.close();
                    return Err(Closed);
                }
                Some(Some(pause)) => {
                    probing = true;
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        () = changed => {}
                    }
                    return if self.is_closed() { Err(Closed) } else { Ok(probing) };
                }
                Some(None) => {
                    changed.await;
                    if self.outage().is_none() && !self.is_closed() {
                        return Ok(false);
                    }
                }
            }
        }
    }

    /// Lets all go that wait, without another try.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.changed.notify_waiters();
    }

    /// Whether it was closed.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// The outage, if there is one.
    pub(super) fn outage(&self) -> Option<Outage> {
        if !self.away.load(Ordering::Relaxed) {
            return None;
        }
        self.trouble().as_ref().map(|trouble| trouble.outage.clone())
    }

    fn trouble(&self) -> MutexGuard<'_, Option<Trouble>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, atomic::AtomicUsize};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    /// Sends until it is taken; the brokers are back at a time.
    async fn send(gate: Arc<Gate>, back: Instant, tries: Arc<AtomicUsize>) -> Result<Instant, Closed> {
        let mut probing = false;
        loop {
            tries.fetch_add(1, Ordering::Relaxed);
            if Instant::now() >= back {
                gate.passed();
                return Ok(Instant::now());
            }
            probing = gate.wait("away", probing).await?;
        }
    }

    async fn run(count: usize, away: Duration) -> (Vec<Result<Duration, Closed>>, usize) {
        let (gate, tries) = (Arc::new(Gate::new(LIMIT)), Arc::new(AtomicUsize::new(0)));
        let start = Instant::now();
        let sends: Vec<_> =
            (0..count).map(|_| tokio::spawn(send(Arc::clone(&gate), start + away, Arc::clone(&tries)))).collect();
        let mut ends = Vec::new();
        for send in sends {
            ends.push(send.await.expect("no panic").map(|end| end - start));
        }
        assert_eq!(gate.outage().is_none(), ends.iter().all(Result::is_ok));
        (ends, tries.load(Ordering::Relaxed))
    }

    #[tokio::test(start_paused = true)]
    async fn all_go_on_when_one_has_got_through_and_only_one_tries() {
        let (ends, tries) = run(1000, Duration::from_secs(20)).await;
        let longest = ends.into_iter().map(|end| end.expect("taken")).max().expect("some");
        assert!(longest <= Duration::from_secs(20) + LONGEST_DELAY, "{longest:?}");
        // each once before and once after, and a try at each delay
        assert!(tries <= 2000 + 12, "{tries}");
    }

    #[tokio::test(start_paused = true)]
    async fn after_the_limit_all_give_up() {
        let start = Instant::now();
        let (ends, _) = run(10, Duration::from_secs(3600)).await;
        assert!(ends.iter().all(|end| *end == Err(Closed)), "{ends:?}");
        assert_eq!(start.elapsed(), LIMIT);
    }

    #[tokio::test(start_paused = true)]
    async fn closing_lets_all_go_at_once() {
        let (gate, tries) = (Arc::new(Gate::new(LIMIT)), Arc::new(AtomicUsize::new(0)));
        let start = Instant::now();
        let back = start + Duration::from_secs(3600);
        let sends: Vec<_> = (0..10).map(|_| tokio::spawn(send(Arc::clone(&gate), back, Arc::clone(&tries)))).collect();
        tokio::time::sleep(Duration::from_secs(3)).await;
        gate.close();
        for send in sends {
            assert_eq!(send.await.expect("no panic"), Err(Closed));
        }
        assert_eq!(start.elapsed(), Duration::from_secs(3));
    }
}
