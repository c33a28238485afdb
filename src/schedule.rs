//! The lanes: which mail is next when a session is free.
//!
//! [`Lanes`] is pure: smooth weighted round-robin over three queues, work-conserving but for the sessions that only the
//! high lane takes. [`Scheduler`] is the same for tasks that wait.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use crate::event::Priority;

/// Three queues and what each is owed.
#[derive(Debug)]
pub struct Lanes<T> {
    queues: [VecDeque<T>; 3],
    weights: [i64; 3],
    /// What a lane that has work is owed; the sum over all lanes is always zero.
    credit: [i64; 3],
    /// Mails of the normal and low lane that are being sent.
    others_in_flight: usize,
    /// The most of them at once.
    others_limit: usize,
}

impl<T> Lanes<T> {
    /// Lanes with weights of 1..=1000; at most `others_limit` mails of the normal and low lane are in flight.
    pub fn new(weights: [u32; 3], others_limit: usize) -> Self {
        Self {
            queues: [VecDeque::new(), VecDeque::new(), VecDeque::new()],
            weights: weights.map(i64::from),
            credit: [0; 3],
            others_in_flight: 0,
            others_limit,
        }
    }

    /// Puts a mail behind the others of its lane.
    pub fn push(&mut self, lane: Priority, item: T) {
        self.queues[lane.index()].push_back(item);
    }

    /// Puts a mail before the others of its lane.
    pub fn push_front(&mut self, lane: Priority, item: T) {
        self.queues[lane.index()].push_front(item);
    }

    /// Mails that wait in a lane.
    pub fn waiting(&self, lane: Priority) -> usize {
        self.queues[lane.index()].len()
    }

    /// The next mail, if one may be sent now. It is in flight until [`Lanes::done`].
    pub fn pop(&mut self) -> Option<(Priority, T)> {
        let fair = self.fairest()?;
        let lane = if fair == Priority::High || self.others_in_flight < self.others_limit {
            self.charge(fair);
            fair
        } else {
            // a session that only the high lane takes: it is no part of the shares
            Priority::High
        };
        let item = self.queues[lane.index()].pop_front()?;
        if lane != Priority::High {
            self.others_in_flight += 1;
        }
        Some((lane, item))
    }

    /// Another mail of a lane in the place of one that was not sent after all: it costs the lane nothing.
    pub fn replace(&mut self, lane: Priority) -> Option<T> {
        self.queues[lane.index()].pop_front()
    }

    /// Whether [`Lanes::pop`] would give a mail.
    pub fn is_ready(&self) -> bool {
        let others = self.others_in_flight < self.others_limit;
        Priority::ALL.iter().any(|lane| self.waiting(*lane) > 0 && (*lane == Priority::High || others))
    }

    /// A mail is no longer in flight.
    pub fn done(&mut self, lane: Priority) {
        if lane != Priority::High {
            self.others_in_flight -= 1;
        }
    }

    /// Most normal and low mails at once; for fewer sessions than configured. True if it was raised.
    pub fn set_others_limit(&mut self, limit: usize) -> bool {
        limit > std::mem::replace(&mut self.others_limit, limit)
    }

    /// The lane that is owed most among those that have work, as it would stand after everyone got its weight.
    fn fairest(&self) -> Option<Priority> {
        Priority::ALL
            .into_iter()
            .filter(|lane| self.waiting(*lane) > 0)
            .max_by_key(|lane| (self.credit[lane.index()] + self.weights[lane.index()], self.weights[lane.index()]))
    }

    /// Every lane with work gets its weight, and the chosen one pays for all. A lane without work is owed nothing.
    fn charge(&mut self, chosen: Priority) {
        let mut total = 0;
        for lane in Priority::ALL {
            if self.waiting(lane) > 0 {
                self.credit[lane.index()] += self.weights[lane.index()];
                total += self.weights[lane.index()];
            } else {
                self.credit[lane.index()] = 0;
            }
        }
        self.credit[chosen.index()] -= total;
    }
}

