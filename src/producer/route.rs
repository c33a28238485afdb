//! The way of a mail that is good: through Kafka, straight to the relay, or the one after the other.
//!
//! Owns what follows where Kafka does not take a mail: nothing is sent by SMTP that Kafka has answered for.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

#[cfg(feature = "smtp")]
use super::direct::{Direct, Untaken};
use super::{
    BuildError, Circuit, Receipt, SendError, Stats, Way,
    breaker::{Asked, Breaker},
    circuit::Outage,
    publisher::{Limits, NotStored, Outgoing, Published, Publisher, Trouble},
    stats::Counters,
};
use crate::{
    config::{self, Fallback, WhenFull},
    email::Prepared,
    kafka::client::Connector,
};

/// Where mails go.
pub(super) enum Route {
    /// To topics.
    Kafka(Box<Kafka>),
    /// Straight to the relay.
    #[cfg(feature = "smtp")]
    Smtp(Direct),
    /// Into a test's hands.
    #[cfg(feature = "testing")]
    Memory(Arc<crate::testing::Store>),
}

/// The way through Kafka.
pub(super) struct Kafka {
    publisher: Publisher,
    /// High, normal and low.
    topics: [Arc<str>; 3],
    /// Time for a mail.
    timeout: Duration,
    /// A mail that finds no room is refused at once.
    refuse_when_full: bool,
    /// One for each topic.
    breakers: [Arc<Breaker>; 3],
    /// Where mails go that it does not take in time.
    #[cfg(feature = "smtp")]
    fallback: Option<Direct>,
}

impl Route {
    pub(super) fn new(settings: &config::Producer) -> Result<Self, BuildError> {
        let (kafka, publish) = (&settings.kafka, &settings.publish);
        #[cfg(feature = "smtp")]
        let fallback = match settings.smtp.as_ref().map(|smtp| Direct::new(settings, smtp)).transpose()? {
            Some(direct) if !publish.kafka_enabled => return Ok(Self::Smtp(direct)),
            fallback => fallback,
        };
        let limits = Limits {
            linger: publish.linger,
            records: publish.buffer_records,
            bytes: publish.buffer_bytes,
            refuse_when_full: publish.when_full == WhenFull::Error,
        };
        let connector = Connector::secured(kafka.brokers.clone(), kafka.security.clone())?;
        let topics =
            [&kafka.topic_high, &kafka.topic_normal, &kafka.topic_low].map(|name| Arc::<str>::from(name.as_str()));
        let meanwhile = match publish.fallback {
            Fallback::Smtp => "go straight by SMTP",
            Fallback::None => "are refused at once",
        };
        Ok(Self::Kafka(Box::new(Kafka {
            breakers: topics.clone().map(|topic| Breaker::new(connector.clone(), topic, meanwhile)),
            publisher: Publisher::new(connector, limits),
            topics,
            timeout: publish.timeout,
            refuse_when_full: limits.refuse_when_full,
            #[cfg(feature = "smtp")]
            fallback,
        })))
    }

    /// Sends a mail; `message_id` is its Message-ID as far as it is known here.
    pub(super) async fn send(
        &self,
        prepared: Prepared,
        message_id: Option<String>,
        counters: &Counters,
    ) -> Result<Receipt, SendError> {
        match self {
            #[cfg(feature = "smtp")]
            Self::Smtp(direct) => direct.send(prepared.id, &prepared.message, None).await,
            #[cfg(feature = "testing")]
            Self::Memory(store) => {
                store.take(prepared).map(|id| Receipt { id, message_id, way: Way::Memory, twice_possible: false })
            }
            Self::Kafka(kafka) => {
                let Prepared { id, priority, message, value, headers, timestamp } = prepared;
                let lane = priority.index();
                let (topic, key) = (Arc::clone(&kafka.topics[lane]), id.clone().into_bytes());
                let record = Outgoing { topic, key, value, headers, timestamp };
                let outcome = kafka.send(&kafka.breakers[lane], record, &id).await;
                #[cfg(feature = "smtp")]
                if let (Err(error), Some(fallback)) = (&outcome, &kafka.fallback)
                    && let Some(untaken) = kafka.untaken(error)
                {
                    let counter = if untaken.unknown { &counters.unknown_outcome } else { &counters.withdrawn };
                    counter.add();
                    return fallback.send(id, &message, Some(untaken)).await;
                }
                let _ = (message, counters);
                let (way, twice_possible) = outcome?;
                Ok(Receipt { id, message_id, way, twice_possible })
            }
        }
    }

