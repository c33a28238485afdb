//! TLS and AUTH, with lettre where it is the better witness.

use std::time::Duration;

use devkit::smtp::{Action, Command, SmtpServer, on};
use lettre::address::Envelope;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};

use crate::SOON;
use crate::client::Client;

type Mailer = AsyncSmtpTransport<Tokio1Executor>;

fn mailer(server: &SmtpServer, host: &str, tls: fn(TlsParameters) -> Tls) -> Mailer {
    let ca = Certificate::from_pem(server.ca_pem().expect("a server with TLS").as_bytes()).expect("PEM");
    let parameters = TlsParameters::builder(host.to_owned()).add_root_certificate(ca).build_rustls().expect("TLS");
    let credentials = Credentials::new("ann".to_owned(), "secret".to_owned());
    Mailer::builder_dangerous(host)
        .port(server.port())
        .tls(tls(parameters))
        .credentials(credentials)
        .authentication(vec![Mechanism::Login])
        .build()
}

async fn send(mailer: &Mailer) -> Result<(), lettre::transport::smtp::Error> {
    let address = |text: &str| text.parse().expect("an address");
    let envelope = Envelope::new(Some(address("a@b.test")), vec![address("c@d.test")]).expect("an envelope");
    mailer.send_raw(&envelope, b"Message-ID: <tls@test>\r\n\r\nHello.\r\n").await.map(drop)
}

#[tokio::test]
async fn starttls_and_implicit_tls_carry_mails_after_login() {
    for implicit in [false, true] {
        let builder = SmtpServer::builder().login("ann", "secret").require_auth().require_tls().transcripts();
        let builder = if implicit { builder.implicit_tls() } else { builder.starttls() };
        let server = builder.start().await;
        for host in ["127.0.0.1", "localhost"] {
            send(&mailer(&server, host, if implicit { Tls::Wrapper } else { Tls::Required })).await.expect("accepted");
        }
        let ledger = server.ledger();
        assert_eq!(ledger.accepted().len(), 2);
        assert!(ledger.accepted().iter().all(|mail| mail.tls && mail.user.as_deref() == Some("ann")));
        assert_eq!(ledger.count(Command::StartTls), if implicit { 0 } else { 2 });
        assert_eq!(ledger.violations(), &[] as &[String]);
    }
}

#[tokio::test]
async fn a_certificate_of_another_name_is_noticed() {
    let server = SmtpServer::builder().starttls().certificate_names(&["elsewhere.test"]).start().await;
    send(&mailer(&server, "localhost", Tls::Required)).await.expect_err("a wrong name");
    server.wait_until(|ledger| ledger.sessions().any(|session| session.end.is_some()), SOON).await.expect("closed");
    assert_eq!(server.ledger().count(Command::Mail), 0);
}

#[tokio::test]
async fn the_authority_can_be_written_to_a_file() {
    let server = SmtpServer::builder().starttls().start().await;
    let path = std::env::temp_dir().join(format!("devkit-ca-{}.pem", std::process::id()));
    server.write_ca(&path).expect("a file");
    let pem = std::fs::read_to_string(&path).expect("the file");
    std::fs::remove_file(&path).expect("a file of ours");
    assert_eq!(Some(pem.as_str()), server.ca_pem());
    assert!(pem.starts_with("-----BEGIN CERTIFICATE-----"));
}

#[tokio::test]
async fn tls_and_login_are_demanded_before_mail() {
    let server = SmtpServer::builder().starttls().require_tls().start().await;
    let mut client = Client::greeted(&server).await;
    assert!(client.ask("MAIL FROM:<a@b.test>").await.starts_with("530 5.7.0 STARTTLS"));
    let server = SmtpServer::builder().login("ann", "secret").require_auth().start().await;
    let mut client = Client::greeted(&server).await;
    assert!(client.ask("MAIL FROM:<a@b.test>").await.starts_with("530 5.7.0 AUTH"));
}

