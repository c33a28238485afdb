//! One mail transaction: which command follows which reply, and what each reply says about the mail.
//!
//! An `Err` ends the session. An `Ok` is the mail's outcome, and the session goes on unless its state says `Over`.

use std::{io::Write as _, time::Duration};

use tokio::time::timeout;

use super::{
    Attempt, Data, Progress, Session, Stage, State,
    command::{Command, put_body},
};
use crate::smtp::{Outgoing, Phase, Reply, reply::clean};

/// Bytes of a message for which the deadline of the body stands once.
const BODY_STEP: usize = 64 * 1024;

/// The session is lost; what was known of it then.
pub(super) struct Loss {
    pub reply: Option<Reply>,
    pub detail: String,
}

impl Loss {
    fn new(detail: impl Into<String>) -> Self {
        Self { reply: None, detail: detail.into() }
    }

    fn answered(command: &str, reply: Reply) -> Self {
        Self { detail: format!("the server answered {} to {command}", reply.code), reply: Some(reply) }
    }
}

impl Session {
    pub(super) async fn transaction(&mut self, mail: &Outgoing<'_>, progress: &Progress) -> Result<Attempt, Loss> {
        let fresh = self.is_fresh();
        self.enter(Phase::Envelope);
        let reset = self.reset_first.then_some(Command::Reset);
        let begin = self.begin(mail);
        let recipients = mail.recipients();
        self.mails = self.mails.saturating_add(1);

        if self.capabilities.pipelining {
            let others = recipients.iter().map(Command::Recipient).chain([Command::Data]);
            self.write(reset.into_iter().chain([begin]).chain(others)).await?;
        }
        if let Some(reset) = reset {
            let reply = self.ask(reset).await?;
            if !reply.is_positive() {
                return Err(Loss::answered("RSET", reply));
            }
            self.reset_first = false;
        }

        let reply = self.ask(begin).await?;
        match reply.code {
            421 if fresh => self.state = State::Over,
            421 => return Err(Loss::answered("MAIL", reply)),
            _ if reply.is_negative() => self.skip_after_mail(recipients.len()).await,
            _ if reply.is_positive() => return self.recipients(mail, progress).await,
            _ => return Err(Loss::answered("MAIL", reply)),
        }
        Ok(Attempt::MailRefused(reply))
    }

    async fn recipients(&mut self, mail: &Outgoing<'_>, progress: &Progress) -> Result<Attempt, Loss> {
        let mut replies = Vec::with_capacity(mail.recipients().len());
        for recipient in mail.recipients() {
            let reply = self.ask(Command::Recipient(recipient)).await?;
            if reply.code == 421 || !(reply.is_positive() || reply.is_negative()) {
                return Err(Loss::answered("RCPT", reply));
            }
            replies.push(reply);
        }
        let data = if replies.iter().any(Reply::is_positive) {
            self.data(mail, progress).await?
        } else {
            self.skip_after_recipients().await;
            Data::NotAsked
        };
        Ok(Attempt::Recipients { replies, data })
    }

    async fn data(&mut self, mail: &Outgoing<'_>, progress: &Progress) -> Result<Data, Loss> {
        self.enter(Phase::Data);
        let reply = self.ask(Command::Data).await?;
        match reply.code {
            354 => self.body(mail, progress).await,
            421 => Err(Loss::answered("DATA", reply)),
            _ if reply.is_negative() => {
                self.reset_first = true;
                Ok(Data::Refused(reply))
            }
            _ => Err(Loss::answered("DATA", reply)),
        }
    }

    async fn body(&mut self, mail: &Outgoing<'_>, progress: &Progress) -> Result<Data, Loss> {
        if !self.wire.is_in_step() {
            // The next reply could be taken for the one to the dot.
            return Err(Loss::new("the server answered before the message was sent"));
        }
        self.enter(Phase::Body);
        self.out.clear();
        put_body(mail.bytes(), &mut self.out);
        let steps = u32::try_from(self.out.len().div_ceil(BODY_STEP)).unwrap_or(u32::MAX);
        let deadline = self.timeouts.body.saturating_mul(steps);
        match timeout(deadline, self.wire.hand_over_body(&self.out)).await {
            Ok(Ok(())) => progress.set(Stage::AwaitingReply),
            Ok(Err(error)) => return self.cut_off(&error.to_string()).await,
            Err(_) => return Err(Loss::new(format!("the message was not taken within {deadline:?}"))),
        }

        // From here on the server may have the mail: whatever is not a clear reply is an unknown outcome.
        let unknown = |session: &mut Self, detail| {
            session.state = State::Over;
            Ok(Data::Unknown { detail })
        };
        match timeout(deadline, self.wire.flush()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return unknown(self, format!("the end of the message was not sent: {error}")),
            Err(_) => return unknown(self, format!("the end of the message was not sent within {deadline:?}")),
        }
        self.enter(Phase::FinalDot);
        match self.reply("the final dot", self.timeouts.final_dot).await {
            Ok(reply) if reply.is_positive() => Ok(Data::Dot(reply)),
            Ok(reply) if reply.is_negative() => {
                self.reset_first = true;
                if reply.code == 421 {
                    self.state = State::Over;
                }
                Ok(Data::Dot(reply))
            }
            Ok(reply) => unknown(self, format!("the server answered {} to the final dot", reply.code)),
            Err(Loss { detail, .. }) => unknown(self, detail),
        }
    }

