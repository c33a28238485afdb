//! What becomes of a letter that is to be sent back: where it goes, or why it cannot.
//!
//! Pure. Knows nothing of what was sent back already.

use std::{collections::BTreeMap, fmt, sync::Arc};

use chrono::{DateTime, SecondsFormat, Utc};

use super::Letter;
use crate::{config, event::Priority};

/// Groups that a [`Groups`] knows by their names: whoever writes into the topic decides about these.
const NAMED: usize = 20;

/// The topics to which letters go, and whose letters are ours.
#[derive(Debug, Clone)]
pub struct Lanes {
    topics: [Arc<str>; 3],
    group: String,
    any_group: bool,
    missing: Vec<Arc<str>>,
}

impl Lanes {
    /// The lanes of these settings.
    pub fn new(settings: &config::Kafka) -> Self {
        Self {
            topics: [&settings.topic_high, &settings.topic_normal, &settings.topic_low]
                .map(|it| Arc::from(it.as_str())),
            group: settings.group_id.clone(),
            any_group: false,
            missing: Vec::new(),
        }
    }

    /// The same, and letters from these topics count as ours whoever has given them up.
    #[must_use]
    pub fn for_any_group(self) -> Self {
        Self { any_group: true, ..self }
    }

    /// The same, of which those for which this holds do not exist.
    pub(super) fn without(self, is_missing: impl Fn(&str) -> bool) -> Self {
        let missing = self.topics.iter().filter(|topic| is_missing(topic)).map(Arc::clone).collect();
        Self { missing, ..self }
    }

    /// The consumer group of the service that reads them.
    pub fn group(&self) -> &str {
        &self.group
    }

    /// The group that has given a letter up, where that is another one.
    ///
    /// What was sent back is remembered for each group by itself: whether this letter was is not known here.
    pub fn other_group<'a>(&self, letter: &'a Letter) -> Option<&'a str> {
        letter.group.as_deref().filter(|group| *group != self.group)
    }

    /// The topics from high to low.
    pub fn topics(&self) -> &[Arc<str>; 3] {
        &self.topics
    }

    /// The topic of a lane.
    pub fn topic(&self, lane: Priority) -> &Arc<str> {
        &self.topics[lane.index()]
    }
}

/// How many letters each group has given up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Groups {
    named: BTreeMap<String, usize>,
    others: usize,
}

impl Groups {
    /// One more letter of this group.
    pub fn add(&mut self, group: &str) {
        if self.named.len() < NAMED || self.named.contains_key(group) {
            *self.named.entry(group.to_owned()).or_default() += 1;
        } else {
            self.others += 1;
        }
    }

    /// Letters of all groups.
    pub fn letters(&self) -> usize {
        self.named.values().sum::<usize>() + self.others
    }

    /// The names, as far as they were kept, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.named.keys().map(String::as_str)
    }
}

/// Where a letter goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The lane's topic.
    pub topic: Arc<str>,
    /// The partition, modulo their number: that from which the record came.
    pub partition: i32,
    /// The topic from which it came, where that is no lane any more: the event's priority has decided.
    pub instead_of: Option<String>,
}

/// Why a letter is not sent back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Skip {
    /// It was sent back already, or another letter of the same death was.
    SentBack,
    /// Its value did not fit into the dead letter topic.
    TooLarge(Option<u64>),
    /// It has no value.
    NoValue,
    /// Postlane has not written it.
    Foreign,
    /// The mail's time has passed.
    Expired(DateTime<Utc>),
    /// The event cannot be read: what is wrong.
    Unreadable(String),
    /// Another consumer group's service has written it, from topics that are not ours.
    OtherGroup(String),
    /// Another consumer group's service has written it, from one of our lanes: it may have been sent back by that name.
    GroupDiffers {
        /// The letter's group.
        group: String,
        /// Ours.
        ours: String,
    },
    /// There is no topic of its lane now.
    NoTopic(String),
}

