//! Servers that stall, hang up, talk rubbish or talk out of turn: never a mail called sent, never a shifted reply.

use super::*;

const BEGUN: &str = "< MAIL\n< RCPT\n< DATA\n";
const ASKED_FOR_DATA: &str = "< MAIL\n< RCPT\n< DATA\n> 250 ok\n> 250 ok\n> 354 go\n<.\n";

fn is_unknown(attempt: &Attempt) -> bool {
    matches!(attempt, Attempt::Recipients { data: Data::Unknown { .. }, .. })
}

fn is_lost(attempt: &Attempt) -> bool {
    matches!(attempt, Attempt::Lost { fresh: true, reply: None, .. })
}

#[tokio::test]
async fn a_hang_up_before_the_dot_loses_the_session_and_after_it_the_outcome() {
    let before = ["", "> 250 ok\n", "> 250 ok\n> 250 ok\n", ">- 25\n", "> 250-ok\n"];
    for steps in before {
        let relay = Relay::start([pipelining() + BEGUN + steps + "!\n"]).await;
        let mut session = relay.session().await;
        let attempt = send(&mut session, 1).await;
        assert!(is_lost(&attempt), "{steps:?}: {attempt:?}");
        assert!(!session.is_usable());
    }
    for steps in ["!\n", ">- 250 queued\n!\n", "> 250-queued\n!\n"] {
        let relay = Relay::start([pipelining() + ASKED_FOR_DATA + steps]).await;
        let mut session = relay.session().await;
        let attempt = send(&mut session, 1).await;
        assert!(is_unknown(&attempt), "{steps:?}: {attempt:?}");
        assert!(!session.is_usable());
    }
}

#[tokio::test]
async fn without_pipelining_a_hang_up_at_every_command_is_noticed() {
    let steps = ["< MAIL\n", "> 250 ok\n< RCPT\n", "> 250 ok\n< DATA\n", "> 354 go\n<.\n"];
    for end in 1..=steps.len() {
        let relay = Relay::start([greeting(&[]) + &steps[..end].concat() + "!\n"]).await;
        let mut session = relay.session().await;
        let attempt = send(&mut session, 1).await;
        assert_eq!(is_unknown(&attempt), end == 4, "{attempt:?}");
        assert_eq!(is_lost(&attempt), end < 4, "{attempt:?}");
        assert!(!session.is_usable());
    }
}

#[tokio::test]
async fn a_used_session_that_was_closed_meanwhile_says_so() {
    let relay = Relay::start([pipelining() + ACCEPTED + "!\n"]).await;
    let mut session = relay.session().await;
    assert_eq!(send(&mut session, 1).await, sent());
    let attempt = send(&mut session, 1).await;
    assert!(matches!(attempt, Attempt::Lost { fresh: false, .. }), "{attempt:?}");
    assert!(!session.is_usable());
}

#[tokio::test]
async fn a_reply_after_the_deadline_is_nobodys() {
    let relay = Relay::start([pipelining() + ASKED_FOR_DATA + "?\n> 554 5.7.1 spam\n> 250 ok\n> 250 ok\n"]).await;
    let mut session = relay.session_with(|smtp| smtp.timeouts.final_dot = SOON).await;
    let attempt = send(&mut session, 1).await;
    assert!(is_unknown(&attempt), "{attempt:?}");
    assert!(!session.is_usable());
    relay.go_on();
    let next = send(&mut session, 1).await;
    assert!(matches!(next, Attempt::Lost { fresh: false, reply: None, .. }), "{next:?}");
    session.quit().await;
    assert_eq!(relay.heard().await.last().map(String::as_str), Some("..dot"), "nothing was said after the deadline");
}

#[tokio::test]
async fn every_phase_of_a_transaction_has_its_deadline() {
    for steps in ["", "> 250 ok\n", "> 250 ok\n> 250 ok\n"] {
        let relay = Relay::start([pipelining() + BEGUN + steps]).await;
        let change = |smtp: &mut crate::config::Smtp| {
            smtp.timeouts.command = SOON;
            smtp.timeouts.data = SOON;
        };
        let mut session = relay.session_with(change).await;
        let attempt = send(&mut session, 1).await;
        assert!(is_lost(&attempt), "{steps:?}: {attempt:?}");
        assert!(!session.is_usable());
    }
}

