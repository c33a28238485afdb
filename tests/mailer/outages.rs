//! A relay that is down costs callers little, and is found again.

use std::{sync::Arc, time::Duration};

use devkit::smtp::{Action, Command, SmtpServer, on};
use postlane::mailer::{Error, Failed};
use tokio::{task::JoinSet, time::Instant};

use crate::bed::{Bed, PATIENCE, mailer, message};

fn is_down(error: &Error) -> bool {
    matches!(error, Error::Failed(Failed::RelayDown { .. }))
}

#[tokio::test]
async fn a_relay_that_is_down_is_told_at_once_and_found_again() {
    let mut bed = Bed::new(&[]).await;
    bed.smtp.stop().await;
    let error = bed.send(&message("first")).await.expect_err("nobody listens");
    assert!(is_down(&error) && !error.is_permanent() && !error.may_have_arrived(), "{error:?}");
    assert!(error.to_string().contains("connecting failed"), "{error}");
    let begun = Instant::now();
    for number in 0..100 {
        assert!(is_down(&bed.send(&message(&number.to_string())).await.expect_err("down")));
    }
    assert!(begun.elapsed() < Duration::from_millis(500), "{:?} for a hundred", begun.elapsed());

    bed.smtp.start_again().await.expect("the port is ours");
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = bed.send(&message("back")).await {
        assert!(is_down(&error) && Instant::now() < deadline, "{error}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // and from now on for everyone
    for number in 0..20 {
        bed.send(&message(&number.to_string())).await.expect("delivered");
    }
}

#[tokio::test]
async fn a_relay_that_goes_down_while_many_wait_tells_them_all() {
    let mut bed = Bed::new(&[("SMTP_SESSIONS", "2")]).await;
    bed.smtp.hold(Command::Dot);
    let mut callers = JoinSet::new();
    for number in 0..100 {
        let mailer = bed.mailer.clone();
        callers.spawn(async move { mailer.send(&message(&number.to_string()), Instant::now() + PATIENCE).await });
    }
    bed.smtp.wait_until(|ledger| ledger.held() == 2, PATIENCE).await.expect("two wait for an answer");
    let begun = Instant::now();
    bed.smtp.stop().await;
    let outcomes = callers.join_all().await;
    assert!(begun.elapsed() < PATIENCE / 4, "{:?}", begun.elapsed());
    let unknown = outcomes.iter().filter(|outcome| matches!(outcome, Err(error) if error.may_have_arrived())).count();
    let down = outcomes.iter().filter(|outcome| matches!(outcome, Err(error) if is_down(error))).count();
    assert_eq!((unknown, down), (2, 98), "{outcomes:?}");
}

#[tokio::test]
async fn many_callers_do_not_lock_an_account() {
    let server = SmtpServer::builder().login("me", "right").require_auth();
    let bed = Arc::new(Bed::with(server, &[("SMTP_USER", "me"), ("SMTP_PASSWORD", "wrong")]).await);
    let mut callers = JoinSet::new();
    for number in 0..200 {
        let bed = Arc::clone(&bed);
        callers.spawn(async move { bed.send(&message(&number.to_string())).await });
    }
    for outcome in callers.join_all().await {
        let error = outcome.expect_err("refused");
        assert!(is_down(&error) && error.to_string().contains("look at SMTP_USER and SMTP_PASSWORD"), "{error}");
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(is_down(&bed.send(&message("later")).await.expect_err("refused")));
    assert_eq!(bed.smtp.ledger().count(Command::Auth), 1, "one login in half a minute");
}

#[tokio::test]
async fn a_relay_that_hangs_while_a_session_is_opened_costs_one_wait() {
    let server = SmtpServer::builder().rule(on(Command::Banner).act(Action::silence()));
    let bed = Bed::with(server, &[("SMTP_GREETING_TIMEOUT", "500ms")]).await;
    // the caller's time is over before that of the phase: the session is given up all the same
    let error = bed.send_within(&message("first"), Duration::from_millis(100)).await.expect_err("no answer");
    assert!(matches!(&error, Error::Failed(Failed::TimedOut(_))), "{error:?}");
    let error = bed.send(&message("second")).await.expect_err("no session");
    assert!(is_down(&error) && error.to_string().contains("the banner failed"), "{error}");
    let begun = Instant::now();
    assert!(is_down(&bed.send(&message("third")).await.expect_err("at once")));
    assert!(begun.elapsed() < Duration::from_millis(200), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_mailer_that_is_dropped_with_its_runtime_does_no_harm() {
    let server = SmtpServer::builder().start().await;
    let port = server.port();
    tokio::task::spawn_blocking(move || {
        let mailer = mailer(port, &[]);
        for number in 0..2 {
            let runtime = tokio::runtime::Runtime::new().expect("a runtime");
            let sent = runtime.block_on(mailer.send(&message(&number.to_string()), Instant::now() + PATIENCE));
            sent.expect("delivered, the second time on a session whose runtime is gone");
        }
    })
    .await
    .expect("no panic");
    assert_eq!(server.ledger().accepted().len(), 2);
}

#[tokio::test]
async fn a_relay_that_takes_sessions_and_says_nothing_more_is_down_after_a_few() {
    let server = SmtpServer::builder().rule(on(Command::Mail).act(Action::silence()));
    let bed = Bed::with(server, &[("SMTP_SESSIONS", "3")]).await;
    let messages: Vec<_> = (0..20).map(|number| message(&number.to_string())).collect();
    let begun = Instant::now();
    // three sessions that hang cost their callers all of their time, and those who wait behind them no more than that
    let sends = messages.iter().enumerate().map(|(number, message)| {
        let time = if number < 3 { Duration::from_secs(6) } else { PATIENCE };
        bed.send_within(message, time)
    });
    for (number, outcome) in futures::future::join_all(sends).await.into_iter().enumerate() {
        let error = outcome.expect_err("no answer");
        let timed_out = matches!(&error, Error::Failed(Failed::TimedOut(_)));
        assert!(if number < 3 { timed_out } else { is_down(&error) }, "{number}: {error:?}");
    }
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    assert_eq!(bed.smtp.ledger().taken().len(), 0);
}