#[tokio::test]
async fn bytes_are_injected_in_the_clear_behind_the_220() {
    let server = SmtpServer::builder().starttls().inject_after_starttls("250 injected\r\n").start().await;
    let mut client = Client::greeted(&server).await;
    assert_eq!(client.ask("STARTTLS").await, "220 2.0.0 begin\r\n");
    assert_eq!(client.reply().await, "250 injected\r\n");
}

#[tokio::test]
async fn a_handshake_can_fail_and_stall() {
    let server = SmtpServer::builder()
        .starttls()
        .rule(on(Command::Handshake).connection(1).act(Action::raw("no TLS\r\n")))
        .rule(on(Command::Handshake).act(Action::silence()))
        .start()
        .await;
    let mut client = Client::greeted(&server).await;
    assert!(client.ask("STARTTLS").await.starts_with("220"));
    assert_eq!(client.rest().await, b"no TLS\r\n");
    let mut client = Client::greeted(&server).await;
    assert!(client.ask("STARTTLS").await.starts_with("220"));
    assert!(client.hears_nothing_for(Duration::from_millis(20)).await);
}

#[tokio::test]
async fn a_handshake_that_was_held_still_works() {
    let server = SmtpServer::builder().login("ann", "secret").implicit_tls().start().await;
    server.hold(Command::Handshake);
    let mailer = mailer(&server, "localhost", Tls::Wrapper);
    let (sent, ()) = tokio::join!(tokio::time::timeout(SOON, send(&mailer)), async {
        server.wait_until(|ledger| ledger.held() == 1, SOON).await.expect("held");
        server.release(Command::Handshake);
    });
    sent.expect("an answer").expect("accepted");
}

#[tokio::test]
async fn plain_and_login_are_checked_with_and_without_initial_response() {
    let server = SmtpServer::builder().login("ann", "secret").start().await;
    let client = || Client::greeted(&server);
    // \0ann\0secret
    assert!(client().await.ask("AUTH PLAIN AGFubgBzZWNyZXQ=").await.starts_with("235 2.7.0"));
    let mut challenged = client().await;
    assert_eq!(challenged.ask("auth plain").await, "334 \r\n");
    assert!(challenged.ask("AGFubgBzZWNyZXQ=").await.starts_with("235"));
    assert!(challenged.ask("AUTH PLAIN AGFubgBzZWNyZXQ=").await.starts_with("503"));
    let mut login = client().await;
    assert_eq!(login.ask("AUTH LOGIN").await, "334 VXNlcm5hbWU6\r\n");
    assert_eq!(login.ask("YW5u").await, "334 UGFzc3dvcmQ6\r\n");
    assert!(login.ask("c2VjcmV0").await.starts_with("235"));
    let mut wrong = client().await;
    assert_eq!(wrong.ask("AUTH LOGIN YW5u").await, "334 UGFzc3dvcmQ6\r\n");
    assert!(wrong.ask("d3Jvbmc=").await.starts_with("535 5.7.8"));
    assert!(wrong.ask("AUTH PLAIN ?").await.starts_with("501"));
    assert!(wrong.ask("AUTH CRAM-MD5").await.starts_with("504"));
    assert_eq!(wrong.ask("AUTH PLAIN").await, "334 \r\n");
    assert!(wrong.ask("*").await.starts_with("501"));
    let users: Vec<_> = server.ledger().sessions().map(|session| session.user.clone()).collect();
    assert_eq!(users[0].as_deref(), Some("ann"));
    assert_eq!(users[3], None);
}

#[tokio::test]
async fn a_login_can_be_refused_by_script() {
    let server = SmtpServer::builder()
        .login("ann", "secret")
        .require_auth()
        .rule(on(Command::Auth).once(Action::reply(454, "4.7.0", "later")))
        .start()
        .await;
    let mut client = Client::greeted(&server).await;
    assert!(client.ask("AUTH PLAIN AGFubgBzZWNyZXQ=").await.starts_with("454"));
    assert!(client.ask("MAIL FROM:<a@b.test>").await.starts_with("530"));
    assert!(client.ask("AUTH PLAIN AGFubgBzZWNyZXQ=").await.starts_with("235"));
    assert!(client.ask("MAIL FROM:<a@b.test>").await.starts_with("250"));
}
