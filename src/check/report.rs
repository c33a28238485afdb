//! What the checks found.

use serde::Serialize;

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Not tried, because something before it failed or was not asked for.
    Skip,
    /// As it should be.
    Ok,
    /// The service works, but something can be lost or go wrong later.
    Warn,
    /// The service does not work like that.
    Fail,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// What was tried.
    pub check: String,
    /// How it went.
    #[serde(rename = "result")]
    pub outcome: Outcome,
    /// What was found.
    pub detail: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

impl Row {
    /// As it should be.
    pub fn ok(check: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { check: check.into(), outcome: Outcome::Ok, detail: detail.into(), advice: None }
    }

    /// Not tried.
    pub fn skip(check: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { outcome: Outcome::Skip, ..Self::ok(check, detail) }
    }

    /// Works, but.
    pub fn warn(check: impl Into<String>, detail: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { outcome: Outcome::Warn, advice: Some(advice.into()), ..Self::ok(check, detail) }
    }

    /// Does not work.
    pub fn fail(check: impl Into<String>, detail: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { outcome: Outcome::Fail, advice: Some(advice.into()), ..Self::ok(check, detail) }
    }
}

/// All checks, in the order in which they are told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The worst outcome.
    pub result: Outcome,
    /// Whether the configuration itself is at fault: `serve` would not start.
    pub misconfigured: bool,
    /// The checks.
    pub checks: Vec<Row>,
}

impl Report {
    /// Takes the worst outcome from the rows.
    pub fn new(checks: Vec<Row>) -> Self {
        let result = checks.iter().map(|row| row.outcome).max().unwrap_or(Outcome::Ok);
        Self { result, misconfigured: false, checks }
    }

    /// The same where `serve` would not start.
    pub fn misconfigured(checks: Vec<Row>) -> Self {
        Self { misconfigured: true, ..Self::new(checks) }
    }
}
