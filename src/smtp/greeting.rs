//! The first words with a server, before lettre takes over: banner, EHLO or HELO, STARTTLS, and the lines of AUTH.
//!
//! Reads replies itself, so that nothing that was sent in the clear can be taken for an answer under TLS
//! (CVE-2011-0411), and keeps what the server said it can do.

use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{
    Reply,
    transport::{MAX_REPLY_LINE, Stream},
};

/// Longest reply in bytes; a server that offers every extension there is stays far below.
const MAX_REPLY: usize = 64 * 1024;
/// Longest line of an AUTH exchange in bytes (RFC 4954 4), with its code and CRLF.
const MAX_CHALLENGE: usize = 12_288 + 6;

/// Why no usable answer came.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the server answered {0}")]
    Refused(Reply),
    #[error("{0}")]
    Protocol(&'static str),
}

/// What the server said it can do (EHLO keywords, in any case).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a keyword that is there or not")]
pub(super) struct Capabilities {
    /// RFC 2920.
    pub pipelining: bool,
    /// RFC 1870.
    pub size: bool,
    /// The limit in bytes that came with SIZE, if it named one.
    pub size_limit: Option<u64>,
    /// RFC 6152.
    pub eight_bit_mime: bool,
    /// RFC 3207.
    pub starttls: bool,
    /// Mechanisms of AUTH (RFC 4954) in capitals, in the order of the server.
    pub auth: Vec<String>,
}

impl Capabilities {
    fn parse<'a>(lines: impl Iterator<Item = &'a str>) -> Self {
        let mut found = Self::default();
        for line in lines {
            // Old servers write `AUTH=LOGIN PLAIN`.
            let mut words = line.split([' ', '\t', '=']).filter(|word| !word.is_empty());
            match words.next().unwrap_or_default().to_ascii_uppercase().as_str() {
                "PIPELINING" => found.pipelining = true,
                "SIZE" => {
                    found.size = true;
                    found.size_limit = words.next().and_then(|limit| limit.parse().ok()).filter(|limit| *limit > 0);
                }
                "8BITMIME" => found.eight_bit_mime = true,
                "STARTTLS" => found.starttls = true,
                "AUTH" => {
                    for mechanism in words.map(str::to_ascii_uppercase) {
                        if !found.auth.contains(&mechanism) {
                            found.auth.push(mechanism);
                        }
                    }
                }
                _ => {}
            }
        }
        found
    }

    /// The limit that a mail of `bytes` exceeds.
    pub(super) fn exceeded_by(&self, bytes: usize) -> Option<u64> {
        self.size_limit.filter(|limit| u64::try_from(bytes).is_ok_and(|bytes| bytes > *limit))
    }

    /// Whether this mechanism is offered.
    pub(super) fn offers_auth(&self, mechanism: &str) -> bool {
        self.auth.iter().any(|offered| offered.eq_ignore_ascii_case(mechanism))
    }
}

/// A stream on which replies are read line by line.
#[derive(Debug)]
pub(super) struct Greeter {
    stream: Stream,
    received: Vec<u8>,
}

impl Greeter {
    pub(super) fn new(stream: Stream) -> Self {
        Self { stream, received: Vec::with_capacity(1024) }
    }

    /// The stream, for whoever speaks next; an error if the server has already said more than it was asked.
    pub(super) fn into_stream(self) -> Result<Stream, Error> {
        self.expect_silence()?;
        Ok(self.stream)
    }

    pub(super) async fn banner(&mut self) -> Result<(), Error> {
        self.read_reply(MAX_REPLY_LINE).await?.positive().map(drop)
    }

    /// EHLO, and HELO where the server does not know EHLO (RFC 5321 3.2).
    pub(super) async fn hello(&mut self, name: &str) -> Result<Capabilities, Error> {
        let answer = self.ask("EHLO", name).await?;
        if matches!(answer.reply.code, 500 | 502) {
            self.ask("HELO", name).await?.positive()?;
            return Ok(Capabilities::default());
        }
        let lines = answer.positive()?;
        Ok(Capabilities::parse(lines.iter().skip(1).map(String::as_str)))
    }

    pub(super) async fn starttls(&mut self) -> Result<(), Error> {
        self.ask("STARTTLS", "").await?.positive().map(drop)
    }

    /// One line of an exchange and its reply, whatever that is (RFC 4954 4).
    pub(super) async fn exchange(&mut self, line: &str) -> Result<Reply, Error> {
        self.say(line, "").await?;
        Ok(self.read_reply(MAX_CHALLENGE).await?.reply)
    }

    /// Ends an exchange that leads nowhere (RFC 4954 4). Its reply is not waited for: the session is given up.
    pub(super) async fn cancel(&mut self) {
        let _ = self.say("*", "").await;
    }

    async fn ask(&mut self, verb: &str, argument: &str) -> Result<Answer, Error> {
        self.say(verb, argument).await?;
        self.read_reply(MAX_REPLY_LINE).await
    }

