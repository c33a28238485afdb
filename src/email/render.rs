//! Whether a mail can be rendered: what is missing in its data is found before it leaves.

use lettre::{Address, message::Mailbox};

use super::{Defaults, Email, InvalidEmail, Prepared, invalid::Problems};
use crate::{
    compose::{Mail, MakeError, make},
    config,
    event::Message,
    template::{Part, RenderError, Templates},
};

impl Email {
    /// As [`check`](Self::check), and makes the mail with these templates: an unknown template, a variable that is
    /// missing in the data, a link that is none are found in the application's own tests.
    ///
    /// ```
    /// use postlane::{Email, template::Templates};
    /// use serde_json::json;
    ///
    /// let templates = Templates::load(None)?;
    /// let email = Email::to("ann@example.com").template("password-reset");
    /// assert_eq!(email.clone().data(json!({ "Link": "https://example.com/" })).check_with(&templates), Ok(()));
    ///
    /// let wrong = email.data(json!({ "Lnik": "https://example.com/" })).check_with(&templates).unwrap_err();
    /// assert!(wrong.problems().iter().all(|problem| problem.field == "message.data"));
    /// # Ok::<(), postlane::template::LoadError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Every problem at once, each with the name of its field; those of the data name template, part and expression.
    pub fn check_with(&self, templates: &Templates) -> Result<(), InvalidEmail> {
        self.clone().prepare(&Defaults::default())?.check_with(templates, &settings())
    }
}

/// What a service says about its mails that was told nothing.
pub(crate) fn settings() -> config::Mail {
    config::Mail {
        from: None,
        envelope_from: None,
        max_size: 10_000_000,
        subject_templates: false,
        templates_dir: None,
        redirect_to: None,
    }
}

impl Prepared {
    /// Whether these templates make a mail of it. Where nobody here knows a sender, somebody else does.
    pub(crate) fn check_with(&self, templates: &Templates, settings: &config::Mail) -> Result<(), InvalidEmail> {
        made(&self.message, templates, settings).map(drop)
    }
}

/// The mail that templates make of a message.
pub(crate) fn made(message: &Message, templates: &Templates, settings: &config::Mail) -> Result<Mail, InvalidEmail> {
    let somebody = || Mailbox { name: None, email: Address::new_dangerous("somebody", "example.invalid") };
    let settings = config::Mail { from: Some(settings.from.clone().unwrap_or_else(somebody)), ..settings.clone() };
    let mut problems = Problems::default();
    match make(message, templates, &settings) {
        Ok(mail) => return Ok(mail),
        Err(MakeError::Compose(error)) => problems.add_compose(&error),
        Err(MakeError::Render(error)) => {
            problems.add(field(&error), error.to_string());
            // the first part that fails has hidden the others
            let has_subject = message.subject.as_ref().is_some_and(|subject| !subject.trim().is_empty());
            for part in templates.parts(&message.template).filter(|part| *part != Part::Subject || !has_subject) {
                if let Some(Err(error)) = templates.render_part(&message.template, part, &message.data) {
                    problems.add_another(field(&error), error.to_string());
                }
            }
        }
        Err(error @ MakeError::Panicked(_)) => problems.add("message", error.to_string()),
    }
    Err(problems.into_error())
}

fn field(error: &RenderError) -> &'static str {
    match error {
        RenderError::UnknownTemplate { .. } => "message.template",
        RenderError::Part { .. } => "message.data",
        RenderError::Subject { .. } => "message.subject",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn problems(email: &Email) -> Vec<String> {
        let templates = Templates::load(None).expect("the built-in ones are sound");
        let result = email.check_with(&templates).err();
        result.iter().flat_map(InvalidEmail::problems).map(ToString::to_string).collect()
    }

    #[test]
    fn what_the_template_needs_must_be_there() {
        let email = || Email::to("ann@example.com").template("password-reset");
        assert!(problems(&email().data(json!({ "Link": "https://example.com/x" }))).is_empty());
        let missing = problems(&email());
        assert_eq!(missing.len(), 2, "the text and the HTML part need the link: {missing:?}");
        for (part, problem) in ["text", "html"].into_iter().zip(&missing) {
            let expected = format!("message.data: template password-reset, {part} part");
            assert!(problem.starts_with(&expected) && problem.contains("undefined value in"), "{problem}");
        }
        let refused = problems(&email().data(json!({ "Link": "javascript:alert(1)" })));
        assert!(refused.iter().all(|problem| problem.contains("not an http, https or mailto link")), "{refused:?}");
    }

    #[test]
    fn a_template_and_a_subject_must_be_there() {
        let email = |template: &str| Email::to("ann@example.com").template(template).data(json!({ "body": "x" }));
        assert_eq!(problems(&email("nowhere")), ["message.template: there is no template \"nowhere\""]);
        assert_eq!(problems(&email("plain")), ["message.subject: is absent and the template has none"]);
        assert!(problems(&email("plain").subject("Hello")).is_empty());
        assert_eq!(problems(&email("plain").subject("a\n")), ["message.subject: control characters"]);
    }
}
