//! Who gets a session, and how long one lasts.

use std::{sync::Arc, time::Duration};

use devkit::smtp::{Action, Command, End, SmtpServer, on};
use postlane::mailer::{Error, Failed};
use tokio::{task::JoinSet, time::Instant};

use crate::bed::{Bed, PATIENCE, mailer, message, order};

#[tokio::test]
async fn a_session_is_used_again_and_ends_after_its_share() {
    let bed = Bed::new(&[("SMTP_MAX_MESSAGES_PER_SESSION", "5")]).await;
    for number in 0..20 {
        bed.send(&message(&number.to_string())).await.expect("delivered");
    }
    bed.mailer.close().await;
    let ledger = bed.smtp.ledger();
    assert_eq!((ledger.accepted().len(), ledger.opened()), (20, 4));
    assert!(ledger.sessions().all(|session| session.end == Some(End::Quit)), "{ledger:?}");
}

#[tokio::test]
async fn a_thousand_callers_share_a_few_sessions() {
    let bed = Arc::new(Bed::new(&[("SMTP_SESSIONS", "4")]).await);
    let mut callers = JoinSet::new();
    for number in 0..1000 {
        let bed = Arc::clone(&bed);
        callers.spawn(async move { bed.send(&message(&number.to_string())).await.is_ok() });
    }
    assert!(callers.join_all().await.into_iter().all(|sent| sent));
    let ledger = bed.smtp.ledger();
    assert_eq!((ledger.accepted().len(), ledger.duplicates().len()), (1000, 0));
    assert!(ledger.peak() <= 4, "{} sessions at once", ledger.peak());
    assert!(ledger.violations().is_empty(), "{:?}", ledger.violations());
}

#[tokio::test]
async fn callers_get_their_turn_in_the_order_in_which_they_came() {
    let bed = Bed::new(&[("SMTP_SESSIONS", "1")]).await;
    bed.smtp.hold(Command::Mail);
    let messages: Vec<_> = (0..50).map(|number| message(&number.to_string())).collect();
    let mut sends: Vec<_> = messages.iter().map(|message| Box::pin(bed.send(message))).collect();
    for send in &mut sends {
        // in this order
        assert!(futures::poll!(send.as_mut()).is_pending());
    }
    // one that leaves does not hold up those behind it
    drop(sends.remove(7));
    bed.smtp.release(Command::Mail);
    for outcome in futures::future::join_all(sends).await {
        outcome.expect("delivered");
    }
    let expected: Vec<String> = (0..50).filter(|number| *number != 7).map(|number| number.to_string()).collect();
    assert_eq!(order(&bed.smtp), expected);
}

#[tokio::test]
async fn whoever_does_not_get_a_turn_in_time_has_sent_nothing() {
    let bed = Bed::new(&[("SMTP_SESSIONS", "1")]).await;
    bed.smtp.hold(Command::Dot);
    let (first, second) = (message("first"), message("second"));
    let late = async {
        bed.smtp.wait_until(|ledger| ledger.held() == 1, PATIENCE).await.expect("the first has the session");
        let error = bed.send_within(&second, Duration::from_millis(100)).await.expect_err("no turn");
        assert!(matches!(&error, Error::Failed(Failed::TimedOut(why)) if why.contains("turn")), "{error:?}");
        bed.smtp.release(Command::Dot);
    };
    let (delivered, ()) = tokio::join!(bed.send(&first), late);
    delivered.expect("delivered");
    bed.send(&message("third")).await.expect("delivered");
    assert_eq!(order(&bed.smtp), ["first", "third"]);
    assert_eq!(bed.smtp.ledger().opened(), 1);
}

#[tokio::test]
async fn idle_sessions_are_closed() {
    let bed = Bed::new(&[("SMTP_IDLE_TIMEOUT", "200ms")]).await;
    let (one, two) = (message("1"), message("2"));
    let (a, b) = tokio::join!(bed.send(&one), bed.send(&two));
    assert!(a.is_ok() && b.is_ok());
    bed.smtp.wait_until(|ledger| ledger.open() == 0, PATIENCE).await.expect("closed");
    assert!(bed.smtp.ledger().sessions().all(|session| session.end == Some(End::Quit)));
    bed.send(&message("3")).await.expect("delivered on a new one");
}

