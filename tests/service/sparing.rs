//! Sessions that fail without a fault of the mail: a relay that is full, a session that has grown old, a relay that
//! breaks everything off; and one mail whose fault it is.

use std::time::Duration;

use devkit::smtp::{Action, Command, SmtpServer, on};
use postlane::event::Priority;
use serde_json::{Value, json};

use crate::{
    bed::{Bed, SOON, event, event_with},
    found::Found,
};

fn mails(name: &str, count: usize) -> Vec<Value> {
    (0..count).map(|n| event(&format!("{name}{n}"), &format!("{name}{n}@example.org"))).collect()
}

#[tokio::test]
async fn a_relay_that_takes_four_sessions_gets_four_and_nothing_pauses() {
    let server = SmtpServer::builder().max_connections(4).latency(Command::Dot, Duration::from_millis(10));
    let bed = Bed::with(server, 1).await;
    bed.publish(Priority::Normal, mails("m", 300)).await;
    let mut service = bed.start();
    bed.smtp.wait_for_mails(300, SOON).await.expect("all");
    bed.wait_for_no_lag(&mut service).await;
    let found = Found::at_the_end(&bed, service).await;
    found.assert_no_letters();
    for number in 0..300 {
        found.assert_sent(&format!("m{number}"), 1, 0);
    }
    assert!(found.ledger.duplicates().is_empty());
    assert_eq!(found.ledger.peak(), 4);
    // each worker learns it at most once
    assert!((1..=16).contains(&found.ledger.turned_away()), "{} turned away", found.ledger.turned_away());
    assert_eq!(found.count_lines("the relay is down"), 0, "{}", found.log);
    assert!(found.count_lines("the relay takes no further session") >= 1);
}

#[tokio::test]
async fn a_stale_session_costs_nothing() {
    let server = SmtpServer::builder().idle_timeout(Duration::from_millis(50)).transcripts();
    let mut bed = Bed::with(server, 1).await;
    bed.set("SMTP_SESSIONS", 1);
    // a mail that had to wait would never come in time
    bed.set("RETRY_INITIAL_DELAY", "10m");
    bed.set("RETRY_MAX_DELAY", "10m");
    let service = bed.start();
    for number in 0..5 {
        bed.publish(Priority::Normal, [event(&format!("m{number}"), &format!("m{number}@example.org"))]).await;
        bed.smtp.wait_for_mails(number + 1, SOON).await.expect("the mail");
        bed.smtp.wait_until(|ledger| ledger.open() == 0, SOON).await.expect("the server closes the idle session");
    }
    let found = Found::at_the_end(&bed, service).await;
    found.assert_no_letters();
    for number in 0..5 {
        found.assert_sent(&format!("m{number}"), 1, 0);
    }
    assert!(found.ledger.duplicates().is_empty());
    assert_eq!(found.ledger.opened(), 5);
    assert_eq!(found.count_lines("the relay is down"), 0);
}

#[tokio::test]
async fn a_reused_session_that_is_lost_in_mid_transaction_is_replaced_at_once() {
    let mid = |connection, action| on(Command::Rcpt).connection(connection).transaction(3).act(action);
    let server = SmtpServer::builder()
        .rule(mid(1, Action::HangUp))
        .rule(mid(2, Action::Reset))
        .rule(mid(3, Action::reply(421, "4.4.2", "timeout")))
        .rule(on(Command::Data).connection(4).transaction(3).act(Action::HangUp))
        .rule(on(Command::Mail).connection(5).transaction(3).reply(421, "4.4.2", "too old"));
    let mut bed = Bed::with(server, 1).await;
    bed.set("SMTP_SESSIONS", 1);
    bed.set("RETRY_INITIAL_DELAY", "10m");
    bed.set("RETRY_MAX_DELAY", "10m");
    bed.publish(Priority::Normal, mails("m", 14)).await;
    let mut service = bed.start();
    bed.smtp.wait_for_mails(14, SOON).await.unwrap_or_else(|error| panic!("{error}:\n{}", service.tail()));
    bed.wait_for_no_lag(&mut service).await;
    let found = Found::at_the_end(&bed, service).await;
    found.assert_no_letters();
    for number in 0..14 {
        found.assert_sent(&format!("m{number}"), 1, 0);
    }
    assert!(found.ledger.duplicates().is_empty());
    assert_eq!(found.ledger.opened(), 6);
}

