//! What a caller hears of a mail, for all of its recipients and for each.

use std::time::Duration;

use devkit::smtp::{Action, Command, End, SmtpServer, on};
use postlane::mailer::{Error, Failed};
use serde_json::json;

use crate::bed::{Bed, PATIENCE, message, message_with};

#[tokio::test]
async fn a_mail_arrives_as_the_service_would_send_it() {
    let bed = Bed::new(&[]).await;
    let fields = json!({"cc": "copy@example.com", "bcc": "audit@example.com", "headers": {"X-Campaign": "orders"}});
    let delivered = bed.send(&message_with("one", &fields)).await.expect("delivered");
    assert_eq!((delivered.recipients, delivered.reply.code), (3, 250));
    let ledger = bed.smtp.ledger();
    let mail = ledger.find(&delivered.message_id).expect("the mail");
    assert_eq!(mail.from, "shop@example.com");
    assert_eq!(mail.recipients, ["user@example.com", "copy@example.com", "audit@example.com"]);
    assert_eq!(mail.header("X-Campaign").as_deref(), Some("orders"));
    assert!(mail.decoded().expect("MIME").text.expect("text").contains("Body one"));
    let redirected = Bed::new(&[("MAIL_REDIRECT_TO", "staging@example.net")]).await;
    redirected.send(&message_with("one", &fields)).await.expect("delivered");
    assert_eq!(redirected.smtp.ledger().accepted()[0].recipients, ["staging@example.net"]);
}

#[tokio::test]
async fn what_cannot_become_a_mail_is_said_and_not_sent() {
    let bed = Bed::new(&[]).await;
    for (fields, expected) in [
        (json!({"template": "nothing"}), "there is no template \"nothing\""),
        (json!({"template": "password-reset", "data": {}}), "template password-reset, "),
        (json!({"headers": {"Subject": "mine"}}), "message.headers.Subject: "),
        (json!({"expires_at": "2026-01-05T08:00:00Z"}), "message.expires_at has passed"),
    ] {
        let error = bed.send(&message_with("bad", &fields)).await.expect_err("not sent");
        assert!(error.to_string().contains(expected), "{error}");
        assert!(error.is_permanent() && !error.may_have_arrived(), "{error:?}");
    }
    // none of them has harmed the session
    bed.send(&message("good")).await.expect("delivered");
    let ledger = bed.smtp.ledger();
    assert_eq!((ledger.accepted().len(), ledger.count(Command::Mail), ledger.opened()), (1, 1, 1));
}

#[tokio::test]
async fn each_recipient_has_its_outcome() {
    let server = SmtpServer::builder()
        .rule(on(Command::Rcpt).recipient("nobody@example.org").reply(550, "5.1.1", "no such user"))
        .rule(on(Command::Rcpt).recipient("full@example.org").reply(452, "4.2.2", "mailbox full"))
        .rule(on(Command::Rcpt).recipient("many@example.org").once(Action::reply(452, "4.5.3", "too many recipients")));
    let bed = Bed::with(server, &[]).await;
    let to = json!({"to": ["a@example.org", "nobody@example.org", "many@example.org", "full@example.org"]});
    let error = bed.send(&message_with("four", &to)).await.expect_err("two are left");
    let Error::Partly(outcomes) = &error else { panic!("{error:?}") };
    let codes: Vec<_> = outcomes.iter().map(|(index, outcome)| (*index, outcome.as_ref().map(|r| r.code))).collect();
    assert!(matches!(codes[0], (0, Ok(250))) && matches!(codes[2], (2, Ok(250))), "{codes:?}");
    assert!(matches!(codes[1], (1, Err(Failed::Refused(reply))) if reply.code == 550), "{codes:?}");
    assert!(matches!(codes[3], (3, Err(Failed::Deferred(reply))) if reply.code == 452), "{codes:?}");
    assert_eq!(error.accepted().collect::<Vec<_>>(), [0, 2]);
    assert!(error.may_have_arrived() && !error.is_permanent());
    assert!(!error.to_string().contains('@'), "{error}");
    let ledger = bed.smtp.ledger();
    // the one too many got a transaction of its own, on the same session
    assert_eq!((ledger.deliveries("many@example.org"), ledger.deliveries("a@example.org"), ledger.opened()), (1, 1, 1));

    let error = bed.send(&message_with("none", &json!({"to": "nobody@example.org"}))).await.expect_err("refused");
    assert!(matches!(&error, Error::Failed(Failed::Refused(reply)) if reply.code == 550), "{error:?}");
    assert!(error.is_permanent() && !error.may_have_arrived());
    assert!(bed.smtp.ledger().violations().is_empty());
}

