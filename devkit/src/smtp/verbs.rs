//! What each command means: the default answers of RFC 5321 and what the session remembers of them.

use std::fmt::Write;
use std::mem;

use tokio::time::Instant;

use super::envelope::{Path, fault};
use super::ledger::{End, Side};
use super::mail::message_id;
use super::session::{Session, Transaction};
use super::tls::Mode;
use super::{Command, Group, Mail, auth};

impl Session {
    pub(super) async fn command(&mut self, line: &str) -> Result<(), End> {
        let command = Command::of_line(line.as_bytes());
        self.check_group(command);
        if self.no_service && command != Command::Quit {
            let bytes = self.status(503, "5.5.1", "no service here");
            self.answer(command, line, None, &bytes).await?;
            return Ok(());
        }
        match command {
            Command::Ehlo | Command::Helo => self.hello(command, line).await,
            Command::StartTls => self.start_tls(line).await,
            Command::Auth => self.auth(line).await,
            Command::Mail => self.mail(line).await,
            Command::Rcpt => self.rcpt(line).await,
            Command::Data => self.data(line).await,
            Command::Rset => {
                let bytes = self.status(250, "2.0.0", "forgotten");
                let code = self.answer(command, line, None, &bytes).await?;
                if positive(code) {
                    self.transaction = None;
                }
                Ok(())
            }
            Command::Quit => {
                let bytes = self.status(221, "2.0.0", "bye");
                self.answer(command, line, None, &bytes).await?;
                self.flush().await?;
                Err(End::Quit)
            }
            Command::Noop => {
                let bytes = self.status(250, "2.0.0", "fine");
                self.answer(command, line, None, &bytes).await.map(drop)
            }
            Command::Banner | Command::Handshake | Command::Body | Command::Dot | Command::Other => {
                let bytes = self.status(500, "5.5.2", "unknown command");
                self.answer(Command::Other, line, None, &bytes).await.map(drop)
            }
        }
    }

    /// RFC 2920: pipelining only where it is offered, and some commands only at the end of a group.
    fn check_group(&mut self, command: Command) {
        if self.group_commands > 1 && !(self.greeted && self.shared().options.pipelining) {
            self.books.violation("pipelining that was not offered");
        }
        if command.ends_group() && !self.wire.unread().is_empty() {
            self.books.violation(&format!("{command:?} is not the last of its group"));
        }
    }

    async fn hello(&mut self, command: Command, line: &str) -> Result<(), End> {
        let bytes = if command == Command::Helo { b"250 localhost\r\n".to_vec() } else { self.keywords() };
        let code = self.answer(command, line, None, &bytes).await?;
        if positive(code) {
            (self.greeted, self.transaction) = (true, None);
        }
        Ok(())
    }

    fn keywords(&self) -> Vec<u8> {
        let options = &self.shared().options;
        let mut lines = Vec::new();
        for (offered, keyword) in [
            (options.pipelining, "PIPELINING"),
            (options.eight_bit_mime, "8BITMIME"),
            (options.smtputf8, "SMTPUTF8"),
            (options.enhanced_status_codes, "ENHANCEDSTATUSCODES"),
            (options.tls == Mode::StartTls && !self.books.tls(), "STARTTLS"),
        ] {
            if offered {
                lines.push(keyword.to_owned());
            }
        }
        lines.extend(options.size.map(|size| format!("SIZE {size}")));
        if options.login.is_some() {
            lines.push(format!("AUTH {}", options.mechanisms.join(" ")));
        }
        lines.extend(options.keywords.iter().cloned());
        let mut text = "localhost".to_owned();
        for line in lines {
            let line = if options.lower_case_keywords { line.to_lowercase() } else { line };
            // Writing to a String cannot fail.
            let _ = write!(text, "\n{line}");
        }
        super::action::reply(250, "", &text)
    }

