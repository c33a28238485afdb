//! Each action, at the point where it matters most.

use std::io::ErrorKind;
use std::time::Duration;

use devkit::smtp::{Action, Command, End, Key, SmtpServer, on};
use tokio::time::Instant;

use crate::SOON;
use crate::client::Client;

const DATA: [&str; 3] = ["250", "250", "354"];

async fn scripted(rule: devkit::smtp::Rule) -> (SmtpServer, Client) {
    let server = SmtpServer::builder().rule(rule).start().await;
    let client = Client::greeted(&server).await;
    (server, client)
}

#[tokio::test]
async fn a_recipient_is_refused_and_the_others_are_not() {
    let (server, mut client) = scripted(on(Command::Rcpt).recipient("no@x.test").reply(550, "5.1.1", "nobody")).await;
    client.send("MAIL FROM:<a@b.test>\r\nRCPT TO:<No@X.test>\r\nRCPT TO:<yes@x.test>\r\nDATA\r\n").await;
    for code in ["250", "550 5.1.1 nobody\r\n", "250", "354"] {
        assert!(client.reply().await.starts_with(code));
    }
    client.content("a@test").await;
    client.reply().await;
    assert_eq!(server.ledger().accepted()[0].recipients, ["yes@x.test"]);
    assert_eq!((server.ledger().deliveries("yes@x.test"), server.ledger().deliveries("No@X.test")), (1, 0));
}

#[tokio::test]
async fn turns_are_taken_for_each_message_id() {
    let rule = on(Command::Dot).per(Key::MessageId).turns([Action::reply(451, "4.3.0", "later"), Action::Accept]);
    let (server, mut client) = scripted(rule).await;
    let mut codes = Vec::new();
    for id in ["a@test", "b@test", "a@test", "b@test"] {
        codes.push(client.mail(id, "to@x.test").await[..9].to_owned());
    }
    assert_eq!(codes, ["451 4.3.0", "451 4.3.0", "250 2.0.0", "250 2.0.0"]);
    assert_eq!((server.ledger().refused().len(), server.ledger().accepted().len()), (2, 2));
    assert_eq!(server.ledger().refused()[0].code, Some(451));
}

#[tokio::test]
async fn mails_are_known_by_header_body_and_place() {
    let server = SmtpServer::builder()
        .rule(on(Command::Dot).header_contains("subject", "bad").reply(554, "5.6.0", "header"))
        .rule(on(Command::Dot).body_contains("Hello").connection(1).transaction(2).reply(554, "5.6.0", "second"))
        .rule(on(Command::Mail).sender("FROM@example.org").connection(2).reply(451, "4.0.0", "sender"))
        .rule(on(Command::Rset).when(|context| context.recipients.len() == 1).reply(250, "2.0.0", "one"))
        .start()
        .await;
    let mut client = Client::greeted(&server).await;
    assert!(client.mail("bad@test", "to@x.test").await.contains("header"));
    assert!(client.mail("good@test", "to@x.test").await.contains("second"));
    assert!(client.mail("good@test", "to@x.test").await.starts_with("250"));
    client.ask("MAIL FROM:<a@b.test>").await;
    client.ask("RCPT TO:<a@b.test>").await;
    assert_eq!(client.ask("RSET").await, "250 2.0.0 one\r\n");
    let mut second = Client::greeted(&server).await;
    assert_eq!(second.envelope("to@x.test").await, ["451", "503", "503"]);
}

#[tokio::test]
async fn raw_replies_go_out_as_they_are() {
    for (raw, accepted, taken) in [
        (&b"250 2.0.0 gr\xfc\xdfe\r\n"[..], 1, 0),
        (b"250\r\n", 1, 0),
        (b"250-fine\r\n451 or not\r\n", 0, 0),
        (b"rubbish\r\n", 0, 1),
    ] {
        let rule = on(Command::Dot).act(Action::Sequence(vec![Action::raw(raw), Action::HangUp]));
        let (server, mut client) = scripted(rule).await;
        client.envelope("to@x.test").await;
        client.content("a@test").await;
        assert_eq!(client.rest().await, raw);
        let ledger = server.ledger();
        assert_eq!((ledger.accepted().len(), ledger.taken().len()), (accepted, taken), "{raw:?}");
    }
}