#[tokio::test]
async fn no_answer_to_the_final_dot_is_a_doubt_and_the_session_is_not_used_again() {
    let server = SmtpServer::builder().rule(on(Command::Dot).turns([Action::TakeAndHangUp, Action::silence()]));
    let bed = Bed::with(server, &[("SMTP_SESSIONS", "1")]).await;
    let error = bed.send(&message("hang-up")).await.expect_err("no answer");
    assert!(matches!(&error, Error::Failed(Failed::OutcomeUnknown(_))), "{error:?}");
    assert!(error.may_have_arrived() && !error.is_permanent());

    let error = bed.send_within(&message("silence"), Duration::from_millis(300)).await.expect_err("no answer in time");
    assert!(matches!(&error, Error::Failed(Failed::OutcomeUnknown(_))), "{error:?}");
    bed.send(&message("after")).await.expect("delivered on a session of its own");
    bed.smtp.wait_until(|ledger| ledger.open() == 1, PATIENCE).await.expect("the others are closed");
    assert_eq!(bed.smtp.ledger().opened(), 3);
}

#[tokio::test]
async fn what_is_given_up_before_the_final_dot_is_not_sent_and_its_session_not_used_again() {
    for dropped in [false, true] {
        let bed = Bed::new(&[("SMTP_SESSIONS", "1")]).await;
        bed.smtp.hold(Command::Rcpt);
        let message_held = message("held");
        let held = bed.send_within(&message_held, if dropped { PATIENCE } else { Duration::from_millis(300) });
        if dropped {
            let mut held = Box::pin(held);
            tokio::select! {
                ended = &mut held => panic!("{ended:?}"),
                reached = bed.smtp.wait_until(|ledger| ledger.held() == 1, PATIENCE) => reached.expect("it waits"),
            }
            drop(held);
        } else {
            let error = held.await.expect_err("no answer in time");
            assert!(matches!(&error, Error::Failed(Failed::TimedOut(_))), "{error:?}");
            assert!(!error.may_have_arrived());
        }
        bed.smtp.release(Command::Rcpt);
        let delivered = bed.send(&message("after")).await.expect("delivered");
        bed.smtp.wait_until(|ledger| ledger.open() == 1, PATIENCE).await.expect("the cut one is closed");
        let ledger = bed.smtp.ledger();
        assert_eq!(ledger.copies(&delivered.message_id), 1);
        assert_eq!((ledger.accepted().len(), ledger.taken().len(), ledger.opened()), (1, 0, 2), "{dropped}");
        assert_ne!(ledger.session(1).expect("the first").end, Some(End::Quit));
    }
}

#[tokio::test]
async fn what_is_dropped_after_the_final_dot_leaves_no_session_behind() {
    let bed = Bed::new(&[("SMTP_SESSIONS", "1")]).await;
    bed.smtp.hold(Command::Dot);
    let first = message("first");
    let mut held = Box::pin(bed.send(&first));
    tokio::select! {
        ended = &mut held => panic!("{ended:?}"),
        reached = bed.smtp.wait_until(|ledger| ledger.held() == 1, PATIENCE) => reached.expect("it waits"),
    }
    drop(held);
    bed.smtp.release(Command::Dot);
    let delivered = bed.send(&message("second")).await.expect("delivered");
    let ledger = bed.smtp.ledger();
    // the reply to the first mail was not taken for that to the second
    assert_eq!(
        ledger.find(&delivered.message_id).and_then(|mail| mail.header("Subject")).as_deref(),
        Some("Subject second")
    );
    assert_eq!(ledger.opened(), 2);
}
