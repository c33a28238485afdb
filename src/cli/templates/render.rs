//! `postlane templates render`: one template to text, HTML or a whole mail.

use std::{fs, path::PathBuf};

use chrono::Utc;
use clap::{Args, ValueEnum};
use lettre::message::Mailbox;
use postlane::{
    config,
    event::parse_mailbox,
    template::{Data, Part, Rendered, Survey},
};

use super::{
    super::{
        data,
        exit::Exit,
        terminal::{complain, print},
    },
    Source,
    mail::{self, Envelope},
    shown, unknown,
};

/// What to render, with what, and as what.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  postlane templates render welcome
  postlane templates render welcome --data '{\"Name\": \"you\"}' --format html
  # the whole mail, as mail clients open it
  postlane templates render welcome --data @you.json --format eml --output w.eml")]
pub(in crate::cli) struct Arguments {
    /// Name of the template
    name: String,
    /// JSON object, @FILE, or @- for standard input; its sample data where this is left out
    #[arg(long, value_name = "JSON")]
    data: Option<String>,
    /// What to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Recipient in the mail; can be given several times
    #[arg(long, value_name = "MAILBOX", value_parser = parse_mailbox)]
    to: Vec<Mailbox>,
    /// Sender in the mail, in the place of `MAIL_FROM`
    #[arg(long, value_name = "MAILBOX", value_parser = parse_mailbox)]
    from: Option<Mailbox>,
    /// Subject that the event would bring, in the place of the template's own
    #[arg(long)]
    subject: Option<String>,
    /// Write to a file
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    source: Source,
}

/// What becomes of a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Format {
    /// The text part
    #[default]
    Text,
    /// The HTML part
    Html,
    /// The subject
    Subject,
    /// The whole mail, byte for byte as it would go out
    Eml,
}

pub(super) fn run(arguments: &Arguments) -> Exit {
    match output(arguments) {
        Ok(text) => match &arguments.output {
            None if text.ends_with('\n') => print(&text, Exit::Done),
            None => print(&(text + "\n"), Exit::Done),
            Some(file) => match fs::write(file, text) {
                Ok(()) => Exit::Done,
                Err(error) => {
                    complain(format_args!("{}: {error}", file.display()));
                    Exit::Failed
                }
            },
        },
        Err(exit) => exit,
    }
}

fn output(arguments: &Arguments) -> Result<String, Exit> {
    let settings = arguments.source.settings()?;
    let survey = Survey::load(settings.templates_dir.as_deref());
    let name = arguments.name.as_str();
    if !survey.contains(name) {
        return Err(unknown(&survey, name));
    }
    let given = arguments.data.as_deref().map(data::read).transpose()?;
    let dir = settings.templates_dir.as_deref();
    let problems: Vec<String> = survey
        .problems_of(name)
        // with data of one's own the sample does not matter
        .filter(|problem| given.is_none() || problem.file != Survey::sample_file(name))
        .map(|problem| {
            let line = problem.line.map(|line| format!(":{line}")).unwrap_or_default();
            format!("{}{line}: {}", shown(&survey, dir, &problem.file), problem.text)
        })
        .collect();
    if !problems.is_empty() {
        return Err(failed(&problems));
    }
    let Some(data) = given.as_ref().or_else(|| survey.templates().sample(name)) else {
        complain(format_args!("template {name} has no sample data: give some by --data"));
        return Err(Exit::Usage);
    };
    match arguments.format {
        Format::Text => one(&survey, name, Part::Text, data),
        Format::Html => one(&survey, name, Part::Html, data),
        Format::Subject => subject(arguments, &survey, data, &settings),
        Format::Eml => eml(arguments, &survey, data, &settings),
    }
}

fn one(survey: &Survey, name: &str, part: Part, data: &Data) -> Result<String, Exit> {
    match survey.templates().render_part(name, part, data) {
        Some(Ok(text)) => Ok(text),
        Some(Err(error)) => Err(incomplete(survey, name, data, &[error.to_string()])),
        None => {
            let others: Vec<&str> = survey.parts(name).into_iter().map(Part::name).collect();
            complain(format_args!("template {name} has no {} part, only {}", part.name(), others.join(" and ")));
            Err(Exit::Failed)
        }
    }
}

fn subject(arguments: &Arguments, survey: &Survey, data: &Data, settings: &config::Mail) -> Result<String, Exit> {
    match &arguments.subject {
        Some(own) if settings.subject_templates => {
            survey.templates().render_subject(own, data).map_err(|error| failed(&[error.to_string()]))
        }
        Some(own) => Ok(own.clone()),
        None => one(survey, &arguments.name, Part::Subject, data),
    }
}

fn eml(arguments: &Arguments, survey: &Survey, data: &Data, settings: &config::Mail) -> Result<String, Exit> {
    let name = arguments.name.as_str();
    let mut rendered = Rendered::default();
    let mut errors = Vec::new();
    for part in survey.parts(name) {
        // as in the service: where the event brings a subject, the template's is not rendered
        if part == Part::Subject && arguments.subject.is_some() {
            continue;
        }
        let output = match survey.templates().render_part(name, part, data) {
            Some(Ok(output)) => Some(output),
            Some(Err(error)) => {
                errors.push(error.to_string());
                None
            }
            None => None,
        };
        match part {
            Part::Subject => rendered.subject = output,
            Part::Text => rendered.text = output,
            Part::Html => rendered.html = output,
        }
    }
    if !errors.is_empty() {
        return Err(incomplete(survey, name, data, &errors));
    }
    let own = arguments.subject.as_ref().map(|_| subject(arguments, survey, data, settings)).transpose()?;
    let envelope =
        Envelope { from: arguments.from.clone(), to: arguments.to.clone(), subject: own, timestamp: Utc::now() };
    let message = envelope.message(name, data, settings);
    match mail::compose(&message, rendered, settings) {
        Ok(mail) => Ok(String::from_utf8(mail.bytes).expect("a mail is ASCII")),
        Err(error) => Err(failed(&[format!("template {name}: {error}")])),
    }
}

/// What failed, and all that the data lacks: rendering ends at the first of it.
fn incomplete(survey: &Survey, name: &str, data: &Data, errors: &[String]) -> Exit {
    let lacks = survey.missing(name, data).into_iter().filter(|usage| !usage.optional);
    let lacks: Vec<String> = lacks.map(|usage| format!("{} ({}:{})", usage.path, usage.file, usage.line)).collect();
    let mut lines = errors.to_vec();
    if !lacks.is_empty() {
        lines.push(format!("the data does not have: {}", lacks.join(", ")));
    }
    failed(&lines)
}

fn failed(lines: &[String]) -> Exit {
    complain(lines.join("\n  "));
    Exit::Failed
}
