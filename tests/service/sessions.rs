//! What goes over a session, and how one begins and ends.

use std::time::Duration;

use devkit::smtp::{Command, End, Session, SmtpServer, on};
use postlane::event::Priority;
use serde_json::{Value, json};

use crate::{
    bed::{Bed, SOON, event, event_with},
    found::Found,
};

/// A server that keeps what was said, and one session to it.
async fn bed(server: devkit::smtp::Builder) -> Bed {
    let mut bed = Bed::with(server.transcripts(), 1).await;
    bed.set("SMTP_SESSIONS", 1);
    bed
}

fn mails(count: usize) -> Vec<Value> {
    (0..count).map(|n| event(&format!("m{n}"), &format!("m{n}@example.org"))).collect()
}

/// The first words of each group of lines.
fn verbs(session: &Session) -> Vec<Vec<&str>> {
    let first = |line: &'static str| line;
    let _ = first;
    session
        .groups()
        .into_iter()
        .map(|group| group.into_iter().map(|line| line.split([' ', ':']).next().unwrap_or_default()).collect())
        .collect()
}

#[tokio::test]
async fn with_pipelining_a_mail_is_two_round_trips() {
    let bed = bed(SmtpServer::builder().lower_case_keywords()).await;
    let two = event_with("two", "", &json!({"to": ["a@example.org", "b@example.org"]}));
    bed.publish(Priority::Normal, [two].into_iter().chain(mails(2))).await;
    let found = Found::at_the_end(&bed, bed.start()).await;

    assert_eq!(found.ledger.opened(), 1);
    let session = found.ledger.session(1).expect("the session");
    let content = ["<1", "."];
    let groups = verbs(session);
    let shape: Vec<Vec<&str>> = groups
        .iter()
        .map(|group| if group[0].starts_with('<') { vec![content[0], group[1]] } else { group.clone() })
        .collect();
    let one = ["MAIL FROM", "RCPT TO", "DATA"].map(|verb| verb.split(' ').next().expect("a word"));
    let expected: Vec<Vec<&str>> = vec![
        vec!["EHLO"],
        vec!["MAIL", "RCPT", "RCPT", "DATA"],
        content.to_vec(),
        one.to_vec(),
        content.to_vec(),
        one.to_vec(),
        content.to_vec(),
        vec!["QUIT"],
    ];
    assert_eq!(shape, expected);
    for mail in found.ledger.accepted() {
        assert_eq!(mail.group.reads, 1, "one write for the whole group");
    }
    assert_eq!(session.end, Some(End::Quit));
    assert_eq!(found.ledger.count(Command::Noop) + found.ledger.count(Command::Rset), 0);
}

#[tokio::test]
async fn without_pipelining_each_command_waits_for_its_reply() {
    let bed = bed(SmtpServer::builder().pipelining(false)).await;
    bed.publish(Priority::Normal, mails(2)).await;
    let found = Found::at_the_end(&bed, bed.start()).await;

    assert_eq!(found.ledger.accepted().len(), 2);
    let session = found.ledger.session(1).expect("the session");
    let groups = verbs(session);
    let single = groups.iter().filter(|group| !group[0].starts_with('<'));
    assert!(single.clone().all(|group| group.len() == 1), "{groups:?}");
    let order: Vec<&str> = single.map(|group| group[0]).collect();
    assert_eq!(order, ["EHLO", "MAIL", "RCPT", "DATA", "MAIL", "RCPT", "DATA", "QUIT"]);
}

