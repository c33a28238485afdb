//! A real Postfix with TLS and SASL as the relay, which hands on to the bed's server.

use std::{path::PathBuf, time::Duration};

use devkit::{
    postfix::{self, Postfix},
    smtp::SmtpServer,
};
use postlane::event::Priority;
use serde_json::json;

use crate::{
    bed::{Bed, SOON, event, event_with},
    found::Found,
};

const USER: &str = "mailer";
const PASSWORD: &str = "correct horse battery";

struct Relayed {
    bed: Bed,
    postfix: Postfix,
    password: PathBuf,
}

fn file(bed: &Bed, name: &str, content: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}.{name}", bed.names.group));
    std::fs::write(&path, content).expect("a file");
    path
}

/// A service that sends by Postfix over STARTTLS, and knows its authority and the password.
async fn relayed(change: impl FnOnce(postfix::Builder) -> postfix::Builder) -> Relayed {
    let mut bed = Bed::with(SmtpServer::builder(), 1).await;
    let builder = change(Postfix::builder(bed.smtp.port(), USER, PASSWORD));
    let postfix = builder.start().await.unwrap_or_else(|error| panic!("{error:#}"));
    let ca = file(&bed, "ca.pem", postfix.ca_pem());
    let password = file(&bed, "password", PASSWORD);
    bed.set("SMTP_PORT", postfix.submission());
    bed.set("SMTP_ENCRYPTION", "starttls");
    bed.set("SMTP_CA_FILE", ca.display());
    bed.set("SMTP_USER", format!("{USER}@postlane.test"));
    bed.set("SMTP_PASSWORD_FILE", password.display());
    Relayed { bed, postfix, password }
}

async fn one_mail_gets_through(relayed: Relayed, mechanism: &str) {
    let Relayed { bed, postfix, .. } = relayed;
    bed.publish(Priority::High, [event("one", "one@example.org")]).await;
    let service = bed.start();
    let arrived = bed.smtp.wait_for_mails(1, SOON).await;
    arrived.unwrap_or_else(|error| panic!("{error}:\n{}\n{}", service.tail(), postfix.log()));
    let found = Found::at_the_end(&bed, service).await;
    found.assert_sent("one", 1, 0);
    assert_eq!(found.count_lines("250 2.0.0 Ok: queued as"), 1, "{}", found.log);
    let [mail] = found.ledger.accepted() else { panic!("not one mail") };
    assert_eq!(mail.recipients, ["one@example.org"]);
    assert!(mail.header("Received").is_some_and(|trace| trace.contains("ESMTPSA")), "TLS and AUTH are in its trace");
    let log = postfix.log();
    let expected = format!("sasl_method={mechanism}, sasl_username={USER}");
    assert!(log.contains(&expected), "{expected} is not in\n{log}");
}

#[tokio::test]
async fn starttls_and_auth_plain() {
    one_mail_gets_through(relayed(|postfix| postfix).await, "PLAIN").await;
}

#[tokio::test]
async fn implicit_tls_and_auth_login() {
    let mut relayed = relayed(|postfix| postfix.mechanisms("LOGIN")).await;
    relayed.bed.set("SMTP_PORT", relayed.postfix.submissions());
    relayed.bed.set("SMTP_ENCRYPTION", "tls");
    one_mail_gets_through(relayed, "LOGIN").await;
}

#[tokio::test]
async fn a_wrong_password_is_tried_once_until_its_file_is_put_right() {
    let Relayed { mut bed, postfix, password } = relayed(|postfix| postfix).await;
    std::fs::write(&password, "wrong\n").expect("a file");
    // long enough that nothing but the change of the file can be why it is tried again
    bed.set("RETRY_MAX_DELAY", "15m");
    let mails: Vec<_> = (0..20).map(|n| event(&format!("m{n}"), &format!("m{n}@example.org"))).collect();
    bed.publish(Priority::Normal, mails).await;
    let mut service = bed.start();
    let line = service.wait_for_line(&["the relay is down", "ERROR"], SOON).await.expect("said");
    for part in ["no session with 127.0.0.1:", "AUTH failed", "535 5.7.8", "look at SMTP_USER and SMTP_PASSWORD_FILE"] {
        assert!(line.contains(part), "{part} is not in {line}");
    }
    assert!(bed.dead_letters_now().await.is_empty());
    std::fs::write(&password, PASSWORD).expect("a file");
    let arrived = bed.smtp.wait_for_mails(20, Duration::from_secs(25)).await;
    arrived.unwrap_or_else(|error| panic!("{error}:\n{}\n{}", service.tail(), postfix.log()));
    let found = Found::at_the_end(&bed, service).await;
    for number in 0..20 {
        found.assert_sent(&format!("m{number}"), 1, 0);
    }
    // a session may begin in the moment in which the first one is refused
    let refused = postfix.log().matches("SASL PLAIN authentication failed").count();
    assert!((1..=2).contains(&refused), "{refused} refused logins lock an account:\n{}", postfix.log());
    assert!(!found.log.contains("wrong\\n") && !found.log.contains(PASSWORD));
}

#[tokio::test]
async fn an_authority_that_is_not_known_is_a_relay_that_is_down() {
    let mut relayed = relayed(|postfix| postfix).await;
    let stranger = SmtpServer::builder().starttls().start().await;
    let ca = file(&relayed.bed, "other.pem", stranger.ca_pem().expect("TLS"));
    relayed.bed.set("SMTP_CA_FILE", ca.display());
    relayed.bed.publish(Priority::Normal, [event("one", "one@example.org")]).await;
    let mut service = relayed.bed.start();
    let line = service.wait_for_line(&["the relay is down", "ERROR"], SOON).await.expect("said");
    let expected = "its certificate is of an authority that is not trusted: add that to SMTP_CA_FILE";
    assert!(line.contains(expected), "{line}");
    service.wait_for_line(&["the relay is still down"], SOON).await.expect("a probe");
    assert!(relayed.bed.dead_letters_now().await.is_empty());
    assert!(!relayed.postfix.log().contains("sasl_username"), "no password crossed");
}

#[tokio::test]
async fn a_refused_recipient_and_a_mail_that_is_too_large_are_dead_letters() {
    let Relayed { bed, postfix, .. } = relayed(|postfix| postfix.refuse("nobody@example.org").size_limit(20_000)).await;
    let large = json!({"data": {"body": "large ".repeat(5000)}});
    let events = [
        event("refused", "nobody@example.org"),
        event_with("large", "large@example.org", &large),
        event_with("both", "somebody@example.org", &json!({"cc": ["nobody@example.org"]})),
        event("good", "good@example.org"),
    ];
    bed.publish(Priority::Normal, events).await;
    let service = bed.start();
    let arrived = bed.smtp.wait_for_mails(2, SOON).await;
    arrived.unwrap_or_else(|error| panic!("{error}:\n{}\n{}", service.tail(), postfix.log()));
    let found = Found::at_the_end(&bed, service).await;
    found.assert_sent("good", 1, 0);
    let refused = found.letter("refused");
    refused.assert_cause("send", "rejected", 1);
    refused.assert_reply("554", "5.7.1");
    found.letter("large").assert_cause("send", "too-large", 1);
    let both = found.letter("both");
    both.assert_cause("send", "rejected", 1);
    assert_eq!(both.recipients().as_deref(), Some("1"));
    found.assert_served_once(["somebody@example.org", "good@example.org"]);
    assert_eq!(found.letters.len(), 3);
}
