//! Templates: load, check, render.
//!
//! Owns what a template may say and do: the built-in templates, those of `TEMPLATES_DIR` over them, the checks at the
//! start and the limits of a rendering. Everything is read into memory once; rendering touches no file. What may stand
//! in a header or an address is none of its business: that is [`compose`](crate::compose).

mod check;
mod engine;
mod error;
mod files;
mod survey;
mod variables;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::Path,
};

use minijinja::{Environment, Value};

use self::files::Files;
pub use self::{
    engine::MAX_PART_SIZE,
    error::{LoadError, Problem, RenderError},
    files::{Origin, Part},
    survey::Survey,
    variables::Usage,
};
pub use crate::compose::Rendered;
use crate::event::Message;

/// Data of a template: `message.data` of an event, or `sample.json`.
pub type Data = serde_json::Map<String, serde_json::Value>;

/// All templates, checked and compiled.
pub struct Templates {
    env: Environment<'static>,
    parts: BTreeMap<String, BTreeSet<Part>>,
    samples: BTreeMap<String, Data>,
}

impl Templates {
    /// Loads the built-in templates and over them those of a folder of the same shape (`TEMPLATES_DIR`).
    ///
    /// # Errors
    /// All problems of all files at once: unreadable, not UTF-8, syntax, references to files that are not there,
    /// unknown filters and tests, templates with neither a text nor an HTML part.
    pub fn load(dir: Option<&Path>) -> Result<Self, LoadError> {
        let mut files = Files::built_in();
        let mut problems = Vec::new();
        if let Some(dir) = dir {
            files.overlay(dir, &mut problems);
        }
        let templates = Self::build(&files, &mut problems);
        if problems.is_empty() { Ok(templates) } else { Err(LoadError::new(problems)) }
    }

    /// Compiles what can be compiled; what cannot is missing in the engine and stands among the problems.
    fn build(files: &Files, problems: &mut Vec<Problem>) -> Self {
        let parts = files.parts(problems);
        let samples = files.samples(problems);
        let mut env = engine::environment();
        let sources = files.sources();
        let mut sound = BTreeSet::new();
        for (name, source) in sources {
            match env.add_template_owned(name.clone(), source.clone()) {
                Ok(()) => _ = sound.insert(name.as_str()),
                Err(error) => problems.push(Problem::syntax(name, &error)),
            }
        }
        for name in sound {
            check::check(name, sources, &env, problems);
        }
        Self { env, parts, samples }
    }

    /// Names of all templates, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.parts.keys().map(String::as_str)
    }

    /// Whether there is a template of that name.
    pub fn contains(&self, name: &str) -> bool {
        self.parts.contains_key(name)
    }

    /// Data that the template's `sample.json` shows it with, if it has one.
    pub fn sample(&self, name: &str) -> Option<&Data> {
        self.samples.get(name)
    }

    /// Renders all parts of a template.
    ///
    /// # Errors
    /// [`RenderError`]: an unknown template, a value that is missing or null, a link that `safe_url` refuses, a limit that
    /// is reached.
    pub fn render(&self, name: &str, data: &Data) -> Result<Rendered, RenderError> {
        self.render_parts(name, &engine::context(data), true)
    }

    /// The parts that a template has, in the order subject, text, HTML; none where there is no such template.
    pub fn parts(&self, name: &str) -> impl Iterator<Item = Part> {
        self.parts.get(name).into_iter().flatten().copied()
    }

    /// Renders one part of a template, whatever is wrong with the others; `None` where it has no such part.
    ///
    /// # Errors
    /// As [`render`](Self::render).
    pub fn render_part(&self, name: &str, part: Part, data: &Data) -> Option<Result<String, RenderError>> {
        let has = self.parts.get(name)?.contains(&part);
        has.then(|| self.render_one(name, part, &engine::context(data)))
    }

    /// Renders a text that a producer gave as `message.subject` (`MAIL_SUBJECT_TEMPLATES=true`).
    ///
    /// # Errors
    /// [`RenderError`], syntax errors included.
    pub fn render_subject(&self, subject: &str, data: &Data) -> Result<String, RenderError> {
        self.render_own_subject(subject, &engine::context(data))
    }

    /// Renders what a message asks for: the one entry that the delivery uses.
    ///
    /// [`Rendered::subject`] is final: the message's own, as it stands or expanded (`subject_templates`), and only
    /// where it has none or a blank one that of the template, which is otherwise not rendered at all.
    ///
    /// # Errors
    /// As [`render`](Self::render) and [`render_subject`](Self::render_subject).
    pub fn render_message(&self, message: &Message, subject_templates: bool) -> Result<Rendered, RenderError> {
        let context = engine::context(&message.data);
        let own = message.subject.as_deref().filter(|subject| !subject.trim().is_empty());
        let mut rendered = self.render_parts(&message.template, &context, own.is_none())?;
        match own {
            Some(own) if subject_templates => rendered.subject = Some(self.render_own_subject(own, &context)?),
            Some(own) => rendered.subject = Some(own.to_owned()),
            None => {}
        }
        Ok(rendered)
    }

    fn render_parts(&self, name: &str, context: &Value, with_subject: bool) -> Result<Rendered, RenderError> {
        let parts = self.parts.get(name).ok_or_else(|| RenderError::unknown(name))?;
        let mut rendered = Rendered::default();
        for &part in parts {
            let field = match part {
                Part::Subject if !with_subject => continue,
                Part::Subject => &mut rendered.subject,
                Part::Text => &mut rendered.text,
                Part::Html => &mut rendered.html,
            };
            *field = Some(self.render_one(name, part, context)?);
        }
        Ok(rendered)
    }

    fn render_one(&self, name: &str, part: Part, context: &Value) -> Result<String, RenderError> {
        let output = self
            .env
            .get_template(&part.path(name))
            .and_then(|template| engine::render(&template, context))
            .map_err(|error| RenderError::failed(name, part, &error, &self.env))?;
        Ok(if part == Part::Subject { single_blanks(&output) } else { output })
    }

    fn render_own_subject(&self, subject: &str, context: &Value) -> Result<String, RenderError> {
        // a producer's expressions get little fuel: with all of it they could nest values so deep that dropping them
        // overflows the stack
        let mut env = self.env.clone();
        env.set_fuel(Some(engine::SUBJECT_FUEL));
        env.template_from_named_str("message.subject", subject)
            .and_then(|template| engine::render(&template, context))
            .map_err(|error| RenderError::subject(&error))
    }
}

/// What the tags of a subject's file leave between them are blanks, some of them in a row.
fn single_blanks(subject: &str) -> String {
    subject.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

impl fmt::Debug for Templates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.parts.keys()).finish()
    }
}

#[cfg(test)]
mod tests;
