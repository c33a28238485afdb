//! Every phase of opening a session against scripted servers; what needs a real TLS server is in `tests/`.

use std::time::Duration;

use data_encoding::BASE64;
use tokio::net::TcpListener;

use super::*;
use crate::{
    config::{AuthMethod, Credentials, Encryption, Secret, SecretSource, Smtp},
    smtp::{
        Reply,
        testing::{Relay, greeting, settings},
    },
};

const SOON: Duration = Duration::from_millis(80);
const PASSWORD: &str = "hunter2";

/// The error of a server that plays `script`, with everything that it has heard.
async fn failure(script: &str, change: impl FnOnce(&mut Smtp)) -> (OpenError, Vec<String>) {
    let relay = Relay::start([script.to_owned()]).await;
    let mut settings = relay.settings();
    change(&mut settings);
    let error = Connector::new(&settings).expect("good settings").open().await.expect_err("no session");
    let text = error.to_string();
    assert!(text.starts_with(&format!("no session with 127.0.0.1:{}: ", relay.port)), "{text}");
    assert!(!text.contains(PASSWORD), "{text}");
    (error, relay.heard().await)
}

fn with_password(smtp: &mut Smtp) {
    smtp.credentials = Some(Credentials {
        user: "me".to_owned(),
        password: Some(SecretSource::Value(Secret::new(PASSWORD))),
        token: None,
    });
}

#[tokio::test]
async fn a_refused_connection_is_named_with_its_address() {
    let free = TcpListener::bind("127.0.0.1:0").await.expect("a free port").local_addr().expect("bound").port();
    let error = Connector::new(&Smtp { port: free, ..settings() }).expect("good settings").open().await;
    let error = error.expect_err("nobody listens");
    assert_eq!(error.phase(), OpenPhase::Connect);
    assert_eq!(error.reply(), None);
    let text = error.to_string();
    assert!(text.starts_with(&format!("no session with 127.0.0.1:{free}: connecting failed: ")), "{text}");
}

#[tokio::test]
async fn a_dead_address_does_not_hide_a_living_one() {
    let bind = || TcpListener::bind("127.0.0.1:0");
    let dead = bind().await.expect("a free port").local_addr().expect("bound");
    let listener = bind().await.expect("a free port");
    let living = listener.local_addr().expect("bound");
    let end = Instant::now() + Duration::from_secs(20);
    let tcp = connect_any(&[dead, living], end).await.expect("the second address answers");
    assert_eq!(tcp.peer_addr().expect("connected"), living);
    assert!(tcp.nodelay().expect("a socket option"));
    let error = connect_any(&[dead, dead], end).await.expect_err("nobody listens");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    assert_eq!(connect_any(&[], end).await.expect_err("no address").kind(), io::ErrorKind::NotFound);
}

#[tokio::test]
async fn the_banner_must_be_a_yes() {
    for (script, code) in [("> 554 5.3.2 go away\n", 554), ("> 421 busy\n", 421), ("> 554-no\n> 554 no\n", 554)] {
        let (error, heard) = failure(script, |_| {}).await;
        assert_eq!((error.phase(), error.reply().map(|reply| reply.code)), (OpenPhase::Banner, Some(code)));
        assert!(heard.is_empty());
    }
}

#[tokio::test]
async fn an_unreadable_banner_or_none_is_an_error() {
    let long = format!("> 220 {}\n", "x".repeat(2000));
    let endless = format!(">- 220 {}\n", "x".repeat(2000));
    let many = "> 220-more\n".repeat(10_000);
    for script in
        ["!\n", "> hello\n", "> 22\n", "> 220-a\n> 250 b\n", "> 999 x\n", ">- 22\n!\n", &long, &endless, &many]
    {
        let (error, _) = failure(script, |_| {}).await;
        assert_eq!((error.phase(), error.reply()), (OpenPhase::Banner, None), "{script:.20}");
        assert!(!error.to_string().contains("no answer"), "{script:.20}: {error}");
    }
    for script in ["", "> 220-a\n", "drip 220-x\n"] {
        let (error, _) = failure(script, |smtp| smtp.timeouts.greeting = SOON).await;
        assert_eq!(error.phase(), OpenPhase::Banner);
        assert!(error.to_string().contains("no answer within 80ms; if it expects TLS"), "{error}");
    }
}

