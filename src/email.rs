//! A mail as an application asks for it: [`Email`], its checks, and the event that it becomes.
//!
//! Owns what an application says and how that is checked before it leaves. The rules are not its own: they are those
//! by which the service reads an event ([`event`](crate::event)) and builds a mail of it ([`compose`](crate::compose)).
//! How the event gets to a broker or a relay is not its business either.

mod id;
mod invalid;
mod mailboxes;
mod prepare;
#[cfg(test)]
mod properties;
mod raw;
#[cfg(feature = "templates")]
pub(crate) mod render;
#[cfg(test)]
mod tests;
mod trace;

use std::{fmt, time::Duration};

use chrono::{DateTime, Utc};
pub use lettre::{Address, message::Mailbox};
use serde::Serialize;
use serde_json::Value;

pub(crate) use self::prepare::{Defaults, Prepared};
pub use self::{
    invalid::{InvalidEmail, InvalidField},
    mailboxes::Mailboxes,
    prepare::{MAX_ATTEMPTS, MAX_SIZE},
};
use crate::{
    event::{Message, Priority},
    mask,
};

/// A mail to be sent: who gets it, which template, with what data.
///
/// Only recipients and a template must be there, and a sender and a subject must come from somewhere: the sender from
/// [`from`](Self::from) or the setting `MAIL_FROM`, the subject from [`subject`](Self::subject) or the template.
///
/// Nothing is checked while it is put together. [`check`](Self::check), and whatever sends it, tells every problem at
/// once, each with the name that the field has in the event.
///
/// ```
/// use std::time::Duration;
///
/// use postlane::{Email, Priority};
/// use serde_json::json;
///
/// let email = Email::to("ann@example.com")
///     .from("Shop <shop@example.com>")
///     .template("password-reset")
///     .data(json!({ "Link": "https://example.com/reset?token=abc123" }))
///     .priority(Priority::High)
///     .expires_in(Duration::from_secs(15 * 60));
/// assert_eq!(email.check(), Ok(()));
///
/// let wrong = email.subject("Your\r\nBcc: link").and_to("nobody").check().unwrap_err();
/// let fields: Vec<&str> = wrong.problems().iter().map(|problem| problem.field.as_str()).collect();
/// assert_eq!(fields, ["message.to[1]", "message.subject"]);
/// ```
#[derive(Clone)]
#[must_use = "an email does nothing until it is sent"]
pub struct Email {
    kind: Option<String>,
    id: Option<String>,
    from: Option<Mailboxes>,
    to: Mailboxes,
    cc: Mailboxes,
    bcc: Mailboxes,
    reply_to: Mailboxes,
    subject: Option<String>,
    template: Option<String>,
    /// `Err` where it could not be written as JSON.
    data: Result<Value, ()>,
    headers: Vec<(String, String)>,
    priority: Priority,
    timestamp: Option<DateTime<Utc>>,
    expires: Expiry,
    max_attempts: Option<u32>,
    trace_parent: Option<String>,
    trace_state: Option<String>,
}

#[derive(Clone, Copy)]
enum Expiry {
    Never,
    At(DateTime<Utc>),
    In(Duration),
}

impl Email {
    /// A mail to these recipients: one, or an array, slice or `Vec` of them. See [`Mailboxes`] for what one may be.
    pub fn to(recipients: impl Into<Mailboxes>) -> Self {
        Self {
            kind: None,
            id: None,
            from: None,
            to: recipients.into(),
            cc: Mailboxes::default(),
            bcc: Mailboxes::default(),
            reply_to: Mailboxes::default(),
            subject: None,
            template: None,
            data: Ok(Value::Null),
            headers: Vec::new(),
            priority: Priority::Normal,
            timestamp: None,
            expires: Expiry::Never,
            max_attempts: None,
            trace_parent: None,
            trace_state: None,
        }
    }

    /// Further recipients of the To field. All recipients together are 100 at the most; every one of them sees those of
    /// To and Cc.
    pub fn and_to(mut self, recipients: impl Into<Mailboxes>) -> Self {
        self.to.extend(recipients.into());
        self
    }

    /// Recipients of the Cc field, beside those that it has.
    pub fn cc(mut self, recipients: impl Into<Mailboxes>) -> Self {
        self.cc.extend(recipients.into());
        self
    }

    /// Recipients that stand in no field, beside those that there are.
    pub fn bcc(mut self, recipients: impl Into<Mailboxes>) -> Self {
        self.bcc.extend(recipients.into());
        self
    }

    /// Where answers go, beside those that are there.
    pub fn reply_to(mut self, mailboxes: impl Into<Mailboxes>) -> Self {
        self.reply_to.extend(mailboxes.into());
        self
    }

