//! Publishing mails from an application: [`Producer`].
//!
//! Owns the way of a mail from the application's hands to where it is safe: the in-sync replicas of its lane's topic.
//! What a mail may hold is [`email`](crate::email)'s; the way through Kafka is that of `publisher`.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use postlane::{Email, Priority, Producer};
//! use serde_json::json;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! // KAFKA_BROKERS and whatever else is set; one producer for the whole application
//! let producer = Producer::from_env()?;
//!
//! let receipt = producer
//!     .send(
//!         Email::to("ann@example.com")
//!             .from("Shop <noreply@example.com>")
//!             .template("password-reset")
//!             .data(json!({ "Link": "https://example.com/reset?token=abc123" }))
//!             .priority(Priority::High)
//!             .expires_in(Duration::from_secs(15 * 60)),
//!     )
//!     .await?;
//! println!("mail {} is on its way: {:?}", receipt.id(), receipt.way());
//!
//! // before the program ends
//! producer.close().await;
//! # Ok(())
//! # }
//! ```

mod breaker;
mod builder;
mod circuit;
#[cfg(feature = "smtp")]
mod direct;
mod error;
mod partitions;
mod pending;
mod publisher;
mod receipt;
mod route;
mod stats;

use std::{fmt, sync::Arc, time::Duration};

pub use self::{
    builder::ProducerBuilder,
    error::{BuildError, SendError},
    receipt::{Receipt, Way},
    stats::{Circuit, Stats},
};
use self::{
    pending::{Entry, Pending},
    route::Route,
    stats::Counters,
};
#[cfg(feature = "templates")]
use crate::template::Templates;
use crate::{
    compose, config,
    email::{Defaults, Email, InvalidEmail, MAX_SIZE, Prepared},
};

/// Least time for [`Producer::ready`].
const READY: Duration = Duration::from_secs(10);

/// Sends mails: as events through Kafka to the service that delivers them.
///
/// Cheap to clone; all clones share connections, buffer and counts. Any number of tasks may send at once: what comes
/// while a request is on its way goes with the next one. A mail that [`send`](Self::send) returns a receipt for is
/// stored by all in-sync replicas, or was taken by the relay where mails may go straight to it: the receipt says which.
///
/// Its work is done in the tokio runtime in which it is first used. Where that one ends, the next caller's takes over; but
/// a runtime that is kept without being driven (a `current_thread` one between two calls of `block_on`) holds up those
/// who share the producer from other runtimes. So use it from one runtime that runs.
#[derive(Clone)]
pub struct Producer {
    inner: Arc<Inner>,
}

struct Inner {
    route: Route,
    defaults: Defaults,
    /// What mails are rendered with before they leave, where that is wanted.
    #[cfg(feature = "templates")]
    check: Option<(Templates, config::Mail)>,
    timeout: Duration,
    counters: Counters,
    pending: Pending,
}

impl Inner {
    fn new(route: Route, defaults: Defaults, timeout: Duration) -> Self {
        Self {
            route,
            defaults,
            #[cfg(feature = "templates")]
            check: None,
            timeout,
            counters: Counters::default(),
            pending: Pending::default(),
        }
    }
}

impl Producer {
    /// Takes its settings from the environment; connects to nothing.
    ///
    /// # Errors
    ///
    /// [`BuildError`] names every wrong variable at once, or the first file that cannot be used.
    pub fn from_env() -> Result<Self, BuildError> {
        Self::builder().environment().build()
    }

    /// Takes its settings from the program.
    pub fn builder() -> ProducerBuilder {
        ProducerBuilder::default()
    }

