//! What the server saw and decided. Sessions write it, tests read it; nothing here acts.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use super::{Command, Mail, Retention};

/// Everything that has happened at the server since its first start.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    accepted: Vec<Arc<Mail>>,
    refused: Vec<Arc<Mail>>,
    taken: Vec<Arc<Mail>>,
    sessions: BTreeMap<u64, Arc<Session>>,
    commands: [u64; Command::COUNT],
    violations: Vec<String>,
    open: usize,
    peak: usize,
    turned_away: u64,
    round_trips: u64,
    held: usize,
    sequence: u64,
}

impl Ledger {
    /// Mails for which a 2xx reply to the final dot was decided, in that order. Whether the reply got out is
    /// [`Mail::answered`].
    pub fn accepted(&self) -> &[Arc<Mail>] {
        &self.accepted
    }

    /// Mails that were refused at the final dot, and those whose 2xx meant nothing as no recipient had been accepted.
    pub fn refused(&self) -> &[Arc<Mail>] {
        &self.refused
    }

    /// Mails that arrived whole and got no decision: silence, hang-up, rubbish, or the client was gone first.
    pub fn taken(&self) -> &[Arc<Mail>] {
        &self.taken
    }

    /// The first accepted mail with this Message-ID.
    pub fn find(&self, message_id: &str) -> Option<&Mail> {
        self.accepted.iter().map(Arc::as_ref).find(|mail| mail.message_id() == Some(message_id))
    }

    /// How many mails with this Message-ID were accepted.
    pub fn copies(&self, message_id: &str) -> usize {
        self.accepted.iter().filter(|mail| mail.message_id() == Some(message_id)).count()
    }

    /// How many mails were accepted for this recipient.
    pub fn deliveries(&self, recipient: &str) -> usize {
        self.accepted.iter().flat_map(|mail| &mail.recipients).filter(|address| *address == recipient).count()
    }

    /// Message-IDs that were accepted more than once, and how often.
    pub fn duplicates(&self) -> BTreeMap<&str, usize> {
        let mut copies: HashMap<&str, usize> = HashMap::new();
        for id in self.accepted.iter().filter_map(|mail| mail.message_id()) {
            *copies.entry(id).or_default() += 1;
        }
        copies.into_iter().filter(|&(_, count)| count > 1).collect()
    }

    /// How often this point of the dialog was reached, whatever the answer.
    pub fn count(&self, command: Command) -> u64 {
        self.commands[command.index()]
    }

    /// Connections opened, those turned away included.
    pub fn opened(&self) -> u64 {
        self.sessions.len() as u64
    }

    /// Connections open now, without those turned away.
    pub fn open(&self) -> usize {
        self.open
    }

    /// The most connections that were open at once, without those turned away.
    pub fn peak(&self) -> usize {
        self.peak
    }

    /// Connections answered 421 for being more than allowed.
    pub fn turned_away(&self) -> u64 {
        self.turned_away
    }

    /// How often the client sent something that it had to read a reply for first, over all connections. The last
    /// one counts when its own reply goes out.
    pub fn round_trips(&self) -> u64 {
        self.round_trips
    }

    /// Sessions that wait at a point that is held.
    pub fn held(&self) -> usize {
        self.held
    }

    /// All connections, oldest first.
    pub fn sessions(&self) -> impl Iterator<Item = &Session> {
        self.sessions.values().map(Arc::as_ref)
    }

    /// The connection of this number, from 1 in the order of opening.
    pub fn session(&self, number: u64) -> Option<&Session> {
        self.sessions.get(&number).map(Arc::as_ref)
    }

    /// What clients did that RFC 5321, 2920, 3207 or 4954 forbids, and failures of the server itself. A test of a good
    /// client asserts that it is empty.
    pub fn violations(&self) -> &[String] {
        &self.violations
    }

    pub(super) fn open_session(&mut self, turned_away: bool) -> u64 {
        let number = self.opened() + 1;
        self.sessions.insert(number, Arc::new(Session { number, turned_away, ..Session::default() }));
        if turned_away {
            self.turned_away += 1;
        } else {
            self.open += 1;
            self.peak = self.peak.max(self.open);
        }
        number
    }

    pub(super) fn close_session(&mut self, number: u64, end: End) {
        if let Some(session) = self.sessions.get_mut(&number).map(Arc::make_mut)
            && session.end.is_none()
        {
            session.end = Some(end);
            if !session.turned_away {
                self.open -= 1;
            }
        }
    }

