//! One test for each row of the outcome table.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use chrono::TimeZone;
use serde_json::Map;

use super::*;
use crate::event::Priority;

const MINUTE: Duration = Duration::from_secs(60);

fn settings() -> config::Retry {
    config::Retry {
        max_attempts: 3,
        max_attempts_limit: 10,
        initial_delay: MINUTE,
        multiplier: 5.0,
        jitter: 0.0,
        max_delay: 15 * MINUTE,
    }
}

fn message() -> Message {
    Message {
        kind: "notification".to_owned(),
        id: "m".to_owned(),
        from: None,
        to: vec!["a@example.com".parse().unwrap()],
        cc: Vec::new(),
        bcc: Vec::new(),
        reply_to: Vec::new(),
        subject: None,
        template: "plain".to_owned(),
        data: Map::new(),
        headers: Vec::new(),
        priority: Priority::Normal,
        timestamp: Utc.timestamp_opt(0, 0).unwrap(),
        expires_at: None,
        retry_count: 0,
        max_retries: None,
        only_recipients: None,
    }
}

fn attempts() -> Attempts {
    Attempts::new(&message(), [0], &settings())
}

fn now() -> Now {
    Now { instant: Instant::now(), time: Utc.timestamp_opt(1_000_000, 0).unwrap(), accepted: 0 }
}

fn later(seconds: i64, accepted: u64) -> Now {
    let start = now();
    Now {
        instant: start.instant + Duration::from_secs(seconds.unsigned_abs()),
        time: start.time + chrono::Duration::seconds(seconds),
        accepted,
    }
}

fn reply(code: u16, text: &str) -> Reply {
    Reply::new(code, text)
}

fn deferred() -> Class {
    Class::Deferred(reply(451, "4.7.1 later"))
}

fn sent() -> Class {
    Class::Sent(reply(250, "2.0.0 queued as 1"))
}

fn refused(at_mail: bool) -> Class {
    Class::Refused { reply: reply(550, "5.1.1 unknown"), at_mail }
}

fn throttled() -> Class {
    Class::Throttled(reply(452, "4.3.1 full"))
}

fn unknown() -> Class {
    Class::OutcomeUnknown { detail: "no answer".to_owned() }
}

fn broken_off() -> Class {
    Class::BrokenOff { reply: None, detail: "hung up".to_owned() }
}

fn dead(decision: &Decision) -> (Reason, Option<Vec<usize>>, Option<u16>) {
    match decision {
        Decision::DeadLetter(ending) => {
            (ending.reason, ending.recipients.clone(), ending.reply.as_ref().map(|reply| reply.code))
        }
        other => panic!("{other:?} is no dead letter"),
    }
}

#[test]
fn sent_settles() {
    let mut attempts = attempts();
    assert_eq!(attempts.conclude(vec![(0, sent())], now()), Decision::Sent);
    assert_eq!(attempts.used(), 1);
    assert_eq!(attempts.accepted().unwrap().code, 250);
}

#[test]
fn deferred_is_tried_three_times_with_growing_delays() {
    let mut attempts = attempts();
    assert_eq!(attempts.conclude(vec![(0, deferred())], now()), Decision::Wait(MINUTE));
    assert_eq!(attempts.begin(now()), None);
    assert_eq!(attempts.conclude(vec![(0, deferred())], now()), Decision::Wait(5 * MINUTE));
    let end = attempts.conclude(vec![(0, deferred())], now());
    assert_eq!(dead(&end), (Reason::RetriesExhausted, None, Some(451)));
    assert_eq!(attempts.used(), 3);
}

#[test]
fn refused_is_a_dead_letter_at_once() {
    let mut attempts = attempts();
    let end = attempts.conclude(vec![(0, refused(false))], now());
    assert_eq!(dead(&end), (Reason::Rejected, None, Some(550)));
    assert_eq!(attempts.used(), 1);
}

#[test]
fn refused_at_mail_waits_for_the_others_to_tell() {
    let mut attempts = attempts();
    assert_eq!(attempts.conclude(vec![(0, refused(true))], now()), Decision::Suspect);
    assert_eq!(attempts.used(), 0);
    assert_eq!(dead(&attempts.refused()), (Reason::Rejected, None, Some(550)));
}

#[test]
fn too_large_for_the_relay_is_a_dead_letter() {
    let end = attempts().conclude(vec![(0, Class::TooLarge { limit: 10 })], now());
    assert_eq!(dead(&end).0, Reason::TooLarge);
}

