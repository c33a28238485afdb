//! Sessions against a whole SMTP server: TLS, login, pipelining, and a server that fails at every step.
//!
//! What a single reply does is tested beside the code; here both sides are complete, and the server keeps the books.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use devkit::smtp::{Action, Builder, Command, End, SmtpServer, on};
use lettre::Address;
use postlane::{
    config::{AuthMethod, Credentials, Encryption, Secret, SecretSource, Smtp, Timeouts},
    smtp::{Attempt, Class, Connector, Data, OpenError, OpenPhase, Outgoing, Progress, Session, Verdict, classify},
};

/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(20);
const SOON: Duration = Duration::from_millis(80);
const MESSAGE: &[u8] = b"Message-ID: <1@example.com>\r\nSubject: x\r\n\r\n.dots\r\n..\r\n.\r\nend\r\n";

fn settings(server: &SmtpServer) -> Smtp {
    Smtp {
        host: "localhost".to_owned(),
        port: server.port(),
        encryption: Encryption::None,
        credentials: None,
        auth: AuthMethod::Auto,
        allow_insecure_auth: false,
        ca_file: None,
        identity: None,
        hello_name: "client.example".to_owned(),
        sessions: 1,
        sessions_reserved: 0,
        max_messages_per_session: 100,
        idle_timeout: PATIENCE,
        timeouts: Timeouts {
            connect: PATIENCE,
            tls: PATIENCE,
            greeting: PATIENCE,
            auth: PATIENCE,
            command: PATIENCE,
            data: PATIENCE,
            body: PATIENCE,
            final_dot: PATIENCE,
            quit: PATIENCE,
        },
        throttle_replies: BTreeSet::new(),
        rate_limit: None,
    }
}

fn credentials() -> Credentials {
    let password = Some(SecretSource::Value(Secret::new("secret")));
    Credentials { user: "me".to_owned(), password, token: None }
}

async fn open_with(server: &SmtpServer, change: impl FnOnce(&mut Smtp)) -> Result<Session, OpenError> {
    let mut settings = settings(server);
    change(&mut settings);
    Connector::new(&settings).expect("good settings").open().await
}

async fn open(server: &SmtpServer) -> Session {
    open_with(server, |_| {}).await.expect("a session")
}

/// The server's authority as a file that goes with the test.
struct Authority(PathBuf);

impl Authority {
    fn of(server: &SmtpServer) -> Self {
        let path = std::env::temp_dir().join(format!("postlane-ca-{}-{}.pem", std::process::id(), server.port()));
        server.write_ca(&path).expect("a temporary file");
        Self(path)
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        // Nothing depends on it: the file is in the temporary folder.
        let _ = std::fs::remove_file(&self.0);
    }
}

async fn send(session: &mut Session, to: &[&str]) -> Attempt {
    send_bytes(session, to, MESSAGE).await
}

async fn send_bytes(session: &mut Session, to: &[&str], bytes: &[u8]) -> Attempt {
    let from: Address = "from@example.com".parse().expect("an address");
    let to: Vec<Address> = to.iter().map(|text| text.parse().expect("an address")).collect();
    let mail = Outgoing::new(Some(&from), &to, bytes).expect("a good envelope");
    session.send(&mail, &Progress::default()).await
}

fn classes(attempt: &Attempt) -> Vec<Class> {
    match classify(attempt, &BTreeSet::new()) {
        Verdict::All(class) => vec![class],
        Verdict::Each(classes) => classes,
    }
}

fn is_sent(attempt: &Attempt) -> bool {
    classes(attempt).iter().all(|class| matches!(class, Class::Sent(_)))
}

fn is_unknown(attempt: &Attempt) -> bool {
    matches!(attempt, Attempt::Recipients { data: Data::Unknown { .. }, .. })
}

#[track_caller]
fn assert_clean(server: &SmtpServer) {
    assert_eq!(server.ledger().violations(), [""; 0]);
}

