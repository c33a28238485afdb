//! TLS and AUTH, and that neither a password nor an address shows in any log.

use std::path::PathBuf;

use data_encoding::BASE64;
use devkit::smtp::{Command, SmtpServer, on};
use postlane::event::Priority;
use serde_json::json;

use crate::{
    bed::{Bed, SOON, event, event_with},
    found::Found,
};

const USER: &str = "mailer-user";
const PASSWORD: &str = "correct horse battery";

/// A file of this content for the time of the test run.
fn file(name: &str, content: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, content).expect("a file");
    path
}

/// A server behind TLS with AUTH, and a service that trusts it.
async fn trusted(server: devkit::smtp::Builder, encryption: &str) -> Bed {
    let mut bed = Bed::with(server.login(USER, PASSWORD).require_auth().transcripts(), 1).await;
    let ca = file(&format!("{}.pem", bed.names.group), bed.smtp.ca_pem().unwrap_or_default());
    bed.set("SMTP_ENCRYPTION", encryption);
    bed.set("SMTP_CA_FILE", ca.display());
    bed.set("SMTP_USER", USER);
    bed.set("SMTP_PASSWORD_FILE", file(&format!("{}.secret", bed.names.group), &format!("{PASSWORD}\n")).display());
    bed
}

async fn one_mail_arrives(server: devkit::smtp::Builder, encryption: &str, mechanism: &str) {
    let bed = trusted(server, encryption).await;
    bed.publish(Priority::High, [event("one", "one@example.org")]).await;
    let found = Found::at_the_end(&bed, bed.start()).await;
    found.assert_sent("one", 1, 0);
    let [mail] = found.ledger.accepted() else { panic!("not one mail") };
    assert_eq!((mail.tls, mail.user.as_deref()), (encryption != "none", Some(USER)));
    let session = found.ledger.session(mail.connection).expect("its session");
    assert!(
        session.client().iter().any(|line| line.starts_with(&format!("AUTH {mechanism}"))),
        "{:?}",
        session.client()
    );
    if encryption == "starttls" {
        assert_eq!(session.verbs()[..3], ["EHLO", "STARTTLS", "EHLO"], "nothing else in the clear");
    }
}

#[tokio::test]
async fn starttls_and_auth_plain() {
    one_mail_arrives(SmtpServer::builder().starttls().require_tls(), "starttls", "PLAIN").await;
}

#[tokio::test]
async fn implicit_tls_and_auth_login() {
    one_mail_arrives(SmtpServer::builder().implicit_tls().mechanisms(&["LOGIN"]), "tls", "LOGIN").await;
}

#[tokio::test]
async fn auth_in_the_clear_on_this_host() {
    one_mail_arrives(SmtpServer::builder(), "none", "PLAIN").await;
}

#[tokio::test]
async fn a_password_that_crosses_the_network_in_the_clear_is_warned_of() {
    let mut bed = trusted(SmtpServer::builder(), "none").await;
    bed.set("SMTP_CA_FILE", "");
    let warning =
        "SMTP_ALLOW_INSECURE_AUTH=true with SMTP_ENCRYPTION=none: the password crosses the network in the clear";
    // reaches this host, and does not say so
    bed.set("SMTP_HOST", "0.0.0.0");
    bed.set("SMTP_ALLOW_INSECURE_AUTH", true);
    bed.check(&[]).await.assert_row("relay login", "warn", &[warning, "SMTP_ENCRYPTION=starttls"]);
    bed.publish(Priority::High, [event("one", "one@example.org")]).await;
    let found = Found::at_the_end(&bed, bed.start()).await;
    assert_eq!(found.count_lines(warning), 1, "{}", found.log);
}

/// The relay is down for this reason, and no mail and no password crosses.
async fn stays_down(bed: &Bed, whys: &[&str]) {
    bed.publish(Priority::Normal, [event("one", "one@example.org")]).await;
    let mut service = bed.start();
    let line = service.wait_for_line(&["the relay is down", "ERROR"], SOON).await.expect("said");
    let fields = serde_json::from_str::<serde_json::Value>(&line).expect("JSON");
    let why = fields["why"].as_str().expect("a reason").to_owned();
    for part in whys {
        assert!(why.contains(part), "{part} is not in {why:?}");
    }
    service.wait_for_line(&["the relay is still down"], SOON).await.expect("a probe");
    assert!(bed.dead_letters_now().await.is_empty());
    let ledger = bed.smtp.ledger();
    assert_eq!(ledger.count(Command::Mail) + ledger.count(Command::Auth), 0);
    assert_eq!(bed.lag().await, 1);
}

