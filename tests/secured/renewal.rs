//! Sessions that end, passwords that change and tokens that expire while mails flow.

use std::{fs, time::Duration};

use devkit::{
    kafka::{Listener, SHORT_SESSION, USER, unique, unsecured_token},
    service::Service,
    token::{CLIENT_ID, CLIENT_SECRET, TokenServer},
};
use postlane::event::Priority;
use serde_json::json;
use tokio::task::JoinSet;

use crate::{
    bed::{Bed, SOON, end, event, event_with},
    broker::{with_password, with_tls},
};

/// Publishes a mail and a record for a dead letter every 200 ms for `time`, and waits for all of them.
async fn flow(bed: &Bed, service: &mut Service, time: Duration) {
    let deadline = tokio::time::Instant::now() + time;
    let (mails, letters) = (bed.smtp.ledger().accepted().len(), bed.dead_letters_now().await.len());
    let mut count = 0;
    while tokio::time::Instant::now() < deadline {
        let id = unique("mail");
        bed.publish(Priority::High, [event(&id, "a@example.com")]).await;
        bed.publish(Priority::Low, [event_with(&id, "b@example.com", &json!({"template": "no-such-template"}))]).await;
        count += 1;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let arrived = bed.smtp.wait_for_mails(mails + count, SOON).await;
    arrived.unwrap_or_else(|error| panic!("{error}\n{}", service.tail()));
    assert_eq!(bed.dead_letters(letters + count).await.len(), letters + count);
    bed.wait_for_no_lag(service).await;
}

/// All was sent once, and nobody was woken up.
async fn ends_quietly(bed: &Bed, service: Service) {
    let log = end(service).await;
    for noise in ["trying again", "cannot be", "fetching again", "committed again", "letters again"] {
        assert!(!log.contains(noise), "{noise} in:\n{log}");
    }
    let ledger = bed.smtp.ledger();
    let mut subjects: Vec<_> =
        ledger.accepted().iter().map(|mail| mail.decoded().expect("MIME").subject.clone()).collect();
    let sent = subjects.len();
    subjects.sort();
    subjects.dedup();
    assert_eq!(subjects.len(), sent, "each mail was sent once");
}

#[tokio::test]
async fn sessions_that_the_broker_ends_are_begun_anew_without_a_word() {
    let bed = with_password(Listener::ShortSessions, "SASL_SSL", "SCRAM-SHA-512").await;
    let mut service = bed.start();
    flow(&bed, &mut service, SHORT_SESSION * 3).await;
    ends_quietly(&bed, service).await;
}

#[tokio::test]
async fn a_password_that_changes_is_picked_up() {
    const MECHANISM: &str = "SCRAM-SHA-256";
    let (user, folder) = (unique("rotating"), tempfile::tempdir().expect("a folder"));
    let file = folder.path().join("password");
    let mut bed = with_password(Listener::ShortSessions, "SASL_SSL", MECHANISM).await;
    bed.cluster.set_scram_password(MECHANISM, &user, "first-secret").await.expect("a user");
    fs::write(&file, "first-secret\n").expect("written");
    bed.set("KAFKA_SASL_USERNAME", &user);
    bed.set("KAFKA_SASL_PASSWORD", "");
    bed.set("KAFKA_SASL_PASSWORD_FILE", file.display());
    let mut service = bed.start();
    flow(&bed, &mut service, Duration::from_secs(1)).await;

    // the broker first: until the file follows, nobody is let in
    let refused = || bed.cluster.nodes()[0].log().matches("Failed authentication").count();
    let before = refused();
    bed.cluster.set_scram_password(MECHANISM, &user, "second-secret").await.expect("changed");
    let line = service.wait_for_line(&["refuses the login: Authentication failed"], SOON).await.expect("a refusal");
    assert!(line.contains("KAFKA_SASL_PASSWORD_FILE"), "{line}");
    // a session that is still open may bring it at once
    let mails = bed.smtp.ledger().accepted().len() + 1;
    bed.publish(Priority::High, [event("while-out", "a@example.com")]).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let attempts = refused() - before;
    assert!((2..=8).contains(&attempts), "{attempts} attempts with the old password in ten seconds");
    let told = service.lines_with(&["refuses the login"]);
    assert!(told.len() <= 6, "{told:#?}");
    // another one that is wrong: that it was tried, and refused
    fs::write(&file, "mistyped-secret\n").expect("written");
    service.wait_for_line(&["has changed: trying again"], SOON).await.expect("a try");
    let line = service.wait_for_line(&["refuse what the file holds now"], SOON).await.expect("a refusal");
    assert!(line.contains("KAFKA_SASL_PASSWORD_FILE"), "{line}");
    fs::write(&file, "second-secret\n").expect("written");
    bed.smtp.wait_for_mails(mails, SOON).await.unwrap_or_else(|error| panic!("{error}\n{}", service.tail()));
    flow(&bed, &mut service, SHORT_SESSION).await;

    // the file first: what is open stays open, and the broker follows
    fs::write(&file, "third-secret\n").expect("written");
    bed.cluster.set_scram_password(MECHANISM, &user, "third-secret").await.expect("changed");
    flow(&bed, &mut service, SHORT_SESSION * 2).await;
    let log = end(service).await;
    assert!(!log.contains("-secret"), "{log}");
}

#[tokio::test]
async fn tokens_that_expire_are_renewed_without_a_word() {
    let server = TokenServer::start(Duration::from_secs(4)).await.expect("a token endpoint");
    let mut bed = with_tls(Listener::SaslSsl, "SASL_SSL").await;
    bed.set("KAFKA_SASL_MECHANISM", "OAUTHBEARER");
    bed.set("KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL", server.url());
    bed.set("KAFKA_SASL_OAUTHBEARER_CLIENT_ID", CLIENT_ID);
    bed.set("KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET", CLIENT_SECRET);
    let mut service = bed.start();
    flow(&bed, &mut service, Duration::from_secs(10)).await;
    ends_quietly(&bed, service).await;
    let asked = server.requests().len();
    assert!((3..=8).contains(&asked), "{asked} tokens in ten seconds and a bit");
}

#[tokio::test]
async fn a_token_file_is_read_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("token");
    let mut bed = with_tls(Listener::SaslSsl, "SASL_SSL").await;
    bed.set("KAFKA_SASL_MECHANISM", "OAUTHBEARER");
    bed.set("KAFKA_SASL_OAUTHBEARER_TOKEN_FILE", file.display());
    let renew = move || {
        let new = file.with_extension("new");
        fs::write(&new, unsecured_token(USER, Duration::from_secs(4))).expect("written");
        fs::rename(&new, &file).expect("replaced");
    };
    renew();
    let mut renewing = JoinSet::new();
    renewing.spawn(async move {
        let mut every = tokio::time::interval(Duration::from_secs(1));
        loop {
            every.tick().await;
            renew();
        }
    });
    let mut service = bed.start();
    flow(&bed, &mut service, Duration::from_secs(10)).await;
    ends_quietly(&bed, service).await;
}
