//! What a mail that was sent leaves in the application's hands.

use std::{fmt, sync::Arc};

/// A mail was taken: by all in-sync replicas of a topic, or by the relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    pub(crate) id: String,
    pub(crate) message_id: Option<String>,
    pub(crate) way: Way,
    pub(crate) twice_possible: bool,
}

/// The way that a mail went.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Way {
    /// As an event into a topic; the service delivers it.
    #[non_exhaustive]
    Kafka {
        /// The topic of its lane.
        topic: Arc<str>,
        /// The partition, by the hash of its id.
        partition: i32,
        /// The offset in it; `None` where the broker knows only that it has the record already.
        offset: Option<i64>,
    },
    /// Straight to the relay.
    #[non_exhaustive]
    Smtp {
        /// What the relay said to it.
        reply: String,
    },
    /// Nowhere: a test holds it.
    Memory,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kafka { topic, partition, offset: Some(offset) } => {
                write!(f, "topic {topic}, partition {partition}, offset {offset}")
            }
            Self::Kafka { topic, partition, offset: None } => write!(f, "topic {topic}, partition {partition}"),
            Self::Smtp { reply } => write!(f, "relay: {reply}"),
            Self::Memory => f.write_str("a test's outbox"),
        }
    }
}

impl Receipt {
    /// The message's id, the same on whichever way it went.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What stands in the mail's header `Message-ID`, angle brackets included. `None` where the service alone knows the
    /// sender (its `MAIL_FROM`).
    pub fn message_id(&self) -> Option<&str> {
        self.message_id.as_deref()
    }

    /// The way that it went.
    pub fn way(&self) -> &Way {
        &self.way
    }

    /// Whether an earlier try, of which no answer came, may have been stored or delivered as well. All copies have the
    /// same Message-ID.
    pub fn twice_possible(&self) -> bool {
        self.twice_possible
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_is_told_in_a_few_words() {
        let kafka = |offset| Way::Kafka { topic: "email-queue".into(), partition: 2, offset };
        assert_eq!(kafka(Some(7)).to_string(), "topic email-queue, partition 2, offset 7");
        assert_eq!(kafka(None).to_string(), "topic email-queue, partition 2");
        assert_eq!(Way::Smtp { reply: "250 2.0.0 Ok".to_owned() }.to_string(), "relay: 250 2.0.0 Ok");
    }
}