/// [`Lanes`] that tasks share and wait for.
#[derive(Debug)]
pub struct Scheduler<T> {
    lanes: Mutex<Lanes<T>>,
    ready: Notify,
}

impl<T> Scheduler<T> {
    /// See [`Lanes::new`].
    pub fn new(weights: [u32; 3], others_limit: usize) -> Self {
        Self { lanes: Mutex::new(Lanes::new(weights, others_limit)), ready: Notify::new() }
    }

    /// Puts a mail behind the others of its lane.
    pub fn push(&self, lane: Priority, item: T) {
        self.lock().push(lane, item);
        self.wake();
    }

    /// Puts a mail before the others of its lane.
    pub fn push_front(&self, lane: Priority, item: T) {
        self.lock().push_front(lane, item);
        self.wake();
    }

    /// Waits until a mail could be taken. Another task may be faster: [`Scheduler::take`] says.
    pub async fn ready(&self) {
        loop {
            let notified = self.ready.notified();
            if self.lock().is_ready() {
                return;
            }
            notified.await;
        }
    }

    /// Whether a mail could be taken now.
    pub fn is_ready(&self) -> bool {
        self.lock().is_ready()
    }

    /// Mails that wait in a lane.
    pub fn waiting(&self, lane: Priority) -> usize {
        self.lock().waiting(lane)
    }

    /// The next mail, with the slot that it occupies while it is in flight.
    pub fn take(self: &Arc<Self>) -> Option<(Slot<T>, T)> {
        let (lane, item) = self.lock().pop()?;
        Some((Slot { scheduler: Arc::clone(self), lane }, item))
    }

    /// Wakes the task that began to wait last: its session is the warmest.
    pub fn wake(&self) {
        self.ready.notify_last();
    }

