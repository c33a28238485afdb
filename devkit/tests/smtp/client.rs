//! A client that sends what it is told and reads what comes.

use devkit::smtp::SmtpServer;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::SOON;

pub(crate) struct Client(BufReader<TcpStream>);

impl Client {
    /// A connection whose banner has not been read.
    pub(crate) async fn connect(server: &SmtpServer) -> Self {
        let stream = TcpStream::connect(server.addr()).await.expect("a listening server");
        stream.set_nodelay(true).expect("a TCP socket");
        Self(BufReader::new(stream))
    }

    /// A connection after banner and EHLO.
    pub(crate) async fn greeted(server: &SmtpServer) -> Self {
        let mut client = Self::connect(server).await;
        assert!(client.reply().await.starts_with("220 "));
        assert!(client.ask("EHLO client.test").await.starts_with("250-"));
        client
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.expect("an open connection");
    }

    /// All lines of the next reply, joined as they came; empty where the server has hung up.
    pub(crate) async fn reply(&mut self) -> String {
        let mut reply = String::new();
        loop {
            let mut line = Vec::new();
            timeout(SOON, self.0.read_until(b'\n', &mut line)).await.expect("an answer").expect("an open connection");
            let line = String::from_utf8_lossy(&line);
            reply.push_str(&line);
            if line.as_bytes().get(3) != Some(&b'-') {
                return reply;
            }
        }
    }

    /// Sends a line and reads its reply.
    pub(crate) async fn ask(&mut self, line: &str) -> String {
        self.send(format!("{line}\r\n")).await;
        self.reply().await
    }

    /// MAIL, RCPT and DATA to this recipient in one write; the codes of the replies.
    pub(crate) async fn envelope(&mut self, recipient: &str) -> Vec<String> {
        self.send(format!("MAIL FROM:<from@example.org>\r\nRCPT TO:<{recipient}>\r\nDATA\r\n")).await;
        let mut codes = Vec::new();
        for _ in 0..3 {
            codes.push(self.reply().await.chars().take(3).collect());
        }
        codes
    }

    /// A small mail up to the reply to its final dot.
    pub(crate) async fn mail(&mut self, id: &str, recipient: &str) -> String {
        assert_eq!(self.envelope(recipient).await, ["250", "250", "354"]);
        self.content(id).await;
        self.reply().await
    }

    /// The content of a small mail with its final dot.
    pub(crate) async fn content(&mut self, id: &str) {
        self.send(format!("Message-ID: <{id}>\r\nSubject: {id}\r\n\r\nHello.\r\n.\r\n")).await;
    }

    /// All bytes up to the end, which is an orderly one.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        timeout(SOON, self.0.read_to_end(&mut rest)).await.expect("a hang-up").expect("an orderly end");
        rest
    }

    /// The error with which the connection ends.
    pub(crate) async fn broken(&mut self) -> std::io::ErrorKind {
        let mut rest = Vec::new();
        timeout(SOON, self.0.read_to_end(&mut rest)).await.expect("a hang-up").expect_err("a reset").kind()
    }

    /// Whether nothing has come within this time.
    pub(crate) async fn hears_nothing_for(&mut self, time: std::time::Duration) -> bool {
        timeout(time, self.0.fill_buf()).await.is_err()
    }
}
