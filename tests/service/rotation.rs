//! Passwords and tokens that are replaced while the service runs.

use std::{
    fs,
    path::PathBuf,
    process,
    time::{Duration, Instant},
};

use devkit::smtp::{Action, Command, SmtpServer, on};
use postlane::event::Priority;

use crate::{
    bed::{Bed, SOON, event},
    found::Found,
};

const USER: &str = "mailer";

/// A service with one session for each mail, and the file of its secret.
async fn bed(server: devkit::smtp::Builder, variable: &str) -> (Bed, PathBuf) {
    let mut bed = Bed::with(server.require_auth().transcripts(), 1).await;
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}.secret", bed.names.group));
    fs::write(&path, "first\n").expect("a file");
    bed.set("SMTP_USER", USER);
    bed.set(variable, path.display());
    bed.set("SMTP_SESSIONS", 1);
    bed.set("SMTP_MAX_MESSAGES_PER_SESSION", 1);
    // what waits for a probe would come too late
    bed.set("RETRY_MAX_DELAY", "15m");
    (bed, path)
}

async fn send(bed: &Bed, number: usize) {
    bed.publish(Priority::Normal, [event(&format!("m{number}"), &format!("m{number}@example.org"))]).await;
}

async fn arrived(bed: &Bed, count: usize, service: &devkit::service::Service) {
    let arrived = bed.smtp.wait_for_mails(count, Duration::from_secs(25)).await;
    arrived.unwrap_or_else(|error| panic!("{error}:\n{}", service.tail()));
}

#[tokio::test]
async fn a_new_password_is_picked_up_at_the_next_connect() {
    let (bed, path) = bed(SmtpServer::builder().login(USER, "first"), "SMTP_PASSWORD_FILE").await;
    let service = bed.start();
    send(&bed, 0).await;
    arrived(&bed, 1, &service).await;
    bed.smtp.set_login(USER, "second");
    fs::write(&path, "second\n").expect("a file");
    send(&bed, 1).await;
    arrived(&bed, 2, &service).await;
    let found = Found::at_the_end(&bed, service).await;
    found.assert_sent("m0", 1, 0);
    found.assert_sent("m1", 1, 0);
    assert_eq!(found.count_lines("the relay is down"), 0, "{}", found.log);
    assert_eq!(found.ledger.count(Command::Auth), 2);
}

async fn the_relay_was_faster(server: devkit::smtp::Builder, variable: &str, why: &[&str]) {
    let (bed, path) = bed(server, variable).await;
    let mut service = bed.start();
    send(&bed, 0).await;
    arrived(&bed, 1, &service).await;
    bed.smtp.set_login(USER, "second");
    send(&bed, 1).await;
    send(&bed, 2).await;
    let line = service.wait_for_line(&["the relay is down", "ERROR"], SOON).await.expect("said");
    for part in why {
        assert!(line.contains(part), "{part} is not in {line}");
    }
    fs::write(&path, "second\n").expect("a file");
    arrived(&bed, 3, &service).await;
    let found = Found::at_the_end(&bed, service).await;
    for number in 0..3 {
        found.assert_sent(&format!("m{number}"), 1, 0);
    }
    found.assert_no_letters();
    assert_eq!(found.ledger.count(Command::Auth), 4, "one of them refused");
    assert_eq!(found.count_lines("the relay is up again"), 1);
    for secret in ["first", "second"] {
        assert!(!found.log.contains(secret), "{secret} shows in the log");
    }
}

#[tokio::test]
async fn a_password_that_changed_at_the_relay_first_costs_one_refused_login() {
    let server = SmtpServer::builder().login(USER, "first");
    let why = ["AUTH failed: the server answered 535", "to AUTH PLAIN; look at SMTP_USER and SMTP_PASSWORD_FILE"];
    the_relay_was_faster(server, "SMTP_PASSWORD_FILE", &why).await;
}

#[tokio::test]
async fn a_token_that_has_expired_costs_one_refused_login() {
    let server = SmtpServer::builder().token(USER, "first").mechanisms(&["XOAUTH2"]);
    let why = ["AUTH failed: the server answered 535", "status 401); look at SMTP_USER and SMTP_TOKEN_FILE"];
    the_relay_was_faster(server, "SMTP_TOKEN_FILE", &why).await;
}

#[tokio::test]
async fn a_file_that_is_gone_is_a_relay_that_is_down_until_it_is_back() {
    let (mut bed, path) = bed(SmtpServer::builder().login(USER, "first"), "SMTP_PASSWORD_FILE").await;
    bed.set("SMTP_MAX_MESSAGES_PER_SESSION", 2);
    let mut service = bed.start();
    send(&bed, 0).await;
    arrived(&bed, 1, &service).await;
    fs::remove_file(&path).expect("the file");
    send(&bed, 1).await;
    arrived(&bed, 2, &service).await;
    assert_eq!(service.lines_with(&["the relay is down"]).len(), 0, "the open session goes on");
    send(&bed, 2).await;
    let line = service.wait_for_line(&["the relay is down", "ERROR"], SOON).await.expect("said");
    let expected = format!("AUTH failed: SMTP_PASSWORD_FILE: cannot read {}: No such file", path.display());
    assert!(line.contains(&expected), "{line}");
    fs::write(&path, "first\n").expect("a file");
    arrived(&bed, 3, &service).await;
    let found = Found::at_the_end(&bed, service).await;
    for number in 0..3 {
        found.assert_sent(&format!("m{number}"), 1, 0);
    }
    assert_eq!(found.ledger.count(Command::Auth), 2, "never without a password");
}

