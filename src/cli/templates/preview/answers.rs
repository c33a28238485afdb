//! What the pages show: the list of templates, and what became of one of them.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use postlane::{
    config,
    template::{Data, Part},
};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{
    super::{
        findings::{self, Finding, Severity},
        mail::Envelope,
    },
    Snapshot,
};

/// Renderings that are kept: the frames of a page ask for them after it.
const KEPT: usize = 24;

/// All that pages ask for.
pub(super) struct Preview {
    settings: config::Mail,
    snapshot: watch::Receiver<Arc<Snapshot>>,
    /// Tells this run from others: a page that outlives its program loads everything anew.
    run: u32,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    last: u64,
    renderings: VecDeque<(u64, Arc<Rendering>)>,
}

/// A rendering whose HTML and mail can be asked for.
pub(super) struct Rendering {
    pub(super) template: String,
    pub(super) html: Option<String>,
    pub(super) mail: Option<Vec<u8>>,
}

/// A page that wants to see a template.
#[derive(Debug, Deserialize)]
pub(super) struct Wish {
    template: String,
    /// JSON text; the sample where it is absent.
    #[serde(default)]
    data: Option<String>,
}

/// What is wrong with a wish.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Refusal {
    pub(super) error: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) line: Option<usize>,
}

#[derive(Debug, Serialize)]
struct Listed<'a> {
    name: &'a str,
    parts: Vec<&'static str>,
    from: &'static str,
    sample: bool,
    /// The worst that was found.
    result: Option<Severity>,
}

#[derive(Debug, Serialize)]
pub(super) struct Shown {
    id: u64,
    template: String,
    from: &'static str,
    /// The parts that are there, rendered or not.
    parts: Vec<&'static str>,
    subject: Option<String>,
    sender: String,
    recipient: String,
    text: Option<String>,
    /// Bytes of the HTML.
    html: Option<usize>,
    /// Bytes of the mail.
    mail: Option<usize>,
    /// The sample data as it stands in its file.
    sample: Option<String>,
    findings: Vec<Finding>,
}

impl Preview {
    pub(super) fn new(settings: config::Mail, snapshot: watch::Receiver<Arc<Snapshot>>) -> Self {
        Self { settings, snapshot, run: std::process::id(), kept: Mutex::default() }
    }

    /// What was read, and what follows.
    pub(super) fn changes(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshot.clone()
    }

    /// The version of what was read, for a page to compare.
    pub(super) fn version(&self, snapshot: &Snapshot) -> String {
        format!("{}-{}", self.run, snapshot.version)
    }

    /// All templates, and what is wrong with files of none of them.
    pub(super) fn list(&self) -> serde_json::Value {
        let snapshot = Arc::clone(&self.snapshot.borrow());
        let survey = &snapshot.survey;
        let listed = survey.names().map(|name| {
            let found = findings::of_template(survey, &self.settings, name, None).findings;
            Listed {
                name,
                parts: survey.parts(name).into_iter().map(Part::name).collect(),
                from: survey.origin(name).as_str(),
                sample: survey.sample_text(name).is_some(),
                result: found.iter().map(|finding| finding.severity).max(),
            }
        });
        serde_json::json!({
            "version": self.version(&snapshot),
            "dir": self.settings.templates_dir,
            "templates": listed.collect::<Vec<_>>(),
            "findings": findings::of_none(survey, &self.settings),
        })
    }

    /// Renders a template and keeps what its frames will ask for.
    pub(super) fn render(&self, wish: &Wish) -> Result<Shown, Refusal> {
        let snapshot = Arc::clone(&self.snapshot.borrow());
        let (survey, name) = (&snapshot.survey, wish.template.as_str());
        if !survey.contains(name) {
            return Err(Refusal { error: format!("there is no template {name:?} any more"), line: None });
        }
        let data: Option<Data> =
            wish.data.as_deref().map(serde_json::from_str).transpose().map_err(|error| Refusal {
                error: format!("expected a JSON object: {error}"),
                line: Some(error.line()).filter(|line| *line > 0),
            })?;
        let mut outcome = findings::of_template(survey, &self.settings, name, data.as_ref());
        if data.is_none() && survey.sample_text(name).is_none() {
            // many a template needs no data at all
            let tried = findings::of_template(survey, &self.settings, name, Some(&Data::new()));
            if tried.mail.is_some() {
                (outcome.rendered, outcome.mail) = (tried.rendered, tried.mail);
            }
        }
        let message = Envelope::placeholder().message(name, &Data::new(), &self.settings);
        let sender = message.from.as_ref().or(self.settings.from.as_ref());
        let mut shown = Shown {
            id: 0,
            template: name.to_owned(),
            from: survey.origin(name).as_str(),
            parts: survey.parts(name).into_iter().map(Part::name).collect(),
            subject: outcome.rendered.subject,
            sender: sender.map(ToString::to_string).unwrap_or_default(),
            recipient: message.to.first().map(ToString::to_string).unwrap_or_default(),
            text: outcome.rendered.text,
            html: outcome.rendered.html.as_ref().map(String::len),
            mail: outcome.mail.as_ref().map(|mail| mail.bytes.len()),
            sample: survey.sample_text(name).map(str::to_owned),
            findings: outcome.findings,
        };
        let mail = outcome.mail.map(|mail| mail.bytes);
        shown.id = self.keep(Rendering { template: name.to_owned(), html: outcome.rendered.html, mail });
        Ok(shown)
    }

    fn keep(&self, rendering: Rendering) -> u64 {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.last += 1;
        let id = kept.last;
        kept.renderings.push_back((id, Arc::new(rendering)));
        if kept.renderings.len() > KEPT {
            kept.renderings.pop_front();
        }
        id
    }

    /// A rendering that was made before, unless too many have followed.
    pub(super) fn rendering(&self, id: u64) -> Option<Arc<Rendering>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.renderings.iter().find(|(known, _)| *known == id).map(|(_, rendering)| Arc::clone(rendering))
    }
}
