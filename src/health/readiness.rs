//! Whether all is in order, and what is not: pure, from [`Facts`] alone.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{Facts, PartitionFacts};
use crate::{
    event::Priority,
    kafka::{
        assignment::status::{Brokers, Topic},
        fetch::Halt,
    },
    pipeline::Reading,
    smtp::relay::GateReport,
};

/// Time for an answer of a broker, beyond what it may hold a fetch, before it counts as gone.
pub(super) const PATIENCE: Duration = Duration::from_secs(6);
/// Time for which an answered look for topics shows that the brokers are there: longer than the usual time between two.
const FRESH: Duration = Duration::from_secs(60);

/// What was found of one part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Its name in the JSON.
    pub name: &'static str,
    /// Whether it is in order.
    pub ready: bool,
    /// Why it is not, or what else there is to know.
    pub detail: Option<String>,
}

impl Check {
    fn new(name: &'static str, problem: Option<String>) -> Self {
        Self { name, ready: problem.is_none(), detail: problem }
    }
}

/// What was found of all parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    draining: bool,
    checks: Vec<Check>,
}

impl Readiness {
    /// Whether everything is in order.
    pub fn ready(&self) -> bool {
        !self.draining && self.checks.iter().all(|check| check.ready)
    }

    /// Why not, one text for each part.
    pub fn reasons(&self) -> Vec<String> {
        let draining = self.draining.then(|| "shutting down".to_owned());
        let failed = self.checks.iter().filter(|check| !check.ready);
        let failed = failed.map(|check| format!("{}: {}", check.name, check.detail.as_deref().unwrap_or("not ready")));
        draining.into_iter().chain(failed).collect()
    }

    /// All of it as JSON: `ready`, `reasons`, and `checks` by name.
    pub fn to_json(&self) -> String {
        let checks: Map<String, Value> = self
            .checks
            .iter()
            .map(|check| {
                let mut fields = json!({"ready": check.ready});
                if let Some(detail) = &check.detail {
                    fields[if check.ready { "note" } else { "reason" }] = detail.as_str().into();
                }
                (check.name.to_owned(), fields)
            })
            .collect();
        let all = json!({"ready": self.ready(), "reasons": self.reasons(), "checks": checks});
        format!("{all:#}\n")
    }
}

impl Facts {
    /// Whether all is in order.
    pub fn readiness(&self) -> Readiness {
        let [high, normal, low] = Priority::ALL.map(|lane| self.lane(lane));
        let checks = vec![self.broker(), self.group(), high, normal, low, self.relay(), self.dead_letters()];
        Readiness { draining: self.draining, checks }
    }

    /// The brokers as a whole: they are up if any of them answers.
    ///
    /// The fetches tell first, since one of them is always on its way where a partition is read. Only where none is,
    /// because all that was read still waits to be sent, the last look for topics and the last commit tell. A look
    /// that was answered after a partition's trouble began shows that the trouble is the topic's or its leader's.
    pub fn broker(&self) -> Check {
        let problem = match &self.assignment.brokers {
            Brokers::Unheard => Some("none has answered yet".to_owned()),
            Brokers::Silent(why) if self.partitions.is_empty() => Some(why.clone()),
            last_look => {
                let away = |partition: &&PartitionFacts| !self.listed_since(partition);
                let unanswered = self.partitions.iter().filter(away).find_map(|partition| self.unanswered(partition));
                let answered = |partition: &PartitionFacts| {
                    // that it is not listed was told by a broker, a moment ago
                    let told = matches!(partition.vitals.halted, Some((Halt::NotListed, _)));
                    let heard = told || matches!(partition.vitals.reading, Reading::Asking(_));
                    heard && self.unanswered(partition).is_none()
                };
                if self.partitions.iter().any(answered) {
                    None
                } else {
                    match (unanswered, last_look, self.assignment.commit_waits) {
                        // the partition knows since when, the look for topics why
                        (Some(unanswered), Brokers::Silent(why), _) => Some(format!("{unanswered}; {why}")),
                        (Some(unanswered), ..) => Some(unanswered),
                        (None, Brokers::Silent(why), _) => Some(why.clone()),
                        (None, _, Some(waits)) if waits > PATIENCE => {
                            Some(format!("a commit waits since {}", span(waits)))
                        }
                        _ => None,
                    }
                }
            }
        };
        Check::new("broker", problem)
    }

    /// Whether the brokers have answered since a partition had none.
    fn listed_since(&self, partition: &PartitionFacts) -> bool {
        let Some(listed) = self.assignment.listed.filter(|_| self.assignment.brokers == Brokers::Answering) else {
            return false;
        };
        match (partition.vitals.halted, partition.vitals.reading) {
            (Some((_, since)), _) => listed < since.min(FRESH),
            // the last look may have been answered a moment before all fell silent
            (None, Reading::Asking(since)) => listed < since.min(PATIENCE),
            (None, _) => false,
        }
    }

