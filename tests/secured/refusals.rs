//! Whoever is not let in reads in one sentence why, with the broker and the variable to look at.

use std::{
    io::Write,
    process::{Command, Stdio},
    time::Duration,
};

use devkit::{
    kafka::{Listener, USER, unsecured_token},
    token::{CLIENT_ID, TokenServer},
};

use crate::{
    bed::{Bed, SOON, end},
    broker::{bed, file, with_password, with_tls},
};

/// The service says this of the broker, once, and goes on trying.
async fn says(bed: &Bed, listener: Listener, sentence: &str) {
    let broker = bed.cluster.secured().expect("secured").bootstrap(listener);
    let sentence = sentence.replace("BROKER", &broker);
    let mut service = bed.start();
    let line = service.wait_for_line(&["the partitions cannot be determined"], SOON).await.expect("a reason");
    assert!(line.contains(&sentence), "not {sentence}, but {line}");
    // time for a second attempt at least
    let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
    while tokio::time::Instant::now() < deadline {
        assert!(service.exit_status().expect("a state").is_none(), "{}", service.tail());
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    assert_eq!(service.lines_with(&["cannot be determined"]).len(), 1, "{}", service.tail());
    end(service).await;
}

#[tokio::test]
async fn a_wrong_password() {
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let mut bed = with_password(Listener::SaslSsl, "SASL_SSL", mechanism).await;
        bed.set("KAFKA_SASL_PASSWORD", "never-shown");
        says(&bed, Listener::SaslSsl, "broker BROKER refuses the login: Authentication failed").await;
    }
}

#[tokio::test]
async fn an_untrusted_authority() {
    let mut bed = with_tls(Listener::Ssl, "SSL").await;
    bed.set("KAFKA_SSL_CA_FILE", file("other-ca.pem").await);
    let expected = "no TLS with broker BROKER: its certificate is of an authority that is not trusted: \
                    add that to KAFKA_SSL_CA_FILE";
    says(&bed, Listener::Ssl, expected).await;
}

#[tokio::test]
async fn a_wrong_host_name() {
    let bed = with_tls(Listener::WrongName, "SSL").await;
    let expected = "no TLS with broker BROKER: its certificate is not for localhost, but for";
    says(&bed, Listener::WrongName, expected).await;
}

#[tokio::test]
async fn plain_text_on_a_tls_port() {
    let bed = bed(Listener::Ssl).await;
    says(&bed, Listener::Ssl, "KAFKA_SECURITY_PROTOCOL").await;
}

#[tokio::test]
async fn tls_on_a_plain_text_port() {
    let mut bed = with_tls(Listener::Ssl, "SSL").await;
    let plain = bed.cluster.bootstrap().to_owned();
    bed.set("KAFKA_BROKERS", &plain);
    let expected = format!(
        "no TLS with broker {plain}: the connection was closed during the TLS handshake: is it a TLS port? \
                            (see KAFKA_SECURITY_PROTOCOL"
    );
    says(&bed, Listener::Ssl, &expected).await;
}

#[tokio::test]
async fn no_login_where_one_is_asked_for() {
    let bed = with_tls(Listener::SaslPlaintext, "PLAINTEXT").await;
    let expected = "broker BROKER closed the connection at the first request after the versions: does it ask for a login? \
                    (see KAFKA_SECURITY_PROTOCOL)";
    says(&bed, Listener::SaslPlaintext, expected).await;
}

#[tokio::test]
async fn a_login_where_none_is_taken() {
    let bed = with_password(Listener::Ssl, "SASL_SSL", "PLAIN").await;
    let expected = "broker BROKER refuses the login: this listener takes no login (see KAFKA_SECURITY_PROTOCOL";
    says(&bed, Listener::Ssl, expected).await;
}

#[tokio::test]
async fn a_mechanism_that_is_not_offered() {
    let bed = with_password(Listener::ShortSessions, "SASL_SSL", "PLAIN").await;
    let mut service = bed.start();
    let line = service.wait_for_line(&["refuses the login: it offers "], SOON).await.expect("a reason");
    assert!(line.contains("here, not PLAIN (see KAFKA_SASL_MECHANISM)") && line.contains("SCRAM-SHA-512"), "{line}");
    end(service).await;
}

#[tokio::test]
async fn no_client_certificate() {
    let bed = with_tls(Listener::MutualTls, "SSL").await;
    let expected = "broker BROKER asks for a client certificate: set KAFKA_SSL_CERTIFICATE_FILE and KAFKA_SSL_KEY_FILE";
    says(&bed, Listener::MutualTls, expected).await;
}

