//! Whether Kafka is asked at all: a dead one must not cost every caller `PUBLISH_TIMEOUT`.
//!
//! Pure: the time comes in. After [`FAILURES`] publishes in a row without an answer the circuit is open, and nobody waits for
//! Kafka. Probes that are no mails look whether it is back; then one mail at a time is tried, until one was answered.

use std::time::Duration;

use tokio::time::Instant;

use crate::delay::Delays;

/// Publishes in a row without an answer that open the circuit.
pub(super) const FAILURES: u32 = 3;
/// The first delay before a probe, and the longest.
const PROBES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));

#[derive(Debug)]
pub(super) struct Circuit {
    state: State,
    /// Counts how often the state changed: what was begun before says nothing about Kafka now, unless it is an answer.
    epoch: u64,
    delays: Delays,
}

#[derive(Debug)]
enum State {
    /// Mails go to Kafka. So many in a row had no answer.
    Closed(u32),
    /// None does.
    Open(Outage),
    /// A probe got through: one mail at a time does; whether one is on its way.
    Trying(Outage, bool),
}

/// Why nobody waits for Kafka.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outage {
    /// Since when.
    pub(super) since: Instant,
    /// What was seen last.
    pub(super) why: String,
}

/// Leave to ask Kafka for one mail; it must come back by one of the methods that take it.
#[derive(Debug)]
#[must_use]
pub(super) struct Leave {
    epoch: u64,
    trial: bool,
}

impl Circuit {
    pub(super) fn new() -> Self {
        Self { state: State::Closed(0), epoch: 0, delays: Delays::new(PROBES.0, 2.0, 0.1, PROBES.1) }
    }

    /// Whether Kafka is to be asked for one more mail.
    pub(super) fn admit(&mut self) -> Result<Leave, Outage> {
        let trial = match &mut self.state {
            State::Closed(_) => false,
            State::Trying(_, busy @ false) => {
                *busy = true;
                true
            }
            State::Trying(outage, true) | State::Open(outage) => return Err(outage.clone()),
        };
        Ok(Leave { epoch: self.epoch, trial })
    }

    /// Kafka has answered, whatever it said; how long nobody waited for it, if it is asked again from now on.
    pub(super) fn answered(&mut self, _: Leave, now: Instant) -> Option<Duration> {
        self.delays.reset();
        let was = std::mem::replace(&mut self.state, State::Closed(0));
        match was {
            State::Closed(_) => None,
            State::Open(outage) | State::Trying(outage, _) => {
                self.epoch += 1;
                Some(now.duration_since(outage.since))
            }
        }
    }

    /// Kafka has not answered in time; when to send the first probe, if nobody waits for it from now on.
    pub(super) fn failed(&mut self, leave: Leave, why: &str, now: Instant) -> Option<Instant> {
        if leave.epoch != self.epoch {
            return None;
        }
        let since = match &mut self.state {
            State::Closed(failures) => {
                *failures += 1;
                if *failures < FAILURES {
                    return None;
                }
                now
            }
            State::Trying(outage, _) => outage.since,
            State::Open(_) => return None,
        };
        self.state = State::Open(Outage { since, why: why.to_owned() });
        self.epoch += 1;
        Some(now + self.delays.advance())
    }

    /// Nothing came of it, for a reason that is not Kafka's.
    pub(super) fn released(&mut self, leave: Leave) {
        if let State::Trying(_, busy) = &mut self.state
            && leave.trial
            && leave.epoch == self.epoch
        {
            *busy = false;
        }
    }

    /// What came of a probe; when to send the next one, if it takes one.
    pub(super) fn probed(&mut self, outcome: Result<(), String>, now: Instant) -> Option<Instant> {
        let State::Open(outage) = &mut self.state else { return None };
        match outcome {
            Ok(()) => {
                self.state = State::Trying(outage.clone(), false);
                self.epoch += 1;
                None
            }
            Err(why) => {
                outage.why = why;
                Some(now + self.delays.advance())
            }
        }
    }

