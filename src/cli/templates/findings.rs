//! What is wrong with templates, and what is worth a second look: the facts behind `check` and the preview's pages.

use std::path::Path;

use postlane::{
    compose::Mail,
    config,
    template::{Data, Part, Problem, RenderError, Rendered, Survey, Usage},
};
use serde::Serialize;

use super::{
    mail::{self, Envelope},
    shown,
};

/// Bytes of HTML from which on Gmail cuts a mail off.
const CLIPPED: usize = 102 * 1024;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Severity {
    /// Worth knowing.
    Note,
    /// Mails go out, but something is probably not meant like that.
    Warn,
    /// The service does not start, or mails fail.
    Fail,
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    #[serde(rename = "result")]
    pub(super) severity: Severity,
    /// The template; none where it concerns all of them, or none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) template: Option<String>,
    /// File below the templates' folder.
    pub(super) file: String,
    /// Where to open it.
    pub(super) path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) line: Option<usize>,
    pub(super) detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) advice: Option<String>,
}

impl Finding {
    /// `path:line`, as tools and editors take it.
    pub(super) fn place(&self) -> String {
        match self.line {
            Some(line) => format!("{}:{line}", self.path),
            None => self.path.clone(),
        }
    }
}

/// Looks at all templates, or at those that are named. What concerns files that no template uses is told only for all.
pub(super) fn all(survey: &Survey, settings: &config::Mail, only: &[String]) -> Vec<Finding> {
    let names: Vec<&str> =
        survey.names().filter(|name| only.is_empty() || only.iter().any(|one| one == name)).collect();
    let mut problems: Vec<&Problem> = if only.is_empty() {
        survey.problems().iter().collect()
    } else {
        names.iter().flat_map(|name| survey.problems_of(name)).collect()
    };
    // a layout's serves many templates and is told once
    problems.sort_by(|a, b| (&a.file, a.line, &a.text).cmp(&(&b.file, b.line, &b.text)));
    problems.dedup();
    let mut found: Vec<Finding> = problems.into_iter().map(|problem| broken(survey, settings, problem)).collect();
    found.extend(names.into_iter().flat_map(|name| look(survey, settings, name, None).found));
    found
}

/// What became of one template.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) findings: Vec<Finding>,
    /// The parts that could be rendered.
    pub(super) rendered: Rendered,
    /// The whole mail, where all of them could.
    pub(super) mail: Option<Mail>,
}

/// Renders one template with its sample data or with other data, as far as it goes, and says what is wrong.
pub(super) fn of_template(survey: &Survey, settings: &config::Mail, name: &str, data: Option<&Data>) -> Outcome {
    let look = look(survey, settings, name, data);
    // with data of one's own the sample does not matter
    let sample = Survey::sample_file(name);
    let problems = survey.problems_of(name).filter(|problem| data.is_none() || problem.file != sample);
    let mut findings: Vec<Finding> = problems.map(|problem| broken(survey, settings, problem)).collect();
    findings.extend(look.found);
    Outcome { findings, rendered: look.rendered, mail: look.mail }
}

/// What concerns no template: files that mean nothing, layouts that nobody uses, a folder that cannot be read.
pub(super) fn of_none(survey: &Survey, settings: &config::Mail) -> Vec<Finding> {
    let of_some: Vec<&Problem> = survey.names().flat_map(|name| survey.problems_of(name)).collect();
    let others = survey.problems().iter().filter(|problem| !of_some.contains(problem));
    others.map(|problem| broken(survey, settings, problem)).collect()
}

fn broken(survey: &Survey, settings: &config::Mail, problem: &Problem) -> Finding {
    let folder = problem.file.split('/').next().unwrap_or_default();
    Finding {
        severity: Severity::Fail,
        template: survey.contains(folder).then(|| folder.to_owned()),
        path: shown(survey, settings.templates_dir.as_deref(), &problem.file),
        file: problem.file.clone(),
        line: problem.line,
        detail: problem.text.clone(),
        advice: None,
    }
}

/// Collects what is found about one template beyond what keeps the service from starting.
struct Look<'a> {
    survey: &'a Survey,
    dir: Option<&'a Path>,
    name: &'a str,
    /// What the data is called.
    data: &'static str,
    found: Vec<Finding>,
    rendered: Rendered,
    mail: Option<Mail>,
}

