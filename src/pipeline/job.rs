//! One mail on its way through the pipeline.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use super::partition::{Place, Ticket};
use crate::{
    compose::{self, Mail, MakeError, Step},
    config,
    event::{self, DecodeError, Message, Priority},
    kafka::{
        Record,
        dead_letter::{Failure, Reason, Stage},
    },
    retry::Attempts,
    telemetry::Trace,
    template::Templates,
};

/// One mail on its way: its record, its ticket, and what it has behind it.
#[derive(Debug)]
pub struct Job {
    /// The record, for decoding it anew at each attempt and for its dead letter.
    pub record: Arc<Record>,
    /// Settles the record.
    pub ticket: Ticket,
    /// Lane in which it is scheduled.
    pub lane: Priority,
    /// Identity of the mail.
    pub id: String,
    /// Name of its template.
    pub template: String,
    /// The `Message-ID`, once the mail was composed.
    pub message_id: Option<String>,
    /// Its envelope sender, once the mail was composed.
    pub sender: String,
    /// The recipients masked, once the mail was composed.
    pub recipients: String,
    /// What was tried so far, once the mail was composed.
    pub attempts: Option<Attempts>,
    /// Its place in the topic's buffer, until its first attempt.
    pub buffer: Option<Place>,
    /// Its spans.
    pub trace: Trace,
}

impl Job {
    /// Attempts used up so far.
    pub fn attempts_used(&self) -> u32 {
        self.attempts.as_ref().map_or(0, Attempts::used)
    }
}

/// Decodes a record; a panic is its failure.
pub(super) fn decode(record: &Record) -> Result<Message, Failure> {
    // what the closure borrows is only read, so a panic leaves nothing half done behind
    catch_unwind(AssertUnwindSafe(|| event::decode(record).map_err(|error| decode_failure(&error)))).unwrap_or_else(
        |_| {
            let text = "postlane failed on this record: a defect, please report it";
            Err(failure(Stage::Decode, Reason::Malformed, text.to_owned()))
        },
    )
}

/// Renders and composes; a panic is the mail's failure.
pub(super) fn compose(message: &Message, templates: &Templates, settings: &config::Mail) -> Result<Mail, Failure> {
    compose::make(message, templates, settings).map_err(|error| {
        let (stage, reason) = match &error {
            MakeError::Render(error) => (Stage::Template, error.reason()),
            MakeError::Compose(error) => (Stage::Compose, error.reason()),
            MakeError::Panicked(Step::Render) => (Stage::Template, Reason::RenderFailed),
            MakeError::Panicked(Step::Compose) => (Stage::Compose, Reason::Malformed),
        };
        Failure { message_id: Some(message.id.clone()), ..failure(stage, reason, error.to_string()) }
    })
}

fn failure(stage: Stage, reason: Reason, message: String) -> Failure {
    Failure {
        stage,
        reason,
        message,
        recipients: None,
        attempts: 0,
        smtp_code: None,
        smtp_enhanced: None,
        message_id: None,
    }
}

fn decode_failure(error: &DecodeError) -> Failure {
    let reason = match error.problem {
        event::Problem::Malformed => Reason::Malformed,
        event::Problem::BadAddress => Reason::BadAddress,
        event::Problem::Unsupported => Reason::Unsupported,
        event::Problem::TooLarge => Reason::TooLarge,
    };
    failure(Stage::Decode, reason, error.to_string())
}