    /// Most normal and low mails in flight at once.
    pub fn set_others_limit(&self, limit: usize) {
        if self.lock().set_others_limit(limit) {
            self.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Lanes<T>> {
        // no method panics between two changes that belong together
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place among the mails in flight; free when dropped.
#[derive(Debug)]
pub struct Slot<T> {
    scheduler: Arc<Scheduler<T>>,
    lane: Priority,
}

impl<T> Slot<T> {
    /// Mails that wait in its lane.
    pub fn waiting(&self) -> usize {
        self.scheduler.lock().waiting(self.lane)
    }

    /// Another mail of the same lane, in the place of one that was not sent after all.
    pub fn replace(&self) -> Option<T> {
        self.scheduler.lock().replace(self.lane)
    }
}

impl<T> Drop for Slot<T> {
    fn drop(&mut self) {
        self.scheduler.lock().done(self.lane);
        if self.lane != Priority::High {
            self.scheduler.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use proptest::prelude::*;

    use super::*;

    fn full(weights: [u32; 3], each: usize) -> Lanes<usize> {
        let mut lanes = Lanes::new(weights, usize::MAX);
        for lane in Priority::ALL {
            for item in 0..each {
                lanes.push(lane, item);
            }
        }
        lanes
    }

    #[test]
    fn a_lane_alone_gets_everything() {
        let mut lanes = Lanes::new([6, 3, 1], 16);
        for item in 0..10 {
            lanes.push(Priority::Low, item);
        }
        assert_eq!((0..10).map(|_| lanes.pop().unwrap().1).collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
        assert_eq!(lanes.pop(), None);
    }

    #[test]
    fn an_idle_lane_saves_nothing_up() {
        let mut lanes = full([1, 1, 1], 100);
        while lanes.waiting(Priority::Low) > 0 {
            lanes.pop();
        }
        let mut lanes = Lanes::new([1, 1, 1], usize::MAX);
        for item in 0..1000 {
            lanes.push(Priority::Low, item);
        }
        for _ in 0..500 {
            lanes.pop();
        }
        for item in 0..100 {
            lanes.push(Priority::High, item);
        }
        let high = (0..100).filter(|_| lanes.pop().unwrap().0 == Priority::High).count();
        assert!((49..=51).contains(&high), "{high}");
    }

    #[test]
    fn reserved_sessions_are_for_the_high_lane_alone() {
        let mut lanes = Lanes::new([6, 3, 1], 2);
        for item in 0..10 {
            lanes.push(Priority::Low, item);
            lanes.push(Priority::Normal, item);
        }
        assert!(lanes.pop().is_some());
        assert!(lanes.pop().is_some());
        assert!(!lanes.is_ready());
        assert_eq!(lanes.pop(), None);
        lanes.push(Priority::High, 99);
        assert!(lanes.is_ready());
        assert_eq!(lanes.pop(), Some((Priority::High, 99)));
        lanes.done(Priority::High);
        assert_eq!(lanes.pop(), None, "the high lane's session is not for the others");
        lanes.done(Priority::Low);
        assert!(lanes.pop().is_some());
    }

    #[test]
    fn high_mails_taken_out_of_turn_do_not_cost_the_high_lane_its_share() {
        let mut lanes = full([6, 3, 1], 10_000);
        lanes.set_others_limit(0);
        for _ in 0..1000 {
            assert_eq!(lanes.pop().unwrap().0, Priority::High);
        }
        lanes.set_others_limit(usize::MAX);
        let high = (0..100).filter(|_| lanes.pop().unwrap().0 == Priority::High).count();
        assert!(high >= 58, "{high}");
    }

    #[tokio::test]
    async fn a_task_waits_for_work_and_for_a_slot() {
        let scheduler = Arc::new(Scheduler::new([6, 3, 1], 1));
        let waiting = tokio::spawn({
            let scheduler = Arc::clone(&scheduler);
            async move {
                scheduler.ready().await;
                scheduler.take().unwrap().1
            }
        });
        tokio::task::yield_now().await;
        scheduler.push(Priority::Low, 1);
        assert_eq!(waiting.await.unwrap(), 1);
        scheduler.push(Priority::Low, 2);
        scheduler.push(Priority::Low, 3);
        let (slot, _) = scheduler.take().unwrap();
        assert!(scheduler.take().is_none());
        let waiting = tokio::spawn({
            let scheduler = Arc::clone(&scheduler);
            async move { scheduler.ready().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(slot);
        waiting.await.unwrap();
    }

    proptest! {
        #[test]
        fn every_window_has_the_shares(weights in [1..20_u32, 1..20_u32, 1..20_u32]) {
            let mut lanes = full(weights, 6000);
            let total = f64::from(weights.iter().sum::<u32>());
            let order: Vec<usize> = (0..5000).map_while(|_| lanes.pop()).map(|(lane, _)| lane.index()).collect();
            let full = order.len().min(5000);
            for window in order[..full].windows(1000).step_by(37) {
                for (index, weight) in weights.iter().enumerate() {
                    let count = window.iter().filter(|lane| **lane == index).count();
                    let share = f64::from(u32::try_from(count).unwrap()) / 1000.0;
                    prop_assert!((share - f64::from(*weight) / total).abs() < 0.004, "{index}: {share}");
                }
            }
        }

        #[test]
        fn work_is_never_held_back(steps in proptest::collection::vec((0..4_u8, 0..3_usize), 1..400)) {
            let mut lanes = Lanes::new([6, 3, 1], 4);
            let mut flying = Vec::new();
            for (step, index) in steps {
                match step {
                    0 | 1 => lanes.push(Priority::ALL[index], ()),
                    2 => {
                        let others = flying.iter().filter(|lane| **lane != Priority::High).count();
                        let possible = lanes.waiting(Priority::High) > 0
                            || (others < 4 && lanes.waiting(Priority::Normal) + lanes.waiting(Priority::Low) > 0);
                        prop_assert_eq!(lanes.is_ready(), possible);
                        let popped = lanes.pop();
                        prop_assert_eq!(popped.is_some(), possible);
                        flying.extend(popped.map(|(lane, ())| lane));
                    }
                    _ => if let Some(lane) = flying.pop() { lanes.done(lane) },
                }
            }
        }
    }
}
