//! A relay that is down: nothing is lost, no attempt is used, and all goes on by itself.

use std::time::Duration;

use devkit::{
    service::Service,
    smtp::{Action, Command, Rule, SmtpServer, on},
};
use postlane::event::Priority;
use serde_json::{Value, json};

use crate::{
    bed::{Bed, SOON, event, event_with},
    found::Found,
};

/// Mails of each test; each has a sender of its own, so that the server's transcript shows which one was tried.
const MAILS: usize = 30;

fn mails() -> Vec<Value> {
    (0..MAILS)
        .map(|number| {
            let fields = json!({"from": format!("s{number}@example.net")});
            event_with(&format!("m{number}"), &format!("r{number}@example.org"), &fields)
        })
        .collect()
}

/// Delays so short that a mail's attempts would long be used up if outages cost any.
async fn bed(server: devkit::smtp::Builder) -> Bed {
    let mut bed = Bed::with(server.transcripts(), 1).await;
    bed.set("RETRY_INITIAL_DELAY", "10ms");
    bed.set("RETRY_MAX_DELAY", "500ms");
    bed
}

/// Waits until the relay was tried so often in vain, which takes longer than all attempts of a mail.
async fn wait_for_failed_probes(service: &mut Service, count: usize) {
    service.wait_for_line(&["the relay is down", "ERROR"], SOON).await.expect("said once");
    let deadline = tokio::time::Instant::now() + SOON;
    while service.lines_with(&["the relay is still down"]).len() < count {
        assert!(tokio::time::Instant::now() < deadline, "no probes:\n{}", service.tail());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// After the outage: all delivered once, at the first attempt, and it was said once.
async fn assert_all_delivered(bed: &Bed, service: Service) -> Found {
    bed.smtp.wait_for_mails(MAILS, SOON).await.unwrap_or_else(|error| panic!("{error}:\n{}", service.tail()));
    let found = Found::at_the_end(bed, service).await;
    found.assert_no_letters();
    for number in 0..MAILS {
        found.assert_served_once([format!("r{number}@example.org").as_str()]);
        found.assert_sent(&format!("m{number}"), 1, 0);
    }
    assert_eq!(found.count_lines("the relay is down"), 1, "{}", found.log);
    assert_eq!(found.count_lines("the relay is up again"), 1, "{}", found.log);
    found
}

/// A relay that follows these rules until they are taken away.
async fn an_outage(server: devkit::smtp::Builder, rule: Rule, settings: &[(&str, &str)], why: &str) -> Found {
    let mut bed = bed(server.rule(rule)).await;
    for (name, value) in settings {
        bed.set(name, value);
    }
    bed.publish(Priority::Normal, mails()).await;
    let mut service = bed.start();
    wait_for_failed_probes(&mut service, 5).await;
    let line = &service.lines_with(&["the relay is down"])[0];
    assert!(line.contains(why), "{line}");
    // sending pauses: all workers once, and then one probe at a time
    let opened = bed.smtp.ledger().opened();
    let probes = service.lines_with(&["the relay is still down"]).len() as u64;
    assert!(opened <= 16 + probes + 2, "{opened} connections for {probes} probes");
    assert!(bed.dead_letters_now().await.is_empty());
    bed.smtp.clear();
    assert_all_delivered(&bed, service).await
}

#[tokio::test]
async fn connections_are_refused_for_longer_than_all_attempts_of_a_mail() {
    let mut bed = bed(SmtpServer::builder()).await;
    bed.smtp.stop().await;
    bed.publish(Priority::Normal, mails()).await;
    let mut service = bed.start();
    wait_for_failed_probes(&mut service, 10).await;
    assert!(bed.dead_letters_now().await.is_empty());
    assert_eq!(bed.lag().await, i64::try_from(MAILS).expect("few"), "the backlog waits in Kafka");
    bed.smtp.start_again().await.expect("the same port");
    assert_all_delivered(&bed, service).await;
}

#[tokio::test]
async fn the_relay_goes_away_in_the_middle() {
    let mut bed = bed(SmtpServer::builder().latency(Command::Dot, Duration::from_millis(20))).await;
    bed.set("SMTP_SESSIONS", 2);
    bed.publish(Priority::Normal, mails()).await;
    let mut service = bed.start();
    bed.smtp.wait_for_mails(5, SOON).await.expect("some");
    bed.smtp.hold(Command::Rcpt);
    bed.smtp.wait_until(|ledger| ledger.held() == 2, SOON).await.expect("both sessions before their dot");
    bed.smtp.stop().await;
    bed.smtp.release(Command::Rcpt);
    wait_for_failed_probes(&mut service, 6).await;
    bed.smtp.start_again().await.expect("the same port");
    let found = assert_all_delivered(&bed, service).await;
    assert!(found.ledger.duplicates().is_empty());
}

#[tokio::test]
async fn the_banner_is_554() {
    let rule = on(Command::Banner).reply(554, "5.3.2", "no service here");
    an_outage(SmtpServer::builder(), rule, &[], "554 5.3.2 no service here").await;
}

#[tokio::test]
async fn the_banner_is_421() {
    let rule = on(Command::Banner).act(Action::reply_then_hang_up(421, "4.3.2", "closed for today"));
    an_outage(SmtpServer::builder(), rule, &[], "421 4.3.2 closed for today").await;
}

#[tokio::test]
async fn the_banner_never_comes() {
    let rule = on(Command::Banner).act(Action::silence());
    an_outage(SmtpServer::builder(), rule, &[("SMTP_GREETING_TIMEOUT", "100ms")], "the banner failed: no answer").await;
}

#[tokio::test]
async fn ehlo_is_refused() {
    let rule = on(Command::Ehlo).act(Action::HangUp);
    an_outage(SmtpServer::builder(), rule, &[], "EHLO failed").await;
}

#[tokio::test]
async fn the_login_fails() {
    let server = SmtpServer::builder().login("user", "correct horse");
    let rule = on(Command::Auth).reply(535, "5.7.8", "who are you");
    let settings = [("SMTP_USER", "user"), ("SMTP_PASSWORD", "correct horse")];
    let found = an_outage(server, rule, &settings, "AUTH failed: the server answered 535 5.7.8 who are you").await;
    assert!(!found.log.contains("correct horse"));
}

#[tokio::test]
async fn mail_is_locked_out_and_every_probe_is_another_mail_on_a_new_session() {
    let rule = on(Command::Mail).reply(530, "5.7.0", "authentication required");
    let settings = [("SMTP_SESSIONS", "1")];
    let found = an_outage(SmtpServer::builder(), rule, &settings, "530 5.7.0 authentication required").await;
    let tried: Vec<(u64, &str)> = found
        .ledger
        .sessions()
        .flat_map(|session| session.client().into_iter().map(move |line| (session.number, line)))
        .filter(|(_, line)| line.starts_with("MAIL FROM:"))
        .take(6)
        .collect();
    for (number, (session, line)) in (0_u64..).zip(tried) {
        assert_eq!(session, number + 1, "a new session for each probe");
        assert!(line.starts_with(&format!("MAIL FROM:<s{number}@example.net>")), "{line}");
    }
}

#[tokio::test]
async fn a_mail_that_alone_is_locked_out_ends_while_the_others_flow() {
    let rule = on(Command::Mail).sender("poison@example.net").reply(530, "5.7.0", "not as this one");
    let mut bed = Bed::with(SmtpServer::builder().rule(rule), 1).await;
    bed.set("RETRY_INITIAL_DELAY", "10ms");
    bed.set("RETRY_MAX_DELAY", "100ms");
    bed.publish(Priority::Normal, [event_with("poison", "p@example.org", &json!({"from": "poison@example.net"}))])
        .await;
    let mut service = bed.start();
    service.wait_for_line(&["the relay is down"], SOON).await.expect("down at first: it may be the relay");
    // the others come while it waits, so that each of its attempts has one of them before it
    let mut good = 0;
    while service.lines_with(&["poison", "dead letter"]).is_empty() {
        let id = format!("good{good}");
        bed.publish(Priority::Normal, [event(&id, &format!("{id}@example.org"))]).await;
        good += 1;
        bed.smtp.wait_for_mails(good, SOON).await.expect("the others flow");
        assert!(good < 200, "it is tried for ever:\n{}", service.tail());
    }
    let found = Found::at_the_end(&bed, service).await;
    let letter = found.letter("poison");
    letter.assert_cause("send", "retries-exhausted", 3);
    letter.assert_reply("530", "5.7.0");
    assert_eq!(found.letters.len(), 1);
    for number in 0..good {
        found.assert_sent(&format!("good{number}"), 1, 0);
    }
}

#[tokio::test]
async fn a_mail_that_expires_during_the_outage_is_not_sent_after_it() {
    let mut bed = bed(SmtpServer::builder()).await;
    bed.smtp.stop().await;
    let expires = chrono::Utc::now() + chrono::Duration::milliseconds(1500);
    let expiring = event_with("late", "late@example.org", &json!({"expires_at": expires.to_rfc3339()}));
    bed.publish(Priority::Normal, [expiring, event("good", "good@example.org")]).await;
    let mut service = bed.start();
    wait_for_failed_probes(&mut service, 5).await;
    while chrono::Utc::now() < expires {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    bed.smtp.start_again().await.expect("the same port");
    let found = Found::at_the_end(&bed, service).await;
    found.letter("late").assert_cause("expired", "expired", 0);
    found.letter("late").assert_headers(&["postlane-message-id"]);
    found.assert_sent("good", 1, 0);
    assert_eq!(found.ledger.count(Command::Mail), 1);
}