#[tokio::test]
async fn a_session_that_the_server_has_closed_costs_no_mail() {
    let bed = Bed::with(SmtpServer::builder().close_after_mails(1), &[("SMTP_SESSIONS", "3")]).await;
    for number in 0..10 {
        bed.send(&message(&number.to_string())).await.expect("delivered");
    }
    let all: Vec<_> = (10..40).map(|number| message(&number.to_string())).collect();
    for outcome in futures::future::join_all(all.iter().map(|message| bed.send(message))).await {
        outcome.expect("delivered");
    }
    let ledger = bed.smtp.ledger();
    assert_eq!((ledger.accepted().len(), ledger.duplicates().len()), (40, 0));
    assert!(ledger.peak() <= 3);
}

#[tokio::test]
async fn a_relay_that_takes_fewer_sessions_gets_fewer() {
    let server = SmtpServer::builder().max_connections(2).latency(Command::Dot, Duration::from_millis(5));
    let bed = Bed::with(server, &[("SMTP_SESSIONS", "16")]).await;
    // one is there before the others are turned away
    bed.send(&message("first")).await.expect("delivered");
    let all: Vec<_> = (0..60).map(|number| message(&number.to_string())).collect();
    for outcome in futures::future::join_all(all.iter().map(|message| bed.send(message))).await {
        outcome.expect("delivered");
    }
    let ledger = bed.smtp.ledger();
    assert_eq!(ledger.accepted().len(), 61);
    assert!(ledger.turned_away() <= 30, "{} were turned away", ledger.turned_away());
}

#[tokio::test]
async fn the_rate_is_honoured() {
    let bed = Bed::new(&[("SMTP_RATE_LIMIT", "20/s")]).await;
    let begun = Instant::now();
    let all: Vec<_> = (0..30).map(|number| message(&number.to_string())).collect();
    for outcome in futures::future::join_all(all.iter().map(|message| bed.send(message))).await {
        outcome.expect("delivered");
    }
    assert!(begun.elapsed() >= Duration::from_millis(1300), "{:?}", begun.elapsed());
    assert_eq!(bed.smtp.ledger().accepted().len(), 30);
}

#[tokio::test]
async fn closing_waits_for_what_is_being_sent_and_takes_no_more() {
    let server = SmtpServer::builder().rule(on(Command::Dot).act(Action::Accept.after(Duration::from_millis(200))));
    let bed = Bed::with(server, &[]).await;
    let first = message("first");
    let closing = async {
        bed.smtp.wait_until(|ledger| ledger.count(Command::Data) == 1, PATIENCE).await.expect("it is being sent");
        bed.mailer.close().await;
        assert_eq!(bed.smtp.ledger().accepted().len(), 1, "the first was waited for");
        let error = bed.send(&message("second")).await.expect_err("closed");
        assert!(matches!(error, Error::Closed));
    };
    let (delivered, ()) = tokio::join!(bed.send(&first), closing);
    delivered.expect("delivered");
    bed.smtp.wait_until(|ledger| ledger.open() == 0, PATIENCE).await.expect("closed");
    assert!(bed.smtp.ledger().sessions().all(|session| session.end == Some(End::Quit)));
    bed.mailer.close().await;
}

#[test]
fn a_runtime_that_ends_while_mails_wait_for_a_session_ends() {
    let (done, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for threads in [false, true] {
            let mut builder = if threads {
                tokio::runtime::Builder::new_multi_thread()
            } else {
                tokio::runtime::Builder::new_current_thread()
            };
            let runtime = builder.enable_all().build().expect("a runtime");
            // the server lives on
            let servers = tokio::runtime::Runtime::new().expect("a runtime");
            let smtp = servers.block_on(SmtpServer::builder().start());
            smtp.hold(Command::Mail);
            let mailer = mailer(smtp.port(), &[("SMTP_SESSIONS", "2")]);
            runtime.block_on(async {
                for number in 0..20 {
                    let mailer = mailer.clone();
                    tokio::spawn(
                        async move { mailer.send(&message(&number.to_string()), Instant::now() + PATIENCE).await },
                    );
                }
                smtp.wait_until(|ledger| ledger.held() == 2, PATIENCE).await.expect("two are being sent");
            });
            drop(runtime);
            // and the mailer is as good as new in another one
            smtp.release(Command::Mail);
            let sent = servers.block_on(mailer.send(&message("after"), Instant::now() + PATIENCE));
            sent.expect("delivered");
        }
        done.send(()).expect("the test waits");
    });
    ended.recv_timeout(PATIENCE).expect("it ends");
}