    pub(super) fn hold(&mut self, waits: bool) {
        if waits { self.held += 1 } else { self.held -= 1 }
    }

    pub(super) fn violation(&mut self, text: String) {
        self.violations.push(text);
    }

    /// Adds what a session has seen since it last told.
    pub(super) fn merge(&mut self, number: u64, news: &mut News, retention: Retention, folder: Option<&Path>) {
        for (total, new) in self.commands.iter_mut().zip(&mut news.commands) {
            *total += std::mem::take(new);
        }
        self.round_trips += news.round_trips;
        self.violations.append(&mut news.violations);
        if let Some(session) = self.sessions.get_mut(&number).map(Arc::make_mut) {
            session.round_trips += std::mem::take(&mut news.round_trips);
            session.mails += news.mails.len() as u64;
            session.transcript.append(&mut news.transcript);
            session.tls = news.tls;
            session.user.clone_from(&news.user);
        }
        for (mut mail, verdict) in news.mails.drain(..) {
            self.sequence += 1;
            mail.sequence = self.sequence;
            if let (Verdict::Accepted, Some(folder)) = (verdict, folder)
                && let Err(error) = mail.save(folder)
            {
                self.violations.push(format!("the server cannot save a mail: {error}"));
            }
            mail.trim(retention);
            match verdict {
                Verdict::Accepted => self.accepted.push(Arc::new(mail)),
                Verdict::Refused => self.refused.push(Arc::new(mail)),
                Verdict::Taken => self.taken.push(Arc::new(mail)),
            }
        }
    }
}

/// One connection.
#[derive(Debug, Clone, Default)]
pub struct Session {
    /// From 1 in the order of opening.
    pub number: u64,
    /// Whether it was answered 421 for being one too many.
    pub turned_away: bool,
    /// Whether it is encrypted.
    pub tls: bool,
    /// The user that logged in.
    pub user: Option<String>,
    /// Mails whose final dot was read.
    pub mails: u64,
    /// Its part of [`Ledger::round_trips`].
    pub round_trips: u64,
    /// Why it ended; `None` while it is open.
    pub end: Option<End>,
    /// What was said, where the server was told to keep it.
    pub transcript: Vec<Line>,
}

impl Session {
    /// The lines of the client in their order; the content of a mail is one line, `<1234 octets>`, the final dot `.`.
    pub fn client(&self) -> Vec<&str> {
        self.transcript.iter().filter(|line| line.side == Side::Client).map(|line| line.text.as_str()).collect()
    }

    /// The first words of the client's lines, as they were sent.
    pub fn verbs(&self) -> Vec<&str> {
        self.client().into_iter().map(|line| line.split(' ').next().unwrap_or_default()).collect()
    }

    /// The lines of the client that came without a wait in between, group by group.
    pub fn groups(&self) -> Vec<Vec<&str>> {
        let mut groups: BTreeMap<u64, Vec<&str>> = BTreeMap::new();
        for line in self.transcript.iter().filter(|line| line.side == Side::Client) {
            groups.entry(line.group).or_default().push(&line.text);
        }
        groups.into_values().collect()
    }
}

/// Who said a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The client.
    Client,
    /// The server.
    Server,
}

/// One line of a transcript.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Who said it.
    pub side: Side,
    /// Lines of the client with the same number came without a wait in between.
    pub group: u64,
    /// The line without its line end; bytes that are not UTF-8 replaced.
    pub text: String,
}

/// Why a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The client said `QUIT` and got its answer.
    Quit,
    /// The client closed without `QUIT`.
    Client,
    /// The server closed, as its script or an option told.
    Server,
    /// The server was stopped.
    Stopped,
    /// Reading, writing or the TLS handshake failed.
    Failed(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Accepted,
    Refused,
    Taken,
}

/// What a session has seen since it last told the ledger.
#[derive(Debug, Default)]
pub(super) struct News {
    pub(super) commands: [u64; Command::COUNT],
    pub(super) round_trips: u64,
    pub(super) violations: Vec<String>,
    pub(super) transcript: Vec<Line>,
    pub(super) mails: Vec<(Mail, Verdict)>,
    pub(super) tls: bool,
    pub(super) user: Option<String>,
}