    /// Whether mails go to Kafka without being tried one at a time.
    pub(super) fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed(_))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fail(circuit: &mut Circuit, now: Instant) -> Option<Instant> {
        let leave = circuit.admit().expect("it asks Kafka");
        circuit.failed(leave, "no answer", now)
    }

    fn open(now: Instant) -> Circuit {
        let mut circuit = Circuit::new();
        for _ in 1..FAILURES {
            assert_eq!(fail(&mut circuit, now), None);
        }
        let probe = fail(&mut circuit, now).expect("open");
        assert!((now + Duration::from_millis(400)..now + Duration::from_millis(600)).contains(&probe));
        circuit
    }

    #[test]
    fn a_few_in_a_row_open_it_and_nobody_waits() {
        let now = Instant::now();
        let mut circuit = Circuit::new();
        for _ in 0..10 {
            for _ in 1..FAILURES {
                assert_eq!(fail(&mut circuit, now), None);
            }
            let leave = circuit.admit().expect("it asks Kafka");
            assert_eq!(circuit.answered(leave, now), None);
        }
        let mut circuit = open(now);
        let outage = circuit.admit().expect_err("open");
        assert_eq!((outage.why.as_str(), outage.since), ("no answer", now));
    }

    #[test]
    fn a_probe_lets_one_mail_through_and_its_answer_all() {
        let now = Instant::now();
        let mut circuit = open(now);
        let later = now + Duration::from_secs(1);
        let next = circuit.probed(Err("refused".to_owned()), later).expect("another one");
        assert!(next > later + Duration::from_millis(800), "the delays grow");
        assert_eq!(circuit.admit().expect_err("open").why, "refused");
        assert_eq!(circuit.probed(Ok(()), later), None);
        let trial = circuit.admit().expect("one");
        circuit.admit().expect_err("and no other");
        assert!(!circuit.is_closed());
        assert_eq!(circuit.answered(trial, later), Some(Duration::from_secs(1)));
        assert!(circuit.is_closed() && circuit.admit().is_ok() && circuit.admit().is_ok());
    }

    #[test]
    fn a_trial_that_fails_costs_one_caller_and_the_delays_go_on_growing() {
        let now = Instant::now();
        let mut circuit = open(now);
        let mut delay = Duration::ZERO;
        for _ in 0..4 {
            assert_eq!(circuit.probed(Ok(()), now), None);
            let trial = circuit.admit().expect("one");
            let next = circuit.failed(trial, "not enough replicas", now).expect("open again") - now;
            assert!(next > delay, "{next:?} after {delay:?}");
            delay = next;
            assert_eq!(circuit.admit().expect_err("open").since, now);
        }
    }

    #[test]
    fn a_trial_that_is_given_up_lets_the_next_one_go() {
        let now = Instant::now();
        let mut circuit = open(now);
        circuit.probed(Ok(()), now);
        let trial = circuit.admit().expect("one");
        circuit.released(trial);
        assert!(circuit.admit().is_ok());
    }

    #[test]
    fn what_was_begun_before_opens_nothing_again_but_its_answer_closes() {
        let now = Instant::now();
        let mut circuit = Circuit::new();
        let old: Vec<_> = (0..10).map(|_| circuit.admit().expect("it asks Kafka")).collect();
        for _ in 0..FAILURES {
            fail(&mut circuit, now);
        }
        circuit.probed(Ok(()), now);
        let mut old = old.into_iter();
        for leave in old.by_ref().take(9) {
            assert_eq!(circuit.failed(leave, "late", now), None);
        }
        assert!(circuit.admit().is_ok(), "the trial");
        let last = old.next().expect("the tenth");
        assert!(circuit.answered(last, now).is_some());
        assert!(circuit.is_closed());
    }

    #[derive(Debug, Clone)]
    enum Step {
        Admit,
        Answer(usize),
        Fail(usize),
        Release(usize),
        Probe(bool),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => Just(Step::Admit),
            1 => any::<usize>().prop_map(Step::Answer),
            3 => any::<usize>().prop_map(Step::Fail),
            1 => any::<usize>().prop_map(Step::Release),
            1 => any::<bool>().prop_map(Step::Probe),
        ]
    }

    proptest! {
        #[test]
        fn whatever_happens_it_opens_for_a_reason_and_can_close(steps in prop::collection::vec(step(), 0..200)) {
            let mut now = Instant::now();
            let (mut circuit, mut out) = (Circuit::new(), Vec::new());
            let mut in_a_row = 0;
            let mut probe_due = false;
            for step in steps {
                now += Duration::from_millis(10);
                let was_closed = circuit.is_closed();
                let index = |number: usize, out: &Vec<Leave>| (!out.is_empty()).then(|| number % out.len());
                match step {
                    Step::Admit => match circuit.admit() {
                        Ok(leave) => {
                            prop_assert!(was_closed || (leave.trial && !probe_due));
                            out.push(leave);
                        }
                        Err(_) => prop_assert!(!was_closed),
                    },
                    Step::Answer(number) => if let Some(at) = index(number, &out) {
                        circuit.answered(out.swap_remove(at), now);
                        (in_a_row, probe_due) = (0, false);
                        prop_assert!(circuit.is_closed());
                    },
                    Step::Fail(number) => if let Some(at) = index(number, &out) {
                        in_a_row += 1;
                        if circuit.failed(out.swap_remove(at), "no answer", now).is_some() {
                            probe_due = true;
                            prop_assert!(!was_closed || in_a_row >= FAILURES);
                        }
                    },
                    Step::Release(number) => if let Some(at) = index(number, &out) {
                        circuit.released(out.swap_remove(at));
                    },
                    Step::Probe(good) => {
                        let next = circuit.probed(if good { Ok(()) } else { Err("no".to_owned()) }, now);
                        prop_assert_eq!(next.is_some(), probe_due && !good, "an open circuit has its next probe");
                        probe_due &= !good;
                    }
                }
                let trials = out.iter().filter(|leave| leave.trial && leave.epoch == circuit.epoch).count();
                prop_assert!(trials <= 1, "{} mails are tried at once", trials);
            }
            // in whatever state it is, a probe and an answered mail close it
            out.into_iter().for_each(|leave| circuit.released(leave));
            circuit.probed(Ok(()), now);
            let leave = circuit.admit().expect("a mail may be tried");
            circuit.answered(leave, now);
            prop_assert!(circuit.is_closed());
        }
    }
}
