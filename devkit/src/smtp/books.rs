//! What one session tells the ledger, and when: before each write, so that a client never knows more than the ledger,
//! and at its end, however it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::time::Instant;

use super::ledger::{End, Line, News, Side, Verdict};
use super::server::Shared;
use super::{Command, Mail};

pub(super) struct Books {
    pub(super) shared: Arc<Shared>,
    pub(super) session: u64,
    news: News,
    /// A mail that has arrived whole and is not decided on.
    mail: Option<Mail>,
    /// Flags of mails whose reply is queued.
    unanswered: Vec<Arc<AtomicBool>>,
    held: bool,
}

impl Books {
    pub(super) fn new(shared: Arc<Shared>, session: u64) -> Self {
        Self { shared, session, news: News::default(), mail: None, unanswered: Vec::new(), held: false }
    }

    pub(super) fn count(&mut self, command: Command) {
        self.news.commands[command.index()] += 1;
    }

    pub(super) fn violation(&mut self, text: &str) {
        self.news.violations.push(format!("connection {}: {text}", self.session));
    }

    pub(super) fn round_trips(&mut self, count: u64) {
        self.news.round_trips += count;
    }

    pub(super) fn line(&mut self, side: Side, group: u64, text: impl FnOnce() -> String) {
        if self.shared.options.transcripts {
            self.news.transcript.push(Line { side, group, text: text() });
        }
    }

    /// The lines of a reply.
    pub(super) fn reply(&mut self, group: u64, bytes: &[u8]) {
        if self.shared.options.transcripts {
            for line in bytes.split_inclusive(|&byte| byte == b'\n') {
                self.line(Side::Server, group, || String::from_utf8_lossy(line).trim_end().to_owned());
            }
        }
    }

    pub(super) fn secured(&mut self) {
        (self.news.tls, self.news.user) = (true, None);
    }

    pub(super) fn tls(&self) -> bool {
        self.news.tls
    }

    pub(super) fn logged_in(&mut self, user: String) {
        self.news.user = Some(user);
    }

    pub(super) fn user(&self) -> Option<&str> {
        self.news.user.as_deref()
    }

    /// A mail has arrived whole.
    pub(super) fn arrived(&mut self, mail: Mail) {
        self.mail = Some(mail);
    }

    pub(super) fn mail(&self) -> Option<&Mail> {
        self.mail.as_ref()
    }

    /// The decision on the mail that has arrived, if there is one. `reply` tells whether one will be queued.
    pub(super) fn decide(&mut self, code: Option<u16>, reply: bool) {
        let Some(mut mail) = self.mail.take() else { return };
        let verdict = match code {
            Some(200..=299) if !mail.recipients.is_empty() => Verdict::Accepted,
            Some(_) => Verdict::Refused,
            None => Verdict::Taken,
        };
        (mail.at, mail.code) = (Instant::now(), code);
        if reply && code.is_some() {
            self.unanswered.push(Arc::clone(&mail.answered));
        }
        self.news.mails.push((mail, verdict));
    }

    pub(super) fn publish(&mut self) {
        self.tell(None);
    }

    /// All queued replies have been handed to the socket.
    pub(super) fn sent(&mut self) {
        if !self.unanswered.is_empty() {
            for flag in self.unanswered.drain(..) {
                flag.store(true, Ordering::Release);
            }
            self.shared.notify();
        }
    }

    pub(super) fn hold(&mut self, waits: bool) {
        if self.held != waits {
            self.held = waits;
            self.shared.write(|ledger| ledger.hold(waits));
        }
    }

    /// Nothing more will come of this session; later ends are ignored.
    pub(super) fn close(&mut self, end: End) {
        self.hold(false);
        self.decide(None, false);
        self.tell(Some(end));
    }

    fn tell(&mut self, end: Option<End>) {
        let (session, news, options) = (self.session, &mut self.news, &self.shared.options);
        self.shared.write(|ledger| {
            ledger.merge(session, news, options.retention, options.folder.as_deref());
            if let Some(end) = end {
                ledger.close_session(session, end);
            }
        });
    }
}

impl Drop for Books {
    fn drop(&mut self) {
        self.close(End::Stopped);
    }
}