#[tokio::test]
async fn a_server_that_does_not_read_the_message_meets_the_deadline_of_the_body() {
    // The server never reads on after DATA; the message is larger than all buffers between.
    let relay = Relay::start([pipelining() + BEGUN + "> 250 ok\n> 250 ok\n> 354 go\ndeaf\n"]).await;
    let mut session = relay.session_with(|smtp| smtp.timeouts.body = Duration::from_millis(1)).await;
    let message = "Subject: long\r\n".repeat(1_200_000);
    let attempt = send_bytes(&mut session, 1, message.as_bytes()).await;
    assert!(is_lost(&attempt), "{attempt:?}");
    assert!(!session.is_usable());
}

#[tokio::test]
async fn a_server_that_refuses_in_the_middle_of_the_message_is_heard() {
    for (reply, refused) in [("552 5.3.4 too large", true), ("421 4.3.2 going down", false)] {
        let steps = format!("> 250 ok\n> 250 ok\n> 354 go\n< S\n> {reply}\n!\n");
        let relay = Relay::start([pipelining() + BEGUN + &steps]).await;
        let mut session = relay.session().await;
        let message = "Subject: long\r\n".repeat(1_200_000);
        let attempt = send_bytes(&mut session, 1, message.as_bytes()).await;
        let data = Data::Refused(Reply::new(552, "5.3.4 too large"));
        if refused {
            assert_eq!(attempt, Attempt::Recipients { replies: vec![ok()], data });
        } else {
            assert!(matches!(&attempt, Attempt::Lost { reply: Some(reply), .. } if reply.code == 421), "{attempt:?}");
        }
        assert!(!session.is_usable());
    }
}

#[tokio::test]
async fn a_reply_that_drips_is_bounded_as_a_whole() {
    let relay = Relay::start([pipelining() + ASKED_FOR_DATA + "drip 250-wait\n"]).await;
    let mut session = relay.session_with(|smtp| smtp.timeouts.final_dot = SOON).await;
    let attempt = send(&mut session, 1).await;
    assert!(is_unknown(&attempt), "{attempt:?}");
    drop(session);
    relay.heard().await;
}

#[tokio::test]
async fn a_dropped_send_leaves_a_session_that_is_never_used_again() {
    let relay = Relay::start([pipelining() + BEGUN]).await;
    let mut session = relay.session().await;
    let recipients = people(1);
    let mail = Outgoing::new(None, &recipients, BODY).expect("a good envelope");
    let progress = Progress::default();
    assert!(futures::poll!(std::pin::pin!(session.send(&mail, &progress))).is_pending());
    assert_eq!(progress.stage(), Stage::BeforeDot);
    assert!(!session.is_usable());
    assert!(matches!(session.send(&mail, &progress).await, Attempt::Lost { fresh: false, .. }));
    session.quit().await;
    let heard = relay.heard().await;
    assert_eq!(&heard[1..], ["MAIL FROM:<>", "RCPT TO:<u0@example.com>", "DATA"], "no QUIT, no second mail");
}

#[tokio::test]
async fn rubbish_is_no_reply() {
    for rubbish in ["250", "250-a\n> 251 b", "hello", "2x0 ok", "650 ok", "25 0"] {
        let relay = Relay::start([pipelining() + BEGUN + "> " + rubbish + "\n"]).await;
        let mut session = relay.session_with(|smtp| smtp.timeouts.command = SOON).await;
        let attempt = send(&mut session, 1).await;
        assert!(is_lost(&attempt), "{rubbish:?}: {attempt:?}");
        assert!(!session.is_usable());

        let relay = Relay::start([pipelining() + ASKED_FOR_DATA + "> " + rubbish + "\n"]).await;
        let mut session = relay.session_with(|smtp| smtp.timeouts.final_dot = SOON).await;
        let attempt = send(&mut session, 1).await;
        assert!(is_unknown(&attempt), "{rubbish:?}: {attempt:?}");
        assert!(!session.is_usable());
    }
}