impl Look<'_> {
    fn add(
        &mut self,
        severity: Severity,
        file: &str,
        line: Option<usize>,
        detail: impl Into<String>,
        advice: Option<&str>,
    ) {
        self.found.push(Finding {
            severity,
            template: Some(self.name.to_owned()),
            file: file.to_owned(),
            path: shown(self.survey, self.dir, file),
            line,
            detail: detail.into(),
            advice: advice.map(str::to_owned),
        });
    }

    fn parts(&mut self, parts: &[Part]) {
        if parts.contains(&Part::Html) && !parts.contains(&Part::Text) {
            let advice = "add text.txt.j2: it is what many clients show in lists, readers aloud, and filters look at";
            self.add(Severity::Warn, self.name, None, "has no text part", Some(advice));
        }
        if !parts.is_empty() && !parts.contains(&Part::Subject) {
            let advice = "add subject.txt.j2, unless every event has `message.subject`";
            self.add(Severity::Note, self.name, None, "has no subject of its own", Some(advice));
        }
    }

    fn absent(&mut self, usage: &Usage) {
        let (path, line) = (&usage.path, Some(usage.line));
        let sample = Survey::sample_file(self.name);
        if usage.function {
            self.add(Severity::Fail, &usage.file, line, format!("there is no function {path}"), None);
        } else if usage.optional {
            let advice = format!("add it to {sample}, if only as null: what stands behind it has not been tried");
            let detail = format!("{path} is not in {} of {}", self.data, self.name);
            self.add(Severity::Warn, &usage.file, line, detail, Some(&advice));
        } else {
            let advice = format!("correct the name, add it to {sample}, or ask first: {{% if {path} %}}");
            let detail = format!("{path} is not in {} of {}", self.data, self.name);
            self.add(Severity::Fail, &usage.file, line, detail, Some(&advice));
        }
    }

    /// Renders all parts that can be; whether all could.
    fn render(&mut self, parts: &[Part], data: &Data) -> bool {
        let mut complete = true;
        for &part in parts {
            // what is wrong with it has been told
            let sound = self.survey.is_sound(self.name, part);
            let output = match self.survey.templates().render_part(self.name, part, data).filter(|_| sound) {
                Some(Ok(output)) => output,
                Some(Err(error)) => {
                    self.failed(part, &error);
                    complete = false;
                    continue;
                }
                None => {
                    complete = false;
                    continue;
                }
            };
            if output.trim().is_empty() {
                let detail = format!("is blank with {}", self.data);
                self.add(Severity::Warn, &part.path(self.name), None, detail, None);
            }
            match part {
                Part::Subject => self.rendered.subject = Some(output),
                Part::Text => self.rendered.text = Some(output),
                Part::Html => self.rendered.html = Some(output),
            }
        }
        complete
    }

    fn failed(&mut self, part: Part, error: &RenderError) {
        let (file, line, problem) = match error {
            RenderError::Part { file, line, problem, .. } => {
                (file.clone().unwrap_or_else(|| part.path(self.name)), *line, problem.clone())
            }
            other => (part.path(self.name), None, other.to_string()),
        };
        let known = |found: &Finding| found.severity == Severity::Fail && found.file == file && found.line == line;
        // what is missing has been found there already, by its name
        if !(problem.starts_with("undefined value") && self.found.iter().any(known)) {
            let detail = format!("the {} part of {} fails with {}: {problem}", part.name(), self.name, self.data);
            self.add(Severity::Fail, &file, line, detail, None);
        }
    }

    fn compose(&mut self, data: &Data, settings: &config::Mail) {
        if let Some(size) = self.rendered.html.as_ref().map(String::len).filter(|size| *size > CLIPPED) {
            let detail = format!("{size} bytes with {}: Gmail cuts a mail off at {CLIPPED}", self.data);
            self.add(Severity::Note, &Part::Html.path(self.name), None, detail, None);
        }
        let message = Envelope::placeholder().message(self.name, data, settings);
        match mail::compose(&message, self.rendered.clone(), settings) {
            Ok(mail) => self.mail = Some(mail),
            Err(error) => {
                let error = error.to_string();
                let of_subject = error.starts_with("message.subject");
                let file = if of_subject { Part::Subject.path(self.name) } else { self.name.to_owned() };
                self.add(Severity::Fail, &file, None, format!("the mail with {} is refused: {error}", self.data), None);
            }
        }
    }
}

fn look<'a>(survey: &'a Survey, settings: &'a config::Mail, name: &'a str, own: Option<&'a Data>) -> Look<'a> {
    let dir = settings.templates_dir.as_deref();
    let called = if own.is_some() { "this data" } else { "the sample data" };
    let mut look =
        Look { survey, dir, name, data: called, found: Vec::new(), rendered: Rendered::default(), mail: None };
    let parts = survey.parts(name);
    look.parts(&parts);
    match own.or_else(|| survey.templates().sample(name)) {
        Some(data) => {
            for usage in survey.missing(name, data) {
                look.absent(&usage);
            }
            let sound = survey.problems_of(name).next().is_none();
            for (path, line) in survey.unused(name).into_iter().filter(|_| sound && own.is_none()) {
                let (file, detail) = (Survey::sample_file(name), format!("{path} is used by no part of the template"));
                look.add(Severity::Warn, &file, line, detail, Some("correct the name, or take it out"));
            }
            if look.render(&parts, data) && !parts.is_empty() {
                look.compose(data, settings);
            }
        }
        // what is wrong with it is among the problems
        None if survey.sample_text(name).is_some() => {}
        None => {
            for usage in survey.usages(name).iter().filter(|usage| usage.function) {
                look.absent(usage);
            }
            let advice = format!("add {}: without it nothing of this template is tried", Survey::sample_file(name));
            if !parts.is_empty() {
                look.add(Severity::Warn, name, None, "has no sample data", Some(&advice));
            }
        }
    }
    look
}