#[tokio::test]
async fn a_certificate_of_an_unknown_authority_is_a_relay_that_is_down() {
    let stranger = SmtpServer::builder().implicit_tls().start().await;
    for (server, encryption) in
        [(SmtpServer::builder().implicit_tls(), "tls"), (SmtpServer::builder().starttls(), "starttls")]
    {
        let mut bed = trusted(server, encryption).await;
        let other = file(&format!("{}-other.pem", bed.names.group), stranger.ca_pem().expect("TLS"));
        bed.set("SMTP_CA_FILE", other.display());
        stays_down(&bed, &["no session with 127.0.0.1:", "the TLS handshake failed", "certificate"]).await;
    }
}

#[tokio::test]
async fn a_certificate_for_another_name_is_a_relay_that_is_down() {
    let server = SmtpServer::builder().starttls().certificate_names(&["mail.example.net"]);
    let bed = trusted(server, "starttls").await;
    stays_down(&bed, &["the TLS handshake failed", "certificate"]).await;
}

#[tokio::test]
async fn a_server_without_starttls_gets_neither_mail_nor_password() {
    let bed = trusted(SmtpServer::builder(), "starttls").await;
    let mut bed = bed;
    bed.set("SMTP_CA_FILE", "");
    stays_down(&bed, &["STARTTLS failed: the server does not offer it"]).await;
}

#[tokio::test]
async fn bytes_behind_the_reply_to_starttls_end_the_session() {
    let server = SmtpServer::builder().starttls().inject_after_starttls("250 injected\r\n");
    let bed = trusted(server, "starttls").await;
    stays_down(&bed, &["STARTTLS failed"]).await;
}

#[tokio::test]
async fn no_log_shows_a_password_an_address_or_what_a_mail_says() {
    let token = "tokenof42secrets";
    let server = SmtpServer::builder()
        .starttls()
        .rule(on(Command::Rcpt).recipient_contains("refused.person").reply(
            550,
            "5.1.1",
            "<refused.person@example.org> unknown",
        ))
        .rule(on(Command::Rcpt).recipient_contains("deferred.person").reply(
            450,
            "4.2.1",
            "deferred.person@example.org: later",
        ))
        .rule(on(Command::Dot).recipient_contains("queued.person").reply(
            250,
            "2.0.0",
            "queued for <queued.person@example.org>",
        ))
        .rule(on(Command::Data).recipient_contains("broken.person").act(devkit::smtp::Action::HangUp));
    let mut bed = trusted(server, "starttls").await;
    bed.set("RUST_LOG", "trace");
    bed.set("RETRY_INITIAL_DELAY", "20ms");
    let people = ["refused.person", "deferred.person", "queued.person", "broken.person"];
    let mut mails = Vec::new();
    for person in people {
        let fields = json!({
            "from": format!("Some Sender <sender.{person}@example.com>"),
            "subject": format!("For {person}@example.org"),
            "template": "password-reset",
            "data": {"Link": format!("https://shop.example.com/reset?token={token}")},
        });
        mails.push(event_with(&format!("id-{}", &person[..3]), &format!("{person}@example.org"), &fields));
    }
    mails.push(json!({"message": {"to": "malformed.person@example.org", "data": token}}));
    bed.publish(Priority::Normal, mails).await;
    let service = bed.start();
    bed.dead_letters(3).await;
    bed.smtp.clear();
    let found = Found::at_the_end(&bed, service).await;

    let plain = BASE64.encode(format!("\0{USER}\0{PASSWORD}").as_bytes());
    let encoded = BASE64.encode(PASSWORD.as_bytes());
    let secrets = [PASSWORD, plain.as_str(), encoded.as_str(), token, "malformed.person"];
    for secret in secrets.iter().chain(&people) {
        let line = found.log.lines().find(|line| line.contains(secret));
        assert!(line.is_none(), "{secret} shows in the log: {}", line.unwrap_or_default());
    }
    // what was searched is not empty: the lines are there, masked
    assert!(found.count_lines("r***@example.org") >= 1 && found.count_lines("q***@example.org") >= 1);
    assert!(found.log.contains("\"DEBUG\""));
}