#[tokio::test]
async fn a_client_certificate_of_another_authority() {
    let mut bed = with_tls(Listener::MutualTls, "SSL").await;
    bed.set("KAFKA_SSL_CERTIFICATE_FILE", file("stranger.pem").await);
    bed.set("KAFKA_SSL_KEY_FILE", file("stranger.key").await);
    says(&bed, Listener::MutualTls, "no TLS with broker BROKER: it refuses our client certificate").await;
}

#[tokio::test]
async fn an_expired_token() {
    let mut token = tempfile::NamedTempFile::new().expect("a file");
    write!(token, "{}", unsecured_token(USER, Duration::ZERO)).expect("written");
    let mut bed = with_tls(Listener::SaslSsl, "SASL_SSL").await;
    bed.set("KAFKA_SASL_MECHANISM", "OAUTHBEARER");
    bed.set("KAFKA_SASL_OAUTHBEARER_TOKEN_FILE", token.path().display());
    says(
        &bed,
        Listener::SaslSsl,
        "broker BROKER refuses the login: the token is refused: invalid_token (see KAFKA_SASL_OAUTHBEARER_TOKEN_FILE)",
    )
    .await;
}

#[tokio::test]
async fn a_token_endpoint_that_fails() {
    let server = TokenServer::start(Duration::from_secs(600)).await.expect("a token endpoint");
    let url = server.url();
    let mut bed = with_tls(Listener::SaslSsl, "SASL_SSL").await;
    bed.set("KAFKA_SASL_MECHANISM", "OAUTHBEARER");
    bed.set("KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL", &url);
    bed.set("KAFKA_SASL_OAUTHBEARER_CLIENT_ID", CLIENT_ID);
    bed.set("KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET", "never-shown");
    let expected =
        format!("no token from {url}: 401 Unauthorized: invalid_client (see KAFKA_SASL_OAUTHBEARER_CLIENT_ID");
    says(&bed, Listener::SaslSsl, &expected).await;
    let asked = server.requests().len();
    assert!((2..=6).contains(&asked), "{asked} requests in five seconds");
    server.set_down(true);
    let expected =
        format!("no token from {url}: 503 Service Unavailable (see KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL");
    says(&bed, Listener::SaslSsl, &expected).await;
    drop(server);
    let expected = format!("no token from {url}: cannot connect to 127.0.0.1");
    says(&bed, Listener::SaslSsl, &expected).await;
}

#[test]
fn a_certificate_file_that_cannot_be_used_ends_the_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let broken = folder.path().join("broken.pem");
    std::fs::write(&broken, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").expect("written");
    let broken = broken.display().to_string();
    let missing = folder.path().join("missing").display().to_string();
    let token = [
        ("KAFKA_SECURITY_PROTOCOL", "SASL_SSL"),
        ("KAFKA_SASL_MECHANISM", "OAUTHBEARER"),
        ("KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL", "https://localhost:1/"),
        ("KAFKA_SASL_OAUTHBEARER_CLIENT_ID", "c"),
        ("KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET", "s"),
        ("KAFKA_HTTPS_CA_FILE", &missing),
    ];
    let ssl = ("KAFKA_SECURITY_PROTOCOL", "SSL");
    for (variables, expected) in [
        (&[ssl, ("KAFKA_SSL_CA_FILE", &missing)][..], "KAFKA_SSL_CA_FILE: cannot read certificates"),
        (&[ssl, ("KAFKA_SSL_CA_FILE", &broken)], "KAFKA_SSL_CA_FILE: certificate 1 in"),
        (
            &[ssl, ("KAFKA_SSL_CERTIFICATE_FILE", &broken), ("KAFKA_SSL_KEY_FILE", &missing)],
            "KAFKA_SSL_KEY_FILE: cannot read a private key",
        ),
        (&token, "KAFKA_HTTPS_CA_FILE: cannot read certificates"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_postlane"))
            .arg("serve")
            .env_clear()
            .env("KAFKA_BROKERS", "localhost:1")
            .env("SMTP_HOST", "localhost")
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{said}");
        assert!(said.contains(expected), "{expected} is not in {said}");
    }
}

#[tokio::test]
async fn an_untrusted_authority_where_names_are_not_checked() {
    let mut bed = with_tls(Listener::WrongName, "SSL").await;
    bed.set("KAFKA_SSL_ENDPOINT_IDENTIFICATION_ALGORITHM", "none");
    bed.set("KAFKA_SSL_CA_FILE", file("other-ca.pem").await);
    says(&bed, Listener::WrongName, "no TLS with broker BROKER: its certificate is of an authority").await;
}
