//! Refusals leave the session in step and usable, and every reply with the command that it answers.

use super::*;

#[tokio::test]
async fn a_refused_mail_drops_the_noise_after_it_and_begins_anew_with_rset() {
    let steps = "< MAIL\n< RCPT\n< RCPT\n< DATA\n> 550 5.7.1 not you\n> 503 no\n> 503 no\n> 503 no\n\
                 < RSET\n< MAIL\n< RCPT\n< DATA\n> 250 ok\n> 250 ok\n> 250 ok\n> 354 go\n<.\n> 250 2.0.0 queued\n";
    let relay = Relay::start([pipelining() + steps + ACCEPTED]).await;
    let mut session = relay.session().await;
    assert_eq!(send(&mut session, 2).await, Attempt::MailRefused(Reply::new(550, "5.7.1 not you")));
    assert_eq!(send(&mut session, 1).await, sent());
    assert_eq!(send(&mut session, 1).await, sent(), "and RSET only once");
}

#[tokio::test]
async fn without_pipelining_rset_goes_alone() {
    let steps = "< MAIL\n> 451 later\n< RSET\n> 250 ok\n< MAIL\n> 250 ok\n< RCPT\n> 250 ok\n< DATA\n> 354 go\n<.\n\
                 > 250 2.0.0 queued\n";
    let relay = Relay::start([greeting(&[]) + steps]).await;
    let mut session = relay.session().await;
    assert_eq!(send(&mut session, 1).await, Attempt::MailRefused(Reply::new(451, "later")));
    assert_eq!(send(&mut session, 1).await, sent());
}

#[tokio::test]
async fn a_server_that_wants_a_message_after_a_refused_mail_gets_none() {
    let steps = "< MAIL\n< RCPT\n< DATA\n> 503 sender already given\n> 250 ok\n> 354 go\n";
    let relay = Relay::start([pipelining() + steps]).await;
    let mut session = relay.session().await;
    assert!(matches!(send(&mut session, 1).await, Attempt::MailRefused(_)));
    assert!(!session.is_usable());
    drop(session);
    assert_eq!(relay.heard().await.last().map(String::as_str), Some("DATA"), "no dot: it would end an empty mail");
}

#[tokio::test]
async fn each_recipient_has_its_own_reply() {
    let steps = "< MAIL\n< RCPT\n< RCPT\n< RCPT\n< DATA\n\
                 > 250 ok\n> 550 5.1.1 unknown\n> 250 ok\n> 452 4.5.3 enough\n> 354 go\n<.\n> 250 2.0.0 queued\n";
    let relay = Relay::start([pipelining() + steps + ACCEPTED]).await;
    let mut session = relay.session().await;
    let replies = vec![Reply::new(550, "5.1.1 unknown"), ok(), Reply::new(452, "4.5.3 enough")];
    let data = Data::Dot(Reply::new(250, "2.0.0 queued"));
    assert_eq!(send(&mut session, 3).await, Attempt::Recipients { replies, data });
    assert_eq!(send(&mut session, 1).await, sent(), "the transaction was ended by its dot, no RSET");
}

#[tokio::test]
async fn all_recipients_refused_and_data_too() {
    let steps = "< MAIL\n< RCPT\n< DATA\n> 250 ok\n> 550 no\n> 554 no valid recipients\n\
                 < RSET\n< MAIL\n< RCPT\n< DATA\n> 250 ok\n> 250 ok\n> 250 ok\n> 354 go\n<.\n> 250 2.0.0 queued\n";
    let relay = Relay::start([pipelining() + steps]).await;
    let mut session = relay.session().await;
    let refused = Attempt::Recipients { replies: vec![Reply::new(550, "no")], data: Data::NotAsked };
    assert_eq!(send(&mut session, 1).await, refused);
    assert_eq!(send(&mut session, 1).await, sent());
}

#[tokio::test]
async fn all_recipients_refused_and_yet_354_gets_a_dot_alone_whose_250_means_nothing() {
    let steps = "< MAIL\n< RCPT\n< DATA\n> 250 ok\n> 550 no\n> 354 go\n< .\n> 250 2.0.0 queued nothing\n\
                 < RSET\n< MAIL\n< RCPT\n< DATA\n> 250 ok\n> 250 ok\n> 250 ok\n> 354 go\n<.\n> 250 2.0.0 queued\n";
    let relay = Relay::start([pipelining() + steps]).await;
    let mut session = relay.session().await;
    let attempt = send(&mut session, 1).await;
    assert_eq!(attempt, Attempt::Recipients { replies: vec![Reply::new(550, "no")], data: Data::NotAsked });
    assert!(!claims_sent(&attempt));
    assert_eq!(send(&mut session, 1).await, sent());
}