#[tokio::test]
async fn a_refused_recipient_may_yet_get_a_354_and_the_250_counts_for_nothing() {
    let server = SmtpServer::builder()
        .rule(on(Command::Rcpt).reply(550, "5.1.1", "nobody"))
        .rule(on(Command::Data).reply(354, "", "go on"))
        .rule(on(Command::Dot).reply(250, "2.0.0", "fine"))
        .start()
        .await;
    let mut client = Client::greeted(&server).await;
    assert_eq!(client.envelope("to@x.test").await, ["250", "550", "354"]);
    assert!(client.ask(".").await.starts_with("250"));
    assert_eq!((server.ledger().accepted().len(), server.ledger().refused().len()), (0, 1));
}

#[tokio::test]
async fn silence_lasts_until_the_client_goes_and_the_mail_is_taken() {
    let (server, mut client) = scripted(on(Command::Dot).act(Action::silence())).await;
    client.envelope("to@x.test").await;
    client.content("a@test").await;
    server.wait_until(|ledger| ledger.count(Command::Dot) == 1, SOON).await.expect("a dot");
    assert!(client.hears_nothing_for(Duration::from_millis(20)).await);
    assert_eq!(server.ledger().taken().len(), 0);
    drop(client);
    server.wait_until(|ledger| ledger.taken().len() == 1, SOON).await.expect("taken");
    assert_eq!(server.ledger().session(1).expect("a session").end, Some(End::Client));
}

#[tokio::test]
async fn silence_with_an_end_hangs_up() {
    let (server, mut client) = scripted(on(Command::Rcpt).act(Action::Silence(Some(Duration::from_millis(5))))).await;
    client.send("MAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\n").await;
    assert_eq!(client.rest().await, b"250 2.1.0 fine\r\n");
    assert_eq!(server.ledger().session(1).expect("a session").end, Some(End::Server));
}

#[tokio::test]
async fn a_drip_comes_slowly_and_whole() {
    let interval = Duration::from_millis(2);
    let (server, mut client) = scripted(on(Command::Dot).act(Action::drip(interval, 250, "2.0.0", "slow"))).await;
    client.envelope("to@x.test").await;
    let start = Instant::now();
    client.content("a@test").await;
    assert_eq!(client.reply().await, "250 2.0.0 slow\r\n");
    assert!(start.elapsed() >= interval * 16);
    server.wait_until(|ledger| ledger.accepted().iter().any(|mail| mail.answered()), SOON).await.expect("answered");
}

#[tokio::test]
async fn a_client_that_leaves_amid_a_drip_is_not_answered() {
    let (server, mut client) = scripted(on(Command::Dot).act(Action::drip(SOON, 250, "2.0.0", "slow"))).await;
    client.envelope("to@x.test").await;
    client.content("a@test").await;
    server.wait_for_mails(1, SOON).await.expect("decided");
    drop(client);
    server.wait_until(|ledger| ledger.open() == 0, SOON).await.expect("closed");
    assert!(!server.ledger().accepted()[0].answered());
}

#[tokio::test]
async fn a_late_refusal_comes_late() {
    let pause = Duration::from_millis(30);
    let (server, mut client) = scripted(on(Command::Dot).act(Action::late_reply(pause, 554, "5.6.0", "no"))).await;
    client.envelope("to@x.test").await;
    let start = Instant::now();
    client.content("a@test").await;
    assert_eq!(client.reply().await, "554 5.6.0 no\r\n");
    assert!(start.elapsed() >= pause);
    assert_eq!(server.ledger().refused().len(), 1);
}

