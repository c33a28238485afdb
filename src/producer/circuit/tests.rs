//! When it opens, and how it closes.

use proptest::prelude::*;

use super::*;

fn trouble(why: &str) -> Trouble {
    Trouble { why: why.into(), setup: false }
}

fn fail(circuit: &mut Circuit, now: Instant) -> Option<Opened> {
    let leave = circuit.admit(now).expect("it asks Kafka");
    circuit.failed(leave, trouble("no answer"), now)
}

fn open(now: Instant) -> Circuit {
    let mut circuit = Circuit::new();
    for _ in 1..FAILURES {
        assert_eq!(fail(&mut circuit, now), None);
    }
    assert_eq!(fail(&mut circuit, now), Some(Opened::First));
    let probe = circuit.probe_at().expect("open");
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
        let leave = circuit.admit(now).expect("it asks Kafka");
        assert_eq!(circuit.answered(leave, now), None);
    }
    let mut circuit = open(now);
    let outage = circuit.admit(now).expect_err("open");
    assert_eq!((&*outage.trouble.why, outage.since), ("no answer", now));
}

#[test]
fn a_probe_lets_one_mail_through_and_its_answer_all() {
    let now = Instant::now();
    let mut circuit = open(now);
    let later = now + Duration::from_secs(1);
    circuit.probed(Err(trouble("refused")), later);
    assert!(circuit.probe_at().expect("another one") > later + Duration::from_millis(800), "the delays grow");
    assert_eq!(&*circuit.admit(now).expect_err("open").trouble.why, "refused");
    circuit.probed(Ok(()), later);
    assert_eq!(circuit.probe_at(), None);
    let trial = circuit.admit(now).expect("one");
    circuit.admit(now).expect_err("and no other");
    assert!(!circuit.is_closed());
    assert_eq!(circuit.answered(trial, later), Some(Duration::from_secs(1)));
    assert!(circuit.is_closed() && circuit.admit(now).is_ok() && circuit.admit(now).is_ok());
}

#[test]
fn a_trial_that_fails_costs_one_caller_and_the_delays_go_on_growing() {
    let now = Instant::now();
    let mut circuit = open(now);
    let mut delay = Duration::ZERO;
    for _ in 0..2 {
        circuit.probed(Ok(()), now);
        let trial = circuit.admit(now).expect("one");
        assert_eq!(circuit.failed(trial, trouble("not enough replicas"), now), Some(Opened::Again));
        let next = circuit.probe_at().expect("open again") - now;
        assert!(next > delay, "{next:?} after {delay:?}");
        delay = next;
        assert_eq!(circuit.admit(now).expect_err("open").since, now);
    }
}

#[test]
fn what_waits_while_others_are_answered_does_not_count() {
    let now = Instant::now();
    let mut circuit = Circuit::new();
    for round in 0..10 {
        let now = now + Duration::from_secs(round);
        let slow = circuit.admit(now).expect("it asks Kafka");
        let quick = circuit.admit(now).expect("it asks Kafka");
        circuit.answered(quick, now + Duration::from_millis(5));
        assert_eq!(circuit.failed(slow, trouble("one leader is gone"), now + Duration::from_millis(900)), None);
    }
    assert!(circuit.is_closed());
}

#[test]
fn a_trial_that_is_given_up_lets_the_next_one_go() {
    let now = Instant::now();
    let mut circuit = open(now);
    circuit.probed(Ok(()), now);
    let trial = circuit.admit(now).expect("one");
    circuit.released(trial);
    assert!(circuit.admit(now).is_ok());
}

#[test]
fn what_was_begun_before_opens_nothing_again_but_its_answer_closes() {
    let now = Instant::now();
    let mut circuit = Circuit::new();
    let old: Vec<_> = (0..10).map(|_| circuit.admit(now).expect("it asks Kafka")).collect();
    for _ in 0..FAILURES {
        fail(&mut circuit, now);
    }
    circuit.probed(Ok(()), now);
    let mut old = old.into_iter();
    for leave in old.by_ref().take(9) {
        assert_eq!(circuit.failed(leave, trouble("late"), now), None);
    }
    assert!(circuit.admit(now).is_ok(), "the trial");
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
                Step::Admit => match circuit.admit(now) {
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
                    if circuit.failed(out.swap_remove(at), trouble("no answer"), now).is_some() {
                        probe_due = true;
                        prop_assert!(!was_closed || in_a_row >= FAILURES);
                    }
                },
                Step::Release(number) => if let Some(at) = index(number, &out) {
                    circuit.released(out.swap_remove(at));
                },
                Step::Probe(good) => {
                    circuit.probed(if good { Ok(()) } else { Err(trouble("no")) }, now);
                    probe_due &= !good;
                }
            }
            prop_assert_eq!(circuit.probe_at().is_some(), probe_due, "an open circuit has its next probe");
            let trials = out.iter().filter(|leave| leave.trial && leave.epoch == circuit.epoch).count();
            prop_assert!(trials <= 1, "{} mails are tried at once", trials);
        }
        // in whatever state it is, a probe and an answered mail close it
        for leave in out {
            circuit.released(leave);
        }
        circuit.probed(Ok(()), now);
        let leave = circuit.admit(now).expect("a mail may be tried");
        circuit.answered(leave, now);
        prop_assert!(circuit.is_closed());
    }
}
