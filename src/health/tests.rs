#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod standstill;

use std::time::Duration;

use super::*;
use crate::{
    kafka::{
        assignment::status::{Brokers, Topic},
        fetch::Halt,
    },
    pipeline::Reading,
    smtp::relay::{GateReport, Relay},
};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn topic(name: &str) -> Arc<str> {
    name.into()
}

fn vitals() -> Vitals {
    Vitals {
        reading: Reading::Asking(Duration::ZERO),
        halted: None,
        in_flight: 0,
        lag: Some(0),
        due: false,
        oldest: Duration::ZERO,
        lost: 0,
        gone: false,
    }
}

/// A service in which all is in order, with two partitions in each lane.
pub(crate) fn facts() -> Facts {
    let topics = Topics { lanes: ["h", "n", "l"].map(topic), dead_letters: topic("d") };
    let mut assignment = Status::default().report();
    assignment.brokers = Brokers::Answering;
    assignment.listed = Some(seconds(30));
    assignment.group_answered = true;
    for name in ["h", "n", "l", "d"] {
        assignment.topics.insert(topic(name), Topic::Listed);
    }
    let partition = |lane: Priority, number| PartitionFacts {
        topic: Arc::clone(&topics.lanes[lane.index()]),
        number,
        lane,
        vitals: vitals(),
    };
    Facts {
        partitions: Priority::ALL.into_iter().flat_map(|lane| [partition(lane, 0), partition(lane, 1)]).collect(),
        topics,
        draining: false,
        assignment,
        relay: Relay::new(16, 2, seconds(900)).report(),
        waiting: [0; 3],
        takeable: false,
        letters_written: true,
        spans_dropped: 0,
        fetch_patience: seconds(7),
    }
}

fn reasons(facts: &Facts) -> Vec<String> {
    let readiness = facts.readiness();
    assert_eq!(readiness.ready(), readiness.reasons().is_empty());
    readiness.reasons()
}

#[test]
fn a_service_in_order_is_ready() {
    let facts = facts();
    assert_eq!(reasons(&facts), [""; 0]);
    let json: serde_json::Value = serde_json::from_str(&facts.readiness().to_json()).unwrap();
    assert_eq!(json["ready"], true);
    assert_eq!(json["checks"]["broker"], serde_json::json!({"ready": true}));
    assert_eq!(json["checks"]["relay"]["note"], "not tried yet: no mail was accepted since the start");
    let names: Vec<&String> = json["checks"].as_object().unwrap().keys().collect();
    assert_eq!(names, ["broker", "dead_letters", "group", "lane_high", "lane_low", "lane_normal", "relay"]);
}

#[test]
fn a_service_that_has_just_started_says_what_it_waits_for() {
    let mut facts = facts();
    facts.partitions.clear();
    facts.assignment = Status::default().report();
    assert_eq!(
        reasons(&facts),
        [
            "broker: none has answered yet",
            "group: its coordinator has not answered yet",
            "lane_high: topic h was not looked for yet",
            "lane_normal: topic n was not looked for yet",
            "lane_low: topic l was not looked for yet",
        ]
    );
    facts.assignment.brokers = Brokers::Silent("no route".to_owned());
    assert_eq!(reasons(&facts)[0], "broker: no route");
}

#[test]
fn brokers_are_gone_when_none_answers_and_a_lane_stands_when_one_does_not() {
    let gone = |mut facts: Facts, which: &[usize], vitals: Vitals| {
        for index in which {
            facts.partitions[*index].vitals = vitals.clone();
        }
        reasons(&facts)
    };
    let unavailable = Vitals { halted: Some((Halt::Unavailable, seconds(3))), ..vitals() };
    let silent = Vitals { reading: Reading::Asking(seconds(8)), ..vitals() };
    let slow = Vitals { reading: Reading::Asking(seconds(6)), ..vitals() };
    for (vitals, why) in
        [(unavailable, "n-0 cannot be read since 3s: its broker is away"), (silent, "n-0 has had no answer since 8s")]
    {
        assert_eq!(gone(facts(), &[2], vitals.clone()), [format!("lane_normal: {why}")]);
        let all = gone(facts(), &[0, 1, 2, 3, 4, 5], vitals);
        assert_eq!(all.len(), 4, "{all:?}");
        assert!(all[0].starts_with("broker: h-0 "), "{all:?}");
        assert!(all[2].starts_with(&format!("lane_normal: {why} (and 1 more)")), "{all:?}");
    }
    assert_eq!(gone(facts(), &[0, 1, 2, 3, 4, 5], slow), [""; 0]);
    // a record that cannot be decoded was sent by a broker that answers
    let undecodable = Vitals { halted: Some((Halt::Undecodable, seconds(90))), reading: Reading::Answered, ..vitals() };
    let all = gone(facts(), &[4], undecodable);
    assert_eq!(
        all,
        ["lane_low: l-0 stands still since 1m30s: what stands there cannot be decoded; the log says where"]
    );
}

#[test]
fn where_nothing_is_asked_the_last_look_and_the_commit_tell_of_the_brokers() {
    let mut facts = facts();
    for partition in &mut facts.partitions {
        partition.vitals.reading = Reading::Answered;
    }
    assert!(facts.broker().ready);
    // what a partition waits for, and why the brokers are gone
    let mut denied = facts.clone();
    denied.partitions[0].vitals.halted = Some((Halt::Denied, seconds(4)));
    denied.assignment.brokers = Brokers::Silent("the login is refused".to_owned());
    let expected = "h-0 cannot be read since 4s: the broker denies it; the login is refused";
    assert_eq!(denied.broker().detail.as_deref(), Some(expected));

    facts.assignment.brokers = Brokers::Silent("gone".to_owned());
    assert_eq!(facts.broker().detail.as_deref(), Some("gone"));
    facts.assignment.brokers = Brokers::Answering;
    facts.assignment.commit_waits = Some(seconds(7));
    assert_eq!(reasons(&facts), ["broker: a commit waits since 7s", "group: a commit waits since 7s"]);
    // one that is asked and answers knows better
    facts.partitions[3].vitals.reading = Reading::Asking(seconds(1));
    assert!(facts.broker().ready);
}