    async fn start_tls(&mut self, line: &str) -> Result<(), End> {
        let offered = self.shared().options.tls == Mode::StartTls;
        let mut bytes = match (offered, self.books.tls()) {
            (true, false) => self.status(220, "2.0.0", "begin"),
            (true, true) => self.status(503, "5.5.1", "encrypted already"),
            (false, _) => self.status(502, "5.5.1", "not offered"),
        };
        let begins = bytes.starts_with(b"220");
        if begins {
            bytes.extend_from_slice(&self.shared().options.inject_after_starttls);
        }
        let code = self.answer(Command::StartTls, line, None, &bytes).await?;
        // By whatever was injected the last line may have another code.
        if offered
            && !self.books.tls()
            && (begins && !self.shared().options.inject_after_starttls.is_empty() || code == Some(220))
        {
            self.wire.discard_unread();
            self.handshake().await?;
        }
        Ok(())
    }

    async fn auth(&mut self, line: &str) -> Result<(), End> {
        let mut words = line.split(' ').skip(1);
        let mechanism = words.next().unwrap_or_default().to_ascii_uppercase();
        let initial = words.next().map(str::to_owned);
        let expected = self.shared().options.login.clone();
        let known = self.shared().options.mechanisms.contains(&mechanism);
        let bytes = if expected.is_none() {
            self.status(502, "5.5.1", "not offered")
        } else if !self.greeted || self.books.user().is_some() || self.transaction.is_some() {
            self.status(503, "5.5.1", "not now")
        } else if !known || !matches!(mechanism.as_str(), "PLAIN" | "LOGIN") {
            self.status(504, "5.5.4", "unknown mechanism")
        } else {
            let given = if mechanism == "PLAIN" {
                let response = self.response(initial, "").await?;
                auth::plain(&response)
            } else {
                let user = self.response(initial, "Username:").await?;
                let password = self.response(None, "Password:").await?;
                auth::text(&user).zip(auth::text(&password))
            };
            match given {
                None => self.status(501, "5.5.2", "cannot be decoded"),
                Some(given) if Some(&given) == expected.as_ref() => self.status(235, "2.7.0", "welcome"),
                Some(_) => self.status(535, "5.7.8", "wrong user or password"),
            }
        };
        let code = self.answer(Command::Auth, line, None, &bytes).await?;
        if let (Some(235), Some((user, _))) = (code, expected) {
            self.books.logged_in(user);
        }
        Ok(())
    }

    /// The initial response, or the answer to a challenge.
    async fn response(&mut self, initial: Option<String>, prompt: &str) -> Result<String, End> {
        if let Some(response) = initial {
            return Ok(response);
        }
        self.send(&auth::challenge(prompt));
        self.line().await
    }

    async fn mail(&mut self, line: &str) -> Result<(), End> {
        self.transactions += 1;
        let options = &self.shared().options;
        let path = Path::parse(line, "MAIL FROM:");
        let bytes = if !self.greeted {
            self.status(503, "5.5.1", "EHLO first")
        } else if self.transaction.is_some() {
            self.status(503, "5.5.1", "a transaction is open")
        } else if options.require_tls && !self.books.tls() {
            self.status(530, "5.7.0", "STARTTLS first")
        } else if options.require_auth && self.books.user().is_none() {
            self.status(530, "5.7.0", "AUTH first")
        } else {
            let size: Option<usize> = path.as_ref().and_then(|path| path.parameter("SIZE")?.parse().ok());
            match (&path, options.size, size) {
                (None, ..) => self.status(501, "5.5.4", "MAIL FROM:<address>"),
                (_, Some(most), Some(size)) if size > most => self.status(552, "5.3.4", "too large"),
                _ => self.status(250, "2.1.0", "fine"),
            }
        };
        if let Some(path) = &path {
            self.check_path(path);
        }
        // Rules see the sender already; it stays only if they agree.
        let open = self.transaction.is_some();
        if let (Some(path), false) = (&path, open) {
            self.transaction = Some(Transaction {
                sender: path.address.to_owned(),
                parameters: path.parameters.to_owned(),
                recipients: Vec::new(),
                eight_bit: path.parameter("BODY").is_some_and(|body| body.eq_ignore_ascii_case("8BITMIME")),
            });
        }
        let code = self.answer(Command::Mail, line, None, &bytes).await?;
        if !open && !positive(code) {
            self.transaction = None;
        }
        Ok(())
    }

