//! Mails sent straight by SMTP, without Kafka: for an application that cannot wait for a broker.
//!
//! Renders, composes, sends and classifies with the very code of the service. Owns one attempt at a mail, and a second one
//! only where the session had grown stale; keeps no mail. What follows from a failure is the caller's to decide.
//!
//! ```no_run
//! # async fn example(settings: &postlane::config::Config, message: &postlane::event::Message) -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use postlane::{mailer::Mailer, template::Templates};
//! use tokio::time::Instant;
//!
//! let templates = Templates::load(settings.mail.templates_dir.as_deref())?;
//! let mailer = Mailer::new(&settings.smtp, &settings.mail, templates)?;
//! match mailer.send(message, Instant::now() + Duration::from_secs(30)).await {
//!     Ok(delivered) => println!("{} is with the relay: {}", delivered.message_id, delivered.reply),
//!     Err(error) if error.may_have_arrived() => println!("not again without care: {error}"),
//!     Err(error) => println!("{error}"),
//! }
//! mailer.close().await;
//! # Ok(())
//! # }
//! ```

mod error;
mod sessions;
mod transactions;

use std::{
    fmt,
    sync::{Arc, atomic::AtomicU32},
    time::Duration,
};

use chrono::Utc;
use tokio::time::{Instant, sleep_until};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::error::{Delivered, Error, Failed};
use self::{sessions::Sessions, transactions::Transactions};
use crate::{
    config,
    event::Message,
    smtp::{Connector, Stage, relay::Relay},
    template::Templates,
    tls,
};

/// Longest delay between two logins of a relay that refuses ours.
const MAX_DELAY: Duration = Duration::from_secs(15 * 60);

/// Sends mails to one relay, for any number of callers at once; cheap to clone.
///
/// At most `SMTP_SESSIONS` sessions are open. Callers get them in the order in which they came, and the next caller uses
/// them again; idle ones are closed after `SMTP_IDLE_TIMEOUT`. `SMTP_RATE_LIMIT` and the deadlines of each phase hold as in
/// the service. A relay that is down is tried again after growing delays, by the mail of one caller; all others are told
/// at once. Needs a tokio runtime.
#[derive(Clone)]
pub struct Mailer(Arc<Inner>);

struct Inner {
    settings: config::Mail,
    smtp: config::Smtp,
    templates: Arc<Templates>,
    relay: Arc<Relay>,
    sessions: Arc<Sessions>,
    closing: CancellationToken,
    /// Mails that are being sent.
    sends: TaskTracker,
    /// Mails in a row whose time was over while the relay said nothing.
    silent: AtomicU32,
}

impl Mailer {
    /// Reads the certificate authorities and our certificate; connects to nothing yet.
    ///
    /// # Errors
    ///
    /// When the authorities of `SMTP_CA_FILE`, our certificate or the host's name cannot be used for TLS.
    pub fn new(
        smtp: &config::Smtp,
        mail: &config::Mail,
        templates: impl Into<Arc<Templates>>,
    ) -> Result<Self, tls::Error> {
        let connector = Connector::new(smtp)?;
        let relay = Arc::new(Relay::new(smtp.sessions, 0, MAX_DELAY).limited_to(smtp.rate_limit));
        Ok(Self(Arc::new(Inner {
            settings: mail.clone(),
            smtp: smtp.clone(),
            templates: templates.into(),
            sessions: Sessions::new(connector, smtp.clone(), Arc::clone(&relay)),
            relay,
            closing: CancellationToken::new(),
            sends: TaskTracker::new(),
            silent: AtomicU32::new(0),
        })))
    }

    /// Sends a mail to its recipients and waits for the relay's answer, until `deadline` at the longest.
    ///
    /// At the deadline, and where this future is dropped, the session is cut and never used again: before the final dot
    /// nothing was sent, after it the outcome is unknown. `message.id` decides the Message-ID, so that a mail that was sent
    /// twice can be known as one.
    ///
    /// # Errors
    ///
    /// [`Error`]: what is wrong with the mail, or what became of it for all recipients or for each.
    pub async fn send(&self, message: &Message, deadline: Instant) -> Result<Delivered, Error> {
        let _sending = self.0.sends.token();
        if self.0.closing.is_cancelled() {
            return Err(Error::Closed);
        }
        if is_expired(message) {
            return Err(Error::Expired);
        }
        let mut transactions = Transactions::new(&self.0, message);
        let ended = tokio::select! {
            biased;
            ended = transactions.run() => ended,
            () = sleep_until(deadline) => Err(Ended::Deadline),
        };
        let stage = transactions.stage();
        let why = match ended {
            Ok(()) => None,
            Err(Ended::Unfit(error)) => return Err(error),
            Err(Ended::RelayDown(why)) => Some(why),
            Err(Ended::Deadline) => {
                transactions.cut();
                Some(match stage {
                    Stage::Idle => Failed::TimedOut("its turn did not come in time"),
                    Stage::BeforeDot => Failed::TimedOut("the relay did not take it in time"),
                    Stage::AwaitingReply => Failed::OutcomeUnknown("it did not answer in time".to_owned()),
                })
            }
        };
        transactions.conclude(why)
    }

    /// Refuses further mails, waits for those that are being sent, and ends all sessions with QUIT.
    pub async fn close(&self) {
        self.0.closing.cancel();
        self.0.sends.close();
        self.0.sends.wait().await;
        self.0.sessions.close().await;
    }
}

impl fmt::Debug for Mailer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailer")
            .field("host", &self.0.smtp.host)
            .field("port", &self.0.smtp.port)
            .finish_non_exhaustive()
    }
}

/// Why the transactions of a mail ended before all recipients had an outcome.
enum Ended {
    /// The caller's time is over.
    Deadline,
    /// It cannot become a mail, or its time is over; nothing was sent.
    Unfit(Error),
    /// No session is to be had.
    RelayDown(Failed),
}

fn is_expired(message: &Message) -> bool {
    message.expires_at.is_some_and(|expiry| Utc::now() >= expiry)
}
