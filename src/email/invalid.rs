//! What is wrong with a mail that was not sent.

use std::{error::Error, fmt};

use crate::{compose::ComposeError, event::DecodeError};

/// A mail that the service would have refused: nothing of it was sent.
///
/// Names every problem that was found by the field's name in the event; holds no address and no content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidEmail {
    problems: Vec<InvalidField>,
}

/// One thing that is wrong with a mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidField {
    /// Name of the field in the event, such as `message.to[1]`; empty for the event as a whole. Where the application
    /// gave nothing, it may be the setting that was used instead, such as `MAIL_FROM`.
    pub field: String,
    /// What is wrong with it.
    pub problem: String,
}

impl InvalidEmail {
    /// The problems, at least one; the first field comes first.
    pub fn problems(&self) -> &[InvalidField] {
        &self.problems
    }

    /// The same, where nothing but the data can have brought about a problem of the event as a whole.
    pub(super) fn of_data(mut self) -> Self {
        for problem in self.problems.iter_mut().filter(|problem| problem.field.is_empty()) {
            "message.data".clone_into(&mut problem.field);
        }
        self
    }
}

impl fmt::Display for InvalidEmail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.problems.iter().enumerate() {
            write!(f, "{}{problem}", if at == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

impl Error for InvalidEmail {}

impl fmt::Display for InvalidField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field.is_empty() { f.write_str(&self.problem) } else { write!(f, "{}: {}", self.field, self.problem) }
    }
}

/// Problems on their way to becoming an [`InvalidEmail`], one for each field.
#[derive(Default)]
pub(super) struct Problems(Vec<InvalidField>);

impl Problems {
    pub(super) fn add(&mut self, field: impl Into<String>, problem: impl Into<String>) {
        let (field, problem) = (field.into(), problem.into());
        if !self.0.iter().any(|known| known.field == field) {
            self.0.push(InvalidField { field, problem });
        }
    }

    /// Adds a problem of a field that may have others.
    #[cfg(feature = "templates")]
    pub(super) fn add_another(&mut self, field: impl Into<String>, problem: impl Into<String>) {
        let problem = InvalidField { field: field.into(), problem: problem.into() };
        if !self.0.contains(&problem) {
            self.0.push(problem);
        }
    }

    pub(super) fn add_decode(&mut self, error: DecodeError) {
        self.add(error.field, error.detail);
    }

    pub(super) fn add_compose(&mut self, error: &ComposeError) {
        self.add(error.field(), error.problem());
    }

    pub(super) fn end(self) -> Result<(), InvalidEmail> {
        if self.0.is_empty() { Ok(()) } else { Err(self.into_error()) }
    }

    /// There is a problem.
    pub(super) fn into_error(self) -> InvalidEmail {
        InvalidEmail { problems: self.0 }
    }
}