    fn new(settings: &config::Producer) -> Result<Self, BuildError> {
        let route = Route::new(settings)?;
        let defaults =
            Defaults { from: settings.mail.from.clone(), from_needed: settings.smtp.is_some(), max_size: MAX_SIZE };
        let inner = Inner {
            #[cfg(feature = "templates")]
            check: if settings.publish.check_templates {
                Some((Templates::load(settings.mail.templates_dir.as_deref())?, settings.mail.clone()))
            } else {
                None
            },
            ..Inner::new(route, defaults, settings.publish.timeout)
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// A producer whose mails a test keeps.
    #[cfg(feature = "testing")]
    pub(crate) fn in_memory(store: Arc<crate::testing::Store>, defaults: Defaults) -> Self {
        Self { inner: Arc::new(Inner::new(Route::Memory(store), defaults, Duration::ZERO)) }
    }

    /// Checks a mail and sends it; returns when it is safe, or at the latest after `PUBLISH_TIMEOUT`. Where the mail then
    /// goes straight to the relay, that has its own time on top of it.
    ///
    /// A call that is dropped takes the mail back, unless it is on the wire by then.
    ///
    /// # Errors
    ///
    /// [`SendError`] says whether the mail may go out all the same.
    pub async fn send(&self, email: Email) -> Result<Receipt, SendError> {
        let _entry = self.enter()?;
        self.deliver(email.prepare(&self.inner.defaults)).await
    }

    /// The same for an event in the wire format (a JSON object). It is checked by the same rules; its bytes are
    /// published as they are, but for an absent `message.id`, and where there is a default for it an absent
    /// `message.from`, which are put in.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub async fn send_event(&self, event: impl Into<Vec<u8>>) -> Result<Receipt, SendError> {
        let _entry = self.enter()?;
        self.deliver(Prepared::from_event(event, &self.inner.defaults)).await
    }

    /// Connects to the leaders of the lanes' partitions, so that the first mail is as fast as the others. Waits for
    /// `PUBLISH_TIMEOUT`, but at least ten seconds. Not needed otherwise.
    ///
    /// # Errors
    ///
    /// [`SendError`] with what keeps mails from being sent now.
    pub async fn ready(&self) -> Result<(), SendError> {
        let _entry = self.enter()?;
        match &self.inner.route {
            Route::Kafka(kafka) => kafka.ready(self.inner.timeout.max(READY)).await,
            // a session is opened for a mail
            #[cfg(feature = "smtp")]
            Route::Smtp(_) => Ok(()),
            #[cfg(feature = "testing")]
            Route::Memory(_) => Ok(()),
        }
    }

    /// Waits until all mails that were handed over before are answered: sent, or given up.
    ///
    /// A [`send`](Self::send) that was begun and is not polled any more holds this up.
    pub async fn flush(&self) {
        self.inner.pending.flush().await;
    }

    /// The same, and takes no further mails, on any clone: they are [`SendError::Closed`].
    pub async fn close(&self) {
        self.inner.pending.close();
        self.flush().await;
        self.inner.route.close().await;
    }

    /// What became of all mails so far.
    pub fn stats(&self) -> Stats {
        let stats = self.inner.counters.read();
        match &self.inner.route {
            Route::Kafka(kafka) => kafka.report(stats),
            #[cfg(feature = "smtp")]
            Route::Smtp(_) => stats,
            #[cfg(feature = "testing")]
            Route::Memory(_) => stats,
        }
    }

    fn enter(&self) -> Result<Entry<'_>, SendError> {
        self.inner.pending.enter().ok_or(SendError::Closed)
    }

    async fn deliver(&self, prepared: Result<Prepared, InvalidEmail>) -> Result<Receipt, SendError> {
        #[cfg(feature = "templates")]
        let prepared = prepared.and_then(|prepared| match &self.inner.check {
            Some((templates, mail)) => prepared.check_with(templates, mail).map(|()| prepared),
            None => Ok(prepared),
        });
        let outcome = match prepared {
            Ok(prepared) => {
                let message_id = self.message_id(&prepared);
                self.inner.route.send(prepared, message_id, &self.inner.counters).await
            }
            Err(invalid) => Err(invalid.into()),
        };
        self.count(&outcome);
        outcome
    }

    /// The header `Message-ID`, where its sender is known here.
    fn message_id(&self, prepared: &Prepared) -> Option<String> {
        let from = prepared.message.from.as_ref().or(self.inner.defaults.from.as_ref())?;
        compose::message_id_from(&prepared.id, from)
    }

    fn count(&self, outcome: &Result<Receipt, SendError>) {
        let counters = &self.inner.counters;
        match outcome {
            Ok(receipt) => {
                match receipt.way {
                    Way::Kafka { .. } | Way::Memory => counters.published.add(),
                    Way::Smtp { .. } => counters.sent_by_smtp.add(),
                }
                if receipt.twice_possible {
                    counters.twice_possible.add();
                }
            }
            Err(SendError::Invalid(_) | SendError::Refused { .. } | SendError::Setup { .. }) => counters.refused.add(),
            Err(SendError::Full) => counters.full.add(),
            Err(SendError::NotPublished { .. }) => counters.withdrawn.add(),
            Err(SendError::OutcomeUnknown { .. }) => counters.unknown_outcome.add(),
            #[cfg(feature = "smtp")]
            Err(SendError::Smtp { .. }) => counters.failed_by_smtp.add(),
            #[cfg(feature = "smtp")]
            Err(SendError::BothWays { unknown, smtp, .. }) => {
                counters.failed_by_smtp.add();
                if *unknown && smtp.may_have_arrived() {
                    counters.twice_possible.add();
                }
            }
            Err(SendError::Closed) => {}
        }
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("stats", &self.stats()).finish_non_exhaustive()
    }
}
