//! One connection: reads commands, performs actions, writes the replies of a pipelined group at once. What each command
//! means is in [`verbs`](super::verbs).

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::action::{code_of, reply};
use super::books::Books;
use super::ledger::{End, Side};
use super::rule::Context;
use super::server::Shared;
use super::tls::Mode;
use super::wire::Wire;
use super::{Action, Command};

pub(super) struct Session {
    pub(super) books: Books,
    pub(super) wire: Wire,
    /// The banner was no 2xx: only QUIT is left (RFC 5321 3.1).
    pub(super) no_service: bool,
    pub(super) greeted: bool,
    pub(super) transaction: Option<Transaction>,
    /// Transactions begun, or refused at MAIL.
    pub(super) transactions: u64,
    pub(super) mails: u64,
    /// Commands of the group that is being read.
    pub(super) group_commands: u32,
    group: u64,
    reset: bool,
}

#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) sender: String,
    pub(super) parameters: String,
    pub(super) recipients: Vec<String>,
    pub(super) eight_bit: bool,
    pub(super) utf8: bool,
}

impl Session {
    pub(super) fn new(shared: Arc<Shared>, number: u64, stream: TcpStream) -> Self {
        Self {
            books: Books::new(shared, number),
            wire: Wire::new(stream),
            no_service: false,
            greeted: false,
            transaction: None,
            transactions: 0,
            mails: 0,
            group_commands: 0,
            group: 1,
            reset: false,
        }
    }

    pub(super) async fn run(mut self) {
        let Err(end) = self.dialog().await;
        self.end(end).await;
    }

    /// One connection too many.
    pub(super) async fn turn_away(mut self) {
        let bytes = self.status(421, "4.7.0", "too many connections");
        self.send(&bytes);
        let end = self.flush().await.err().unwrap_or(End::Server);
        self.end(end).await;
    }

    async fn end(mut self, end: End) {
        self.books.round_trips(std::mem::take(&mut self.wire.round_trips));
        self.books.close(end);
        if self.reset {
            self.wire.reset();
        } else {
            self.wire.close().await;
        }
    }

    async fn dialog(&mut self) -> Result<Infallible, End> {
        if self.shared().options.tls == Mode::Implicit {
            self.handshake().await?;
        }
        let banner = reply(220, "", "localhost ESMTP devkit");
        let code = self.answer(Command::Banner, "", None, &banner).await?;
        self.no_service = !matches!(code, Some(200..=299));
        loop {
            let line = self.line().await?;
            self.command(&line).await?;
        }
    }

    /// The next line of the client without its line end. All queued replies go out before the server waits for it.
    pub(super) async fn line(&mut self) -> Result<String, End> {
        let mut line = loop {
            if let Some(line) = self.wire.next_line()? {
                break line;
            }
            self.flush().await?;
            match self.shared().options.idle_timeout {
                None => self.wire.fill().await?,
                Some(limit) => {
                    let Ok(filled) = timeout(limit, self.wire.fill()).await else {
                        let bytes = self.status(421, "4.4.2", "idle for too long");
                        self.send(&bytes);
                        self.flush().await?;
                        return Err(End::Server);
                    };
                    filled?;
                }
            }
        };
        if line.pop_if(|byte| *byte == b'\r').is_none() {
            self.books.violation("a command that ends in a bare LF");
        }
        if self.group != self.wire.group {
            (self.group, self.group_commands) = (self.wire.group, 0);
        }
        self.group_commands += 1;
        let line =
            String::from_utf8(line).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
        self.books.line(Side::Client, self.group, || line.clone());
        Ok(line)
    }

    /// Answers a command as the script says, by default with these bytes. Returns the code of the answer.
    pub(super) async fn answer(
        &mut self,
        command: Command,
        line: &str,
        recipient: Option<&str>,
        default: &[u8],
    ) -> Result<Option<u16>, End> {
        self.books.count(command);
        let latency = self.shared().options.latency[command.index()];
        if latency > Duration::ZERO {
            self.pause(command, latency).await?;
        }
        if self.shared().is_held(command) {
            self.flush().await?;
            self.books.hold(true);
            let shared = Arc::clone(&self.books.shared);
            let released = self.wait(command, shared.released(command)).await;
            self.books.hold(false);
            released?;
        }
        if !self.shared().is_scripted() {
            return Ok(self.send(default));
        }
        let action = self.shared().action(&Context {
            command,
            line,
            connection: self.books.session,
            transaction: self.transactions,
            sender: self.transaction.as_ref().map(|transaction| transaction.sender.as_str()),
            recipient,
            recipients: self.transaction.as_ref().map_or(&[], |transaction| &transaction.recipients),
            mail: self.books.mail(),
            tls: self.books.tls(),
            user: self.books.user(),
        });
        let code = self.perform(command, action, default).await?;
        if code == Some(421) {
            self.flush().await?;
            return Err(End::Server);
        }
        Ok(code)
    }