#[tokio::test]
async fn ehlo_refused_is_an_error_and_unknown_is_helo() {
    let (error, _) = failure("> 220 relay\n< EHLO\n> 550 no\n", |_| {}).await;
    assert_eq!((error.phase(), error.reply().map(|reply| reply.code)), (OpenPhase::Ehlo, Some(550)));

    let relay = Relay::start(["> 220 relay\n< EHLO\n> 502 what\n< HELO\n> 250 relay\n".to_owned()]).await;
    drop(relay.session().await);
    assert_eq!(relay.heard().await, ["EHLO client.example", "HELO client.example"]);

    let (error, _) = failure("> 220 relay\n< EHLO\n> 500 what\n< HELO\n> 421 bye\n", |_| {}).await;
    assert_eq!((error.phase(), error.reply().map(|reply| reply.code)), (OpenPhase::Ehlo, Some(421)));
}

#[tokio::test]
async fn replies_that_nobody_asked_for_end_the_session_before_it_begins() {
    for script in ["> 220 relay\n> 250 early\n", "> 220 relay\n< EHLO\n> 250 relay\n> 250 early\n"] {
        let (error, _) = failure(script, |_| {}).await;
        assert!(error.to_string().contains("more than it was asked for"), "{error}");
    }
}

#[tokio::test]
async fn odd_but_readable_greetings_are_taken() {
    let greeting = "> 220-gr\u{fc}\u{df}e\n> 220\n< EHLO\n> 250-relay\n> 250-\n> 250 PIPELINING\n";
    let relay = Relay::start([greeting.to_owned()]).await;
    assert!(relay.session().await.is_usable());
}

#[tokio::test]
async fn starttls_must_be_offered_and_granted() {
    let starttls = |smtp: &mut Smtp| smtp.encryption = Encryption::StartTls;
    let (error, heard) = failure(&greeting(&[]), starttls).await;
    assert_eq!(error.phase(), OpenPhase::StartTls);
    assert!(error.to_string().contains("STARTTLS failed: the server does not offer it; look at SMTP_PORT"), "{error}");
    assert_eq!(heard.len(), 1, "nothing after EHLO: {heard:?}");

    let (error, _) = failure(&(greeting(&["starttls"]) + "< STARTTLS\n> 454 4.7.0 not now\n"), starttls).await;
    assert_eq!((error.phase(), error.reply().map(|reply| reply.code)), (OpenPhase::StartTls, Some(454)));
}

#[tokio::test]
async fn bytes_in_the_clear_after_starttls_end_the_session() {
    for injected in ["> 250 injected\n", ">- x\n"] {
        let script = greeting(&["STARTTLS"]) + "< STARTTLS\n> 220 go\n" + injected;
        let (error, heard) = failure(&script, |smtp| smtp.encryption = Encryption::StartTls).await;
        assert_eq!(error.phase(), OpenPhase::StartTls);
        assert_eq!(heard.last().map(String::as_str), Some("STARTTLS"), "no handshake was begun");
    }
}

#[tokio::test]
async fn a_handshake_that_fails_or_stalls_is_an_error() {
    let (error, _) = failure("> no TLS here\n", |smtp| smtp.encryption = Encryption::Tls).await;
    assert_eq!(error.phase(), OpenPhase::Tls);
    let change = |smtp: &mut Smtp| {
        smtp.encryption = Encryption::Tls;
        smtp.timeouts.tls = SOON;
    };
    let (error, _) = failure("", change).await;
    assert_eq!(error.phase(), OpenPhase::Tls);
    assert!(error.to_string().ends_with("no answer within 80ms"), "{error}");
}

