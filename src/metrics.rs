//! What is counted, for Prometheus.
//!
//! Owns names, labels and the text that is scraped. What happens is counted here as it happens, on handles that are
//! looked up once; what merely is (lag, sessions, the relay's state) is read when somebody asks, by [`State`]. Label
//! values come from the configuration and from the code alone, never from an event: their number is bounded.

mod exposition;
mod process;
mod state;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, fmt, time::Duration};

use chrono::{DateTime, Utc};
use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::Registry,
};

pub use self::{exposition::Exposition, state::State};
use crate::{
    event::Priority,
    kafka::dead_letter::{Failure, Reason, Stage},
    smtp::{Class, Phase},
};

/// Labels whose values stand in the code.
type Fixed<const N: usize> = [(&'static str, &'static str); N];

/// From a record's timestamp to the relay's 2xx, in seconds: 10 ms to 24 h.
const PUBLISH_TO_SENT: [f64; 18] = [
    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 43_200.0,
    86_400.0,
];
/// Phases of a session, in seconds: 1 ms to the ten minutes that a relay has for the final dot.
const PHASES: [f64; 13] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0, 120.0, 600.0];

/// Stands for all names that no template has. No folder can be called so: a template's name has no brackets.
const UNKNOWN_TEMPLATE: &str = "(unknown)";

/// The ends that a mail can have at each stage.
const DEAD_LETTERS: [(Stage, &[Reason]); 5] = [
    (Stage::Decode, &[Reason::Malformed, Reason::BadAddress, Reason::Unsupported, Reason::TooLarge]),
    (Stage::Template, &[Reason::UnknownTemplate, Reason::RenderFailed]),
    (Stage::Compose, &[Reason::Malformed, Reason::BadAddress, Reason::BadHeader, Reason::TooLarge]),
    (Stage::Send, &[Reason::Rejected, Reason::RetriesExhausted, Reason::OutcomeUnknown, Reason::TooLarge]),
    (Stage::Expired, &[Reason::Expired]),
];

/// What one attempt at the relay came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptClass {
    /// Accepted.
    Sent,
    /// 4xx.
    Deferred,
    /// The relay asked for a slower pace.
    Throttled,
    /// 5xx.
    Refused,
    /// Larger than the relay takes.
    TooLarge,
    /// Too many recipients at once.
    Split,
    /// The relay lets nobody in.
    RelayDown,
    /// A session that was used before was gone.
    Stale,
    /// A new session was lost before the final dot.
    BrokenOff,
    /// No answer to the final dot.
    OutcomeUnknown,
    /// No session could be had for it.
    Interrupted,
}

impl AttemptClass {
    const ALL: [Self; 11] = [
        Self::Sent,
        Self::Deferred,
        Self::Throttled,
        Self::Refused,
        Self::TooLarge,
        Self::Split,
        Self::RelayDown,
        Self::Stale,
        Self::BrokenOff,
        Self::OutcomeUnknown,
        Self::Interrupted,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Deferred => "deferred",
            Self::Throttled => "throttled",
            Self::Refused => "refused",
            Self::TooLarge => "too_large",
            Self::Split => "split",
            Self::RelayDown => "relay_down",
            Self::Stale => "stale",
            Self::BrokenOff => "broken_off",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::Interrupted => "interrupted",
        }
    }
}

impl From<&Class> for AttemptClass {
    fn from(class: &Class) -> Self {
        match class {
            Class::Sent(_) => Self::Sent,
            Class::RelayDown(_) => Self::RelayDown,
            Class::Stale { .. } => Self::Stale,
            Class::BrokenOff { .. } => Self::BrokenOff,
            Class::OutcomeUnknown { .. } => Self::OutcomeUnknown,
            Class::Deferred(_) => Self::Deferred,
            Class::Throttled(_) => Self::Throttled,
            Class::Split(_) => Self::Split,
            Class::Refused { .. } => Self::Refused,
            Class::TooLarge { .. } => Self::TooLarge,
        }
    }
}

