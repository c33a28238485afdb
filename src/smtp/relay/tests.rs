#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use futures::FutureExt;
use tokio::time::advance;

use super::{pace::tests::paced, *};

fn relay() -> Arc<Relay> {
    limited_to(None)
}

pub(super) fn limited_to(limit: Option<RateLimit>) -> Arc<Relay> {
    Arc::new(Relay::new(16, 2, Duration::from_secs(900)).limited_to(limit))
}

pub(super) fn pass(relay: &Arc<Relay>) -> Pass {
    relay.admit().now_or_never().unwrap()
}

#[tokio::test(start_paused = true)]
async fn down_lets_one_probe_through_after_growing_delays() {
    let relay = relay();
    relay.down(pass(&relay), "connection refused");
    assert!(relay.admit().now_or_never().is_none());
    for expected in [1.0, 2.0, 4.0, 8.0] {
        let before = Instant::now();
        let probe = relay.admit().await;
        let waited = before.elapsed().as_secs_f64();
        assert!(probe.is_probe());
        assert!((waited - expected).abs() <= expected * 0.11, "{waited} instead of {expected}");
        assert!(relay.admit().now_or_never().is_none(), "one probe at a time");
        relay.down(probe, "connection refused");
    }
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_costs_little_to_ask_is_asked_often() {
    for (trouble, longest) in [(Trouble::Unreachable, 10.0), (Trouble::Other, 30.0), (Trouble::Full, 30.0)] {
        let relay = relay();
        relay.session_failed(pass(&relay), trouble, "no session");
        let mut waited = 0.0_f64;
        for _ in 0..8 {
            let before = Instant::now();
            let probe = relay.admit().await;
            waited = before.elapsed().as_secs_f64();
            assert!(waited <= longest, "{trouble:?}: {waited}");
            relay.session_failed(probe, trouble, "no session");
        }
        assert!(waited >= longest * 0.9, "{trouble:?}: {waited}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_gets_an_answer_opens_the_gate() {
    let relay = relay();
    relay.down(pass(&relay), "gone");
    let waiting = tokio::spawn({
        let relay = Arc::clone(&relay);
        async move { (relay.admit().await, relay.admit().await) }
    });
    let probe = relay.admit().await;
    relay.answered(probe);
    assert!(!pass(&relay).is_probe());
    waiting.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_a_mail_from_before_does_not_open_the_gate() {
    let relay = relay();
    let (first, second) = (pass(&relay), pass(&relay));
    relay.down(first, "gone");
    relay.answered(second);
    assert!(relay.admit().now_or_never().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_is_dropped_does_not_lock_the_gate() {
    let relay = relay();
    relay.down(pass(&relay), "gone");
    drop(relay.admit().await);
    assert!(pass(&relay).is_probe());
}

#[tokio::test(start_paused = true)]
async fn refused_sessions_beside_working_ones_pause_nothing() {
    let relay = relay();
    let mut places: Vec<SessionPlace> = (0..4).map(|_| relay.try_session().unwrap()).collect();
    places.iter_mut().for_each(SessionPlace::establish);
    relay.accepted("a@example.com");
    let further = relay.try_session().unwrap();
    relay.session_failed(pass(&relay), Trouble::Full, "421 too many connections");
    drop(further);
    assert!(!pass(&relay).is_probe());
    assert!(relay.try_session().is_none(), "no fifth session for a while");
    assert_eq!(relay.others_limit(), 4, "four sessions have none to reserve");
    advance(FULL_FOR).await;
    relay.session_free().await;
    let fifth = relay.try_session().unwrap();
    assert!(relay.try_session().is_none(), "one step at a time");
    drop((places, fifth));
}

#[tokio::test(start_paused = true)]
async fn refused_sessions_without_a_working_one_are_a_relay_that_is_down() {
    let relay = relay();
    let place = relay.try_session().unwrap();
    relay.session_failed(pass(&relay), Trouble::Full, "421 closing");
    drop(place);
    assert!(relay.admit().now_or_never().is_none());
}

#[tokio::test(start_paused = true)]
async fn of_sessions_that_are_opened_at_once_the_last_one_decides() {
    let relay = relay();
    let mut places: Vec<SessionPlace> = (0..16).map(|_| relay.try_session().unwrap()).collect();
    for _ in 0..12 {
        relay.session_failed(pass(&relay), Trouble::Full, "421 too many connections");
        places.pop();
    }
    assert!(!pass(&relay).is_probe(), "four of them may still get through");
    assert!(relay.try_session().is_none());
    for _ in 0..4 {
        relay.session_failed(pass(&relay), Trouble::Full, "421 closing");
        places.pop();
    }
    assert!(relay.admit().now_or_never().is_none(), "none got through");
    relay.answered(relay.admit().await);
    assert_eq!((0..20).map_while(|_| relay.try_session()).collect::<Vec<_>>().len(), 16, "as many as before");
}

#[tokio::test(start_paused = true)]
async fn twenty_refusals_at_mail_in_a_row_are_the_relays_fault() {
    let relay = relay();
    let refused = || relay.refused_at_mail("bad@example.com");
    for _ in 0..19 {
        assert_eq!(refused(), Fault::Undecided);
    }
    relay.accepted("bad@example.com");
    for _ in 0..19 {
        assert_eq!(refused(), Fault::Undecided);
    }
    assert_eq!(refused(), Fault::Relay);
    assert_eq!(refused(), Fault::Relay, "until a mail is accepted");
}

#[tokio::test(start_paused = true)]
async fn a_sender_that_alone_is_refused_is_not_the_relays_fault() {
    let relay = relay();
    for _ in 0..20 {
        relay.refused_at_mail("bad@example.com");
    }
    assert!(relay.was_refused("bad@example.com"));
    for _ in 0..100 {
        relay.accepted("good@example.com");
        assert_eq!(relay.refused_at_mail("bad@example.com"), Fault::Sender);
    }
    assert!(!relay.is_misconfigured());
    for _ in 0..18 {
        assert_eq!(relay.refused_at_mail("bad@example.com"), Fault::Sender);
    }
    assert_eq!(relay.refused_at_mail("bad@example.com"), Fault::Relay, "the twentieth in a row");
    assert_eq!(relay.refused_at_mail("bad@example.com"), Fault::Relay, "until a mail is accepted");
    relay.accepted("bad@example.com");
    assert!(!relay.was_refused("bad@example.com"));
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_restarts_gets_as_many_sessions_as_before() {
    let relay = relay();
    let mut places: Vec<SessionPlace> = (0..16).map(|_| relay.try_session().unwrap()).collect();
    places.iter_mut().for_each(SessionPlace::establish);
    relay.accepted("a@example.com");
    let again = |relay: &Arc<Relay>| {
        // the first further one tells, those behind it wait
        let place = relay.try_session();
        relay.session_failed(pass(relay), Trouble::Unreachable, "connection refused");
        drop(place);
    };
    while let Some(place) = places.pop() {
        drop(place);
        again(&relay);
    }
    let probe = relay.admit().await;
    assert!(probe.is_probe(), "the last one to fail says that it is down");
    relay.answered(probe);
    assert_eq!((0..20).map_while(|_| relay.try_session()).collect::<Vec<_>>().len(), 16);
}

#[tokio::test(start_paused = true)]
async fn a_further_session_that_fails_is_tried_again_one_at_a_time() {
    let relay = relay();
    let mut working = relay.try_session().unwrap();
    working.establish();
    relay.accepted("a@example.com");
    for seconds in [1, 2, 4] {
        let failing = relay.try_session().unwrap();
        relay.session_failed(pass(&relay), Trouble::Other, "AUTH failed");
        drop(failing);
        assert!(relay.is_open());
        assert!(relay.try_session().is_none(), "not at once");
        let before = Instant::now();
        relay.session_free().await;
        assert_eq!(before.elapsed(), Duration::from_secs(seconds));
    }
    let mut place = relay.try_session().unwrap();
    assert!(relay.try_session().is_none(), "one at a time");
    place.establish();
    assert!(relay.try_session().is_some(), "as before");
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_refuses_every_mail_is_asked_again_within_half_a_minute() {
    let relay = relay();
    relay.unfit(pass(&relay), "refused");
    for _ in 0..12 {
        let before = Instant::now();
        let probe = relay.admit().await;
        assert!(before.elapsed() <= ANSWERING_DELAY);
        relay.unfit(probe, "refused");
    }
}

#[tokio::test(start_paused = true)]
async fn what_failed_late_does_not_undo_a_probe() {
    let relay = relay();
    let old = pass(&relay);
    relay.down(pass(&relay), "gone");
    let probe = relay.admit().await;
    relay.down(old, "timeout");
    relay.answered(probe);
    assert!(relay.is_open());
}

async fn accepted_at(relay: &Relay, per_second: u64) {
    for _ in 0..10 * per_second {
        advance(Duration::from_millis(1000 / per_second)).await;
        relay.accepted("a@example.com");
    }
}

#[tokio::test(start_paused = true)]
async fn throttling_halves_the_rate_and_it_recovers_step_by_step() {
    let relay = relay();
    accepted_at(&relay, 100).await;
    assert_eq!((relay.rate(), paced(&relay, 100).await[99]), (None, Duration::ZERO), "unlimited before");
    relay.throttled();
    let halved = relay.rate().unwrap();
    assert!((49.0..=51.0).contains(&halved), "{halved}");
    relay.throttled();
    assert_eq!(relay.rate(), Some(halved), "replies of the same moment are one signal");
    paced(&relay, 10).await;
    let span = paced(&relay, 10).await[9].as_secs_f64();
    assert!((0.19..0.21).contains(&span), "ten mails in {span}");
    advance(Duration::from_secs(10)).await;
    paced(&relay, 10).await;
    let faster = paced(&relay, 10).await[9].as_secs_f64();
    assert!((0.15..0.18).contains(&faster), "ten mails in {faster}");
    advance(Duration::from_secs(60)).await;
    assert_eq!(relay.rate(), None, "unlimited again");
}

#[tokio::test(start_paused = true)]
async fn the_rate_never_reaches_zero() {
    let relay = relay();
    for _ in 0..20 {
        advance(Duration::from_secs(3)).await;
        relay.throttled();
        assert!(relay.rate().unwrap() >= 1.0);
    }
}

#[tokio::test(start_paused = true)]
async fn refused_logins_are_few_until_something_has_changed() {
    let relay = relay();
    relay.session_failed(pass(&relay), Trouble::Login, "535");
    let start = Instant::now();
    for expected in [30.0, 150.0, 630.0, 1530.0] {
        let probe = relay.admit().await;
        let at = start.elapsed().as_secs_f64();
        assert!((at - expected).abs() < expected * 0.11, "{at} instead of {expected}");
        relay.session_failed(probe, Trouble::Login, "535");
    }
    assert!(relay.admit().now_or_never().is_none());
    relay.try_again();
    let probe = pass(&relay);
    assert!(probe.is_probe());
    relay.answered(probe);
    relay.session_failed(pass(&relay), Trouble::Login, "535");
    let before = Instant::now();
    drop(relay.admit().await);
    assert!(before.elapsed() <= Duration::from_secs(33), "from the start again");
}

#[tokio::test(start_paused = true)]
async fn a_refused_login_beside_working_sessions_is_not_hammered_either() {
    let relay = relay();
    let mut working = relay.try_session().unwrap();
    working.establish();
    relay.accepted("a@example.com");
    relay.session_failed(pass(&relay), Trouble::Login, "535");
    assert!(relay.is_open());
    let before = Instant::now();
    relay.session_free().await;
    assert!(before.elapsed() >= Duration::from_secs(27), "{:?}", before.elapsed());
    assert!(relay.try_session().is_some());
    assert!(relay.try_session().is_none(), "one at a time");
    relay.try_again();
    assert!(relay.try_session().is_some(), "at once after a change");
}

#[tokio::test(start_paused = true)]
async fn a_pass_is_overtaken_when_the_relay_goes_down() {
    let relay = relay();
    let (old, other) = (pass(&relay), pass(&relay));
    assert!(old.overtaken().now_or_never().is_none());
    relay.down(other, "gone");
    assert!(old.overtaken().now_or_never().is_some());
    let mut probe = relay.admit().await;
    relay.answers(&mut probe);
    assert!(relay.is_open() && !probe.is_probe(), "before the probe's mail has ended");
    assert!(probe.overtaken().now_or_never().is_none());
}