    fn check_path(&mut self, path: &Path<'_>) {
        let options = &self.shared().options;
        let unknown =
            [("SIZE", options.size.is_some()), ("BODY", options.eight_bit_mime), ("SMTPUTF8", options.smtputf8)]
                .into_iter()
                .find(|&(name, offered)| !offered && path.parameter(name).is_some());
        if let Some((name, _)) = unknown {
            self.books.violation(&format!("the parameter {name}, which was not offered"));
        }
        if path.spaced {
            self.books.violation("a space before a path");
        }
    }

    async fn rcpt(&mut self, line: &str) -> Result<(), End> {
        let path = Path::parse(line, "RCPT TO:").filter(|path| !path.address.is_empty());
        let bytes = match (&self.transaction, &path) {
            (None, _) => self.status(503, "5.5.1", "MAIL first"),
            (_, None) => self.status(501, "5.5.4", "RCPT TO:<address>"),
            _ => self.status(250, "2.1.5", "fine"),
        };
        if path.as_ref().is_some_and(|path| path.spaced) {
            self.books.violation("a space before a path");
        }
        let address = path.map(|path| path.address);
        let code = self.answer(Command::Rcpt, line, address, &bytes).await?;
        if let (true, Some(transaction), Some(address)) = (positive(code), &mut self.transaction, address) {
            transaction.recipients.push(address.to_owned());
        }
        Ok(())
    }

    async fn data(&mut self, line: &str) -> Result<(), End> {
        let group = Group { commands: self.group_commands, reads: self.wire.reads };
        let bytes = match &self.transaction {
            None => self.status(503, "5.5.1", "MAIL first"),
            Some(transaction) if transaction.recipients.is_empty() => self.status(554, "5.5.1", "no valid recipients"),
            Some(_) => super::action::reply(354, "", "go on"),
        };
        if self.answer(Command::Data, line, None, &bytes).await? != Some(354) {
            return Ok(());
        }
        self.flush().await?;
        self.answer(Command::Body, "", None, b"").await?;
        self.flush().await?;
        let raw = self.wire.content().await?;
        self.dot(raw, group).await
    }

    async fn dot(&mut self, raw: Vec<u8>, group: Group) -> Result<(), End> {
        let number = self.wire.group;
        self.books.line(Side::Client, number, || format!("<{} octets>", raw.len()));
        self.books.line(Side::Client, number, || ".".into());
        self.mails += 1;
        let too_large = self.shared().options.size.is_some_and(|most| raw.len() > most);
        let transaction = self.transaction.as_mut();
        let eight_bit = transaction.as_ref().is_some_and(|transaction| transaction.eight_bit);
        let nobody = transaction.as_ref().is_none_or(|transaction| transaction.recipients.is_empty());
        // A client may send nothing but the dot to recipients who were all refused.
        if let Some(fault) = fault(&raw, eight_bit) {
            self.books.violation(fault);
        }
        let bytes = if nobody {
            self.status(554, "5.5.1", "no valid recipients")
        } else if too_large {
            self.status(552, "5.3.4", "too large")
        } else {
            self.status(250, "2.0.0", &format!("queued as {}.{}", self.books.session, self.mails))
        };
        let mail = Mail {
            sequence: 0,
            at: Instant::now(),
            connection: self.books.session,
            from: self.transaction.as_ref().map(|transaction| transaction.sender.clone()).unwrap_or_default(),
            parameters: self
                .transaction
                .as_mut()
                .map(|transaction| mem::take(&mut transaction.parameters))
                .unwrap_or_default(),
            recipients: self.transaction.as_ref().map(|transaction| transaction.recipients.clone()).unwrap_or_default(),
            size: raw.len(),
            message_id: message_id(&raw),
            raw,
            code: None,
            group,
            tls: self.books.tls(),
            user: self.books.user().map(str::to_owned),
            answered: std::sync::Arc::default(),
        };
        self.books.arrived(mail);
        self.answer(Command::Dot, "", None, &bytes).await?;
        // Still there where the script gave no answer at all.
        self.books.decide(None, false);
        self.transaction = None;
        if self.shared().options.max_mails.is_some_and(|most| self.mails >= most) {
            self.flush().await?;
            return Err(End::Server);
        }
        Ok(())
    }
}

fn positive(code: Option<u16>) -> bool {
    matches!(code, Some(200..=299))
}