#[tokio::test]
async fn a_poison_mail_ends_as_a_dead_letter_and_the_others_flow() {
    let server = SmtpServer::builder()
        .rule(on(Command::Rcpt).recipient("rcpt@example.org").act(Action::HangUp))
        .rule(on(Command::Data).recipient("data@example.org").act(Action::Reset));
    let mut bed = Bed::with(server, 1).await;
    bed.set("SMTP_SESSIONS", 2);
    bed.publish(Priority::Normal, ["rcpt", "data"].map(|name| event(name, &format!("{name}@example.org")))).await;
    let service = bed.start();
    // some are accepted between any two of its attempts
    let mut good = 0;
    while service.lines_with(&["dead letter", "retries-exhausted"]).len() < 2 {
        let id = format!("good{good}");
        bed.publish(Priority::Normal, [event(&id, &format!("{id}@example.org"))]).await;
        good += 1;
        bed.smtp.wait_for_mails(good, SOON).await.expect("the others flow");
        assert!(good < 300, "the poison is tried for ever:\n{}", service.tail());
    }
    let found = Found::at_the_end(&bed, service).await;
    for name in ["rcpt", "data"] {
        let letter = found.letter(name);
        letter.assert_cause("send", "retries-exhausted", 3);
        letter.assert_reply("", "");
        letter.assert_headers(&["postlane-message-id"]);
    }
    assert_eq!(found.letters.len(), 2);
    for number in 0..good {
        found.assert_sent(&format!("good{number}"), 1, 0);
        found.assert_served_once([format!("good{number}@example.org").as_str()]);
    }
    assert_eq!(found.count_lines("the relay is down"), 0);
}

#[tokio::test]
async fn a_relay_that_breaks_every_mail_off_uses_up_no_attempt() {
    let server = SmtpServer::builder().rule(on(Command::Data).act(Action::HangUp));
    let mut bed = Bed::with(server, 1).await;
    bed.set("RETRY_MAX_ATTEMPTS", 2);
    bed.set("RETRY_INITIAL_DELAY", "10ms");
    bed.set("RETRY_MAX_DELAY", "50ms");
    bed.publish(Priority::Normal, mails("m", 8)).await;
    let mut service = bed.start();
    bed.smtp.wait_until(|ledger| ledger.count(Command::Data) >= 80, SOON).await.expect("each of them many times");
    assert!(bed.dead_letters_now().await.is_empty());
    bed.smtp.clear();
    bed.smtp.wait_for_mails(8, SOON).await.unwrap_or_else(|error| panic!("{error}:\n{}", service.tail()));
    bed.wait_for_no_lag(&mut service).await;
    let found = Found::at_the_end(&bed, service).await;
    found.assert_no_letters();
    assert_eq!(found.ledger.accepted().len(), 8);
    assert!(found.ledger.duplicates().is_empty());
}

#[tokio::test]
async fn after_a_restart_of_the_relay_all_sessions_work_again() {
    let server = SmtpServer::builder().latency(Command::Dot, Duration::from_millis(20));
    let mut bed = Bed::with(server, 1).await;
    bed.publish(Priority::Normal, mails("m", 3000)).await;
    let service = bed.start();
    bed.smtp.wait_for_mails(200, SOON).await.expect("mails before the restart");
    bed.smtp.stop().await;
    bed.smtp.start_again().await.expect("the same port");
    let before = bed.smtp.ledger().accepted().len();
    bed.smtp.wait_until(|ledger| ledger.open() == 16, SOON).await.expect("as many sessions as before");
    let after = bed.smtp.ledger().accepted().len();
    assert!(after - before < 1500, "{after} of 3000 were sent before all sessions were back, {before} at the restart");
    let found = Found::at_the_end(&bed, service).await;
    found.assert_no_letters();
    // what was on its way when the relay stopped may be there twice
    assert!((3000..=3016).contains(&found.ledger.accepted().len()), "{}", found.ledger.accepted().len());
}

#[tokio::test]
async fn one_sender_that_is_refused_does_not_stop_the_others() {
    let refuse = on(Command::Mail).sender("bad@example.com").reply(553, "5.1.8", "no such sender");
    let mut bed = Bed::with(SmtpServer::builder().rule(refuse), 1).await;
    bed.set("SMTP_SESSIONS", 4);
    let bad = (0..100).map(|n| event_with(&format!("b{n}"), "x@example.org", &json!({"from": "bad@example.com"})));
    bed.publish(Priority::Normal, bad.chain(mails("g", 20))).await;
    let service = bed.start();
    bed.smtp.wait_for_mails(20, SOON).await.expect("the good ones behind the bad ones");
    // the bad ones look like a relay that refuses everyone; each good one shows that it is they who are meant
    let mut sent = 20;
    while bed.cluster.read_all(&bed.names.dead_letters).await.expect("letters").len() < 100 {
        bed.publish(Priority::Normal, mails(&format!("later{sent}-"), 1)).await;
        sent += 1;
        bed.smtp.wait_for_mails(sent, SOON).await.expect("a good one that came later");
        assert!(sent < 120, "the bad ones do not end");
    }
    let found = Found::at_the_end(&bed, service).await;
    assert_eq!(found.letters.len(), 100);
    assert!(found.letters.iter().all(|letter| letter.header("postlane-reason").as_deref() == Some("rejected")));
}