    /// The server stopped reading in the middle of the message. Where it said why before it hung up, that is its
    /// refusal; the dot never reached it.
    async fn cut_off(&mut self, error: &str) -> Result<Data, Loss> {
        match self.reply("the message", self.timeouts.quit).await {
            Ok(reply) if reply.is_negative() && reply.code != 421 => {
                self.state = State::Over;
                Ok(Data::Refused(reply))
            }
            Ok(reply) => Err(Loss::answered("the message", reply)),
            Err(_) => Err(Loss::new(format!("the message was not taken whole: {error}"))),
        }
    }

    /// Reads what a group still brings after its MAIL was refused. A server that asks for a message all the same gets
    /// none: were a recipient accepted, it would be an empty one.
    async fn skip_after_mail(&mut self, recipients: usize) {
        self.reset_first = true;
        if !self.capabilities.pipelining {
            return;
        }
        let deadline = self.timeouts.command;
        let rest = async {
            for _ in 0..=recipients {
                let reply = self.reply("a command after MAIL", deadline).await.ok()?;
                if !(reply.is_positive() || reply.is_negative()) || reply.code == 421 {
                    return None;
                }
            }
            Some(())
        };
        if timeout(deadline, rest).await.ok().flatten().is_none() {
            self.state = State::Over;
        }
    }

    /// Reads the reply to DATA where no recipient was accepted; should it be 354, a dot alone ends the message
    /// (RFC 2920 3.1), and what the server says to that means nothing.
    async fn skip_after_recipients(&mut self) {
        self.reset_first = true;
        if !self.capabilities.pipelining {
            return;
        }
        let in_step = match self.reply("DATA", self.timeouts.data).await {
            Ok(reply) if reply.code == 354 => self.dot_alone().await,
            Ok(reply) => reply.is_negative() && reply.code != 421,
            Err(_) => false,
        };
        if !in_step {
            self.state = State::Over;
        }
    }

    async fn dot_alone(&mut self) -> bool {
        let deadline = self.timeouts.command;
        let written = timeout(deadline, self.wire.write_commands(b".\r\n")).await;
        matches!(written, Ok(Ok(()))) && self.reply("the lone dot", deadline).await.is_ok_and(|reply| reply.code != 421)
    }

    fn begin<'a>(&self, mail: &Outgoing<'a>) -> Command<'a> {
        Command::Mail {
            from: mail.from(),
            size: self.capabilities.size.then(|| mail.bytes().len()),
            eight_bit: self.capabilities.eight_bit_mime && !mail.bytes().is_ascii(),
        }
    }

    /// Asks one command and waits for its reply; in a pipelined group it was written before.
    async fn ask(&mut self, command: Command<'_>) -> Result<Reply, Loss> {
        if !self.capabilities.pipelining {
            self.write([command]).await?;
        }
        let deadline = match command {
            Command::Data => self.timeouts.data,
            Command::Reset | Command::Mail { .. } | Command::Recipient(_) => self.timeouts.command,
        };
        self.reply(command.name(), deadline).await
    }

    /// Writes commands at once.
    pub(super) async fn write<'a>(&mut self, commands: impl IntoIterator<Item = Command<'a>>) -> Result<(), Loss> {
        self.out.clear();
        for command in commands {
            write!(self.out, "{command}").expect("a Vec takes every write");
        }
        let deadline = self.timeouts.command;
        match timeout(deadline, self.wire.write_commands(&self.out)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                // The server may have said why before it hung up.
                let reply = self.reply("a command", self.timeouts.quit).await.ok().filter(Reply::is_negative);
                Err(Loss { reply, detail: format!("a command was not sent: {error}") })
            }
            Err(_) => Err(Loss::new(format!("a command was not sent within {deadline:?}"))),
        }
    }

    pub(super) async fn reply(&mut self, to: &str, deadline: Duration) -> Result<Reply, Loss> {
        let mut reply = match timeout(deadline, self.connection.0.read_response()).await {
            Ok(Ok(response)) => Reply::from_response(&response),
            Ok(Err(error)) => Reply::from_error(&error)
                .ok_or_else(|| Loss::new(format!("no readable reply to {to}: {}", clean(&error.to_string()))))?,
            Err(_) => return Err(Loss::new(format!("no reply to {to} within {deadline:?}"))),
        };
        if let Some(code) = self.wire.next_code().filter(|code| code / 100 == reply.code / 100) {
            reply.code = code;
        }
        Ok(reply)
    }
}