#[tokio::test]
async fn the_mechanism_is_one_that_the_server_offers() {
    let plain = BASE64.encode(b"\0me\0hunter2");
    let (user, password) = (BASE64.encode(b"me"), BASE64.encode(PASSWORD.as_bytes()));
    let cases = [
        ("AUTH LOGIN PLAIN", "< AUTH PLAIN\n> 235 ok\n", vec![format!("AUTH PLAIN {plain}")]),
        ("auth plain", "< AUTH PLAIN\n> 235 ok\n", vec![format!("AUTH PLAIN {plain}")]),
        (
            "AUTH LOGIN",
            "< AUTH LOGIN\n> 334 VXNlcm5hbWU6\n< bW\n> 334 UGFzc3dvcmQ6\n< aH\n> 235 ok\n",
            vec!["AUTH LOGIN".to_owned(), user, password],
        ),
    ];
    for (offer, steps, expected) in cases {
        let relay = Relay::start([greeting(&[offer]) + steps]).await;
        let session = relay.session_with(with_password).await;
        assert!(session.is_usable());
        drop(session);
        assert_eq!(relay.heard().await[1..], expected, "{offer}");
    }
}

#[tokio::test]
async fn a_refused_login_is_an_error_with_its_reply() {
    let echo = BASE64.encode(b"\0me\0hunter2");
    for code in [530, 534, 535, 538, 454] {
        let script = greeting(&["AUTH PLAIN"]) + &format!("< AUTH\n> {code} 5.7.8 bad AUTH PLAIN {echo} hunter2\n");
        let (error, _) = failure(&script, with_password).await;
        assert_eq!(error.phase(), OpenPhase::Auth);
        let expected = Reply { code, enhanced: Some((5, 7, 8)), text: "5.7.8 bad AUTH PLAIN ***".to_owned() };
        assert_eq!(error.reply(), Some(&expected));
        assert!(!error.to_string().contains(&echo), "{error}");
    }
}

#[tokio::test]
async fn a_login_that_ends_in_anything_but_a_yes_is_an_error() {
    for steps in ["> 354 go\n", "!\n", "> 334 \n", "> 235 ok\n> 250 more\n", "> 334 VXNlcm5hbWU6\n"] {
        let (error, _) = failure(&(greeting(&["AUTH PLAIN"]) + "< AUTH\n" + steps), with_password).await;
        assert_eq!((error.phase(), error.reply()), (OpenPhase::Auth, None), "{steps}");
    }
    let asks = greeting(&["AUTH PLAIN"]) + "< AUTH\n> 334 more?\n< *\n> 501 cancelled\n";
    let (error, heard) = failure(&asks, with_password).await;
    assert!(error.to_string().contains("asked for more than AUTH PLAIN has"), "{error}");
    assert_eq!(heard.last().map(String::as_str), Some("*"), "the exchange is cancelled");
    let change = |smtp: &mut Smtp| {
        with_password(smtp);
        smtp.timeouts.auth = SOON;
    };
    let (error, _) = failure(&(greeting(&["AUTH PLAIN"]) + "< AUTH\n"), change).await;
    assert!(error.to_string().ends_with("AUTH failed: no answer within 80ms"), "{error}");
}

fn with_token(smtp: &mut Smtp) {
    let token = Some(SecretSource::Value(Secret::new(PASSWORD)));
    smtp.credentials = Some(Credentials { user: "me".to_owned(), password: None, token });
}