    /// The sender: one mailbox. Without it the mail comes from `MAIL_FROM`.
    pub fn from(mut self, mailbox: impl Into<Mailboxes>) -> Self {
        self.from = Some(mailbox.into());
        self
    }

    /// The subject, instead of the template's own. It may hold template expressions where the service allows them
    /// (`MAIL_SUBJECT_TEMPLATES=true`).
    pub fn subject(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(subject.into());
        self
    }

    /// Name of the template: the folder in which its parts are.
    pub fn template(mut self, name: impl Into<String>) -> Self {
        self.template = Some(name.into());
        self
    }

    /// What the template is filled with: anything that serializes to a JSON object, such as a struct, a map or
    /// `serde_json::json!({...})`.
    pub fn data(mut self, data: impl Serialize) -> Self {
        self.data = serde_json::to_value(data).map_err(|_| ());
        self
    }

    /// A further header field, such as `List-Unsubscribe`. Those that mails have anyway, from `From` to `Content-Type`,
    /// cannot be set, and none can be set twice.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// How urgent it is; [`Priority::Normal`] unless said otherwise.
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// What kind of event it is, any word; `notification` unless said otherwise. For those who read the topics: it
    /// changes nothing about the mail.
    pub fn kind(mut self, kind: impl Into<String>) -> Self {
        self.kind = Some(kind.into());
        self
    }

    /// The identity of the mail, at most 1,000 bytes; a random UUID unless said otherwise.
    ///
    /// The same id always gives the same `Message-ID`. Whoever may ask for the same mail again, after a crash for
    /// instance, gives the id that it had the first time, such as `order-10042-confirmation`.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// When the event was made, which is what the mail's `Date` says; otherwise when it is sent.
    pub fn timestamp(mut self, at: DateTime<Utc>) -> Self {
        self.timestamp = Some(at);
        self
    }

    /// From then on the mail is not sent any more; a mail with a link does best to expire together with it.
    pub fn expires_at(mut self, at: DateTime<Utc>) -> Self {
        self.expires = Expiry::At(at);
        self
    }

    /// As [`expires_at`](Self::expires_at), counted from the moment in which it is handed over to be sent.
    pub fn expires_in(mut self, after: Duration) -> Self {
        self.expires = Expiry::In(after);
        self
    }

    /// Attempts to send it, 1 to [`MAX_ATTEMPTS`]; the service has a limit of its own (`RETRY_MAX_ATTEMPTS_LIMIT`).
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = Some(attempts);
        self
    }

    /// The trace that the mail belongs to, in the form of the header `traceparent` (W3C Trace Context). One that is not
    /// valid is left out: it is no reason not to send a mail.
    ///
    /// With the feature `opentelemetry` the caller's current span is taken unless one is given here.
    pub fn trace_parent(mut self, trace_parent: impl Into<String>) -> Self {
        self.trace_parent = Some(trace_parent.into());
        self
    }

    /// What goes with [`trace_parent`](Self::trace_parent) as the header `tracestate`.
    pub fn trace_state(mut self, trace_state: impl Into<String>) -> Self {
        self.trace_state = Some(trace_state.into());
        self
    }

    /// Checks all that is checked before a mail is sent, for an application's own tests.
    ///
    /// # Errors
    ///
    /// Every problem at once, each with the name of its field.
    pub fn check(&self) -> Result<(), InvalidEmail> {
        self.clone().prepare(&Defaults::default()).map(drop)
    }

    /// The event that it becomes, in the wire format: for an application that publishes with a Kafka client of its own.
    /// Key of the record is the `id`, which such an application best gives itself. The time of the call is in it, unless
    /// there is a [`timestamp`](Self::timestamp).
    ///
    /// # Errors
    ///
    /// As [`check`](Self::check).
    pub fn to_event(&self) -> Result<Vec<u8>, InvalidEmail> {
        self.clone().prepare(&Defaults::default()).map(|prepared| prepared.value)
    }
}

/// Checks an event in the wire format by the same rules, and reads it. An id that is absent is a random one.
///
/// # Errors
///
/// Every problem at once where it is an event at all, and otherwise the first.
pub fn check_event(event: impl Into<Vec<u8>>) -> Result<Message, InvalidEmail> {
    Prepared::from_event(event, &Defaults::default()).map(|prepared| prepared.message)
}

/// Shows nothing of people and content.
impl fmt::Debug for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let masked = |text: &Option<String>| text.as_deref().map(mask::text);
        f.debug_struct("Email")
            .field("kind", &masked(&self.kind))
            .field("id", &masked(&self.id))
            .field("template", &masked(&self.template))
            .field("priority", &self.priority)
            .field("recipients", &(self.to.len() + self.cc.len() + self.bcc.len()))
            .finish_non_exhaustive()
    }
}
