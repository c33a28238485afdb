//! An event's message to the mail, by way of its template: what the service and the direct way both send.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{ComposeError, Mail, compose};
use crate::{
    config,
    event::Message,
    template::{RenderError, Templates},
};

/// Why a message cannot become a mail. The text shows no address and no value of the data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MakeError {
    /// It cannot be rendered.
    #[error(transparent)]
    Render(#[from] RenderError),
    /// What was rendered may not go into a mail.
    #[error(transparent)]
    Compose(#[from] ComposeError),
    /// Rendering or composing panicked: that is the end of this mail alone.
    #[error("postlane failed on this mail: a defect, please report it")]
    Panicked(Step),
}

/// What is done to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Rendering its template.
    Render,
    /// Composing the mail.
    Compose,
}

/// Renders and composes.
///
/// # Errors
///
/// [`MakeError`]; a panic is one, too.
pub fn make(message: &Message, templates: &Templates, settings: &config::Mail) -> Result<Mail, MakeError> {
    let render = || Ok(templates.render_message(message, settings.subject_templates)?);
    let rendered = guard(Step::Render, render)?;
    guard(Step::Compose, || Ok(compose(message, rendered, settings)?))
}

fn guard<T>(step: Step, work: impl FnOnce() -> Result<T, MakeError>) -> Result<T, MakeError> {
    // what the closure borrows is only read, so a panic leaves nothing half done behind
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(MakeError::Panicked(step)))
}