    /// Ends what it holds open.
    #[cfg_attr(
        not(feature = "smtp"),
        expect(clippy::unused_async, reason = "only sessions with a relay are ended politely")
    )]
    pub(super) async fn close(&self) {
        match self {
            Self::Kafka(kafka) => {
                kafka.publisher.close();
                #[cfg(feature = "smtp")]
                if let Some(fallback) = &kafka.fallback {
                    fallback.close().await;
                }
            }
            #[cfg(feature = "smtp")]
            Self::Smtp(direct) => direct.close().await,
            #[cfg(feature = "testing")]
            Self::Memory(_) => {}
        }
    }
}

impl Kafka {
    /// Connects to the leaders of the lanes' partitions.
    pub(super) async fn ready(&self, within: Duration) -> Result<(), SendError> {
        let ready = self.publisher.ready(&self.topics, Instant::now() + within).await;
        ready.map_err(|why| not_stored(why, String::new()))
    }

    /// The same counts with what is known of this way.
    pub(super) fn report(&self, stats: Stats) -> Stats {
        let (buffered_records, buffered_bytes) = self.publisher.buffered();
        let circuit =
            if self.breakers.iter().all(|breaker| breaker.is_closed()) { Circuit::Closed } else { Circuit::Open };
        Stats { buffered_records, buffered_bytes, circuit, ..stats }
    }

    /// Where the record is, and whether it may be there twice.
    async fn send(&self, breaker: &Arc<Breaker>, record: Outgoing, id: &str) -> Result<(Way, bool), SendError> {
        let id = || id.to_owned();
        let asked = breaker.ask().map_err(|outage| unasked(&outage, id()))?;
        let published = self.publisher.publish(record, Instant::now() + self.timeout).await;
        self.tell_breaker(asked, &published);
        match published {
            Published::Stored { topic, partition, offset, repeated } => {
                Ok((Way::Kafka { topic, partition, offset: (offset >= 0).then_some(offset) }, repeated))
            }
            Published::NotStored(why) => Err(not_stored(why, id())),
            Published::Unknown(why) => Err(SendError::OutcomeUnknown { id: id(), why: why.to_string() }),
        }
    }

    /// What this says of the topic as a whole.
    fn tell_breaker(&self, asked: Asked<'_>, published: &Published) {
        let silence = || Trouble { why: "no answer in time".into(), setup: false };
        match published {
            Published::NotStored(NotStored::Refused(trouble)) if trouble.setup => asked.failed(trouble),
            Published::Stored { .. } | Published::NotStored(NotStored::Refused(_)) => asked.answered(),
            // our own bounds, and no time was lost
            Published::NotStored(NotStored::Full) if self.refuse_when_full => drop(asked),
            Published::NotStored(NotStored::Full) => asked.failed(&silence()),
            Published::NotStored(NotStored::Late { trouble }) => asked.failed(trouble.as_ref().unwrap_or(&silence())),
            Published::Unknown(why) => asked.failed(why.trouble().unwrap_or(&silence())),
        }
    }

    /// What the fallback is to know of a mail that Kafka did not take, unless the application is to be told instead.
    #[cfg(feature = "smtp")]
    fn untaken(&self, error: &SendError) -> Option<Untaken> {
        let (why, unknown) = match error {
            SendError::NotPublished { why, .. } | SendError::Setup { why, .. } => (why.clone(), false),
            SendError::OutcomeUnknown { why, .. } => (why.clone(), true),
            SendError::Full if !self.refuse_when_full => ("the buffer was full for too long".to_owned(), false),
            _ => return None,
        };
        Some(Untaken { why, unknown })
    }
}

/// Nobody waits for Kafka at the moment.
fn unasked(outage: &Outage, id: String) -> SendError {
    let (trouble, since) = (&outage.trouble, outage.since.elapsed());
    if trouble.setup {
        return SendError::Setup { id, why: trouble.why.to_string() };
    }
    SendError::NotPublished { id, why: format!("Kafka has taken no mail for {since:.1?}: {trouble}") }
}

fn not_stored(why: NotStored, id: String) -> SendError {
    match why {
        NotStored::Full => SendError::Full,
        NotStored::Late { trouble: Some(trouble) } if trouble.setup => {
            SendError::Setup { id, why: trouble.why.to_string() }
        }
        NotStored::Late { .. } => SendError::NotPublished { id, why: why.to_string() },
        NotStored::Refused(trouble) if trouble.setup => SendError::Setup { id, why: trouble.why.to_string() },
        NotStored::Refused(trouble) => SendError::Refused { id, why: trouble.why.to_string() },
    }
}
