//! One mail that was sent, looked at from all sides.

use std::{collections::BTreeMap, fmt, sync::Arc};

use serde_json::{Map, Value};

use super::links;
use crate::{
    compose::Rendered,
    config,
    email::{Prepared, render::made},
    event::Message,
    template::{RenderError, Templates},
};

/// A mail that a test's producer was given.
#[derive(Clone)]
pub struct Sent {
    prepared: Prepared,
    templates: Arc<Templates>,
    settings: Arc<config::Mail>,
}

impl Sent {
    pub(super) fn new(prepared: Prepared, templates: Arc<Templates>, settings: Arc<config::Mail>) -> Self {
        Self { prepared, templates, settings }
    }

    /// Its identity, as the receipt has it.
    pub fn id(&self) -> &str {
        &self.prepared.id
    }

    /// All that the event says: recipients, priority, expiry and the rest, as the service reads it.
    pub fn message(&self) -> &Message {
        &self.prepared.message
    }

    /// Name of the template.
    pub fn template(&self) -> &str {
        &self.prepared.message.template
    }

    /// What the template is filled with.
    pub fn data(&self) -> &Map<String, Value> {
        &self.prepared.message.data
    }

    /// The addresses of all recipients in to, cc, bcc order, without their names.
    pub fn recipients(&self) -> Vec<String> {
        let Message { to, cc, bcc, .. } = &self.prepared.message;
        [to, cc, bcc].into_iter().flatten().map(|mailbox| mailbox.email.to_string()).collect()
    }

    /// Value of the record: the event as JSON.
    pub fn event(&self) -> &[u8] {
        &self.prepared.value
    }

    /// Headers of the record.
    pub fn record_headers(&self) -> &BTreeMap<String, Vec<u8>> {
        &self.prepared.headers
    }

    /// The subject as the recipient sees it; empty where neither the mail nor the template has one.
    ///
    /// # Panics
    ///
    /// If it cannot be rendered; [`render`](Self::render) gives the error instead.
    #[track_caller]
    pub fn subject(&self) -> String {
        self.rendered().subject.unwrap_or_default()
    }

    /// The plain text, if it has one.
    ///
    /// # Panics
    ///
    /// As [`subject`](Self::subject).
    #[track_caller]
    pub fn text(&self) -> Option<String> {
        self.rendered().text
    }

    /// The HTML, if it has one.
    ///
    /// # Panics
    ///
    /// As [`subject`](Self::subject).
    #[track_caller]
    pub fn html(&self) -> Option<String> {
        self.rendered().html
    }

    /// Where the links of HTML and text lead, each once: `http:`, `https:` and `mailto:`.
    ///
    /// # Panics
    ///
    /// As [`subject`](Self::subject).
    #[track_caller]
    pub fn links(&self) -> Vec<String> {
        let rendered = self.rendered();
        let html = rendered.html.as_deref().map(links::of_html).unwrap_or_default();
        let text = rendered.text.as_deref().map(links::of_text).unwrap_or_default();
        let mut links = Vec::new();
        for link in html.into_iter().chain(text) {
            if !links.contains(&link) {
                links.push(link);
            }
        }
        links
    }

    /// The mail as it would go over SMTP. Where nothing says who sends it, `somebody@example.invalid` does.
    ///
    /// # Panics
    ///
    /// If it cannot be rendered or composed.
    #[track_caller]
    pub fn eml(&self) -> String {
        match made(&self.prepared.message, &self.templates, &self.settings) {
            Ok(mail) => String::from_utf8(mail.bytes).expect("a mail is ASCII"),
            Err(error) => panic!("{error}"),
        }
    }

    /// Renders it.
    ///
    /// # Errors
    ///
    /// [`RenderError`]: an unknown template, a value that is missing.
    pub fn render(&self) -> Result<Rendered, RenderError> {
        self.templates.render_message(&self.prepared.message, self.settings.subject_templates)
    }

    #[track_caller]
    fn rendered(&self) -> Rendered {
        match self.render() {
            Ok(rendered) => rendered,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Shows what helps to understand why a test fails: this one is no log.
impl fmt::Debug for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sent")
            .field("id", &self.id())
            .field("recipients", &self.recipients())
            .field("template", &self.template())
            .field("data", &self.data())
            .finish_non_exhaustive()
    }
}