#[test]
fn each_part_gives_its_reason() {
    let mut facts = facts();
    facts.draining = true;
    facts.assignment.commit_failure = Some("no coordinator".to_owned());
    facts.assignment.topics.insert(topic("l"), Topic::Missing);
    facts.assignment.topics.insert(topic("n"), Topic::Failing("no offsets".to_owned()));
    facts.letters_written = false;
    facts.relay.gate =
        GateReport::Shut { since: seconds(3700), why: "refused".to_owned(), retry_in: Some(seconds(61)) };
    assert_eq!(
        reasons(&facts),
        [
            "shutting down",
            "group: offsets cannot be committed: no coordinator",
            "lane_normal: no offsets",
            "lane_low: topic l does not exist, or this user may not describe it",
            "relay: down since 1h01m, tried again in 1m01s: refused",
            "dead_letters: topic d cannot be written; the log says why",
        ]
    );
    facts.assignment.group_in_use = Some("somebody else".to_owned());
    facts.assignment.topics.insert(topic("d"), Topic::Missing);
    let reasons = reasons(&facts);
    assert_eq!(reasons[1], "group: somebody else");
    assert_eq!(reasons[5], "dead_letters: topic d does not exist, or this user may not describe it");
}

#[test]
fn commits_have_an_age_only_while_something_is_due() {
    let mut facts = facts();
    facts.assignment.clean = seconds(9);
    assert_eq!(facts.commit_age(), Duration::ZERO);
    facts.partitions[1].vitals.due = true;
    assert_eq!(facts.commit_age(), seconds(9));
    facts.partitions[1].vitals.due = false;
    facts.assignment.due = true;
    assert_eq!(facts.commit_age(), seconds(9));
}

#[test]
fn partitions_of_a_topic_that_is_gone_are_not_counted() {
    let mut facts = facts();
    assert_eq!(facts.present_partitions().count(), 6);
    facts.assignment.topics.insert(topic("n"), Topic::Missing);
    assert!(facts.present_partitions().all(|partition| &*partition.topic != "n"));
    assert_eq!(facts.present_partitions().count(), 4);
}

#[test]
fn brokers_that_answer_are_not_away_because_the_lanes_topics_are() {
    let mut facts = facts();
    for name in ["h", "n", "l"] {
        facts.assignment.topics.insert(topic(name), Topic::Missing);
    }
    for partition in &mut facts.partitions {
        partition.vitals.halted = Some((Halt::Unavailable, seconds(40)));
    }
    assert_eq!(facts.broker().detail, None);
}

#[test]
fn brokers_that_say_that_there_is_no_such_partition_answer() {
    let mut facts = facts();
    for partition in &mut facts.partitions {
        partition.vitals.halted = Some((Halt::NotListed, seconds(4)));
        partition.vitals.reading = Reading::Answered;
    }
    assert_eq!(facts.broker().detail, None);
    let all = reasons(&facts);
    assert_eq!(all.len(), 3, "{all:?}");
    let why = "the brokers do not list it, or this user may not describe its topic (and 1 more)";
    assert_eq!(all[1], format!("lane_normal: n-0 stands still since 4s: {why}"));
    // where nobody tells that any more, they are gone
    for partition in &mut facts.partitions {
        partition.vitals.reading = Reading::Asking(seconds(8));
    }
    assert_eq!(facts.broker().detail.as_deref(), Some("h-0 has had no answer since 8s"));
}

#[test]
fn an_answered_look_counts_if_it_came_after_the_trouble_began_and_is_fresh() {
    let away = |since: u64, listed: u64| {
        let mut facts = facts();
        facts.assignment.listed = Some(seconds(listed));
        for partition in &mut facts.partitions {
            partition.vitals.halted = Some((Halt::Unavailable, seconds(since)));
        }
        !facts.broker().ready
    };
    assert!(away(3, 4) && away(3, 3) && !away(4, 3) && !away(900, 59) && away(900, 60));
    let silent = |since: u64, listed: u64| {
        let mut facts = facts();
        facts.assignment.listed = Some(seconds(listed));
        for partition in &mut facts.partitions {
            partition.vitals.reading = Reading::Asking(seconds(since));
        }
        !facts.broker().ready
    };
    assert!(silent(8, 7) && silent(20, 7) && !silent(20, 5));
    let mut facts = facts();
    facts.assignment.listed = Some(seconds(1));
    facts.assignment.brokers = Brokers::Silent("gone".to_owned());
    for partition in &mut facts.partitions {
        partition.vitals.halted = Some((Halt::Unavailable, seconds(9)));
    }
    assert!(!facts.broker().ready, "a later look was not answered");
}

#[test]
fn a_partition_that_is_gone_is_neither_missed_nor_counted() {
    let mut facts = facts();
    let gone = &mut facts.partitions[3].vitals;
    (gone.gone, gone.due) = (true, true);
    gone.halted = Some((Halt::NotListed, seconds(90)));
    facts.assignment.clean = seconds(9);
    assert_eq!(reasons(&facts), [""; 0]);
    assert_eq!((facts.present_partitions().count(), facts.commit_age()), (5, Duration::ZERO));
    facts.partitions[3].vitals.gone = false;
    assert_eq!(reasons(&facts).len(), 1);
}