#[tokio::test]
async fn without_pipelining_data_is_not_asked_when_all_recipients_are_refused() {
    let relay = Relay::start([greeting(&[]) + "< MAIL\n> 250 ok\n< RCPT\n> 450 later\n< RSET\n> 421 bye\n"]).await;
    let mut session = relay.session().await;
    let refused = Attempt::Recipients { replies: vec![Reply::new(450, "later")], data: Data::NotAsked };
    assert_eq!(send(&mut session, 1).await, refused);
    let lost = send(&mut session, 1).await;
    assert!(matches!(&lost, Attempt::Lost { fresh: false, reply: Some(reply), .. } if reply.code == 421), "{lost:?}");
}

#[tokio::test]
async fn data_refused_stands_for_the_accepted_recipients() {
    let steps = "< MAIL\n< RCPT\n< RCPT\n< DATA\n> 250 ok\n> 550 no\n> 250 ok\n> 451 4.3.0 later\n\
                 < RSET\n< MAIL\n< RCPT\n< DATA\n> 250 ok\n> 250 ok\n> 250 ok\n> 354 go\n<.\n> 250 2.0.0 queued\n";
    let relay = Relay::start([pipelining() + steps]).await;
    let mut session = relay.session().await;
    let replies = vec![Reply::new(550, "no"), ok()];
    let data = Data::Refused(Reply::new(451, "4.3.0 later"));
    assert_eq!(send(&mut session, 2).await, Attempt::Recipients { replies, data });
    assert_eq!(send(&mut session, 1).await, sent());
}

#[tokio::test]
async fn a_refused_dot_is_followed_by_rset() {
    let steps = "< MAIL\n< RCPT\n< DATA\n> 250 ok\n> 250 ok\n> 354 go\n<.\n> 554 5.6.0 spam\n\
                 < RSET\n< MAIL\n< RCPT\n< DATA\n> 250 ok\n> 250 ok\n> 250 ok\n> 354 go\n<.\n> 250 2.0.0 queued\n";
    let relay = Relay::start([pipelining() + steps]).await;
    let mut session = relay.session().await;
    let data = Data::Dot(Reply::new(554, "5.6.0 spam"));
    assert_eq!(send(&mut session, 1).await, Attempt::Recipients { replies: vec![ok()], data });
    assert_eq!(send(&mut session, 1).await, sent());
}

#[tokio::test]
async fn a_421_ends_the_session_wherever_it_comes() {
    // At MAIL on a new session it is a refusal, before the dot a loss, at the dot a refusal.
    let cases = [
        ("> 421 4.7.0 later\n", Attempt::MailRefused(Reply::new(421, "4.7.0 later"))),
        ("> 250 ok\n> 421 x\n", lost(Some(Reply::new(421, "x")), "the server answered 421 to RCPT")),
        ("> 250 ok\n> 250 ok\n> 421 x\n", lost(Some(Reply::new(421, "x")), "the server answered 421 to DATA")),
        (
            "> 250 ok\n> 250 ok\n> 354 go\n<.\n> 421 x\n",
            Attempt::Recipients { replies: vec![ok()], data: Data::Dot(Reply::new(421, "x")) },
        ),
    ];
    for (steps, expected) in cases {
        let relay = Relay::start([pipelining() + "< MAIL\n< RCPT\n< DATA\n" + steps]).await;
        let mut session = relay.session().await;
        assert_eq!(send(&mut session, 1).await, expected, "{steps}");
        assert!(!session.is_usable(), "{steps}");
    }
}

#[tokio::test]
async fn a_421_to_mail_on_a_used_session_is_a_lost_session() {
    let relay = Relay::start([pipelining() + ACCEPTED + "< MAIL\n< RCPT\n< DATA\n> 421 idle too long\n!\n"]).await;
    let mut session = relay.session().await;
    assert_eq!(send(&mut session, 1).await, sent());
    let attempt = send(&mut session, 1).await;
    assert!(matches!(&attempt, Attempt::Lost { fresh: false, reply: Some(reply), .. } if reply.code == 421));
    assert!(!session.is_usable());
}

fn lost(reply: Option<Reply>, detail: &str) -> Attempt {
    Attempt::Lost { fresh: true, reply, detail: detail.to_owned() }
}