#[tokio::test]
async fn a_pipelined_mail_takes_two_round_trips_and_arrives_byte_for_byte() {
    let server = SmtpServer::builder().transcripts().start().await;
    let mut session = open(&server).await;
    for _ in 0..3 {
        assert!(is_sent(&send(&mut session, &["a@example.com", "b@example.com"]).await));
    }
    session.quit().await;
    server.wait_until(|ledger| ledger.open() == 0, PATIENCE).await.expect("the session ends");
    let ledger = server.ledger();
    let session = ledger.session(1).expect("the session");
    assert_eq!(session.end, Some(End::Quit));
    let groups = session.groups();
    assert_eq!(groups.len(), 1 + 3 * 2 + 1, "EHLO, two groups a mail, QUIT: {groups:?}");
    for group in groups[1..7].chunks(2) {
        let verbs: Vec<_> = group[0].iter().map(|line| line.split(' ').next().expect("a verb")).collect();
        assert_eq!(verbs, ["MAIL", "RCPT", "RCPT", "DATA"]);
        assert_eq!(group[1].len(), 2, "message and dot");
    }
    assert!(ledger.accepted().iter().all(|mail| mail.raw == MESSAGE));
    drop(ledger);
    assert_clean(&server);
}

#[tokio::test]
async fn without_pipelining_the_same_mail_arrives() {
    let server = SmtpServer::builder().pipelining(false).size(None).transcripts().start().await;
    let mut session = open(&server).await;
    assert!(is_sent(&send(&mut session, &["a@example.com"]).await));
    assert!(is_sent(&send(&mut session, &["a@example.com"]).await));
    session.quit().await;
    server.wait_until(|ledger| ledger.open() == 0, PATIENCE).await.expect("the session ends");
    let verbs = server.ledger().session(1).expect("the session").verbs().join(" ");
    assert_eq!(verbs.matches("MAIL RCPT DATA").count(), 2, "{verbs}");
    assert!(server.ledger().accepted().iter().all(|mail| mail.raw == MESSAGE));
    assert_clean(&server);
}

#[tokio::test]
async fn lower_case_keywords_are_keywords() {
    let server = SmtpServer::builder().lower_case_keywords().size(Some(70)).login("me", "secret").start().await;
    let credentials = Some(credentials());
    let mut session = open_with(&server, |smtp| smtp.credentials = credentials).await.expect("a session");
    assert!(is_sent(&send(&mut session, &["a@example.com"]).await));
    assert_eq!(send_bytes(&mut session, &["a@example.com"], &[b'x'; 71]).await, Attempt::TooLarge { limit: 70 });
    let group = server.ledger().accepted()[0].group;
    assert_eq!((group.commands, group.reads), (3, 1), "in one write");
}

fn offering(encryption: Encryption) -> Builder {
    match encryption {
        Encryption::None => SmtpServer::builder(),
        Encryption::StartTls => SmtpServer::builder().starttls(),
        Encryption::Tls => SmtpServer::builder().implicit_tls(),
    }
}

async fn encrypted(builder: Builder, encryption: Encryption) -> (SmtpServer, Result<Session, OpenError>) {
    let server = builder.start().await;
    let authority = Authority::of(&server);
    let change = |smtp: &mut Smtp| {
        smtp.encryption = encryption;
        smtp.ca_file = Some(authority.0.clone());
        smtp.credentials = Some(credentials());
    };
    let session = open_with(&server, change).await;
    (server, session)
}

#[tokio::test]
async fn tls_with_login_in_both_ways_and_a_large_mail() {
    let large = "A line that is long enough to make a large message out of many.\r\n".repeat(20_000);
    for encryption in [Encryption::StartTls, Encryption::Tls] {
        for mechanism in ["PLAIN", "LOGIN"] {
            let builder = offering(encryption).login("me", "secret").mechanisms(&[mechanism]);
            let (server, session) = encrypted(builder.require_tls().require_auth(), encryption).await;
            let mut session = session.expect("a session");
            assert!(is_sent(&send_bytes(&mut session, &["a@example.com"], large.as_bytes()).await));
            assert!(is_sent(&send(&mut session, &["a@example.com"]).await));
            session.quit().await;
            let ledger = server.ledger();
            let mail = &ledger.accepted()[0];
            assert!(mail.tls && mail.user.as_deref() == Some("me") && mail.raw == large.as_bytes());
            drop(ledger);
            if encryption == Encryption::Tls {
                assert_clean(&server);
            }
        }
    }
}

