#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::sync::Mutex;

use futures::FutureExt;
use tokio::time::advance;

use super::*;
use crate::{
    config::RateLimit,
    smtp::relay::tests::{limited_to, pass},
};

/// When each of so many mails may go, sent one after the other without taking any time.
pub(in super::super) async fn paced(relay: &Arc<Relay>, mails: usize) -> Vec<Duration> {
    let start = Instant::now();
    let mut times = Vec::new();
    for _ in 0..mails {
        relay.pace().await.begin();
        times.push(start.elapsed());
    }
    times
}

#[tokio::test(start_paused = true)]
async fn a_limit_holds_for_all_sessions_together() {
    let limit = RateLimit { count: 10, per: Duration::from_secs(1) };
    let relay = limited_to(Some(limit));
    assert_eq!(relay.rate(), Some(10.0));
    let start = Instant::now();
    let mut sessions = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let relay = Arc::clone(&relay);
        sessions.spawn(async move {
            let mut times = Vec::new();
            for _ in 0..5 {
                let mut permit = relay.pace().await;
                permit.begin();
                times.push(start.elapsed());
                tokio::time::sleep(Duration::from_millis(7)).await;
            }
            times
        });
    }
    let mut times: Vec<Duration> = sessions.join_all().await.concat();
    times.sort();
    assert_eq!(times.len(), 80);
    for window in times.windows(11) {
        let span = window[10].saturating_sub(window[0]);
        assert!(span >= limit.per, "eleven within {span:?}");
    }
    assert!(times[79] < Duration::from_millis(8200), "{:?}", times[79]);
}

