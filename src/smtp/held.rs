//! An open session that is kept from one mail to the next, with its place among those of the relay.
//!
//! Owns when it is over. Who holds it, and what an attempt means for its mail, is decided elsewhere.

use tokio::time::Instant;
use tracing::debug;

use super::{
    Attempt, OpenError, OpenPhase, Outgoing, Progress, Session,
    relay::{SessionPlace, Trouble},
};
use crate::{compose::Mail, config, mask};

/// An open session and its place. Dropping it closes the connection without QUIT and frees the place.
#[derive(Debug)]
pub struct Held {
    session: Session,
    place: SessionPlace,
    used: Instant,
}

impl Held {
    /// A session that was opened just now for this place.
    pub fn new(session: Session, mut place: SessionPlace) -> Self {
        place.establish();
        Self { session, place, used: Instant::now() }
    }

    /// When it was opened or last used.
    pub fn used(&self) -> Instant {
        self.used
    }

    /// Whether another mail may be sent on it, whatever the settings say: false after any doubt.
    pub fn is_usable(&self) -> bool {
        self.session.is_usable()
    }

    /// Whether it has sent its share, has been idle for too long, or is in doubt.
    pub fn is_over(&self, settings: &config::Smtp) -> bool {
        !self.is_usable()
            || self.session.mails() >= settings.max_messages_per_session
            || self.used.elapsed() >= settings.idle_timeout
    }

    /// One transaction of a mail for those of its recipients that have these indices.
    pub async fn send(&mut self, mail: &Mail, open: &[usize], progress: &Progress) -> Attempt {
        let wanted = mail.recipients.iter().filter(|recipient| open.contains(&recipient.index));
        let addresses: Vec<_> = wanted.map(|recipient| recipient.address.clone()).collect();
        let attempt = match Outgoing::new(Some(&mail.envelope_from), &addresses, &mail.bytes) {
            Ok(outgoing) => {
                self.used = Instant::now();
                let attempt = self.session.send(&outgoing, progress).await;
                self.used = Instant::now();
                attempt
            }
            Err(error) => Attempt::Lost { fresh: true, reply: None, detail: error.to_string() },
        };
        if let Attempt::Lost { detail, .. } = &attempt {
            debug!(message_id = mail.message_id, detail = mask::text(detail), "session lost");
        }
        attempt
    }

    /// Ends it without a word and keeps its place, for a new one.
    pub fn vacate(self) -> SessionPlace {
        let mut place = self.place;
        place.vacate();
        place
    }

    /// Ends it politely, within the deadline for QUIT.
    pub async fn quit(self) {
        self.session.quit().await;
    }
}

impl Trouble {
    /// What kind of trouble it is that no session came about.
    pub fn of(error: &OpenError) -> Self {
        match (error.phase(), error.reply()) {
            _ if error.is_login_refused() => Self::Login,
            (OpenPhase::Connect, _) => Self::Unreachable,
            (_, Some(reply)) if reply.code == 421 => Self::Full,
            _ => Self::Other,
        }
    }
}
