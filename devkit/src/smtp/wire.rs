//! The socket with its buffers: lines and contents in, replies out, and the count of round trips. Knows no commands.

use std::io;
use std::time::Duration;

use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::ledger::End;

const READ_AHEAD: usize = 32 * 1024;
/// A client that sends more than this while the server is busy elsewhere has to wait.
const BACKLOG: usize = 1024 * 1024;
const LONGEST_LINE: usize = 64 * 1024;
/// How long a closed connection is read from, so that unread input does not turn the close into a reset.
const LINGER: Duration = Duration::from_secs(2);

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    /// Between the two, or after a failed handshake.
    Gone,
}

pub(super) struct Wire {
    stream: Stream,
    input: Vec<u8>,
    /// How much of `input` has been used.
    used: usize,
    output: Vec<u8>,
    /// Something was written since the last read.
    wrote: bool,
    /// Round trips since they were last taken.
    pub(super) round_trips: u64,
    /// Number of the group, from 1; a group is what arrives between two waits that follow a write.
    pub(super) group: u64,
    /// Reads of this group.
    pub(super) reads: u32,
}

impl Wire {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            stream: Stream::Plain(stream),
            input: Vec::with_capacity(READ_AHEAD),
            used: 0,
            output: Vec::with_capacity(1024),
            wrote: false,
            round_trips: 0,
            group: 1,
            reads: 0,
        }
    }

    /// Bytes that have been read and not been used.
    pub(super) fn unread(&self) -> &[u8] {
        &self.input[self.used..]
    }

    pub(super) fn discard_unread(&mut self) {
        self.used = self.input.len();
    }

    pub(super) fn queue(&mut self, bytes: &[u8]) {
        self.output.extend_from_slice(bytes);
    }

    pub(super) fn has_output(&self) -> bool {
        !self.output.is_empty()
    }

    /// Hands all queued replies to the socket in one write.
    pub(super) async fn flush(&mut self) -> Result<(), End> {
        if self.output.is_empty() {
            return Ok(());
        }
        self.wrote = true;
        let result = match &mut self.stream {
            Stream::Plain(stream) => stream.write_all(&self.output).await,
            Stream::Tls(stream) => match stream.write_all(&self.output).await {
                Ok(()) => stream.flush().await,
                error => error,
            },
            Stream::Gone => Err(io::ErrorKind::NotConnected.into()),
        };
        self.output.clear();
        result.map_err(failed)
    }

    /// Reads once; the end of the stream ends the session.
    pub(super) async fn fill(&mut self) -> Result<(), End> {
        self.compact();
        match self.read().await {
            Ok(0) => Err(End::Client),
            Ok(_) => {
                self.heard();
                Ok(())
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// The client has sent something: if the server has written since it last did, that was a round trip.
    fn heard(&mut self) {
        if std::mem::take(&mut self.wrote) {
            self.round_trips += 1;
            self.group += 1;
            self.reads = 0;
        }
        self.reads += 1;
    }

    /// Waits for `until` and for the client to hang up, whichever is first; what the client sends meanwhile is kept.
    pub(super) async fn unless_closed<T>(&mut self, until: impl Future<Output = T>) -> Result<T, End> {
        tokio::pin!(until);
        loop {
            if self.unread().len() > BACKLOG {
                return Ok(until.await);
            }
            self.compact();
            tokio::select! {
                biased;
                value = &mut until => return Ok(value),
                read = self.read() => match read {
                    Ok(0) => return Err(End::Client),
                    Ok(_) => self.heard(),
                    Err(error) => return Err(failed(error)),
                },
            }
        }
    }

    async fn read(&mut self) -> io::Result<usize> {
        self.input.reserve(READ_AHEAD);
        match &mut self.stream {
            Stream::Plain(stream) => stream.read_buf(&mut self.input).await,
            Stream::Tls(stream) => stream.read_buf(&mut self.input).await,
            Stream::Gone => Ok(0),
        }
    }

    fn compact(&mut self) {
        if self.used > 0 {
            self.input.drain(..self.used);
            self.used = 0;
        }
    }

    /// The next line without its line feed, if all of it has arrived.
    pub(super) fn next_line(&mut self) -> Result<Option<Vec<u8>>, End> {
        let Some(length) = memchr::memchr(b'\n', self.unread()) else {
            return if self.unread().len() > LONGEST_LINE {
                Err(End::Failed("a command of more than 64 KiB".into()))
            } else {
                Ok(None)
            };
        };
        let line = self.unread()[..length].to_vec();
        self.used += length + 1;
        Ok(Some(line))
    }

    /// The content up to its final dot, without dot-stuffing (RFC 5321 4.5.2).
    pub(super) async fn content(&mut self) -> Result<Vec<u8>, End> {
        let mut searched = 0;
        loop {
            if self.unread().starts_with(b".\r\n") {
                self.used += 3;
                return Ok(Vec::new());
            }
            if let Some(at) = memmem::find(&self.unread()[searched..], b"\r\n.\r\n") {
                let end = searched + at + 2;
                let content = unstuff(&self.unread()[..end]);
                self.used += end + 3;
                return Ok(content);
            }
            searched = self.unread().len().saturating_sub(4);
            self.fill().await?;
        }
    }

    /// The server's side of a TLS handshake.
    pub(super) async fn encrypt(&mut self, acceptor: &TlsAcceptor) -> Result<(), End> {
        let Stream::Plain(stream) = std::mem::replace(&mut self.stream, Stream::Gone) else {
            return Err(End::Failed("a handshake on an encrypted connection".into()));
        };
        self.stream = Stream::Tls(Box::new(acceptor.accept(stream).await.map_err(failed)?));
        self.heard();
        Ok(())
    }

    /// Closes the server's side, then waits a moment for the client to do the same.
    pub(super) async fn close(mut self) {
        let closing = async {
            let shutdown = match &mut self.stream {
                Stream::Plain(stream) => stream.shutdown().await,
                Stream::Tls(stream) => stream.shutdown().await,
                Stream::Gone => return,
            };
            if shutdown.is_ok() {
                while self.read().await.is_ok_and(|count| count > 0) {
                    self.input.clear();
                }
            }
        };
        // The client may leave its side open: its loss, not ours.
        let _ = timeout(LINGER, closing).await;
    }

    /// Closes by a TCP reset.
    pub(super) fn reset(self) {
        let socket = match &self.stream {
            Stream::Plain(stream) => stream,
            Stream::Tls(stream) => stream.get_ref().0,
            Stream::Gone => return,
        };
        // If it cannot be set the connection is closed in order, which a test for a reset will notice.
        let _ = socket.set_zero_linger();
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn failed(error: io::Error) -> End {
    End::Failed(error.to_string())
}

fn unstuff(stuffed: &[u8]) -> Vec<u8> {
    let mut content = Vec::with_capacity(stuffed.len());
    let mut rest = stuffed.strip_prefix(b".").unwrap_or(stuffed);
    while let Some(at) = memmem::find(rest, b"\r\n.") {
        content.extend_from_slice(&rest[..at + 2]);
        rest = &rest[at + 3..];
    }
    content.extend_from_slice(rest);
    content
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stuffed_dots_are_taken_off() {
        assert_eq!(unstuff(b"..\r\na.b\r\n..c\r\n...\r\n\r\n"), b".\r\na.b\r\n.c\r\n..\r\n\r\n");
        assert_eq!(unstuff(b"no dots\r\n"), b"no dots\r\n");
        assert_eq!(unstuff(b""), b"");
    }
}
