//! The byte stream under a session: TCP or TLS, and the wire that lettre and the session share.
//!
//! Owns what lettre leaves out: replies with bytes above 0x7f, codes such as 571, lines without an end, replies that no command asked
//! for, and writes of which one must know whether they were taken whole. Knows nothing of what commands mean.

use std::{
    collections::VecDeque,
    future::poll_fn,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use lettre::transport::smtp::client::AsyncTokioStream;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

/// Longest line of a reply in bytes, the same that lettre takes; RFC 5321 4.5.3.1.5 asks for 512.
pub(super) const MAX_REPLY_LINE: usize = 1000;

/// A connection to the server, in the clear or encrypted.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    pub(super) fn is_encrypted(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    fn peer_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Plain(tcp) => tcp.peer_addr(),
            Self::Tls(tls) => tls.get_ref().0.peer_addr(),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Self::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Self::Tls(tls) => Pin::new(tls).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}

/// A handle on the one stream of a session; lettre holds one and reads its replies from it, the session another and
/// writes what lettre cannot: groups of commands, and a body with its dot.
///
/// The lock is never contended: whoever owns the session owns both handles.
#[derive(Debug, Clone)]
pub(super) struct Wire(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    stream: Stream,
    /// What lettre is told before it may speak to the server; empty once it has heard it all.
    rehearsal: Vec<u8>,
    rehearsing: bool,
    /// Replies that were asked for: command lines and bodies written.
    asked: u64,
    replies: ReplyCounter,
}

impl Wire {
    /// Plays `rehearsal` to the reader and keeps what is written from the server, until [`Self::go_live`].
    pub(super) fn rehearse(stream: Stream, rehearsal: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            stream,
            rehearsal,
            rehearsing: true,
            asked: 0,
            replies: ReplyCounter::default(),
        })))
    }

    /// The certificate that the server showed, in DER; `None` where nothing is encrypted.
    pub(super) fn certificate(&self) -> Option<Vec<u8>> {
        match &self.lock().stream {
            Stream::Plain(_) => None,
            Stream::Tls(tls) => Some(tls.get_ref().1.peer_certificates()?.first()?.to_vec()),
        }
    }

    pub(super) fn go_live(&self) {
        self.lock().rehearsing = false;
    }

    /// The code of the reply that was read last of those not asked for yet, as the server wrote it.
    pub(super) fn next_code(&self) -> Option<u16> {
        self.lock().replies.codes.pop_front()
    }

    /// Forgets the codes of replies that were read otherwise.
    pub(super) fn forget_codes(&self) {
        self.lock().replies.codes.clear();
    }

    /// Whether no more replies have come in than were asked for.
    pub(super) fn is_in_step(&self) -> bool {
        let inner = self.lock();
        inner.replies.complete <= inner.asked
    }

    /// Writes command lines, each of which asks for one reply.
    pub(super) async fn write_commands(&self, lines: &[u8]) -> io::Result<()> {
        self.hand_over(lines).await?;
        self.lock().asked += count_lines(lines);
        self.flush().await
    }

    /// Writes a body with its dot, which asks for one reply. An error means that the stream did not take it whole;
    /// what it took may still need a [`Self::flush`].
    pub(super) async fn hand_over_body(&self, body: &[u8]) -> io::Result<()> {
        self.hand_over(body).await?;
        self.lock().asked += 1;
        Ok(())
    }

    pub(super) async fn flush(&self) -> io::Result<()> {
        poll_fn(|cx| Pin::new(&mut self.lock().stream).poll_flush(cx)).await
    }

    async fn hand_over(&self, mut bytes: &[u8]) -> io::Result<()> {
        poll_fn(|cx| {
            while !bytes.is_empty() {
                match ready!(Pin::new(&mut self.lock().stream).poll_write(cx, bytes))? {
                    0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    n => bytes = &bytes[n..],
                }
            }
            Poll::Ready(Ok(()))
        })
        .await
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.lock();
        if inner.rehearsing {
            let n = buf.remaining().min(inner.rehearsal.len());
            buf.put_slice(&inner.rehearsal[..n]);
            inner.rehearsal.drain(..n);
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut inner.stream).poll_read(cx, buf))?;
        Poll::Ready(inner.replies.take_in(&mut buf.filled_mut()[before..]))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let mut inner = self.lock();
        if inner.rehearsing {
            return Poll::Ready(Ok(buf.len()));
        }
        let n = ready!(Pin::new(&mut inner.stream).poll_write(cx, buf))?;
        inner.asked += count_lines(&buf[..n]);
        Poll::Ready(Ok(n))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.lock().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.lock().stream).poll_shutdown(cx)
    }
}

impl AsyncTokioStream for Wire {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.lock().stream.peer_addr()
    }
}

fn count_lines(bytes: &[u8]) -> u64 {
    bytes.iter().map(|byte| u64::from(*byte == b'\n')).sum()
}

/// Counts whole replies and makes their bytes such that lettre can read them.
#[derive(Debug, Default)]
struct ReplyCounter {
    complete: u64,
    column: usize,
    continued: bool,
    /// Code of the line so far.
    code: u16,
    /// Codes of the complete replies. lettre knows none with a second digit above 5, although servers send 471 and 571
    /// (RFC 5321 4.3.2 has clients go by the first digit): it is shown a 5 there.
    codes: VecDeque<u16>,
}

impl ReplyCounter {
    fn take_in(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        for byte in bytes {
            match *byte {
                b'\n' => {
                    if !self.continued {
                        self.complete += 1;
                        self.codes.push_back(self.code);
                    }
                    (self.column, self.continued, self.code) = (0, false, 0);
                    continue;
                }
                digit @ b'0'..=b'9' if self.column < 3 => {
                    self.code = self.code * 10 + u16::from(digit - b'0');
                    if self.column == 1 {
                        *byte = digit.min(b'5');
                    }
                }
                b'-' if self.column == 3 => self.continued = true,
                0x80.. => *byte = b'?',
                _ => {}
            }
            self.column += 1;
            if self.column > MAX_REPLY_LINE {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a line of the reply is too long"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_counted_by_their_last_lines_wherever_the_bytes_are_cut() {
        let mut bytes = *b"250-a\r\n250-b-c\r\n250 d\r\n354 go\r\n250\r\n55";
        for size in 1..bytes.len() {
            let mut counter = ReplyCounter::default();
            for chunk in bytes.chunks_mut(size) {
                counter.take_in(chunk).expect("short lines");
            }
            assert_eq!(counter.complete, 3, "in chunks of {size}");
        }
    }

    #[test]
    fn codes_that_lettre_does_not_know_are_kept() {
        let mut bytes = *b"571-a\r\n571 b\r\n250 671\r\n499 c\r\n";
        let mut counter = ReplyCounter::default();
        counter.take_in(&mut bytes).expect("short lines");
        assert_eq!(&bytes, b"551-a\r\n551 b\r\n250 671\r\n459 c\r\n");
        assert_eq!(counter.codes, [571, 250, 499]);
    }

    #[test]
    fn bytes_beyond_ascii_become_question_marks() {
        let mut bytes = *b"250 gr\xc3\xbc\xdf \xff\r\n";
        ReplyCounter::default().take_in(&mut bytes).expect("a short line");
        assert_eq!(&bytes, b"250 gr??? ?\r\n");
    }

    #[test]
    fn a_line_without_an_end_is_an_error() {
        let mut counter = ReplyCounter::default();
        assert!(counter.take_in(&mut [b'2'; MAX_REPLY_LINE]).is_ok());
        assert!(counter.take_in(b"2".to_vec().as_mut_slice()).is_err());
    }
}