#[tokio::test]
async fn a_token_is_sent_by_the_mechanism_that_is_offered_or_asked_for() {
    let xoauth2 = format!("AUTH XOAUTH2 {}", BASE64.encode(b"user=me\x01auth=Bearer hunter2\x01\x01"));
    for (offer, auth, verb) in [
        ("AUTH PLAIN XOAUTH2", AuthMethod::Auto, "XOAUTH2"),
        ("AUTH OAUTHBEARER XOAUTH2", AuthMethod::Xoauth2, "XOAUTH2"),
        ("AUTH OAUTHBEARER XOAUTH2", AuthMethod::Auto, "OAUTHBEARER"),
    ] {
        let relay = Relay::start([greeting(&[offer]) + "< AUTH\n> 235 ok\n"]).await;
        let session = relay.session_with(|smtp| {
            with_token(smtp);
            smtp.auth = auth;
        });
        drop(session.await);
        let port = relay.port;
        let heard = relay.heard().await;
        let bearer = format!("n,a=me,\x01host=127.0.0.1\x01port={port}\x01auth=Bearer hunter2\x01\x01");
        let oauthbearer = format!("AUTH OAUTHBEARER {}", BASE64.encode(bearer.as_bytes()));
        assert_eq!(heard[1], if verb == "XOAUTH2" { xoauth2.clone() } else { oauthbearer });
    }
}

#[tokio::test]
async fn a_token_too_long_for_a_command_follows_its_challenge() {
    let relay = Relay::start([greeting(&["AUTH XOAUTH2"]) + "< AUTH\n> 334\n< dX\n> 235 ok\n"]).await;
    let token = "x".repeat(2000);
    let secret = SecretSource::Value(Secret::new(token.as_str()));
    let credentials = Credentials { user: "me".to_owned(), password: None, token: Some(secret) };
    drop(relay.session_with(|smtp| smtp.credentials = Some(credentials)).await);
    let expected = BASE64.encode(format!("user=me\x01auth=Bearer {token}\x01\x01").as_bytes());
    assert_eq!(relay.heard().await[1..], ["AUTH XOAUTH2", expected.as_str()]);
}