#[tokio::test]
async fn sixteen_sessions_that_come_back_to_another_password_are_one_refused_login() {
    let (mut bed, path) = bed(SmtpServer::builder().login(USER, "first"), "SMTP_PASSWORD_FILE").await;
    bed.set("SMTP_SESSIONS", 16);
    bed.set("SMTP_SESSIONS_RESERVED", 0);
    bed.set("SMTP_MAX_MESSAGES_PER_SESSION", 100);
    bed.set("SMTP_IDLE_TIMEOUT", "5m");
    let mut service = bed.start();
    // all sixteen are open, each with a mail
    bed.smtp.hold(Command::Dot);
    for number in 0..16 {
        send(&bed, number).await;
    }
    let all = bed.smtp.wait_until(|ledger| ledger.open() == 16, SOON).await;
    all.unwrap_or_else(|error| panic!("{error}:\n{}", service.tail()));
    bed.smtp.release(Command::Dot);
    arrived(&bed, 16, &service).await;

    bed.smtp.stop().await;
    bed.smtp.set_login(USER, "second");
    let before = bed.smtp.ledger().count(Command::Auth);
    bed.smtp.start_again().await.expect("the same port");
    let event_of = |number: usize| event(&format!("m{number}"), &format!("m{number}@example.org"));
    bed.publish(Priority::Normal, (16..48).map(event_of)).await;
    service.wait_for_line(&["AUTH failed: the server answered 535"], SOON).await.expect("said");
    // nothing is probed for half a minute; what would come at once has come by the time that the file is seen
    let (written, refused) = (Instant::now(), bed.smtp.ledger().count(Command::Auth) - before);
    assert_eq!(refused, 1, "refused logins:\n{}", service.tail());
    fs::write(&path, "second\n").expect("a file");
    arrived(&bed, 48, &service).await;
    assert!(written.elapsed() < Duration::from_secs(20), "the file is tried at once");
    let found = Found::at_the_end(&bed, service).await;
    found.assert_sent("m47", 1, 0);
    assert_eq!(found.count_lines("has changed: trying again"), 1);
}

#[tokio::test]
async fn a_file_that_became_a_pipe_is_not_opened_and_holds_nothing_up() {
    let (mut bed, path) = bed(SmtpServer::builder().login(USER, "first"), "SMTP_PASSWORD_FILE").await;
    bed.set("HTTP_ADDR", "127.0.0.1:0");
    let mut service = bed.start();
    let address = service.http_address(SOON).await.expect("it listens");
    send(&bed, 0).await;
    arrived(&bed, 1, &service).await;
    fs::remove_file(&path).expect("the file");
    assert!(process::Command::new("mkfifo").arg(&path).status().expect("mkfifo").success());
    send(&bed, 1).await;
    let line = service.wait_for_line(&["the relay is down", "ERROR"], SOON).await.expect("said");
    let expected = format!("SMTP_PASSWORD_FILE: cannot read {}: it is not a regular file", path.display());
    assert!(line.contains(&expected), "{line}");
    for _ in 0..20 {
        // more often than there are threads to hang
        tokio::net::TcpStream::connect(address).await.expect("it lives");
    }
    let end = Instant::now();
    let status = service.terminate(Duration::from_secs(12)).await.expect("it ends");
    assert!(status.success() && end.elapsed() < Duration::from_secs(10), "{status} after {:?}", end.elapsed());

    let (status, _, stderr) = bed.run(&["config"]).await;
    assert_eq!(status, Some(78), "{stderr}");
    assert!(stderr.contains("SMTP_PASSWORD_FILE") && stderr.contains("not a regular file"), "{stderr}");
}

#[tokio::test]
async fn a_relay_that_cannot_tell_for_a_moment_is_no_file_that_has_changed() {
    let busy = on(Command::Auth).once(Action::reply(454, "4.7.0", "not now"));
    let (mut bed, _) = bed(SmtpServer::builder().login(USER, "first").rule(busy), "SMTP_PASSWORD_FILE").await;
    bed.set("SMTP_MAX_MESSAGES_PER_SESSION", 100);
    // a login that was never good waits as long as one that is refused for good
    bed.set("RETRY_INITIAL_DELAY", "2s");
    bed.set("RETRY_MAX_DELAY", "2s");
    let service = bed.start();
    send(&bed, 0).await;
    arrived(&bed, 1, &service).await;
    let found = Found::at_the_end(&bed, service).await;
    assert_eq!(found.count_lines("AUTH failed: the server answered 454"), 1, "{}", found.log);
    assert_eq!(found.count_lines("has changed"), 0, "{}", found.log);
}
