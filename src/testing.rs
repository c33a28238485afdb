//! A producer for an application's own tests, that keeps what was sent: no broker and no mail server is needed.
//!
//! [`producer`] gives a [`Producer`] like any other, which the application is started with, and the [`Outbox`] in which
//! the test finds what was sent. Mails are checked as always; they are rendered when the test asks for it.
//!
//! ```toml
//! [dev-dependencies]
//! postlane = { version = "0.1", default-features = false, features = ["testing"] }
//! ```
//!
//! The test of a whole application: a reset mail with this link went to this address.
//!
//! ```
//! use std::time::Duration;
//!
//! use postlane::{Email, Priority, Producer, testing};
//! use serde_json::json;
//!
//! /// The application: it is handed its producer, and does not know which one that is.
//! struct Accounts {
//!     producer: Producer,
//! }
//!
//! impl Accounts {
//!     async fn forgot_password(&self, address: &str) -> Result<(), postlane::SendError> {
//!         let token = "abc123"; // made and stored as such things are
//!         let email = Email::to(address)
//!             .from("Shop <noreply@example.com>")
//!             .template("password-reset")
//!             .data(json!({ "Link": format!("https://example.com/reset?token={token}") }))
//!             .priority(Priority::High)
//!             .expires_in(Duration::from_secs(15 * 60));
//!         self.producer.send(email).await.map(drop)
//!     }
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! // #[tokio::test]
//! // async fn whoever_forgot_gets_a_link() {
//! let (producer, outbox) = testing::producer();
//! let accounts = Accounts { producer };
//!
//! accounts.forgot_password("ann@example.com").await.unwrap();
//!
//! let [mail] = outbox.to("ann@example.com").try_into().expect("one mail");
//! assert_eq!(mail.subject(), "Reset your password");
//! assert!(mail.links().contains(&"https://example.com/reset?token=abc123".to_owned()));
//! assert_eq!(mail.message().priority, Priority::High);
//!
//! // and what the application does where the mail cannot be sent
//! outbox.fail_next(testing::Failure::Full);
//! assert!(accounts.forgot_password("bob@example.com").await.is_err());
//! assert!(outbox.to("bob@example.com").is_empty());
//! # });
//! ```
//!
//! An application with templates of its own gives them to [`Builder::templates`]; every mail is then rendered when it is
//! sent, so that a variable that is missing fails the test.

mod links;
mod sent;
mod store;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

pub use self::sent::Sent;
pub(crate) use self::store::Store;
use crate::{
    email::{Defaults, render},
    event::parse_mailbox,
    producer::Producer,
    template::Templates,
};

/// A producer that keeps what was sent, and the place where it keeps it; mails are rendered with the built-in templates,
/// when they are looked at.
pub fn producer() -> (Producer, Outbox) {
    builder().build()
}

/// The same with templates and settings.
pub fn builder() -> Builder {
    Builder { templates: None, settings: render::settings() }
}

/// Settings of a producer for tests; [`builder`] makes one.
#[derive(Debug)]
#[must_use = "a builder makes no producer until build is called"]
pub struct Builder {
    templates: Option<Templates>,
    settings: crate::config::Mail,
}

impl Builder {
    /// The application's templates. Every mail is rendered when it is sent, and one that cannot be is
    /// [`SendError::Invalid`](crate::SendError::Invalid).
    pub fn templates(mut self, templates: Templates) -> Self {
        self.templates = Some(templates);
        self
    }

    /// Sender of mails that name none (`MAIL_FROM`).
    ///
    /// # Panics
    ///
    /// If it is no mailbox.
    #[track_caller]
    pub fn mail_from(mut self, mailbox: &str) -> Self {
        self.settings.from = Some(parse_mailbox(mailbox).unwrap_or_else(|problem| panic!("MAIL_FROM: {problem}")));
        self
    }

    /// Whether subjects may hold template expressions (`MAIL_SUBJECT_TEMPLATES`).
    pub fn subject_templates(mut self, expand: bool) -> Self {
        self.settings.subject_templates = expand;
        self
    }

    /// Makes the producer, and the place where its mails are found.
    pub fn build(self) -> (Producer, Outbox) {
        let defaults = Defaults { from: self.settings.from.clone(), ..Defaults::default() };
        let checks = self.templates.is_some();
        let templates =
            self.templates.unwrap_or_else(|| Templates::load(None).expect("the built-in templates are sound"));
        let store = Arc::new(Store::new(templates, self.settings, checks));
        (Producer::in_memory(Arc::clone(&store), defaults), Outbox { store })
    }
}

/// What was sent, in the order of sending. All clones are the same one.
#[derive(Debug, Clone)]
pub struct Outbox {
    store: Arc<Store>,
}

impl Outbox {
    /// All mails.
    pub fn emails(&self) -> Vec<Sent> {
        self.store.all()
    }

    /// Those that go to an address, be it in to, cc or bcc; in any case of letters.
    pub fn to(&self, address: &str) -> Vec<Sent> {
        let mut emails = self.emails();
        emails.retain(|email| email.recipients().iter().any(|recipient| recipient.eq_ignore_ascii_case(address)));
        emails
    }

    /// The one that was sent last.
    pub fn last(&self) -> Option<Sent> {
        self.emails().pop()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.emails().len()
    }

    /// Whether nothing was sent.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets all mails.
    pub fn clear(&self) {
        self.store.clear();
    }

    /// Waits until there are so many mails, for an application that sends in the background.
    ///
    /// # Panics
    ///
    /// If there are fewer after that time.
    pub async fn wait_for(&self, count: usize, limit: Duration) -> Vec<Sent> {
        let reached = tokio::time::timeout(limit, self.store.reached(count)).await;
        let emails = self.emails();
        assert!(reached.is_ok(), "{} mails after {limit:?}, {count} were expected", emails.len());
        emails
    }

    /// The next send fails in that way.
    pub fn fail_next(&self, failure: Failure) {
        self.store.fail(failure, Some(1));
    }

    /// Every send fails in that way, until [`recover`](Self::recover).
    pub fn fail_always(&self, failure: Failure) {
        self.store.fail(failure, None);
    }

    /// Nothing fails any more.
    pub fn recover(&self) {
        self.store.recover();
    }
}

/// A way in which sending can fail: each gives the [`SendError`](crate::SendError) of the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// No room in the buffer.
    Full,
    /// Kafka did not take it in time.
    NotPublished,
    /// No answer in time. The mail is kept all the same, as it may be then: sent again it is there twice.
    OutcomeUnknown,
    /// Kafka does not take this mail.
    Refused,
    /// Kafka takes no mail from this application.
    Setup,
}