#[test]
fn relay_down_costs_nothing() {
    let mut attempts = attempts();
    for _ in 0..100 {
        let down = Class::RelayDown(reply(530, "5.7.0 authenticate first"));
        assert_eq!(attempts.conclude(vec![(0, down)], now()), Decision::RelayDown);
        assert_eq!(attempts.begin(now()), None);
    }
    assert_eq!(attempts.used(), 0);
}

#[test]
fn a_mail_that_alone_is_locked_out_is_not_tried_for_ever() {
    let down = || vec![(0, Class::RelayDown(reply(530, "5.7.0 authenticate first")))];
    let mut attempts = attempts();
    assert_eq!(attempts.conclude(down(), later(0, 0)), Decision::RelayDown);
    for used in 1..=2 {
        assert!(matches!(attempts.conclude(down(), later(0, u64::from(used))), Decision::Wait(_)));
        assert_eq!(attempts.used(), used);
    }
    assert_eq!(dead(&attempts.conclude(down(), later(0, 9))), (Reason::RetriesExhausted, None, Some(530)));
}

#[test]
fn an_interrupted_attempt_costs_nothing() {
    let mut attempts = Attempts::new(&message(), [0, 1], &settings());
    assert_eq!(attempts.interrupt(vec![(0, sent())], now()), Decision::AtOnce);
    assert_eq!(attempts.open().collect::<Vec<_>>(), [1]);
    assert_eq!(attempts.used(), 0);
}

