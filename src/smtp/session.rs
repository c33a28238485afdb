//! A session that sends mails one after the other and says exactly what it saw.
//!
//! Owns the order of commands and replies and the knowledge whether they are still in step. Does not decide what an
//! outcome means (`classify`) nor what follows from it.

mod command;
mod probe;
#[cfg(test)]
mod tests;
mod transaction;

use std::sync::atomic::{AtomicU8, Ordering};

use lettre::transport::smtp::client::AsyncSmtpConnection;
use tokio::time::{Instant, timeout};

pub use self::probe::{Offers, ProbeError};
use self::transaction::Loss;
use super::{Observer, Outgoing, Phase, Reply, greeting::Capabilities, transport::Wire};
use crate::config::Timeouts;

/// What became of one try to send a mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attempt {
    /// The server had announced a limit below the mail's size; nothing was sent.
    TooLarge {
        /// The announced limit in bytes (RFC 1870).
        limit: u64,
    },
    /// The session was lost before the final dot was handed over whole: this mail is not at the server.
    Lost {
        /// Whether it was the session's first mail.
        fresh: bool,
        /// What the server said last, where it said something: mostly a 421.
        reply: Option<Reply>,
        /// What happened, for a log.
        detail: String,
    },
    /// MAIL was refused, and so the mail for all recipients.
    MailRefused(Reply),
    /// MAIL was accepted and every RCPT was answered.
    Recipients {
        /// The reply to each RCPT, in the order of the envelope.
        replies: Vec<Reply>,
        /// What became of the message itself.
        data: Data,
    },
}

/// What became of the message for the recipients that were accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// No recipient was accepted, so no message was sent.
    NotAsked,
    /// The server refused the message before its final dot.
    Refused(Reply),
    /// The reply to the final dot: 2xx, 4xx or 5xx.
    Dot(Reply),
    /// The final dot was handed over and no readable reply came back: the server may have the mail or not.
    Unknown {
        /// What happened, for a log.
        detail: String,
    },
}

/// Where a [`Session::send`] stands, for whoever has to decide at a shutdown which session to cut first.
///
/// A dropped `send` leaves the stage that it had reached.
#[derive(Debug, Default)]
pub struct Progress(AtomicU8);

/// Where a [`Session::send`] stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// No mail is being sent.
    Idle,
    /// The final dot is not handed over yet: cutting the session leaves the mail unsent.
    BeforeDot,
    /// The final dot was handed over: cutting the session leaves the outcome unknown.
    AwaitingReply,
}

impl Progress {
    /// The stage right now.
    pub fn stage(&self) -> Stage {
        match self.0.load(Ordering::Acquire) {
            0 => Stage::Idle,
            1 => Stage::BeforeDot,
            _ => Stage::AwaitingReply,
        }
    }

    fn set(&self, stage: Stage) {
        let value = match stage {
            Stage::Idle => 0,
            Stage::BeforeDot => 1,
            Stage::AwaitingReply => 2,
        };
        self.0.store(value, Ordering::Release);
    }
}

/// Largest write buffer in bytes that a session keeps from one mail to the next.
const KEPT_BUFFER: usize = 256 * 1024;

/// An open session with the relay. Dropping it closes the connection without QUIT.
#[derive(Debug)]
pub struct Session {
    connection: Connection,
    wire: Wire,
    capabilities: Capabilities,
    timeouts: Timeouts,
    state: State,
    /// A refusal may have left a transaction open (RFC 5321 4.1.1.5).
    reset_first: bool,
    mails: u32,
    /// What is written next; kept between mails, but not when it has grown large.
    out: Vec<u8>,
    observer: Observer,
    /// The phase of the transaction, and when it began.
    phase: Option<(Phase, Instant)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Every command has had its reply.
    InStep,
    /// A command waits for its reply. A `send` that is dropped leaves this behind, and it never ends.
    Busy,
    /// Nothing more may be said on this session.
    Over,
}

/// lettre's connection has no `Debug`.
struct Connection(AsyncSmtpConnection);

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AsyncSmtpConnection")
    }
}

impl Session {
    pub(super) fn new(
        connection: AsyncSmtpConnection,
        wire: Wire,
        capabilities: Capabilities,
        timeouts: Timeouts,
        observer: Observer,
    ) -> Self {
        Self {
            connection: Connection(connection),
            wire,
            capabilities,
            timeouts,
            state: State::InStep,
            reset_first: false,
            mails: 0,
            out: Vec::new(),
            observer,
            phase: None,
        }
    }

    /// Whether another mail may be sent: false after any doubt, a 421, a missed deadline or a dropped [`Self::send`].
    pub fn is_usable(&self) -> bool {
        self.state == State::InStep && self.wire.is_in_step()
    }

    /// Mails begun on this session, refused ones included.
    pub fn mails(&self) -> u32 {
        self.mails
    }

    /// Whether no mail was begun on this session yet.
    pub fn is_fresh(&self) -> bool {
        self.mails == 0
    }

    /// Sends one mail and says what the server answered.
    ///
    /// Not to be continued after it was dropped: the session is unusable from then on, and the mail's fate depends on
    /// the [`Stage`] that `progress` shows. On a session that is not usable nothing is sent, and the mail is `Lost`
    /// with `fresh` false.
    pub async fn send(&mut self, mail: &Outgoing<'_>, progress: &Progress) -> Attempt {
        if !self.is_usable() {
            return Attempt::Lost { fresh: false, reply: None, detail: "the session was over already".to_owned() };
        }
        if let Some(limit) = self.capabilities.exceeded_by(mail.bytes().len()) {
            return Attempt::TooLarge { limit };
        }
        let fresh = self.is_fresh();
        progress.set(Stage::BeforeDot);
        self.state = State::Busy;
        let attempt = self.transaction(mail, progress).await.unwrap_or_else(|Loss { reply, detail }| {
            self.state = State::Over;
            Attempt::Lost { fresh, reply, detail }
        });
        self.leave();
        if self.state == State::Busy {
            self.state = State::InStep;
        }
        if self.out.capacity() > KEPT_BUFFER {
            self.out = Vec::new();
        }
        progress.set(Stage::Idle);
        attempt
    }

    /// One phase of a transaction ends and the next one begins.
    fn enter(&mut self, phase: Phase) {
        self.leave();
        self.phase = Some((phase, Instant::now()));
    }

    fn leave(&mut self) {
        if let Some((phase, begun)) = self.phase.take() {
            self.observer.ended(phase, begun);
        }
    }

    /// Ends the session politely, within the deadline for QUIT; one that is not usable is just closed.
    pub async fn quit(mut self) {
        if !self.is_usable() {
            return;
        }
        let farewell = async {
            self.wire.write_commands(b"QUIT\r\n").await.ok()?;
            self.connection.0.read_response().await.ok()
        };
        // Whatever comes back, the connection is closed next.
        let _ = timeout(self.timeouts.quit, farewell).await;
    }
}
