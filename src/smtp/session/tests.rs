//! What a session makes of a server's behaviour, against real sockets and scripted servers.

use std::{collections::BTreeSet, time::Duration};

use lettre::Address;

use super::*;
use crate::smtp::{
    Class, Verdict, classify,
    testing::{ACCEPTED, Relay, greeting},
};

mod broken;
mod refusals;

const BODY: &[u8] = b"Subject: x\r\n\r\n.dot\r\n";
const SOON: Duration = Duration::from_millis(80);

fn pipelining() -> String {
    greeting(&["PIPELINING"])
}

fn people(count: usize) -> Vec<Address> {
    (0..count).map(|n| Address::new(format!("u{n}"), "example.com").expect("an address")).collect()
}

/// One try to send a small mail to `count` recipients.
async fn send(session: &mut Session, count: usize) -> Attempt {
    send_bytes(session, count, BODY).await
}

async fn send_bytes(session: &mut Session, count: usize, bytes: &[u8]) -> Attempt {
    let recipients = people(count);
    let mail = Outgoing::new(Some(&recipients[0]), &recipients, bytes).expect("a good envelope");
    let progress = Progress::default();
    let attempt = session.send(&mail, &progress).await;
    assert_eq!(progress.stage(), Stage::Idle);
    attempt
}

fn ok() -> Reply {
    Reply::new(250, "ok")
}

fn sent() -> Attempt {
    Attempt::Recipients { replies: vec![ok()], data: Data::Dot(Reply::new(250, "2.0.0 queued")) }
}

/// Whether any recipient would be called sent.
fn claims_sent(attempt: &Attempt) -> bool {
    match classify(attempt, &BTreeSet::new()) {
        Verdict::All(class) => matches!(class, Class::Sent(_)),
        Verdict::Each(classes) => classes.iter().any(|class| matches!(class, Class::Sent(_))),
    }
}

#[tokio::test]
async fn mails_follow_each_other_without_rset_or_noop_and_quit_ends() {
    let relay = Relay::start([pipelining() + ACCEPTED + ACCEPTED + "< QUIT\n> 221 bye\n"]).await;
    let mut session = relay.session().await;
    assert!(session.is_fresh());
    assert_eq!(send(&mut session, 1).await, sent());
    assert_eq!(send(&mut session, 1).await, sent());
    assert!(session.is_usable() && !session.is_fresh());
    assert_eq!(session.mails(), 2);
    session.quit().await;
    let mail = ["MAIL FROM:<u0@example.com>", "RCPT TO:<u0@example.com>", "DATA", "Subject: x", "", "..dot"];
    let expected = [&["EHLO client.example"][..], &mail, &mail, &["QUIT"]].concat();
    assert_eq!(relay.heard().await, expected);
}

#[tokio::test]
async fn without_pipelining_every_command_waits_for_its_reply() {
    // Were DATA written before the last reply, the server would read it as a line of its next step.
    let steps = "< MAIL\n> 250 ok\n< RCPT\n> 250 ok\n< RCPT\n> 550 no\n< DATA\n> 354 go\n<.\n> 250 queued\n";
    let relay = Relay::start([greeting(&[]) + steps]).await;
    let mut session = relay.session().await;
    let attempt = send(&mut session, 2).await;
    let replies = vec![ok(), Reply::new(550, "no")];
    assert_eq!(attempt, Attempt::Recipients { replies, data: Data::Dot(Reply::new(250, "queued")) });
    assert!(session.is_usable());
}

#[tokio::test]
async fn mail_carries_size_and_body_where_the_server_announced_them() {
    let relay = Relay::start([greeting(&["pipelining", "size 1000", "8bitmime"]) + ACCEPTED + ACCEPTED]).await;
    let mut session = relay.session().await;
    assert!(claims_sent(&send(&mut session, 1).await));
    assert!(claims_sent(&send_bytes(&mut session, 1, "\u{fc}\r\n".as_bytes()).await));
    drop(session);
    let heard = relay.heard().await;
    let mails: Vec<_> = heard.iter().filter(|line| line.starts_with("MAIL")).collect();
    assert_eq!(mails, ["MAIL FROM:<u0@example.com> SIZE=20", "MAIL FROM:<u0@example.com> SIZE=4 BODY=8BITMIME"]);
}

#[tokio::test]
async fn a_mail_beyond_the_announced_size_is_not_begun() {
    let relay = Relay::start([greeting(&["PIPELINING", "SIZE 20"]) + ACCEPTED]).await;
    let mut session = relay.session().await;
    assert_eq!(send_bytes(&mut session, 1, &[b'x'; 21]).await, Attempt::TooLarge { limit: 20 });
    assert!(session.is_fresh() && session.is_usable());
    assert_eq!(send(&mut session, 1).await, sent());
}

#[tokio::test]
async fn a_large_mail_arrives_whole_and_its_buffer_is_not_kept() {
    let relay = Relay::start([pipelining() + ACCEPTED]).await;
    let mut session = relay.session().await;
    let message = ".a line of some length\r\n".repeat(50_000);
    assert_eq!(send_bytes(&mut session, 1, message.as_bytes()).await, sent());
    assert_eq!(session.out.capacity(), 0);
    drop(session);
    let heard = relay.heard().await;
    assert_eq!(heard.iter().filter(|line| *line == "..a line of some length").count(), 50_000);
}

#[tokio::test]
async fn a_hundred_recipients_go_in_one_group() {
    let (rcpt, replies) = ("< RCPT\n".repeat(100), "> 250 ok\n".repeat(101));
    let steps = format!("< MAIL\n{rcpt}< DATA\n{replies}> 354 go\n<.\n> 250 queued\n");
    let relay = Relay::start([pipelining() + &steps]).await;
    let mut session = relay.session().await;
    let attempt = send(&mut session, 100).await;
    assert!(matches!(attempt, Attempt::Recipients { replies, data: Data::Dot(_) } if replies.len() == 100));
}

#[tokio::test]
async fn progress_tells_when_the_dot_was_handed_over() {
    let relay = Relay::start([pipelining() + "< MAIL\n< RCPT\n< DATA\n> 250 ok\n> 250 ok\n> 354 go\n<.\n"]).await;
    let mut session = relay.session().await;
    let recipients = people(1);
    let mail = Outgoing::new(None, &recipients, BODY).expect("a good envelope");
    let progress = Progress::default();
    {
        let sending = session.send(&mail, &progress);
        tokio::pin!(sending);
        assert!(futures::poll!(&mut sending).is_pending());
        assert_eq!(progress.stage(), Stage::BeforeDot);
        let until_the_dot = async {
            while progress.stage() != Stage::AwaitingReply {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            attempt = &mut sending => panic!("no reply was given, but {attempt:?}"),
            () = until_the_dot => {}
        }
    }
    assert_eq!(progress.stage(), Stage::AwaitingReply, "a dropped future leaves its stage");
    assert!(!session.is_usable());
}