impl Skip {
    /// One word for machines.
    pub fn word(&self) -> &'static str {
        match self {
            Self::SentBack => "sent-back",
            Self::TooLarge(_) => "too-large",
            Self::NoValue => "no-value",
            Self::Foreign => "foreign",
            Self::Expired(_) => "expired",
            Self::Unreadable(_) => "unreadable",
            Self::OtherGroup(_) => "other-group",
            Self::GroupDiffers { .. } => "group-differs",
            Self::NoTopic(_) => "no-topic",
        }
    }

    /// The same for people, of several letters.
    pub fn of_several(word: &str) -> &'static str {
        match word {
            "sent-back" => "sent back already; --again sends them once more",
            "too-large" => "too large for the dead letter topic, their content is only in their lane",
            "no-value" => "without a value",
            "foreign" => "not written by postlane",
            "expired" => "expired: they would only die again",
            "unreadable" => "no readable event: they would only die again",
            "other-group" => "of another consumer group and none of our lanes",
            "group-differs" => "given up by another consumer group than KAFKA_GROUP_ID",
            "no-topic" => {
                "their lane's topic is missing (postlane topics create makes it), or this user may not describe it"
            }
            _ => "refused by the brokers",
        }
    }
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SentBack => f.write_str("sent back already"),
            Self::TooLarge(Some(size)) => {
                write!(f, "its {size} bytes did not fit into the dead letter topic: its content is only in its lane")
            }
            Self::TooLarge(None) => f.write_str("it did not fit into the dead letter topic"),
            Self::NoValue => f.write_str("it has no value"),
            Self::Foreign => f.write_str("postlane has not written it"),
            Self::Expired(at) => {
                write!(f, "it expired at {}, and would only die again", at.to_rfc3339_opts(SecondsFormat::Secs, true))
            }
            Self::Unreadable(why) => write!(f, "its event cannot be read, and it would only die again: {why}"),
            Self::OtherGroup(group) => write!(f, "consumer group {group} has written it, and from none of our lanes"),
            Self::GroupDiffers { group, ours } => write!(
                f,
                "consumer group {group} gave it up, KAFKA_GROUP_ID is {ours}, and each remembers for itself what was sent back"
            ),
            Self::NoTopic(topic) => write!(f, "its lane's topic {topic} is missing, or this user may not describe it"),
        }
    }
}

/// What would become of a letter now.
///
/// # Errors
///
/// [`Skip`] says why it is not sent back.
pub fn judge(letter: &Letter, lanes: &Lanes, now: DateTime<Utc>) -> Result<Target, Skip> {
    if letter.record.value.is_none() {
        return Err(match letter.original_size {
            Some(size) => Skip::TooLarge(Some(size)),
            None if letter.is_foreign() => Skip::Foreign,
            None => Skip::NoValue,
        });
    }
    if letter.is_foreign() {
        return Err(Skip::Foreign);
    }
    let message = letter.event.as_ref().map_err(|error| Skip::Unreadable(error.to_string()))?;
    if let Some(at) = message.expires_at.filter(|at| *at <= now) {
        return Err(Skip::Expired(at));
    }
    let from = letter.original.as_ref();
    let partition = from.map_or(letter.record.partition, |original| original.partition);
    let same = from.and_then(|original| lanes.topics.iter().find(|topic| ***topic == *original.topic));
    let target = match same {
        Some(topic) => {
            if let Some(group) = lanes.other_group(letter).filter(|_| !lanes.any_group) {
                return Err(Skip::GroupDiffers { group: group.to_owned(), ours: lanes.group.clone() });
            }
            Target { topic: Arc::clone(topic), partition, instead_of: None }
        }
        None => match lanes.other_group(letter) {
            Some(group) => return Err(Skip::OtherGroup(group.to_owned())),
            None => Target {
                topic: Arc::clone(lanes.topic(message.priority)),
                partition,
                instead_of: Some(from.map(|original| original.topic.clone()).unwrap_or_default()),
            },
        },
    };
    if lanes.missing.contains(&target.topic) {
        return Err(Skip::NoTopic(target.topic.to_string()));
    }
    Ok(target)
}
