//! What a session is good for, found out without a mail.
//!
//! Owns asking. What follows from an answer is for whoever asked: nothing here is used while mails are sent.

use lettre::Address;

use super::{Session, State, command::Command, transaction::Loss};
use crate::smtp::{Certificate, Reply};

/// What the server offers after TLS, if any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offers {
    /// Commands may be sent in groups (RFC 2920).
    pub pipelining: bool,
    /// The largest mail in bytes, where the server names a limit (RFC 1870).
    pub size_limit: Option<u64>,
    /// Bodies beyond ASCII go as they are (RFC 6152).
    pub eight_bit_mime: bool,
    /// What is said cannot be read on the way.
    pub encrypted: bool,
}

/// Why a session is not good for mails.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// The server refused a command.
    #[error("the server answered {reply} to {command}")]
    Refused {
        /// The command.
        command: &'static str,
        /// What it said.
        reply: Reply,
    },
    /// No usable reply came, and the session is over.
    #[error("{0}")]
    Lost(String),
}

impl From<Loss> for ProbeError {
    fn from(loss: Loss) -> Self {
        Self::Lost(loss.detail)
    }
}

impl Session {
    /// What the server offers.
    pub fn offers(&self) -> Offers {
        Offers {
            pipelining: self.capabilities.pipelining,
            size_limit: self.capabilities.size_limit,
            eight_bit_mime: self.capabilities.eight_bit_mime,
            encrypted: self.wire.certificate().is_some(),
        }
    }

    /// The certificate that the server showed; `None` without TLS, and where it cannot be read.
    pub fn certificate(&self) -> Option<Certificate> {
        Certificate::parse(&self.wire.certificate()?)
    }

    /// Begins a transaction for this sender, if one is given, and takes it back with RSET: no mail is sent.
    ///
    /// # Errors
    ///
    /// [`ProbeError::Refused`] where the server refuses a command, [`ProbeError::Lost`] where it gives no usable answer.
    pub async fn probe(&mut self, from: Option<&Address>) -> Result<(), ProbeError> {
        if !self.is_usable() {
            return Err(ProbeError::Lost("the session was over already".to_owned()));
        }
        let mail = from.map(|from| Command::Mail { from: Some(from), size: None, eight_bit: false });
        self.state = State::Busy;
        for command in mail.into_iter().chain([Command::Reset]) {
            let answered = self.answered(command).await;
            if answered.is_err() {
                self.state = State::Over;
            }
            let reply = answered?;
            if !reply.is_positive() {
                self.reset_first = true;
                self.state = if reply.is_negative() && reply.code != 421 { State::InStep } else { State::Over };
                return Err(ProbeError::Refused { command: command.name(), reply });
            }
        }
        self.state = State::InStep;
        Ok(())
    }

    async fn answered(&mut self, command: Command<'_>) -> Result<Reply, Loss> {
        self.write([command]).await?;
        self.reply(command.name(), self.timeouts.command).await
    }
}
