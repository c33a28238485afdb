//! A template and its data to the mail that would go out.

use chrono::{DateTime, Utc};
use lettre::message::Mailbox;
use postlane::{
    compose::{self, ComposeError, Mail},
    config,
    event::{Message, Priority},
    template::{Data, Rendered},
};

/// Sender where neither the command nor `MAIL_FROM` names one.
const SENDER: &str = "Sender <sender@example.com>";
/// Recipient where the command names none.
const RECIPIENT: &str = "Recipient <recipient@example.com>";
/// Subject where neither the command nor the template has one.
const SUBJECT: &str = "(the subject comes with the event)";

/// What an event would say beside template and data.
#[derive(Debug, Clone)]
pub(super) struct Envelope {
    pub(super) from: Option<Mailbox>,
    pub(super) to: Vec<Mailbox>,
    pub(super) subject: Option<String>,
    pub(super) timestamp: DateTime<Utc>,
}

impl Envelope {
    /// Placeholders, as of now.
    pub(super) fn placeholder() -> Self {
        Self { from: None, to: Vec::new(), subject: None, timestamp: Utc::now() }
    }

    /// The event's message.
    pub(super) fn message(&self, template: &str, data: &Data, settings: &config::Mail) -> Message {
        let placeholder = |text: &str| text.parse::<Mailbox>().expect("the placeholders are mailboxes");
        let from = self.from.clone().or_else(|| settings.from.is_none().then(|| placeholder(SENDER)));
        Message {
            kind: "notification".to_owned(),
            id: format!("preview of {template}"),
            from,
            to: if self.to.is_empty() { vec![placeholder(RECIPIENT)] } else { self.to.clone() },
            cc: Vec::new(),
            bcc: Vec::new(),
            reply_to: Vec::new(),
            subject: self.subject.clone(),
            template: template.to_owned(),
            data: data.clone(),
            headers: Vec::new(),
            priority: Priority::Normal,
            timestamp: self.timestamp,
            expires_at: None,
            retry_count: 0,
            max_retries: None,
            only_recipients: None,
        }
    }
}

/// Composes what was rendered as the service does.
pub(super) fn compose(
    message: &Message,
    mut rendered: Rendered,
    settings: &config::Mail,
) -> Result<Mail, ComposeError> {
    if message.subject.is_none() && rendered.subject.is_none() {
        rendered.subject = Some(SUBJECT.to_owned());
    }
    compose::compose(message, rendered, settings)
}