#[tokio::test]
async fn hanging_up_comes_in_four_kinds() {
    for (action, rest, accepted) in [
        (Action::HangUp, &b""[..], 0),
        (Action::TakeAndHangUp, b"", 1),
        (Action::reply_then_hang_up(250, "2.0.0", "fine"), b"250 2.0.0 fine\r\n", 1),
        (Action::reply(421, "4.3.2", "closing"), b"421 4.3.2 closing\r\n", 0),
    ] {
        let (server, mut client) = scripted(on(Command::Dot).act(action)).await;
        assert_eq!(client.envelope("to@x.test").await, DATA);
        client.content("a@test").await;
        assert_eq!(client.rest().await, rest);
        let ledger = server.ledger();
        assert_eq!(ledger.accepted().len(), accepted);
        assert!(ledger.accepted().iter().all(|mail| mail.answered() != rest.is_empty()));
    }
    let (_server, mut client) = scripted(on(Command::Dot).act(Action::Reset)).await;
    client.envelope("to@x.test").await;
    client.content("a@test").await;
    assert_eq!(client.broken().await, ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_connection_is_lost_before_the_dot() {
    let (server, mut client) = scripted(on(Command::Body).act(Action::HangUp)).await;
    assert_eq!(client.envelope("to@x.test").await, DATA);
    assert_eq!(client.rest().await, b"");
    assert_eq!((server.ledger().taken().len(), server.ledger().count(Command::Dot)), (0, 0));
}

#[tokio::test]
async fn a_server_that_stops_reading_blocks_the_content() {
    let (_server, mut client) = scripted(on(Command::Body).act(Action::silence())).await;
    client.envelope("to@x.test").await;
    let flood = tokio::time::timeout(Duration::from_millis(200), async {
        loop {
            client.send("a line of a content that nobody reads\r\n".repeat(1000)).await;
        }
    });
    assert!(flood.await.is_err());
}

#[tokio::test]
async fn a_banner_of_554_leaves_nothing_but_quit_and_rules_change_at_run_time() {
    let server = SmtpServer::builder().rule(on(Command::Banner).reply(554, "", "no service")).start().await;
    let mut client = Client::connect(&server).await;
    assert_eq!(client.reply().await, "554 no service\r\n");
    assert!(client.ask("EHLO client.test").await.starts_with("503"));
    assert!(client.ask("QUIT").await.starts_with("221"));
    server.clear();
    let mut client = Client::greeted(&server).await;
    server.add_rule(on(Command::Noop).reply(250, "2.0.0", "scripted"));
    assert_eq!(client.ask("NOOP").await, "250 2.0.0 scripted\r\n");
    server.set_rules([on(Command::Noop).skip(1).once(Action::reply(451, "4.0.0", "second"))]);
    assert!(client.ask("NOOP").await.starts_with("250 2.0.0 fine"));
    assert!(client.ask("NOOP").await.starts_with("451"));
    assert!(client.ask("NOOP").await.starts_with("250"));
}

#[tokio::test]
async fn held_dots_wait_until_they_are_released() {
    let server = SmtpServer::builder().start().await;
    server.hold(Command::Dot);
    let mut clients = Vec::new();
    for id in ["a@test", "b@test", "c@test"] {
        let mut client = Client::greeted(&server).await;
        client.envelope("to@x.test").await;
        client.content(id).await;
        clients.push(client);
    }
    server.wait_until(|ledger| ledger.held() == 3, SOON).await.expect("three held");
    drop(clients.pop());
    server.wait_until(|ledger| ledger.held() == 2 && ledger.taken().len() == 1, SOON).await.expect("one gone");
    assert_eq!(server.ledger().accepted().len(), 0);
    server.release(Command::Dot);
    for client in &mut clients {
        assert!(client.reply().await.starts_with("250"));
    }
    assert_eq!((server.ledger().accepted().len(), server.ledger().held()), (2, 0));
}