#[tokio::test]
async fn a_refusal_is_followed_by_rset_and_the_session_goes_on() {
    for pipelining in [true, false] {
        let server = SmtpServer::builder()
            .pipelining(pipelining)
            .rule(on(Command::Rcpt).recipient("m0@example.org").reply(550, "5.1.1", "no"))
            .rule(on(Command::Data).recipient("m2@example.org").reply(554, "5.6.0", "no"))
            .rule(on(Command::Dot).recipient("m4@example.org").reply(554, "5.6.0", "no"));
        let bed = bed(server).await;
        bed.publish(Priority::Normal, mails(6)).await;
        let found = Found::at_the_end(&bed, bed.start()).await;

        assert_eq!(found.letters.len(), 3);
        found.assert_served_once(["m1@example.org", "m3@example.org", "m5@example.org"]);
        assert_eq!(found.ledger.opened(), 1, "the session is kept");
        assert_eq!(found.ledger.count(Command::Rset), 3);
        let session = found.ledger.session(1).expect("the session");
        if pipelining {
            let resets: Vec<_> = session.groups().into_iter().filter(|group| group[0] == "RSET").collect();
            assert_eq!(resets.len(), 3);
            assert!(resets.iter().all(|group| group.len() == 4 && group[3] == "DATA"), "{resets:?}");
        }
        assert_eq!(session.end, Some(End::Quit));
    }
}

#[tokio::test]
async fn a_session_ends_with_quit_after_its_share_and_when_idle() {
    let mut bed = bed(SmtpServer::builder()).await;
    bed.set("SMTP_MAX_MESSAGES_PER_SESSION", 3);
    bed.set("SMTP_IDLE_TIMEOUT", "200ms");
    bed.publish(Priority::Normal, mails(7)).await;
    let service = bed.start();
    bed.smtp.wait_for_mails(7, SOON).await.expect("all");
    let quit = |ledger: &devkit::smtp::Ledger| ledger.sessions().all(|session| session.end == Some(End::Quit));
    bed.smtp.wait_until(quit, SOON).await.expect("the last one ends although nothing ends the service");
    let found = Found::at_the_end(&bed, service).await;

    let mails: Vec<u64> = found.ledger.sessions().map(|session| session.mails).collect();
    assert_eq!(mails, [3, 3, 1]);
}

#[tokio::test]
async fn a_mail_above_the_announced_size_is_not_even_begun() {
    let bed = bed(SmtpServer::builder().size(Some(3000))).await;
    let large = event_with("large", "large@example.org", &json!({"data": {"body": "word ".repeat(2000)}}));
    bed.publish(Priority::Normal, [large, event("small", "small@example.org")]).await;
    let found = Found::at_the_end(&bed, bed.start()).await;

    // the template alone may be larger than that: then both are
    let letter = found.letter("large");
    letter.assert_cause("send", "too-large", 1);
    letter.assert_reply("", "");
    letter.assert_headers(&["postlane-message-id"]);
    assert_eq!(found.ledger.deliveries("large@example.org"), 0);
    assert_eq!(found.ledger.count(Command::Mail), found.ledger.accepted().len() as u64);
}

#[tokio::test]
async fn a_mail_in_the_normal_topic_is_scheduled_as_it_wishes() {
    let bed = bed(SmtpServer::builder().latency(Command::Dot, Duration::from_millis(5))).await;
    let count = 60;
    let urgent =
        |id: &str, priority: &str| event_with(id, &format!("{id}@example.org"), &json!({"priority": priority}));
    bed.smtp.hold(Command::Mail);
    bed.publish(Priority::Normal, mails(count).into_iter().chain([urgent("urgent", "HIGH"), urgent("idle", "low")]))
        .await;
    // in the other topics the topic decides
    bed.publish(Priority::Low, [urgent("wish", "high")]).await;
    let service = bed.start();
    bed.smtp.wait_until(|ledger| ledger.held() == 1, SOON).await.expect("the first mail");
    bed.smtp.release(Command::Mail);
    let found = Found::at_the_end(&bed, service).await;

    let place = |address: &str| found.mails_to(address).next().expect("accepted").sequence;
    assert!(place("urgent@example.org") < 30, "the last of its partition overtakes: {}", place("urgent@example.org"));
    for (id, lane) in [("urgent", "high"), ("idle", "low"), ("wish", "low"), ("m0", "normal")] {
        assert_eq!(found.outcomes(id)[0]["lane"], lane, "of {id}");
    }
}