    async fn perform(&mut self, command: Command, action: Action, default: &[u8]) -> Result<Option<u16>, End> {
        let mut answer = None;
        let mut steps = vec![action];
        while let Some(step) = steps.pop() {
            match step {
                Action::Accept => answer = answer.or(self.send(default)),
                Action::Send(bytes) => answer = answer.or(self.send(&bytes)),
                Action::Drip(bytes, interval) => answer = answer.or(self.drip(&bytes, interval).await?),
                Action::Delay(pause, then) => {
                    self.pause(command, pause).await?;
                    steps.push(*then);
                }
                Action::Sequence(actions) => steps.extend(actions.into_iter().rev()),
                Action::Silence(limit) => {
                    self.flush().await?;
                    // Far beyond any test where there is no limit.
                    let silence = sleep(limit.unwrap_or(Duration::from_secs(365 * 24 * 3600)));
                    self.wait(command, silence).await?;
                    return Err(End::Server);
                }
                Action::HangUp => {
                    self.flush().await?;
                    return Err(End::Server);
                }
                Action::Reset => {
                    self.flush().await?;
                    self.reset = true;
                    return Err(End::Server);
                }
                Action::TakeAndHangUp => {
                    self.books.decide(Some(250), false);
                    self.flush().await?;
                    return Err(End::Server);
                }
            }
        }
        Ok(answer)
    }

    async fn pause(&mut self, command: Command, pause: Duration) -> Result<(), End> {
        self.flush().await?;
        self.wait(command, sleep(pause)).await
    }

    /// Waits, and notices when the client hangs up: except before a handshake, as what it sends is for that.
    async fn wait(&mut self, command: Command, until: impl Future<Output = ()>) -> Result<(), End> {
        if command == Command::Handshake {
            until.await;
            Ok(())
        } else {
            self.wire.unless_closed(until).await
        }
    }

    /// Queues a reply and returns its code.
    pub(super) fn send(&mut self, bytes: &[u8]) -> Option<u16> {
        let code = code_of(bytes);
        self.books.decide(code, true);
        self.books.reply(self.wire.group, bytes);
        self.wire.queue(bytes);
        code
    }

    async fn drip(&mut self, bytes: &[u8], interval: Duration) -> Result<Option<u16>, End> {
        self.flush().await?;
        let code = code_of(bytes);
        self.books.decide(code, true);
        self.books.reply(self.wire.group, bytes);
        self.books.publish();
        for byte in bytes {
            self.wire.unless_closed(sleep(interval)).await?;
            self.wire.queue(&[*byte]);
            self.wire.flush().await?;
        }
        self.books.sent();
        Ok(code)
    }

    /// Hands all queued replies to the socket; the ledger knows before the client does.
    pub(super) async fn flush(&mut self) -> Result<(), End> {
        self.books.round_trips(std::mem::take(&mut self.wire.round_trips));
        self.books.publish();
        self.wire.flush().await?;
        self.books.sent();
        Ok(())
    }

    pub(super) async fn handshake(&mut self) -> Result<(), End> {
        self.flush().await?;
        self.answer(Command::Handshake, "", None, b"").await?;
        if self.wire.has_output() {
            self.flush().await?;
            return Err(End::Server);
        }
        let shared = Arc::clone(&self.books.shared);
        if let Some(tls) = &shared.tls {
            self.wire.encrypt(&tls.acceptor).await?;
        }
        self.books.secured();
        (self.greeted, self.transaction) = (false, None);
        Ok(())
    }

    /// A default reply: with its enhanced code where EHLO names them.
    pub(super) fn status(&self, code: u16, enhanced: &str, text: &str) -> Vec<u8> {
        let enhanced = if self.shared().options.enhanced_status_codes { enhanced } else { "" };
        reply(code, enhanced, text)
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.books.shared
    }
}
