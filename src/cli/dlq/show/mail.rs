//! The mail that a letter would become now, with the templates and settings of this machine.

use postlane::{
    compose::{self, Mail, Rendered},
    config::{self, mail_from_variables},
    dead_letters::Letter,
    template::Survey,
};

use crate::cli::variables;

/// What mails are made of.
pub(super) struct Kitchen {
    made_of: Result<(Survey, config::Mail), String>,
}

impl Kitchen {
    pub(super) fn new() -> Self {
        let made_of = mail_from_variables(variables())
            .map(|settings| (Survey::load(settings.templates_dir.as_deref()), settings))
            .map_err(|error| {
                let problems: Vec<String> = error.0.iter().map(ToString::to_string).collect();
                format!("the configuration is wrong: {}", problems.join("; "))
            });
        Self { made_of }
    }

    /// The mail and what its template has given; or why there is none.
    pub(super) fn make(&self, letter: &Letter) -> Result<(Rendered, Mail), String> {
        let message = letter.event.as_ref().map_err(ToString::to_string)?;
        let (survey, settings) = self.made_of.as_ref().map_err(Clone::clone)?;
        // a template that does not load is none of the sound ones, and says itself why
        let problems: Vec<String> = survey.problems_of(&message.template).map(ToString::to_string).collect();
        if !problems.is_empty() {
            return Err(problems.join("; "));
        }
        let templates = survey.templates();
        let mail = compose::make(message, templates, settings).map_err(|error| error.to_string())?;
        let rendered =
            templates.render_message(message, settings.subject_templates).map_err(|error| error.to_string())?;
        Ok((rendered, mail))
    }
}