/// The handles of one lane.
struct Lane {
    settled: Counter,
    sent: Counter,
    dead_letters: Counter,
    attempts: [Counter; AttemptClass::ALL.len()],
    retries_waiting: Gauge,
    publish_to_sent: Histogram,
}

/// Counts what happens. The handles are shared with the registry that is scraped.
pub struct Metrics {
    fetched: Family<Vec<(&'static str, String)>, Counter>,
    lanes: [Lane; 3],
    by_reason: Family<Fixed<3>, Counter>,
    dead_letters_pending: Gauge,
    templates: HashMap<String, Counter>,
    unknown_template: Counter,
    phases: [Histogram; Phase::ALL.len()],
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

fn lane_name(lane: Priority) -> &'static str {
    match lane {
        Priority::High => "high",
        Priority::Normal => "normal",
        Priority::Low => "low",
    }
}

impl Metrics {
    /// Registers all that is counted; every series whose labels are known begins at zero.
    pub fn new<'a>(registry: &mut Registry, topics: [&str; 3], templates: impl IntoIterator<Item = &'a str>) -> Self {
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("postlane_build", "The version that runs, always 1", build);
        let fetched = Family::<Vec<(&'static str, String)>, Counter>::default();
        for topic in topics {
            drop(fetched.get_or_create(&vec![("topic", topic.to_owned())]));
        }
        registry.register("postlane_records_fetched", "Records read from a lane's topic", fetched.clone());
        let settled = Family::<Fixed<1>, Counter>::default();
        registry.register(
            "postlane_records_settled",
            "Records that are done with: their mail is sent or their dead letter written",
            settled.clone(),
        );
        let mails = Family::<Fixed<2>, Counter>::default();
        registry.register("postlane_mails", "Mails that have come to their end", mails.clone());
        let attempts = Family::<Fixed<2>, Counter>::default();
        registry.register(
            "postlane_attempts",
            "Transactions with the relay, once for each class that their recipients got",
            attempts.clone(),
        );
        let retries_waiting = Family::<Fixed<1>, Gauge>::default();
        registry.register(
            "postlane_retries_waiting",
            "Mails that wait for the time of their next attempt",
            retries_waiting.clone(),
        );
        let by_reason = Family::<Fixed<3>, Counter>::default();
        registry.register("postlane_dead_letters", "Dead letters written", by_reason.clone());
        let dead_letters_pending = Gauge::default();
        registry.register(
            "postlane_dead_letters_pending",
            "Dead letters that are decided and not written yet",
            dead_letters_pending.clone(),
        );
        let publish_to_sent =
            Family::<Fixed<1>, _, _>::new_with_constructor((|| Histogram::new(PUBLISH_TO_SENT)) as fn() -> Histogram);
        registry.register(
            "postlane_publish_to_sent_seconds",
            "From a record's timestamp to the relay's acceptance of its mail for all recipients",
            publish_to_sent.clone(),
        );
        let phases = Family::<Fixed<1>, _, _>::new_with_constructor((|| Histogram::new(PHASES)) as fn() -> Histogram);
        registry.register(
            "postlane_smtp_phase_seconds",
            "Phases of SMTP sessions that have ended, well or not",
            phases.clone(),
        );
        let template_errors = Family::<Vec<(&'static str, String)>, Counter>::default();
        registry.register(
            "postlane_template_errors",
            "Mails whose template failed, or that name none that is there: (unknown)",
            template_errors.clone(),
        );
        for (stage, reasons) in DEAD_LETTERS {
            for reason in reasons {
                for lane in Priority::ALL {
                    drop(by_reason.get_or_create(&dead_letter_labels(lane, stage, *reason)));
                }
            }
        }
        let lanes = Priority::ALL.map(|lane| {
            let lane = ("lane", lane_name(lane));
            Lane {
                settled: settled.get_or_create_owned(&[lane]),
                sent: mails.get_or_create_owned(&[lane, ("outcome", "sent")]),
                dead_letters: mails.get_or_create_owned(&[lane, ("outcome", "dead_letter")]),
                attempts: AttemptClass::ALL
                    .map(|class| attempts.get_or_create_owned(&[lane, ("class", class.as_str())])),
                retries_waiting: retries_waiting.get_or_create_owned(&[lane]),
                publish_to_sent: publish_to_sent.get_or_create_owned(&[lane]),
            }
        });
        let of_template = |name: &str| template_errors.get_or_create_owned(&vec![("template", name.to_owned())]);
        Self {
            fetched,
            lanes,
            by_reason,
            dead_letters_pending,
            templates: templates.into_iter().map(|name| (name.to_owned(), of_template(name))).collect(),
            unknown_template: of_template(UNKNOWN_TEMPLATE),
            phases: Phase::ALL.map(|phase| phases.get_or_create_owned(&[("phase", phase.as_str())])),
        }
    }

    /// The count of records read from a topic.
    pub fn fetched(&self, topic: &str) -> Counter {
        self.fetched.get_or_create_owned(&vec![("topic", topic.to_owned())])
    }

    /// A mail was accepted for all its recipients.
    pub fn sent(&self, lane: Priority, published: DateTime<Utc>) {
        let lane = self.lane(lane);
        lane.settled.inc();
        lane.sent.inc();
        // clocks differ: a mail is not sent before it was published
        let took = (Utc::now() - published).to_std().unwrap_or_default();
        lane.publish_to_sent.observe(took.as_secs_f64());
    }

    /// What one transaction came to, for the recipients that took part in it.
    pub fn attempted<'a>(&self, lane: Priority, classes: impl IntoIterator<Item = &'a Class>) {
        let mut seen = [false; AttemptClass::ALL.len()];
        for class in classes {
            let class = AttemptClass::from(class);
            if !std::mem::replace(&mut seen[class as usize], true) {
                self.lane(lane).attempts[class as usize].inc();
            }
        }
    }

    /// An attempt ended before its transaction, for want of a session.
    pub fn interrupted(&self, lane: Priority) {
        self.lane(lane).attempts[AttemptClass::Interrupted as usize].inc();
    }

    /// A mail waits for its next attempt until the result is dropped.
    pub fn retry_waits(&self, lane: Priority) -> Counted {
        Counted::new(&self.lane(lane).retries_waiting)
    }

    /// A dead letter is decided, and pending until the result is dropped.
    pub fn dead_letter_pends(&self) -> Counted {
        Counted::new(&self.dead_letters_pending)
    }

    /// A dead letter is written.
    pub fn dead_letter_written(&self, lane: Priority, failure: &Failure) {
        let handles = self.lane(lane);
        handles.settled.inc();
        handles.dead_letters.inc();
        self.by_reason.get_or_create(&dead_letter_labels(lane, failure.stage, failure.reason)).inc();
    }

    /// A template is unknown or failed.
    pub fn template_failed(&self, name: &str) {
        self.templates.get(name).unwrap_or(&self.unknown_template).inc();
    }

    /// A phase of a session has ended.
    pub fn phase(&self, phase: Phase, took: Duration) {
        self.phases[phase as usize].observe(took.as_secs_f64());
    }

    fn lane(&self, lane: Priority) -> &Lane {
        &self.lanes[lane.index()]
    }
}

fn dead_letter_labels(lane: Priority, stage: Stage, reason: Reason) -> Fixed<3> {
    [("lane", lane_name(lane)), ("stage", stage.as_str()), ("reason", reason.as_str())]
}

/// One of those that a gauge counts, until it is dropped.
#[derive(Debug)]
#[must_use = "it counts until it is dropped"]
pub struct Counted(Gauge);

impl Counted {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}
