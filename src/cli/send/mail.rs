//! One mail: put together, checked, shown, published, or handed to the relay.

use postlane::{Email, InvalidEmail, config::mail_from_variables, email::InvalidField};
use serde_json::json;

use super::{
    arguments::{self, Arguments},
    look::{Fault, Looker},
    one,
};
use crate::cli::{
    data,
    exit::Exit,
    misconfigured,
    terminal::{complain, print},
    variables,
};

/// Options and the fields of the event that they become.
const OPTIONS: [(&str, &str); 14] = [
    ("message.to", "--to"),
    ("message.cc", "--cc"),
    ("message.bcc", "--bcc"),
    ("message.from", "--from"),
    ("message.reply_to", "--reply-to"),
    ("message.subject", "--subject"),
    ("message.template", "--template"),
    ("message.data", "--data"),
    ("message.headers", "--header"),
    ("message.priority", "--priority"),
    ("message.id", "--id"),
    ("message.expires_at", "--expires-in, --expires-at"),
    ("message.max_retries", "--max-attempts"),
    ("type", "--type"),
];

pub(super) fn run(arguments: &Arguments) -> Exit {
    sent(arguments).unwrap_or_else(|exit| exit)
}

fn sent(arguments: &Arguments) -> Result<Exit, Exit> {
    let event = event(&arguments.mail).map_err(|fault| refused(&fault, arguments.json))?;
    let local = arguments.check || arguments.dry_run;
    if local || arguments.direct || std::env::var_os("TEMPLATES_DIR").is_some_and(|folder| !folder.is_empty()) {
        let settings = mail_from_variables(variables()).map_err(|error| misconfigured(&error))?;
        let look = Looker::new(settings).map_err(misplaced)?.look(&event, arguments.direct);
        let look = look.map_err(|fault| refused(&fault, arguments.json))?;
        if arguments.dry_run {
            if let Some(note) = look.note(arguments.format) {
                complain(note);
            }
            return Ok(print(&look.shown(arguments.format, arguments.json, &event), Exit::Done));
        }
        if arguments.check {
            let text = match (arguments.quiet, arguments.json) {
                (true, _) => String::new(),
                (false, true) => json!({ "result": "checked", "id": look.id() }).to_string() + "\n",
                (false, false) => "The mail is sound; nothing was sent.\n".to_owned(),
            };
            return Ok(print(&text, Exit::Done));
        }
    }
    one::send(arguments, event)
}

/// The event of the mail that the options describe; or all that is wrong with it, but for what clap has found.
fn event(mail: &arguments::Mail) -> Result<Vec<u8>, Fault> {
    let mut unread = Vec::new();
    let mut wrong = |field: &str, problem: String| unread.push(InvalidField { field: field.to_owned(), problem });
    let text = |texts: &[String]| texts.to_vec();
    let mut email = Email::to(text(&mail.to)).cc(text(&mail.cc)).bcc(text(&mail.bcc)).reply_to(text(&mail.reply_to));
    if let Some(from) = &mail.from {
        email = email.from(from.as_str());
    }
    if let Some(subject) = &mail.subject {
        email = email.subject(subject);
    }
    if let Some(template) = &mail.template {
        email = email.template(template);
    }
    if let Some(data) = &mail.data {
        match data::parse(data) {
            Ok(data) => email = email.data(data),
            Err(why) => wrong("message.data", why),
        }
    }
    for (index, field) in mail.header.iter().enumerate() {
        match field.split_once(':') {
            Some((name, value)) => email = email.header(name.trim(), value.trim()),
            None => wrong(
                &format!("message.headers[{index}]"),
                "expected a header field such as 'X-Campaign: spring'".to_owned(),
            ),
        }
    }
    if let Some(priority) = mail.priority {
        email = email.priority(priority);
    }
    if let Some(id) = &mail.id {
        email = email.id(id);
    }
    if let Some(kind) = &mail.kind {
        email = email.kind(kind);
    }
    if let Some(after) = mail.expires_in {
        email = email.expires_in(after);
    }
    if let Some(at) = mail.expires_at {
        email = email.expires_at(at);
    }
    if let Some(attempts) = mail.max_attempts {
        email = email.max_attempts(attempts);
    }
    match email.to_event() {
        Ok(event) if unread.is_empty() => Ok(event),
        Ok(_) => Err(Fault(unread)),
        Err(error) => {
            unread.extend_from_slice(error.problems());
            Err(Fault(unread))
        }
    }
}

/// The templates cannot be loaded.
fn misplaced(error: impl std::fmt::Display) -> Exit {
    complain(format_args!("TEMPLATES_DIR: {error}"));
    Exit::Config
}

/// Says what is wrong, by the options' names.
pub(super) fn invalid(error: &InvalidEmail, json: bool) -> Exit {
    refused(&Fault(error.problems().to_vec()), json)
}

fn refused(fault: &Fault, json: bool) -> Exit {
    if json {
        let problem = |problem: &InvalidField| json!({ "field": problem.field, "problem": problem.problem });
        let problems: Vec<_> = fault.0.iter().map(problem).collect();
        let _ = print(&(json!({ "result": "invalid", "problems": problems }).to_string() + "\n"), Exit::Usage);
    }
    for problem in &fault.0 {
        complain(named(problem));
    }
    complain("nothing was sent");
    Exit::Usage
}

/// A problem by the name of the option that brought it.
fn named(problem: &InvalidField) -> String {
    let (field, index) = match problem.field.split_once('[') {
        Some((field, index)) => (field, index.trim_end_matches(']').parse::<usize>().ok()),
        None => (problem.field.as_str(), None),
    };
    let option = OPTIONS.iter().find(|(known, _)| *known == field || field.starts_with(&format!("{known}.")));
    match (option, index) {
        (Some((_, option)), Some(index)) => format!("{option} ({}): {}", index + 1, problem.problem),
        (Some((_, option)), None) => format!("{option}: {}", problem.problem),
        (None, _) => problem.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_told_by_the_option() {
        for (field, expected) in [
            ("message.to[1]", "--to (2): no"),
            ("message.from", "--from: no"),
            ("message.headers.X-A", "--header: no"),
            ("message.expires_at", "--expires-in, --expires-at: no"),
            ("type", "--type: no"),
            ("MAIL_FROM", "MAIL_FROM: no"),
            ("", "no"),
        ] {
            let problem = InvalidField { field: field.to_owned(), problem: "no".to_owned() };
            assert_eq!(named(&problem), expected);
        }
    }
}