#[tokio::test]
async fn why_a_token_is_refused_stands_in_the_sentence() {
    let reason = BASE64.encode(br#"{"status":"400","schemes":"bearer","scope":"https://mail.example.com/"}"#);
    for (mechanism, answer) in [("XOAUTH2", ""), ("OAUTHBEARER", "AQ==")] {
        let steps = format!("< AUTH\n> 334 {reason}\n< {answer}\n> 535 5.7.8 bad token hunter2\n");
        let (error, heard) = failure(&(greeting(&[&format!("AUTH {mechanism}")]) + &steps), with_token).await;
        assert_eq!(heard[2], answer);
        assert!(error.is_login_refused() && error.is_about_secret());
        let expected = format!(
            "AUTH failed: the server answered 535 5.7.8 bad token *** to AUTH {mechanism} (schemes bearer, scope \
             https://mail.example.com/, status 400); look at SMTP_USER and SMTP_PASSWORD"
        );
        assert!(error.to_string().ends_with(&expected), "{error}");
    }
    // a yes to the empty line is no login
    let steps = format!("< AUTH\n> 334 {reason}\n< \n> 235 ok\n");
    let (error, _) = failure(&(greeting(&["AUTH XOAUTH2"]) + &steps), with_token).await;
    assert_eq!((error.phase(), error.reply()), (OpenPhase::Auth, None));
}

#[tokio::test]
async fn a_refusal_threatens_the_account_unless_a_good_secret_is_refused_for_now() {
    let script = |reply: &str| greeting(&["AUTH PLAIN"]) + &format!("< AUTH\n> {reply}\n");
    for code in [535, 530, 454, 432] {
        let (error, _) = failure(&script(&format!("{code} too many failed logins")), with_password).await;
        assert!(error.is_login_refused() && error.is_about_secret(), "{code}");
    }
    let replies = ["235 ok", "454 4.7.0 not now", "454 4.7.0 not now", "535 no", "454 4.7.0 not now"];
    let relay = Relay::start(replies.map(script)).await;
    let mut settings = relay.settings();
    with_password(&mut settings);
    let connector = Connector::new(&settings).expect("good settings");
    connector.open().await.expect("a secret that is taken");
    for refused in [false, false, true, true] {
        let error = connector.open().await.expect_err("no session");
        assert_eq!((error.is_login_refused(), error.is_about_secret()), (refused, true), "{error}");
    }
}

#[tokio::test]
async fn a_secret_that_cannot_be_read_is_an_error_that_names_its_file() {
    let path = std::env::temp_dir().join(format!("postlane-gone-{}", std::process::id()));
    let source = SecretSource::File { variable: "SMTP_PASSWORD_FILE", path: path.clone() };
    let relay = Relay::start([greeting(&["AUTH PLAIN"])]).await;
    let mut settings = relay.settings();
    settings.credentials = Some(Credentials { user: "me".to_owned(), password: Some(source), token: None });
    let connector = Connector::new(&settings).expect("good settings");
    let error = connector.open().await.expect_err("no password");
    assert!(error.is_about_secret() && !error.is_login_refused());
    let expected = format!("AUTH failed: SMTP_PASSWORD_FILE: cannot read {}", path.display());
    assert!(error.to_string().contains(&expected), "{error}");
    assert_eq!(relay.heard().await.len(), 1, "EHLO alone");
    let watch = tokio::spawn(async move { connector.secret_replaced().await });
    std::fs::write(&path, "hunter2\n").expect("a temporary file");
    assert!(watch.await.expect("no panic"));
    std::fs::remove_file(&path).expect("the file that was written above");
}

#[tokio::test]
async fn credentials_for_a_server_without_auth_are_an_error() {
    for (keywords, offered) in
        [(&[][..], "the server offers no AUTH at all"), (&["AUTH CRAM-MD5"], "the server offers AUTH CRAM-MD5 only")]
    {
        let (error, heard) = failure(&greeting(keywords), with_password).await;
        assert_eq!(error.phase(), OpenPhase::Auth);
        assert!(
            error
                .to_string()
                .ends_with(&format!("{offered}, and not PLAIN or LOGIN; look at SMTP_AUTH and SMTP_ENCRYPTION")),
            "{error}"
        );
        assert_eq!(heard.len(), 1, "{heard:?}");
    }
}

#[tokio::test]
async fn a_password_crosses_no_unencrypted_connection_to_another_host() {
    // The relay is at this machine, but its name does not say so.
    let relay = Relay::start([greeting(&["AUTH PLAIN"]), greeting(&["AUTH PLAIN"]) + "< AUTH\n> 235 ok\n"]).await;
    let mut settings = relay.settings();
    with_password(&mut settings);
    let mut connector = Connector::new(&settings).expect("good settings");
    let shared = Arc::get_mut(&mut connector.shared).expect("the only handle");
    shared.allow_insecure_auth = false;
    let error = connector.open().await.expect_err("no session");
    assert_eq!(error.phase(), OpenPhase::Auth);
    assert!(
        error.to_string().contains("the password would cross an unencrypted connection; look at SMTP_ENCRYPTION"),
        "{error}"
    );

    Arc::get_mut(&mut connector.shared).expect("the only handle").allow_insecure_auth = true;
    assert!(connector.open().await.is_ok());
}

#[test]
fn a_host_that_no_certificate_could_name_is_refused_where_tls_is_asked_for() {
    let smtp = Smtp { host: "not a name".to_owned(), ..settings() };
    assert!(Connector::new(&smtp).is_ok());
    let error = Connector::new(&Smtp { encryption: Encryption::Tls, ..smtp }).expect_err("a bad name");
    assert!(error.to_string().starts_with("SMTP_HOST: "), "{error}");
}

#[test]
fn only_loopback_is_local() {
    for host in ["localhost", "LOCALHOST.", "127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
        assert!(is_local(host), "{host}");
    }
    for host in ["localhost.example.com", "10.0.0.1", "0.0.0.0", "127.0.0.1.example.com", ""] {
        assert!(!is_local(host), "{host}");
    }
}