    /// Why a partition gets no answer from its broker, if it gets none.
    fn unanswered(&self, partition: &PartitionFacts) -> Option<String> {
        let PartitionFacts { topic, number, vitals, .. } = partition;
        match (vitals.halted, vitals.reading) {
            (Some((Halt::Unavailable, since)), _) => {
                Some(format!("{topic}-{number} cannot be read since {}: its broker is away", span(since)))
            }
            (Some((Halt::Denied, since)), _) => {
                Some(format!("{topic}-{number} cannot be read since {}: the broker denies it", span(since)))
            }
            (_, Reading::Asking(since)) if since > self.fetch_patience => {
                Some(format!("{topic}-{number} has had no answer since {}", span(since)))
            }
            _ => None,
        }
    }

    fn group(&self) -> Check {
        let assignment = &self.assignment;
        let problem = if let Some(by) = &assignment.group_in_use {
            Some(by.clone())
        } else if let Some(why) = &assignment.commit_failure {
            Some(format!("offsets cannot be committed: {why}"))
        } else if let Some(waits) = assignment.commit_waits.filter(|waits| *waits > PATIENCE) {
            Some(format!("a commit waits since {}", span(waits)))
        } else {
            (!assignment.group_answered).then(|| "its coordinator has not answered yet".to_owned())
        };
        Check::new("group", problem)
    }

    fn lane(&self, lane: Priority) -> Check {
        let name = match lane {
            Priority::High => "lane_high",
            Priority::Normal => "lane_normal",
            Priority::Low => "lane_low",
        };
        let topic = &self.topics.lanes[lane.index()];
        let problem = match self.assignment.topics.get(topic) {
            None => Some(format!("topic {topic} was not looked for yet")),
            Some(Topic::Missing) => Some(missing(topic)),
            Some(Topic::Failing(why)) => Some(why.clone()),
            Some(Topic::Listed) => {
                let own = self.present_partitions().filter(|partition| partition.lane == lane);
                let mut problems = own.filter_map(|partition| self.partition(partition));
                problems.next().map(|first| match problems.count() {
                    0 => first,
                    more => format!("{first} (and {more} more)"),
                })
            }
        };
        Check::new(name, problem)
    }

    /// Why a partition is not read, if it is not.
    fn partition(&self, partition: &PartitionFacts) -> Option<String> {
        let PartitionFacts { topic, number, vitals, .. } = partition;
        self.unanswered(partition).or_else(|| {
            let (why, since) = vitals.halted?;
            let why = match why {
                Halt::Unavailable => "its broker is away",
                Halt::NotListed => "the brokers do not list it, or this user may not describe its topic",
                Halt::Denied => "the broker denies it",
                Halt::Undecodable => "what stands there cannot be decoded; the log says where",
                Halt::NoRecords => "fetches bring no records: a transaction may be open",
                Halt::BeyondEnd => "the log ends before the position",
            };
            Some(format!("{topic}-{number} stands still since {}: {why}", span(since)))
        })
    }

    fn relay(&self) -> Check {
        let report = &self.relay;
        match &report.gate {
            GateReport::Open => {
                // it is only tried when there is a mail
                let note = match report.accepted {
                    Some(ago) => format!("a mail was accepted {} ago", span(ago)),
                    None => "not tried yet: no mail was accepted since the start".to_owned(),
                };
                Check { name: "relay", ready: true, detail: Some(note) }
            }
            GateReport::Shut { since, why, retry_in, .. } => {
                let next = match retry_in {
                    Some(delay) => format!("tried again in {}", span(*delay)),
                    None => "being tried".to_owned(),
                };
                Check::new("relay", Some(format!("down since {}, {next}: {why}", span(*since))))
            }
        }
    }

    /// Whether dead letters can be written, as far as is known.
    pub fn dead_letters(&self) -> Check {
        let topic = &self.topics.dead_letters;
        let problem = if self.assignment.topics.get(topic) == Some(&Topic::Missing) {
            Some(missing(topic))
        } else {
            (!self.letters_written).then(|| format!("topic {topic} cannot be written; the log says why"))
        };
        Check::new("dead_letters", problem)
    }
}

fn missing(topic: &str) -> String {
    format!("topic {topic} does not exist, or this user may not describe it")
}

/// A span for people: whole seconds, minutes and seconds, or hours and minutes.
fn span(span: Duration) -> String {
    match span.as_secs() {
        seconds @ 0..60 => format!("{seconds}s"),
        seconds @ 60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        seconds => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
    }
}