#[tokio::test]
async fn a_reply_line_without_an_end_is_cut_off() {
    let endless = format!(">- 250 {}\n", "x".repeat(5000));
    let relay = Relay::start([pipelining() + ASKED_FOR_DATA + &endless]).await;
    let mut session = relay.session().await;
    let attempt = send(&mut session, 1).await;
    assert!(is_unknown(&attempt), "{attempt:?}");
}

#[tokio::test]
async fn bytes_beyond_ascii_in_a_reply_do_no_harm() {
    let steps = "> 250 gr\u{fc}\u{df}e\n> 250 ok\n> 354 go\n<.\n> 250 2.0.0 \u{fc}\n";
    let relay = Relay::start([pipelining() + BEGUN + steps + ACCEPTED]).await;
    let mut session = relay.session().await;
    let data = Data::Dot(Reply::new(250, "2.0.0 ??"));
    assert_eq!(send(&mut session, 1).await, Attempt::Recipients { replies: vec![ok()], data });
    assert_eq!(send(&mut session, 1).await, sent());
}

#[tokio::test]
async fn positive_codes_out_of_place_are_no_yes() {
    let before = [
        ("> 354 go\n> 250 ok\n> 250 ok\n", "MAIL"),
        ("> 250 ok\n> 354 go\n> 250 ok\n", "RCPT"),
        ("> 250 ok\n> 250 ok\n> 250 ok\n", "DATA"),
        ("> 250 ok\n> 250 ok\n> 334 go\n", "DATA"),
    ];
    for (steps, command) in before {
        let relay = Relay::start([pipelining() + BEGUN + steps]).await;
        let mut session = relay.session().await;
        match send(&mut session, 1).await {
            Attempt::Lost { detail, .. } => assert!(detail.ends_with(&format!("to {command}")), "{detail}"),
            other => panic!("{steps:?}: {other:?}"),
        }
        assert!(!session.is_usable());
    }
    let relay = Relay::start([pipelining() + ASKED_FOR_DATA + "> 354 go on\n"]).await;
    let mut session = relay.session().await;
    let attempt = send(&mut session, 1).await;
    assert!(is_unknown(&attempt), "{attempt:?}");
}

#[tokio::test]
async fn a_reply_before_its_command_is_not_taken_for_the_one_to_the_dot() {
    let relay = Relay::start([pipelining() + BEGUN + "> 250 ok\n> 250 ok\n> 354 go\n> 250 queued\n"]).await;
    let mut session = relay.session().await;
    let attempt = send(&mut session, 1).await;
    assert!(is_lost(&attempt), "{attempt:?}");
    drop(session);
    assert_eq!(relay.heard().await.last().map(String::as_str), Some("DATA"), "the message was not sent");
}

#[tokio::test]
async fn a_reply_too_many_after_the_dot_ends_the_session() {
    let relay = Relay::start([pipelining() + ASKED_FOR_DATA + "> 250 2.0.0 queued\n> 421 that was it\n"]).await;
    let mut session = relay.session().await;
    assert_eq!(send(&mut session, 1).await, sent());
    assert!(!session.is_usable());
}

#[tokio::test]
async fn a_refusal_stands_when_the_server_hangs_up_after_it() {
    let relay = Relay::start([pipelining() + BEGUN + "> 554 5.7.1 go away\n!\n"]).await;
    let mut session = relay.session().await;
    assert_eq!(send(&mut session, 1).await, Attempt::MailRefused(Reply::new(554, "5.7.1 go away")));
    assert!(!session.is_usable());

    let relay = Relay::start([pipelining() + BEGUN + "> 250 ok\n> 550 no\n!\n"]).await;
    let mut session = relay.session().await;
    let refused = Attempt::Recipients { replies: vec![Reply::new(550, "no")], data: Data::NotAsked };
    assert_eq!(send(&mut session, 1).await, refused);
    assert!(!session.is_usable());
}
