//! What each command means: the default answers of RFC 5321 and what the session remembers of them.

use std::fmt::Write;
use std::sync::Arc;

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
        let can_begin = offered && !self.books.tls();
        let injects = can_begin && !self.shared().options.inject_after_starttls.is_empty();
        if injects {
            bytes.extend_from_slice(&self.shared().options.inject_after_starttls);
        }
        let code = self.answer(Command::StartTls, line, None, &bytes).await?;
        // What is injected hides the code of the answer before it.
        if injects || can_begin && code == Some(220) {
            self.wire.discard_unread();
            self.handshake().await?;
        }
        Ok(())
    }

    async fn auth(&mut self, line: &str) -> Result<(), End> {
        let mut words = line.split(' ').skip(1);
        let mechanism = words.next().unwrap_or_default().to_ascii_uppercase();
        let initial = words.next().map(str::to_owned);
        let expected = self.shared().login();
        let known = self.shared().options.mechanisms.contains(&mechanism);
        let bytes = if expected.is_none() {
            self.status(502, "5.5.1", "not offered")
        } else if !self.greeted || self.books.user().is_some() || self.transaction.is_some() {
            self.status(503, "5.5.1", "not now")
        } else if !known || !matches!(mechanism.as_str(), "PLAIN" | "LOGIN" | "XOAUTH2" | "OAUTHBEARER") {
            self.status(504, "5.5.4", "unknown mechanism")
        } else {
            let given = match mechanism.as_str() {
                "PLAIN" => auth::plain(&self.response(initial, "").await?),
                "LOGIN" => {
                    let user = self.response(initial, "Username:").await?;
                    let password = self.response(None, "Password:").await?;
                    auth::text(&user).zip(auth::text(&password))
                }
                _ => auth::bearer(&self.response(initial, "").await?),
            };
            if mechanism.contains("OAUTH") && given.is_some() && given != expected {
                // says why, and takes an answer that says nothing before it refuses
                self.response(None, auth::TOKEN_REFUSED).await?;
            }
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
            self.check_parameters(path);
            self.check_path(path, path.parameter("SMTPUTF8").is_some());
        }
        // Rules see the sender already; it stays only if they agree.
        let open = self.transaction.is_some();
        if let (Some(path), false) = (&path, open) {
            self.transaction = Some(Transaction {
                sender: path.address.to_owned(),
                parameters: path.parameters.to_owned(),
                recipients: Vec::new(),
                utf8: path.parameter("SMTPUTF8").is_some(),
                eight_bit: path.parameter("BODY").is_some_and(|body| body.eq_ignore_ascii_case("8BITMIME")),
            });
        }
        let code = self.answer(Command::Mail, line, None, &bytes).await?;
        if !open && !positive(code) {
            self.transaction = None;
        }
        Ok(())
    }

    fn check_parameters(&mut self, path: &Path<'_>) {
        let options = &self.shared().options;
        let offers =
            [("SIZE", options.size.is_some()), ("BODY", options.eight_bit_mime), ("SMTPUTF8", options.smtputf8)];
        for (name, offered) in offers {
            if !offered && path.parameter(name).is_some() {
                self.books.violation(&format!("the parameter {name}, which was not offered"));
            }
        }
    }

    fn check_path(&mut self, path: &Path<'_>, utf8: bool) {
        if path.spaced {
            self.books.violation("a space before a path");
        }
        if !utf8 && !path.address.is_ascii() {
            self.books.violation("an address beyond ASCII without SMTPUTF8");
        }
    }

    async fn rcpt(&mut self, line: &str) -> Result<(), End> {
        let path = Path::parse(line, "RCPT TO:").filter(|path| !path.address.is_empty());
        let bytes = match (&self.transaction, &path) {
            (None, _) => self.status(503, "5.5.1", "MAIL first"),
            (_, None) => self.status(501, "5.5.4", "RCPT TO:<address>"),
            _ => self.status(250, "2.1.5", "fine"),
        };
        let utf8 = self.transaction.as_ref().is_none_or(|transaction| transaction.utf8);
        if let Some(path) = &path {
            self.check_path(path, utf8);
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
        if self.wire.has_output() {
            self.flush().await?;
        }
        let raw = self.wire.content().await?;
        self.dot(raw, group).await
    }

    async fn dot(&mut self, raw: Vec<u8>, group: Group) -> Result<(), End> {
        let number = self.wire.group;
        self.books.line(Side::Client, number, || format!("<{} octets>", raw.len()));
        self.books.line(Side::Client, number, || ".".into());
        self.mails += 1;
        // DATA can have been let through by the script without either.
        let (from, parameters, recipients, eight_bit) = match &self.transaction {
            Some(open) => (open.sender.clone(), open.parameters.clone(), open.recipients.clone(), open.eight_bit),
            None => (String::new(), String::new(), Vec::new(), false),
        };
        if let Some(fault) = fault(&raw, eight_bit) {
            self.books.violation(fault);
        }
        let bytes = if recipients.is_empty() {
            self.status(554, "5.5.1", "no valid recipients")
        } else if self.shared().options.size.is_some_and(|most| raw.len() > most) {
            self.status(552, "5.3.4", "too large")
        } else {
            self.status(250, "2.0.0", &format!("queued as {}.{}", self.books.session, self.mails))
        };
        let mail = Mail {
            sequence: 0,
            at: Instant::now(),
            connection: self.books.session,
            from,
            parameters,
            recipients,
            size: raw.len(),
            message_id: message_id(&raw),
            raw,
            code: None,
            group,
            tls: self.books.tls(),
            user: self.books.user().map(str::to_owned),
            answered: Arc::default(),
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
