//! Every protocol and mechanism carries all three kinds of connections: readers, coordinator, dead letters.

use std::{io::Write, time::Duration};

use devkit::{
    kafka::{Listener, USER, unsecured_token},
    token::{CLIENT_ID, CLIENT_SECRET, TokenServer},
};
use postlane::event::Priority;
use serde_json::json;

use crate::{
    bed::{Bed, SOON, end, event, event_with},
    broker::{bed, file, with_password, with_tls},
};

/// Two mails arrive, one becomes a dead letter, and all is committed. Returns the log.
async fn delivers(bed: Bed) -> String {
    bed.publish(Priority::High, [event("a", "a@example.com")]).await;
    bed.publish(Priority::Low, [event("b", "b@example.com")]).await;
    bed.publish(Priority::Normal, [event_with("c", "c@example.com", &json!({"template": "no-such-template"}))]).await;
    let mut service = bed.start();
    bed.smtp.wait_for_mails(2, SOON).await.unwrap_or_else(|error| panic!("{error}\n{}", service.tail()));
    assert_eq!(bed.dead_letters(1).await.len(), 1);
    bed.wait_for_no_lag(&mut service).await;
    assert_eq!(bed.lag_by_kafkas_tool().await, 0);
    let log = end(service).await;
    for noise in ["trying again", "\"ERROR\""] {
        assert!(!log.contains(noise), "{noise} in:\n{log}");
    }
    log
}

#[tokio::test]
async fn ssl() {
    delivers(with_tls(Listener::Ssl, "SSL").await).await;
}

#[tokio::test]
async fn ssl_with_a_client_certificate() {
    let mut bed = with_tls(Listener::MutualTls, "ssl").await;
    bed.set("KAFKA_SSL_CERTIFICATE_FILE", file("client.pem").await);
    bed.set("KAFKA_SSL_KEY_FILE", file("client.key").await);
    delivers(bed).await;
}

#[tokio::test]
async fn ssl_without_a_look_at_the_name() {
    let mut bed = with_tls(Listener::WrongName, "SSL").await;
    bed.set("KAFKA_SSL_ENDPOINT_IDENTIFICATION_ALGORITHM", "none");
    let log = delivers(bed).await;
    assert!(log.contains("KAFKA_SSL_ENDPOINT_IDENTIFICATION_ALGORITHM=none: whoever"), "{log}");
}

#[tokio::test]
async fn sasl_ssl_plain() {
    delivers(with_password(Listener::SaslSsl, "SASL_SSL", "PLAIN").await).await;
}

#[tokio::test]
async fn sasl_ssl_scram_sha_256() {
    delivers(with_password(Listener::SaslSsl, "SASL_SSL", "SCRAM-SHA-256").await).await;
}

#[tokio::test]
async fn sasl_ssl_scram_sha_512() {
    let mut bed = with_password(Listener::SaslSsl, "sasl_ssl", "scram-sha-512").await;
    // a broker that is away does not keep the others from being asked
    let secured = bed.cluster.secured().expect("secured").bootstrap(Listener::SaslSsl);
    bed.set("KAFKA_BROKERS", format!("localhost:1,{secured}"));
    delivers(bed).await;
}

#[tokio::test]
async fn sasl_plaintext_with_each_password_mechanism() {
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let log = delivers(with_password(Listener::SaslPlaintext, "SASL_PLAINTEXT", mechanism).await).await;
        assert!(log.contains("KAFKA_SECURITY_PROTOCOL=SASL_PLAINTEXT"), "{log}");
    }
}

#[tokio::test]
async fn oauthbearer_with_a_token_file() {
    for (listener, protocol) in [(Listener::SaslSsl, "SASL_SSL"), (Listener::SaslPlaintext, "SASL_PLAINTEXT")] {
        let mut token = tempfile::NamedTempFile::new().expect("a file");
        writeln!(token, "{}", unsecured_token(USER, Duration::from_secs(600))).expect("written");
        let mut bed = with_tls(listener, protocol).await;
        bed.set("KAFKA_SASL_MECHANISM", "OAUTHBEARER");
        bed.set("KAFKA_SASL_OAUTHBEARER_TOKEN_FILE", token.path().display());
        delivers(bed).await;
    }
}

#[tokio::test]
async fn oauthbearer_with_client_credentials() {
    let server = TokenServer::start(Duration::from_secs(600)).await.expect("a token endpoint");
    let mut bed = with_tls(Listener::SaslSsl, "SASL_SSL").await;
    bed.set("KAFKA_SASL_MECHANISM", "OAUTHBEARER");
    bed.set("KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL", server.url());
    bed.set("KAFKA_SASL_OAUTHBEARER_CLIENT_ID", CLIENT_ID);
    bed.set("KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET", CLIENT_SECRET);
    bed.set("KAFKA_SASL_OAUTHBEARER_SCOPE", "mail events");
    bed.set("KAFKA_SASL_OAUTHBEARER_EXTENSIONS", "logicalCluster=lkc-1");
    let log = delivers(bed).await;
    assert_eq!(server.requests(), ["grant_type=client_credentials&scope=mail+events"], "one token serves all");
    assert!(!log.contains(CLIENT_SECRET));
}

#[tokio::test]
async fn plaintext_on_the_same_broker() {
    let mut bed = bed(Listener::Ssl).await;
    bed.set("KAFKA_BROKERS", bed.cluster.bootstrap());
    delivers(bed).await;
}