    async fn say(&mut self, verb: &str, argument: &str) -> Result<(), Error> {
        self.expect_silence()?;
        let space = if argument.is_empty() { "" } else { " " };
        self.stream.write_all(format!("{verb}{space}{argument}\r\n").as_bytes()).await?;
        Ok(self.stream.flush().await?)
    }

    fn expect_silence(&self) -> Result<(), Error> {
        if self.received.is_empty() {
            Ok(())
        } else {
            Err(Error::Protocol("the server sent more than it was asked for"))
        }
    }

    async fn read_reply(&mut self, longest: usize) -> Result<Answer, Error> {
        let mut lines: Vec<String> = Vec::new();
        let mut code = None;
        let mut total = 0;
        loop {
            let line = self.read_line(longest).await?;
            total += line.len();
            if total > MAX_REPLY {
                return Err(Error::Protocol("the reply is too long"));
            }
            let (digits, rest) = line.split_at_checked(3).ok_or(Error::Protocol("the reply is not an SMTP reply"))?;
            let this = parse_code(digits).ok_or(Error::Protocol("the reply is not an SMTP reply"))?;
            if *code.get_or_insert(this) != this {
                return Err(Error::Protocol("the lines of the reply have different codes"));
            }
            let (last, text) = match rest.as_bytes().first() {
                None => (true, ""),
                Some(b' ') => (true, &rest[1..]),
                Some(b'-') => (false, &rest[1..]),
                Some(_) => return Err(Error::Protocol("the reply is not an SMTP reply")),
            };
            lines.push(text.to_owned());
            if last {
                return Ok(Answer { reply: Reply::new(this, &lines.join(" ")), lines });
            }
        }
    }

    /// One line without its end, bytes beyond ASCII as `?`.
    async fn read_line(&mut self, longest: usize) -> Result<String, Error> {
        let mut searched = 0;
        loop {
            let end = self.received[searched..].iter().position(|byte| *byte == b'\n').map(|at| searched + at);
            if end.unwrap_or(self.received.len()) > longest {
                return Err(Error::Protocol("a line of the reply is too long"));
            }
            if let Some(end) = end {
                let line: Vec<u8> = self.received.drain(..=end).collect();
                let line = line.strip_suffix(b"\r\n").unwrap_or(&line[..end]);
                return Ok(line.iter().map(|byte| if byte.is_ascii() { char::from(*byte) } else { '?' }).collect());
            }
            searched = self.received.len();
            if self.stream.read_buf(&mut self.received).await? == 0 {
                return Err(Error::Io(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "the server closed the connection",
                )));
            }
        }
    }
}

#[derive(Debug)]
struct Answer {
    reply: Reply,
    lines: Vec<String>,
}

impl Answer {
    fn positive(self) -> Result<Vec<String>, Error> {
        if self.reply.is_positive() { Ok(self.lines) } else { Err(Error::Refused(self.reply)) }
    }
}

fn parse_code(digits: &str) -> Option<u16> {
    let code = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())??;
    (200..600).contains(&code).then_some(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keywords_are_known_in_any_case() {
        let found = Capabilities::parse(
            ["pipelining", "Size 1000", "8bitMIME", "StartTLS", "auth plain CRAM-MD5", "AUTH=LOGIN PLAIN"].into_iter(),
        );
        let expected = Capabilities {
            pipelining: true,
            size: true,
            size_limit: Some(1000),
            eight_bit_mime: true,
            starttls: true,
            auth: ["PLAIN", "CRAM-MD5", "LOGIN"].map(str::to_owned).into(),
        };
        assert_eq!(found, expected);
        assert_eq!(
            Capabilities::parse(["PIPELININGS", "XSIZE 1", "AUTHPLAIN", ""].into_iter()),
            Capabilities::default()
        );
    }

    #[test]
    fn a_size_without_a_number_or_of_zero_is_no_limit() {
        for line in ["SIZE", "SIZE 0", "SIZE x"] {
            let found = Capabilities::parse([line].into_iter());
            assert_eq!((found.size, found.exceeded_by(usize::MAX)), (true, None), "{line}");
        }
        let found = Capabilities::parse(["SIZE 10"].into_iter());
        assert_eq!((found.exceeded_by(10), found.exceeded_by(11)), (None, Some(10)));
        assert_eq!(Capabilities::default().exceeded_by(usize::MAX), None);
    }

    #[tokio::test]
    async fn a_challenge_may_be_as_long_as_rfc_4954_lets_it_be() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        for (length, fits) in [(4000, true), (12_288, true), (13_000, false)] {
            let tcp =
                tokio::net::TcpStream::connect(listener.local_addr().expect("bound")).await.expect("a connection");
            let (mut server, _) = listener.accept().await.expect("a connection");
            server.write_all(format!("334 {}\r\n", "A".repeat(length)).as_bytes()).await.expect("written");
            let reply = Greeter::new(Stream::Plain(tcp)).exchange("AUTH XOAUTH2 eA==").await;
            assert_eq!(reply.is_ok_and(|reply| reply.code == 334), fits, "{length}");
        }
    }
}
