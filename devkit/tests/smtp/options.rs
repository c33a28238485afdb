//! What the builder switches, and being down and back.

use std::io::ErrorKind;
use std::time::Duration;

use devkit::smtp::{Command, End, SmtpServer};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::SOON;
use crate::client::Client;

#[tokio::test]
async fn keywords_are_named_as_told() {
    let server = SmtpServer::builder()
        .pipelining(false)
        .eight_bit_mime(false)
        .smtputf8(false)
        .enhanced_status_codes(false)
        .size(None)
        .keyword("XFOO bar")
        .start()
        .await;
    let mut client = Client::connect(&server).await;
    client.reply().await;
    assert_eq!(client.ask("EHLO client.test").await, "250-localhost\r\n250 XFOO bar\r\n");
    assert_eq!(client.ask("NOOP").await, "250 fine\r\n");

    let server = SmtpServer::builder().starttls().login("ann", "secret").lower_case_keywords().start().await;
    let mut client = Client::connect(&server).await;
    client.reply().await;
    assert_eq!(
        client.ask("EHLO client.test").await,
        "250-localhost\r\n250-pipelining\r\n250-8bitmime\r\n250-smtputf8\r\n250-enhancedstatuscodes\r\n250-starttls\r\n\
         250-size 10240000\r\n250 auth plain login\r\n"
    );
}

#[tokio::test]
async fn one_connection_too_many_gets_421_while_the_others_work() {
    let server = SmtpServer::builder().max_connections(2).start().await;
    let mut first = Client::greeted(&server).await;
    let mut second = Client::greeted(&server).await;
    let mut third = Client::connect(&server).await;
    assert_eq!(third.rest().await, b"421 4.7.0 too many connections\r\n");
    assert!(first.mail("a@test", "to@x.test").await.starts_with("250"));
    assert!(second.ask("QUIT").await.starts_with("221"));
    server.wait_until(|ledger| ledger.open() == 1, SOON).await.expect("room");
    Client::greeted(&server).await;
    let ledger = server.ledger();
    assert_eq!((ledger.opened(), ledger.peak(), ledger.turned_away()), (4, 2, 1));
    assert!(ledger.session(3).expect("a session").turned_away);
}

#[tokio::test]
async fn a_connection_is_closed_after_its_mails() {
    let server = SmtpServer::builder().close_after_mails(2).start().await;
    let mut client = Client::greeted(&server).await;
    client.mail("a@test", "to@x.test").await;
    client.envelope("to@x.test").await;
    client.content("b@test").await;
    assert!(client.rest().await.starts_with(b"250 2.0.0"));
    assert_eq!(server.ledger().session(1).expect("a session").end, Some(End::Server));
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let server = SmtpServer::builder().idle_timeout(Duration::from_millis(20)).start().await;
    let mut client = Client::greeted(&server).await;
    assert_eq!(client.rest().await, b"421 4.4.2 idle for too long\r\n");
}

#[tokio::test]
async fn latency_is_of_its_command() {
    let latency = Duration::from_millis(30);
    let server = SmtpServer::builder().latency(Command::Dot, latency).start().await;
    let mut client = Client::greeted(&server).await;
    let start = Instant::now();
    client.mail("a@test", "to@x.test").await;
    assert!(start.elapsed() >= latency);
}

#[tokio::test]
async fn down_and_back_on_the_same_port_with_the_same_ledger() {
    let mut server = SmtpServer::builder().start().await;
    let mut client = Client::greeted(&server).await;
    client.mail("a@test", "to@x.test").await;
    server.stop().await;
    assert_eq!(client.rest().await, b"");
    let refused = TcpStream::connect(server.addr()).await.expect_err("nobody listens");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    assert_eq!((server.ledger().open(), server.ledger().session(1).expect("one").end.clone()), (0, Some(End::Stopped)));
    server.stop().await;

    server.start_again().await.expect("the port is still ours");
    server.start_again().await.expect("nothing to do");
    let mut client = Client::greeted(&server).await;
    client.mail("b@test", "to@x.test").await;
    assert_eq!(server.ledger().accepted().len(), 2);
    assert_eq!(server.ledger().session(2).expect("the second").mails, 1);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_stopped_server_keeps_its_port_from_others() {
    let mut server = SmtpServer::builder().start().await;
    server.stop().await;
    let other = tokio::net::TcpSocket::new_v4().expect("a socket");
    assert_eq!(other.bind(server.addr()).expect_err("a port in use").kind(), ErrorKind::AddrInUse);
}

#[tokio::test]
async fn dropping_the_server_closes_all_connections() {
    let server = SmtpServer::builder().start().await;
    let mut client = Client::greeted(&server).await;
    let addr = server.addr();
    drop(server);
    assert_eq!(client.rest().await, b"");
    assert!(TcpStream::connect(addr).await.is_err());
}