#[test]
fn an_interrupted_attempt_counts_what_was_seen_of_the_others() {
    let mut attempts = Attempts::new(&message(), [0, 1], &settings());
    assert_eq!(attempts.interrupt(vec![(0, unknown())], now()), Decision::Wait(MINUTE));
    assert_eq!(attempts.used(), 1);
    assert_eq!(attempts.open().collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn another_outcome_ends_a_lock_out() {
    let down = || vec![(0, Class::RelayDown(reply(530, "5.7.0 authenticate first")))];
    let mut attempts = attempts();
    assert_eq!(attempts.conclude(down(), later(0, 0)), Decision::RelayDown);
    assert_eq!(attempts.conclude(vec![(0, deferred())], later(0, 5)), Decision::Wait(MINUTE));
    assert!(!attempts.is_locked_out_alone(later(0, 9)));
    assert_eq!(attempts.conclude(down(), later(0, 9)), Decision::RelayDown);
}

#[test]
fn broken_off_is_free_while_the_relay_takes_nothing_else() {
    let mut attempts = attempts();
    for _ in 0..20 {
        assert!(matches!(attempts.conclude(vec![(0, broken_off())], now()), Decision::Wait(_)));
        assert_eq!(attempts.begin(now()), None);
    }
    assert_eq!(attempts.used(), 0);
}

#[test]
fn broken_off_costs_an_attempt_once_another_mail_was_accepted() {
    let mut attempts = attempts();
    for accepted in 1..=2 {
        assert!(matches!(attempts.conclude(vec![(0, broken_off())], later(0, accepted - 1)), Decision::Wait(_)));
        assert_eq!(attempts.begin(later(0, accepted)), None);
    }
    assert_eq!(attempts.used(), 2);
    assert!(matches!(attempts.conclude(vec![(0, broken_off())], later(0, 2)), Decision::Wait(_)));
    assert_eq!(dead(&attempts.begin(later(0, 3)).unwrap()), (Reason::RetriesExhausted, None, None));
}

#[test]
fn an_unknown_outcome_always_costs_and_is_named_at_the_end() {
    let mut attempts = attempts();
    assert_eq!(attempts.conclude(vec![(0, unknown())], now()), Decision::Wait(MINUTE));
    assert_eq!(attempts.conclude(vec![(0, unknown())], now()), Decision::Wait(5 * MINUTE));
    assert_eq!(dead(&attempts.conclude(vec![(0, unknown())], now())), (Reason::OutcomeUnknown, None, None));
}

#[test]
fn one_unknown_outcome_among_others_is_named_at_the_end() {
    let mut attempts = attempts();
    attempts.conclude(vec![(0, unknown())], now());
    attempts.conclude(vec![(0, deferred())], now());
    assert_eq!(dead(&attempts.conclude(vec![(0, deferred())], now())).0, Reason::OutcomeUnknown);
}

#[test]
fn throttling_is_free_for_an_hour() {
    let mut attempts = attempts();
    for minute in 0..59 {
        assert!(matches!(attempts.conclude(vec![(0, throttled())], later(60 * minute, 7)), Decision::Wait(_)));
    }
    assert_eq!(attempts.used(), 0);
}

#[test]
fn throttling_for_an_hour_while_others_are_accepted_costs_attempts() {
    let mut attempts = attempts();
    assert!(matches!(attempts.conclude(vec![(0, throttled())], later(0, 7)), Decision::Wait(_)));
    assert!(matches!(attempts.conclude(vec![(0, throttled())], later(3601, 7)), Decision::Wait(_)));
    assert_eq!(attempts.used(), 0, "nobody else was accepted");
    for used in 1..=2 {
        assert!(matches!(attempts.conclude(vec![(0, throttled())], later(3602, 8)), Decision::Wait(_)));
        assert_eq!(attempts.used(), used);
    }
    assert_eq!(dead(&attempts.conclude(vec![(0, throttled())], later(3603, 8))).0, Reason::RetriesExhausted);
}

#[test]
fn another_outcome_ends_the_hour_of_throttling() {
    let mut attempts = attempts();
    attempts.conclude(vec![(0, throttled())], later(0, 0));
    attempts.conclude(vec![(0, deferred())], later(1800, 0));
    attempts.conclude(vec![(0, throttled())], later(3700, 9));
    assert_eq!(attempts.used(), 1);
}

#[test]
fn only_the_recipients_that_were_deferred_are_tried_again() {
    let mut attempts = Attempts::new(&message(), [0, 1, 2], &settings());
    let first = attempts.conclude(vec![(0, sent()), (1, deferred()), (2, refused(false))], now());
    assert_eq!(first, Decision::Wait(MINUTE));
    assert_eq!(attempts.open().collect::<Vec<_>>(), [1]);
    let end = attempts.conclude(vec![(1, sent())], now());
    assert_eq!(dead(&end), (Reason::Rejected, Some(vec![2]), Some(550)), "not the 451 to another recipient");
}

#[test]
fn the_likeliest_to_heal_names_the_dead_letter() {
    let mut attempts = Attempts::new(&message(), [0, 1, 2], &settings());
    attempts.conclude(vec![(0, sent()), (1, deferred()), (2, refused(false))], now());
    attempts.conclude(vec![(1, deferred())], now());
    let end = attempts.conclude(vec![(1, deferred())], now());
    assert_eq!(dead(&end), (Reason::RetriesExhausted, Some(vec![1, 2]), Some(451)));
}

#[test]
fn all_failed_recipients_are_no_part() {
    let mut attempts = Attempts::new(&message(), [0, 1], &settings());
    let end = attempts.conclude(vec![(0, refused(false)), (1, refused(false))], now());
    assert_eq!(dead(&end).1, None);
}

#[test]
fn expired_before_an_attempt() {
    let message = Message { expires_at: Some(now().time), ..message() };
    let mut attempts = Attempts::new(&message, [0], &settings());
    assert_eq!(dead(&attempts.begin(now()).unwrap()), (Reason::Expired, None, None));
    let mut attempts = Attempts::new(&message, [0], &settings());
    assert_eq!(attempts.begin(later(-1, 0)), None);
}

#[test]
fn expired_before_the_next_attempt() {
    let expiry = now().time + chrono::Duration::seconds(60);
    let mut attempts = Attempts::new(&Message { expires_at: Some(expiry), ..message() }, [0], &settings());
    assert_eq!(dead(&attempts.conclude(vec![(0, deferred())], now())), (Reason::Expired, None, Some(451)));
    let expiry = expiry + chrono::Duration::seconds(1);
    let mut attempts = Attempts::new(&Message { expires_at: Some(expiry), ..message() }, [0], &settings());
    assert_eq!(attempts.conclude(vec![(0, deferred())], now()), Decision::Wait(MINUTE));
}

#[test]
fn attempts_of_others_count_but_one_is_always_made() {
    for retry_count in [2, 3, 100, u32::MAX] {
        let mut attempts = Attempts::new(&Message { retry_count, ..message() }, [0], &settings());
        assert_eq!(attempts.begin(now()), None);
        assert_eq!(dead(&attempts.conclude(vec![(0, deferred())], now())).0, Reason::RetriesExhausted);
    }
}

#[test]
fn a_mail_may_ask_for_more_or_fewer_attempts_within_the_limit() {
    for (asked, allowed) in [(Some(1), 1), (Some(5), 5), (Some(10), 10), (Some(5000), 10), (None, 3)] {
        let mut attempts = Attempts::new(&Message { max_retries: asked, ..message() }, [0], &settings());
        let made = 1
            + (0..100)
                .take_while(|_| matches!(attempts.conclude(vec![(0, deferred())], now()), Decision::Wait(_)))
                .count();
        assert_eq!(made, allowed, "{asked:?}");
    }
}
