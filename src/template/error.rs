//! What can be wrong with templates, at the start and with a mail.

use std::{error::Error, fmt};

use minijinja::{Environment, ErrorKind};

use super::{
    check::tag_at,
    engine::{MAX_PART_SIZE, Refused},
    files::Part,
};
use crate::{event::is_template_folder, failure::Reason};

/// Something wrong with one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// File as `folder/file`, or the folder.
    pub file: String,
    /// Line from 1, where it is known.
    pub line: Option<usize>,
    /// What is wrong.
    pub text: String,
}

impl Problem {
    pub(super) fn new(file: impl fmt::Display, text: impl fmt::Display) -> Self {
        Self { file: file.to_string(), line: None, text: text.to_string() }
    }

    pub(super) fn at(file: &str, line: usize, text: impl fmt::Display) -> Self {
        Self { file: file.to_owned(), line: Some(line), text: text.to_string() }
    }

    /// A sample that is not a JSON object, or no JSON at all.
    pub(super) fn json(file: &str, error: &serde_json::Error) -> Self {
        let text = error.to_string();
        // the place stands before the text, as in all other problems
        let text = match text.rsplit_once(" at line ") {
            Some((text, _)) => text.to_owned(),
            None => text,
        };
        Self { file: file.to_owned(), line: Some(error.line()).filter(|line| *line > 0), text }
    }

    pub(super) fn syntax(file: &str, error: &minijinja::Error) -> Self {
        let text = match error.detail() {
            Some(detail) => format!("{}: {detail}", error.kind()),
            None => error.kind().to_string(),
        };
        Self { file: file.to_owned(), line: error.line(), text }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.file, self.text),
            None => write!(f, "{}: {}", self.file, self.text),
        }
    }
}

/// Templates that cannot be used: every problem of every file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadError {
    problems: Vec<Problem>,
}

impl LoadError {
    pub(super) fn new(mut problems: Vec<Problem>) -> Self {
        problems.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
        Self { problems }
    }

    /// The problems by file and line, where there may be none.
    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems
    }

    /// The problems by file and line; at least one.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("templates:")?;
        for problem in &self.problems {
            write!(f, "\n  {problem}")?;
        }
        Ok(())
    }
}

impl Error for LoadError {}

/// A mail that cannot be rendered. The text names template, part, file, line and expression, never a value of the data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// There is no template of that name.
    #[error("there is no template {template}")]
    UnknownTemplate {
        /// Name as the event has it, or a note that it can be none.
        template: String,
    },
    /// A part could not be rendered.
    #[error("template {template}, {part} part{}: {problem}", place(file.as_deref(), *line))]
    Part {
        /// Name of the template.
        template: String,
        /// `subject`, `text` or `html`.
        part: &'static str,
        /// File in which it went wrong, where known; it may be a layout.
        file: Option<String>,
        /// Line of that file, from 1, where known.
        line: Option<usize>,
        /// What went wrong, with the expression that it went wrong in.
        problem: String,
    },
    /// `message.subject` could not be rendered.
    #[error("message.subject: {problem}")]
    Subject {
        /// What went wrong.
        problem: String,
    },
}

impl RenderError {
    /// The reason that its dead letter names.
    pub fn reason(&self) -> Reason {
        match self {
            Self::UnknownTemplate { .. } => Reason::UnknownTemplate,
            Self::Part { .. } | Self::Subject { .. } => Reason::RenderFailed,
        }
    }

    pub(super) fn unknown(name: &str) -> Self {
        let template = if is_template_folder(name) { format!("{name:?}") } else { "of such a name".to_owned() };
        Self::UnknownTemplate { template }
    }

    pub(super) fn failed(template: &str, part: Part, error: &minijinja::Error, env: &Environment<'_>) -> Self {
        let error = innermost(error);
        let expression = error.name().and_then(|name| {
            let template = env.get_template(name).ok()?;
            let tag = tag_at(template.source(), error.range()?.start)?;
            Some(tag.split_whitespace().collect::<Vec<_>>().join(" "))
        });
        let problem = match expression {
            Some(expression) if expression.len() <= 100 => format!("{} in `{expression}`", describe(error)),
            _ => describe(error),
        };
        let file = error.name().map(str::to_owned);
        Self::Part {
            template: template.to_owned(),
            part: part.name(),
            line: file.as_ref().and(error.line()),
            file,
            problem,
        }
    }

    pub(super) fn subject(error: &minijinja::Error) -> Self {
        Self::Subject { problem: describe(innermost(error)) }
    }
}

/// ` (file:line)`, as far as it is known.
fn place(file: Option<&str>, line: Option<usize>) -> String {
    match (file, line) {
        (Some(file), Some(line)) => format!(" ({file}:{line})"),
        (Some(file), None) => format!(" ({file})"),
        (None, _) => String::new(),
    }
}

/// An error in a layout, an include or a macro comes wrapped in those of the files that use it.
fn innermost(error: &minijinja::Error) -> &minijinja::Error {
    let mut found = error;
    let mut next = error.source();
    while let Some(source) = next {
        if let Some(inner) = source.downcast_ref::<minijinja::Error>().filter(|inner| inner.line().is_some()) {
            found = inner;
        }
        next = source.source();
    }
    found
}

/// The kind of error in our words: the engine's details may quote data.
fn describe(error: &minijinja::Error) -> String {
    let mut next = error.source();
    while let Some(source) = next {
        if let Some(refused) = source.downcast_ref::<Refused>() {
            return refused.to_string();
        }
        next = source.source();
    }
    match error.kind() {
        ErrorKind::WriteFailure => format!("output larger than {MAX_PART_SIZE} bytes"),
        ErrorKind::OutOfFuel => "too much work: a loop without end?".to_owned(),
        kind => kind.to_string(),
    }
}