#[tokio::test]
async fn an_unknown_authority_and_a_wrong_name_are_refused() {
    for encryption in [Encryption::StartTls, Encryption::Tls] {
        let server = offering(encryption).start().await;
        let error = open_with(&server, |smtp| smtp.encryption = encryption).await.expect_err("an unknown authority");
        assert_eq!((error.phase(), error.reply()), (OpenPhase::Tls, None));
        assert!(error.to_string().ends_with("authority that is not trusted: add that to SMTP_CA_FILE"), "{error}");

        let builder = offering(encryption).certificate_names(&["other.example"]);
        let (_server, session) = encrypted(builder, encryption).await;
        let error = session.expect_err("a wrong name");
        assert_eq!(error.phase(), OpenPhase::Tls);
        assert!(
            error
                .to_string()
                .ends_with("is not for localhost, but for other.example; SMTP_HOST must be a name that it is for"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_certificate_that_has_expired_is_refused() {
    let (_server, session) = encrypted(offering(Encryption::Tls).expired_certificate(), Encryption::Tls).await;
    let error = session.expect_err("an old certificate");
    let expected = "its certificate has expired; whoever runs SMTP_HOST must renew it";
    assert!(error.to_string().ends_with(expected), "{error}");
}

#[tokio::test]
async fn tls_to_a_port_without_and_the_reverse_say_so() {
    let plain = SmtpServer::builder().start().await;
    let error = open_with(&plain, |smtp| smtp.encryption = Encryption::Tls).await.expect_err("no TLS there");
    let expected = "it does not answer in TLS: is it a plain-text port?; look at SMTP_PORT and SMTP_ENCRYPTION";
    assert!(error.to_string().ends_with(expected), "{error}");

    let tls = SmtpServer::builder().implicit_tls().start().await;
    for encryption in [Encryption::None, Encryption::StartTls] {
        let error = open_with(&tls, |smtp| {
            smtp.encryption = encryption;
            smtp.timeouts.greeting = SOON;
        });
        let error = error.await.expect_err("TLS there").to_string();
        assert!(error.contains("the banner failed: no answer within 80ms; if it expects TLS"), "{error}");
        assert!(error.contains("set SMTP_ENCRYPTION=tls, else look at SMTP_PORT"), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_asks_for_our_certificate_gets_it() {
    for encryption in [Encryption::StartTls, Encryption::Tls] {
        let server = offering(encryption).require_client_certificate().start().await;
        let ca = Authority::of(&server);
        let open = |identity| {
            open_with(&server, |smtp| {
                (smtp.encryption, smtp.ca_file, smtp.identity) = (encryption, Some(ca.0.clone()), identity);
            })
        };
        let error = open(None).await.expect_err("nobody").to_string();
        assert!(error.ends_with("; look at SMTP_CERTIFICATE_FILE"), "{error}");
        let folder = tempfile::tempdir().expect("a folder");
        let (certificate, key) = server.client_identity_pem().expect("TLS");
        let files = ["certificate.pem", "key.pem"].map(|name| folder.path().join(name));
        for (file, text) in files.iter().zip([certificate, key]) {
            std::fs::write(file, text).expect("a file");
        }
        let [certificate, key] = files;
        let session = open(Some((certificate, key))).await.expect("a session");
        assert!(session.certificate().is_some() && session.offers().encrypted);
    }
}

#[tokio::test]
async fn tokens_log_in() {
    for mechanism in ["XOAUTH2", "OAUTHBEARER"] {
        let server = SmtpServer::builder().token("me", "ya29.good").mechanisms(&[mechanism]).require_auth();
        let server = server.start().await;
        let with = |token: &str| {
            let token = Some(SecretSource::Value(Secret::new(token)));
            Some(Credentials { user: "me".to_owned(), password: None, token })
        };
        let mut session = open_with(&server, |smtp| smtp.credentials = with("ya29.good")).await.expect("a session");
        assert!(is_sent(&send(&mut session, &["a@example.com"]).await));
        assert_eq!(server.ledger().accepted()[0].user.as_deref(), Some("me"));
        let error = open_with(&server, |smtp| smtp.credentials = with("ya29.old")).await.expect_err("an old token");
        let expected = format!("to AUTH {mechanism} (schemes bearer, status 401); look at SMTP_USER and SMTP_PASSWORD");
        assert!(error.is_login_refused() && error.to_string().ends_with(&expected), "{error}");
        assert_clean(&server);
    }
}

#[tokio::test]
async fn tls_that_is_refused_or_breaks_off_is_an_error() {
    let refused = on(Command::StartTls).reply(454, "4.7.0", "TLS not available");
    let (_server, session) = encrypted(SmtpServer::builder().starttls().rule(refused), Encryption::StartTls).await;
    let error = session.expect_err("no TLS");
    assert_eq!((error.phase(), error.reply().map(|reply| reply.code)), (OpenPhase::StartTls, Some(454)));

    let hang_up = || on(Command::Handshake).act(Action::HangUp);
    for encryption in [Encryption::StartTls, Encryption::Tls] {
        let (_server, session) = encrypted(offering(encryption).rule(hang_up()), encryption).await;
        let error = session.expect_err("no TLS");
        assert_eq!(error.phase(), OpenPhase::Tls);
        let expected = "closed during the TLS handshake: is it a TLS port?; look at SMTP_PORT and SMTP_ENCRYPTION";
        assert!(error.to_string().ends_with(expected), "{error}");
    }
}

#[tokio::test]
async fn what_is_injected_after_starttls_is_never_taken_for_an_answer() {
    let injected = b"250-fake\r\n250 AUTH PLAIN\r\n235 ok\r\n".to_vec();
    let builder = SmtpServer::builder().starttls().login("me", "secret").inject_after_starttls(injected);
    let (server, session) = encrypted(builder, Encryption::StartTls).await;
    let error = session.expect_err("an attack");
    assert!(matches!(error.phase(), OpenPhase::StartTls | OpenPhase::Tls), "{error}");
    assert_eq!(server.ledger().count(Command::Auth), 0);
}

#[tokio::test]
async fn a_wrong_password_is_a_535_at_auth() {
    for mechanism in ["PLAIN", "LOGIN"] {
        let builder = SmtpServer::builder().starttls().login("me", "other").mechanisms(&[mechanism]);
        let (_server, session) = encrypted(builder, Encryption::StartTls).await;
        let error = session.expect_err("a wrong password");
        assert_eq!((error.phase(), error.reply().map(|reply| reply.code)), (OpenPhase::Auth, Some(535)));
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}

#[tokio::test]
async fn a_hang_up_or_reset_anywhere_is_never_called_sent() {
    let commands = [Command::Mail, Command::Rcpt, Command::Data, Command::Body, Command::Dot];
    for pipelining in [true, false] {
        for command in commands {
            for action in [Action::HangUp, Action::Reset, Action::TakeAndHangUp] {
                let server = SmtpServer::builder().pipelining(pipelining).start().await;
                server.add_rule(on(command).act(action.clone()));
                let mut session = open(&server).await;
                let attempt = send(&mut session, &["a@example.com"]).await;
                let what = format!("{action:?} at {command:?}, pipelining {pipelining}: {attempt:?}");
                // The small message leaves in one write before the client can know that nobody reads it.
                let handed_over = matches!(command, Command::Dot | Command::Body) && is_unknown(&attempt);
                let lost = command != Command::Dot && matches!(attempt, Attempt::Lost { fresh: true, .. });
                assert!(handed_over || lost, "{what}");
                assert!(!session.is_usable(), "{what}");
            }
        }
    }
}

#[tokio::test]
async fn a_late_refusal_of_the_first_mail_does_not_become_the_answer_to_the_second() {
    let server = SmtpServer::builder().start().await;
    server.hold(Command::Dot);
    server.add_rule(on(Command::Dot).once(Action::reply(554, "5.6.0", "spam")));
    let mut session = open_with(&server, |smtp| smtp.timeouts.final_dot = SOON).await.expect("a session");
    assert!(is_unknown(&send(&mut session, &["a@example.com"]).await));
    server.release(Command::Dot);
    let second = send(&mut session, &["b@example.com"]).await;
    assert!(matches!(second, Attempt::Lost { fresh: false, .. }), "{second:?}");
    assert!(!session.is_usable());
    drop(session);

    let mut session = open(&server).await;
    assert!(is_sent(&send(&mut session, &["b@example.com"]).await));
    assert_eq!(server.ledger().deliveries("a@example.com"), 0);
    assert_eq!(server.ledger().deliveries("b@example.com"), 1);
}

#[tokio::test]
async fn refusals_of_one_mail_leave_the_next_alone() {
    for pipelining in [true, false] {
        let server = SmtpServer::builder().pipelining(pipelining).start().await;
        server.add_rule(on(Command::Mail).transaction(1).reply(550, "5.7.1", "not you"));
        server.add_rule(on(Command::Rcpt).recipient("no@example.com").reply(550, "5.1.1", "unknown"));
        server.add_rule(on(Command::Data).transaction(2).reply(451, "4.3.0", "later"));
        server.add_rule(on(Command::Dot).transaction(3).reply(554, "5.6.0", "spam"));
        let mut session = open(&server).await;

        let mail = classes(&send(&mut session, &["a@example.com"]).await);
        assert!(matches!(&mail[..], [Class::Refused { at_mail: true, .. }]), "{mail:?}");
        let data = classes(&send(&mut session, &["a@example.com"]).await);
        assert!(matches!(&data[..], [Class::Deferred(_)]), "{data:?}");
        let dot = classes(&send(&mut session, &["a@example.com"]).await);
        assert!(matches!(&dot[..], [Class::Refused { at_mail: false, .. }]), "{dot:?}");
        let none = classes(&send(&mut session, &["no@example.com"]).await);
        assert!(matches!(&none[..], [Class::Refused { at_mail: false, .. }]), "{none:?}");
        let some = classes(&send(&mut session, &["no@example.com", "b@example.com"]).await);
        assert!(matches!(&some[..], [Class::Refused { .. }, Class::Sent(_)]), "{some:?}");
        assert!(is_sent(&send(&mut session, &["c@example.com"]).await));

        assert!(session.is_usable());
        assert_eq!(server.ledger().opened(), 1);
        assert_eq!(server.ledger().accepted().len(), 2);
        assert_clean(&server);
    }
}

#[tokio::test]
async fn silence_at_any_command_ends_at_its_deadline() {
    for command in [Command::Mail, Command::Rcpt, Command::Data, Command::Dot] {
        let server = SmtpServer::builder().start().await;
        server.add_rule(on(command).act(Action::silence()));
        let quick = |smtp: &mut Smtp| {
            let Timeouts { command: each, data, final_dot, .. } = &mut smtp.timeouts;
            // Only the phase that is silent, so that a slow machine fails no other.
            *match command {
                Command::Data => data,
                Command::Dot => final_dot,
                _ => each,
            } = SOON;
        };
        let mut session = open_with(&server, quick).await.expect("a session");
        let attempt = send(&mut session, &["a@example.com"]).await;
        assert_eq!(is_unknown(&attempt), command == Command::Dot, "{command:?}: {attempt:?}");
        assert!(!session.is_usable());
        session.quit().await;
        server.wait_until(|ledger| ledger.open() == 0, PATIENCE).await.expect("the socket is closed at once");
        assert_eq!(server.ledger().count(Command::Quit), 0);
    }
}

#[tokio::test]
async fn codes_with_a_second_digit_above_five_are_codes() {
    let server = SmtpServer::builder()
        .rule(on(Command::Rcpt).recipient("b@example.com").reply(571, "5.7.1", "not you\nand nobody like you"))
        .rule(on(Command::Rcpt).recipient("c@example.com").reply(471, "4.7.1", "later"))
        .rule(on(Command::Dot).recipient("d@example.com").reply(571, "", "no"))
        .start()
        .await;
    let mut session = open(&server).await;
    let attempt = send(&mut session, &["a@example.com", "b@example.com", "c@example.com"]).await;
    let Attempt::Recipients { replies, data: Data::Dot(dot) } = attempt else { panic!("{attempt:?}") };
    assert_eq!(replies.iter().map(|reply| reply.code).collect::<Vec<_>>(), [250, 571, 471]);
    assert_eq!(dot.code, 250);
    let attempt = send(&mut session, &["d@example.com"]).await;
    let Attempt::Recipients { data: Data::Dot(dot), .. } = attempt else { panic!("{attempt:?}") };
    assert_eq!(dot.code, 571);
    assert!(session.is_usable());
}
