//! An event as the mail that it becomes, with the templates that are known here.

use std::fmt::{self, Write as _};

use lettre::message::Mailbox;
use postlane::{
    InvalidEmail,
    compose::{ComposeError, Mail, compose},
    config,
    email::{InvalidField, check_event},
    event::{Message, mailbox_text},
    failure::Reason,
    template::{LoadError, RenderError, Rendered, Templates},
};
use serde_json::{Value, json};

use super::arguments::Format;

/// Stands for a sender that the service alone knows.
const SOMEBODY: &str = "noreply@example.com";

/// What is wrong with an event, at least one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault(pub(super) Vec<InvalidField>);

impl From<InvalidEmail> for Fault {
    fn from(error: InvalidEmail) -> Self {
        Self(error.problems().to_vec())
    }
}

impl From<ComposeError> for Fault {
    fn from(error: ComposeError) -> Self {
        Self(vec![InvalidField { field: error.field().to_owned(), problem: error.problem().to_owned() }])
    }
}

impl From<RenderError> for Fault {
    fn from(error: RenderError) -> Self {
        let field = if error.reason() == Reason::UnknownTemplate { "message.template" } else { "" };
        Self(vec![InvalidField { field: field.to_owned(), problem: error.to_string() }])
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            write!(f, "{}{problem}", if index == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

/// Renders and composes.
#[derive(Debug)]
pub(super) struct Looker {
    templates: Templates,
    settings: config::Mail,
}

impl Looker {
    /// Loads the templates.
    pub(super) fn new(settings: config::Mail) -> Result<Self, LoadError> {
        let templates = Templates::load(settings.templates_dir.as_deref())?;
        Ok(Self { templates, settings })
    }

    /// The mail. Where it goes to a service, which may have a `MAIL_FROM`, no sender needs to be known here.
    pub(super) fn look(&self, event: &[u8], sender_needed: bool) -> Result<Look, Fault> {
        let mut message = check_event(event)?;
        let from = message.from.clone().or_else(|| self.settings.from.clone());
        if from.is_none() && !sender_needed {
            message.from = Some(SOMEBODY.parse::<Mailbox>().expect("an address"));
        }
        let rendered = self.templates.render_message(&message, self.settings.subject_templates)?;
        let mail = compose(&message, rendered.clone(), &self.settings)?;
        let envelope_from =
            (from.is_some() || self.settings.envelope_from.is_some()).then(|| mail.envelope_from.to_string());
        Ok(Look { message, from, envelope_from, mail, rendered })
    }
}

/// A mail that could go out.
#[derive(Debug)]
pub(super) struct Look {
    message: Message,
    /// `None` where the service puts in its own.
    from: Option<Mailbox>,
    envelope_from: Option<String>,
    mail: Mail,
    rendered: Rendered,
}

impl Look {
    /// Its id.
    pub(super) fn id(&self) -> &str {
        &self.message.id
    }

    /// What is to be known beside it, for standard error: where the bytes are not quite those that will go out.
    pub(super) fn note(&self, format: Format) -> Option<String> {
        (self.from.is_none() && format == Format::Eml)
            .then(|| format!("without --from the service puts in its MAIL_FROM, for which {SOMEBODY} stands here"))
    }

    /// What `--dry-run` prints.
    pub(super) fn shown(&self, format: Format, json: bool, event: &[u8]) -> String {
        match format {
            Format::Event => String::from_utf8_lossy(event).into_owned() + "\n",
            Format::Eml => String::from_utf8_lossy(&self.mail.bytes).into_owned(),
            Format::Html => self.rendered.html.clone().unwrap_or_default(),
            Format::Text if json => self.json().to_string() + "\n",
            Format::Text => self.text(),
        }
    }

    fn text(&self) -> String {
        let message = &self.message;
        let from = vec![self.from.as_ref().map_or_else(|| "(MAIL_FROM of the service)".to_owned(), mailbox_text)];
        let goes_to: Vec<String> = self.mail.recipients.iter().map(|recipient| recipient.address.to_string()).collect();
        let mut rows = vec![("From", from), ("Reply-To", texts(&message.reply_to)), ("To", texts(&message.to))];
        rows.push(("Cc", texts(&message.cc)));
        rows.push(("Subject", self.rendered.subject.iter().cloned().collect()));
        rows.push(("Message-ID", self.message_id().map(str::to_owned).into_iter().collect()));
        rows.extend(message.headers.iter().map(|(name, value)| (name.as_str(), vec![value.clone()])));
        let mut out = String::new();
        for (name, values) in rows.iter().filter(|(_, values)| !values.is_empty()) {
            let _ = writeln!(out, "{name}: {}", values.join(", "));
        }
        let envelope_from = self.envelope_from.as_ref().map(|from| format!("from {from}, ")).unwrap_or_default();
        let _ = writeln!(out, "(to the relay: {envelope_from}to {})", goes_to.join(", "));
        match &self.rendered.text {
            Some(text) => {
                let _ = writeln!(out, "\n{}", text.trim_end());
            }
            None => out.push_str("\n(HTML alone: see it with --format html)\n"),
        }
        out
    }

    /// It has the sender's domain.
    fn message_id(&self) -> Option<&str> {
        self.from.as_ref().map(|_| self.mail.message_id.as_str())
    }

    fn json(&self) -> Value {
        let message = &self.message;
        let goes_to: Vec<String> = self.mail.recipients.iter().map(|recipient| recipient.address.to_string()).collect();
        json!({
            "result": "shown",
            "id": message.id,
            "message_id": self.message_id(),
            "priority": message.priority.to_string(),
            "from": self.from.as_ref().map(mailbox_text),
            "to": texts(&message.to),
            "cc": texts(&message.cc),
            "bcc": texts(&message.bcc),
            "reply_to": texts(&message.reply_to),
            "subject": self.rendered.subject,
            "text": self.rendered.text,
            "html": self.rendered.html,
            "envelope": { "from": self.envelope_from, "to": goes_to },
            "bytes": self.mail.bytes.len(),
        })
    }
}

fn texts(mailboxes: &[Mailbox]) -> Vec<String> {
    mailboxes.iter().map(mailbox_text).collect()
}
