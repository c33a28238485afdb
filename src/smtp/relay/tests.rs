#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use futures::FutureExt;
use tokio::time::advance;

use super::*;

fn relay() -> Arc<Relay> {
    Arc::new(Relay::new(16, 2, Duration::from_secs(900)))
}

fn pass(relay: &Arc<Relay>) -> Pass {
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
    let places: Vec<SessionPlace> = (0..4).map(|_| relay.try_session().unwrap()).collect();
    relay.accepted();
    let further = relay.try_session().unwrap();
    relay.session_failed(pass(&relay), true, "421 too many connections");
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
    relay.session_failed(pass(&relay), true, "421 closing");
    drop(place);
    assert!(relay.admit().now_or_never().is_none());
}

#[tokio::test(start_paused = true)]
async fn of_sessions_that_are_opened_at_once_the_last_one_decides() {
    let relay = relay();
    let mut places: Vec<SessionPlace> = (0..16).map(|_| relay.try_session().unwrap()).collect();
    for _ in 0..12 {
        relay.session_failed(pass(&relay), true, "421 too many connections");
        places.pop();
    }
    assert!(!pass(&relay).is_probe(), "four of them may still get through");
    assert!(relay.try_session().is_none());
    for _ in 0..4 {
        relay.session_failed(pass(&relay), true, "421 closing");
        places.pop();
    }
    assert!(relay.admit().now_or_never().is_none(), "none got through");
    relay.answered(relay.admit().await);
    assert_eq!((0..20).map_while(|_| relay.try_session()).collect::<Vec<_>>().len(), 16, "as many as before");
}

#[tokio::test(start_paused = true)]
async fn twenty_refusals_at_mail_in_a_row_are_the_relays_fault() {
    let relay = relay();
    for _ in 0..19 {
        assert!(!relay.refused_at_mail());
    }
    relay.accepted();
    for _ in 0..19 {
        assert!(!relay.refused_at_mail());
    }
    assert!(relay.refused_at_mail());
    assert!(relay.refused_at_mail(), "until a mail is accepted");
}

#[tokio::test(start_paused = true)]
async fn throttling_halves_the_rate_and_it_recovers_step_by_step() {
    let mut rate = Rate::new(Instant::now());
    for _ in 0..1000 {
        advance(Duration::from_millis(10)).await;
        rate.sent(Instant::now());
    }
    assert_eq!(rate.next(Instant::now()), None, "unlimited before");
    let halved = rate.halve(Instant::now()).unwrap();
    assert!((49.0..=51.0).contains(&halved), "{halved}");
    assert_eq!(rate.halve(Instant::now()), None, "replies of the same moment are one signal");
    let start = Instant::now();
    let places: Vec<Instant> = (0..11).map(|_| rate.next(start).unwrap_or(start)).collect();
    let span = places[10].duration_since(places[0]).as_secs_f64();
    assert!((0.18..0.22).contains(&span), "ten mails in {span}");
    advance(Duration::from_secs(10)).await;
    let start = Instant::now();
    let places: Vec<Instant> = (0..11).map(|_| rate.next(start).unwrap_or(start)).collect();
    let faster = places[10].duration_since(places[0]).as_secs_f64();
    assert!(faster < span, "{faster} is not below {span}");
    advance(Duration::from_secs(60)).await;
    assert_eq!(rate.next(Instant::now()), None, "unlimited again");
}

#[tokio::test(start_paused = true)]
async fn the_rate_never_reaches_zero() {
    let mut rate = Rate::new(Instant::now());
    for _ in 0..20 {
        advance(Duration::from_secs(3)).await;
        assert!(rate.halve(Instant::now()).unwrap() >= LEAST_RATE);
    }
}

const LEAST_RATE: f64 = 1.0;
