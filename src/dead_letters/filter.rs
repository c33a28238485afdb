//! Which letters are meant.
//!
//! Pure. All conditions must hold; of the words of one condition any will do.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};

use super::{Letter, Place};

/// Which letters are meant; by default all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Reasons, such as `rejected`.
    pub reasons: Vec<String>,
    /// Stages, such as `send`.
    pub stages: Vec<String>,
    /// Names of templates.
    pub templates: Vec<String>,
    /// Domains of recipients that are still to be served, in any case.
    pub domains: Vec<String>,
    /// Topics from which the records came.
    pub topics: Vec<String>,
    /// Ids of mails.
    pub ids: Vec<String>,
    /// Only letters of then and later.
    pub since: Option<DateTime<Utc>>,
    /// Only letters from before then.
    pub until: Option<DateTime<Utc>>,
    /// Only these letters.
    pub places: BTreeSet<Place>,
}

impl Filter {
    /// Whether it takes every letter.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a letter is meant.
    pub fn takes(&self, letter: &Letter) -> bool {
        let word = |wanted: &[String], found: Option<&str>| {
            wanted.is_empty() || found.is_some_and(|found| wanted.iter().any(|it| it == found))
        };
        let died = letter.died();
        // what costs least comes first
        (self.places.is_empty() || self.places.contains(&letter.place()))
            && self.since.is_none_or(|since| died >= since)
            && self.until.is_none_or(|until| died < until)
            && word(&self.reasons, letter.reason.as_deref())
            && word(&self.stages, letter.stage.as_deref())
            && word(&self.topics, letter.original.as_ref().map(|original| original.topic.as_str()))
            && (self.templates.is_empty() || word(&self.templates, letter.template().as_deref()))
            && (self.ids.is_empty() || word(&self.ids, letter.id().as_deref()))
            && (self.domains.is_empty() || self.has_domain(letter))
    }

    fn has_domain(&self, letter: &Letter) -> bool {
        let found = letter.domains();
        self.domains.iter().any(|wanted| found.iter().any(|found| plain(found) == plain(wanted)))
    }
}

/// A domain as it is compared: A-labels, lower case.
fn plain(domain: &str) -> String {
    let domain = domain.trim_start_matches('@').to_lowercase();
    idna::domain_to_ascii(&domain).unwrap_or(domain)
}