#[tokio::test(start_paused = true)]
async fn who_gives_up_waiting_or_sends_nothing_costs_nothing() {
    let limit = RateLimit { count: 6, per: Duration::from_secs(60) };
    let relay = limited_to(Some(limit));
    paced(&relay, 1).await;
    assert!(relay.pace().now_or_never().is_none(), "ten seconds to the next");
    advance(Duration::from_secs(10)).await;
    for _ in 0..5 {
        assert!(relay.pace().now_or_never().is_some(), "dropped without a mail");
    }
    relay.pace().await.begin();
    assert!(relay.pace().now_or_never().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_session_that_hangs_while_it_is_opened_does_not_stop_the_others() {
    let limit = RateLimit { count: 1, per: Duration::from_secs(1) };
    let relay = limited_to(Some(limit));
    // its worker waits for the banner of a session, for up to SMTP_GREETING_TIMEOUT
    let opening = relay.pace().await;
    let others = tokio::time::timeout(Duration::from_secs(50), async { relay.pace().await.begin() }).await;
    drop(opening);
    assert!(others.is_ok(), "fifteen workers with sessions sent nothing for fifty seconds");
}

#[tokio::test(start_paused = true)]
async fn mails_go_evenly_when_the_relay_is_back() {
    let limit = RateLimit { count: 600, per: Duration::from_secs(60) };
    let relay = limited_to(Some(limit));
    let pass = pass(&relay);
    relay.down(pass, "gone");
    let begun = Arc::new(Mutex::new(Vec::new()));
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let (relay, begun) = (Arc::clone(&relay), Arc::clone(&begun));
        // as a worker does
        workers.spawn(async move {
            let pass = relay.admit().await;
            if pass.is_probe() {
                tokio::time::sleep(Duration::from_secs(5)).await;
            }
            relay.pace().await.begin();
            begun.lock().unwrap().push(Instant::now());
            relay.answered(pass);
        });
    }
    while workers.join_next().await.is_some() {}
    let mut begun = begun.lock().unwrap().clone();
    begun.sort();
    let span = begun[15] - begun[0];
    assert!(span >= Duration::from_millis(1300), "sixteen mails of ten a second within {span:?}");
}

#[tokio::test(start_paused = true)]
async fn a_further_transaction_of_a_mail_waits_for_few_turns_behind_a_backlog() {
    let limit = RateLimit { count: 600, per: Duration::from_secs(60) };
    let relay = limited_to(Some(limit));
    let mut workers = tokio::task::JoinSet::new();
    for worker in 0..15_u64 {
        let relay = Arc::clone(&relay);
        // a backlog of other mails, each of which takes the relay 200 to 500 ms
        workers.spawn(async move {
            let mut random = worker + 1;
            loop {
                let mut permit = relay.pace().await;
                permit.begin();
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                tokio::time::sleep(Duration::from_millis(200 + (random >> 33) % 300)).await;
            }
        });
    }
    let mut longest = Duration::ZERO;
    for _ in 0..200 {
        tokio::time::sleep(Duration::from_millis(1310)).await;
        let start = Instant::now();
        // a mail whose session was stale, which goes at once to a new one
        relay.pace_further(Priority::Low).await.begin();
        longest = longest.max(start.elapsed());
    }
    assert!(longest <= Duration::from_secs(1), "one of 200 waited for {longest:?}");
}

/// Who went, in order, of those who came in this order while one mail a second may go.
async fn order(relay: &Arc<Relay>, came: &[(&'static str, Option<Priority>)]) -> Vec<&'static str> {
    relay.pace().await.begin();
    let went = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = tokio::task::JoinSet::new();
    for (name, lane) in came {
        let (relay, went, name, lane) = (Arc::clone(relay), Arc::clone(&went), *name, *lane);
        tasks.spawn(async move {
            let mut permit = match lane {
                Some(lane) => relay.pace_further(lane).await,
                None => relay.pace().await,
            };
            assert!(permit.begin());
            went.lock().unwrap().push(name);
        });
        tokio::task::yield_now().await;
    }
    tasks.join_all().await;
    let went = went.lock().unwrap();
    went.clone()
}

#[tokio::test(start_paused = true)]
async fn mails_in_hand_take_turns_with_new_ones_and_the_high_lane_is_first() {
    let limit = RateLimit { count: 60, per: Duration::from_secs(60) };
    let relay = limited_to(Some(limit));
    let (high, low) = (Some(Priority::High), Some(Priority::Low));
    let came = [("l1", low), ("l2", low), ("n1", None), ("n2", None), ("h1", high), ("h2", high)];
    assert_eq!(order(&relay, &came).await, ["h1", "n2", "h2", "n1", "l1", "l2"]);
}

#[tokio::test(start_paused = true)]
async fn who_leaves_the_queue_lets_the_next_one_go() {
    let limit = RateLimit { count: 60, per: Duration::from_secs(60) };
    let relay = limited_to(Some(limit));
    relay.pace().await.begin();
    let start = Instant::now();
    let mut last = Box::pin(relay.pace());
    assert!((&mut last).now_or_never().is_none());
    let first = tokio::spawn({
        let relay = Arc::clone(&relay);
        async move { relay.pace_further(Priority::Low).await.begin() }
    });
    let second = tokio::spawn({
        let relay = Arc::clone(&relay);
        async move { relay.pace_further(Priority::Low).await.begin() }
    });
    tokio::task::yield_now().await;
    // who is next is not asked any more, as in a select that has gone another way
    first.abort();
    let _ = first.await;
    drop(last);
    let went = tokio::time::timeout(Duration::from_secs(60), second).await;
    assert!(went.unwrap().unwrap());
    assert!(start.elapsed() <= Duration::from_millis(1001), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn sessions_are_opened_as_the_rate_needs_them() {
    let limit = RateLimit { count: 60, per: Duration::from_secs(60) };
    let relay = limited_to(Some(limit));
    let start = Instant::now();
    for second in 0..3 {
        relay.short_of_sessions().await;
        assert_eq!(start.elapsed(), Duration::from_secs(second), "each may be the one that hangs");
    }
    let waiting = tokio::spawn({
        let relay = Arc::clone(&relay);
        async move {
            loop {
                relay.pace().await.begin();
            }
        }
    });
    tokio::task::yield_now().await;
    let needed = tokio::time::timeout(Duration::from_secs(600), relay.short_of_sessions()).await;
    assert!(needed.is_err(), "one session sends all that the rate allows");
    waiting.abort();
    let _ = waiting.await;
    relay.short_of_sessions().await;
    let unlimited = limited_to(None);
    assert!((0..16).all(|_| unlimited.short_of_sessions().now_or_never().is_some()));
}
