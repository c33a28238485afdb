//! The connection to one broker, and one request on it at a time.
//!
//! Owns dialling and writing, each as a future that gives the connection back. A broker answers one request of a
//! connection after the other, so that a second one on its way would only wait there and could not be withdrawn.

use std::time::Duration;

use futures::FutureExt as _;
use kafka_protocol::{
    ResponseError,
    messages::{InitProducerIdRequest, ProduceRequest, ProduceResponse, produce_request::TopicProduceData},
    protocol::VersionRange,
};
use tokio::time::{Instant, sleep, timeout};

use super::{
    Trouble,
    batch::{Batch, Identity},
};
use crate::{
    chain::chain,
    delay::Delays,
    kafka::{client::Connector, wire},
    producer::partitions::name,
};

/// Version 3 is the first with headers; from version 13 on topics go by another name.
const PRODUCE: VersionRange = VersionRange { min: 3, max: 9 };
const INIT_PRODUCER_ID: VersionRange = VersionRange { min: 0, max: 4 };

/// Answers that have to come from all in-sync replicas.
const ALL: i16 = -1;

/// Time for each answer while a connection is opened.
const OPENING: Duration = Duration::from_secs(5);

/// Time for the answer to the question who we are; without one it goes on without.
const IDENTITY: Duration = Duration::from_secs(1);

/// A connection that was idle for so long is not trusted: brokers end it after ten minutes, and what stands between may
/// forget it without a word.
const MAX_IDLE: Duration = Duration::from_secs(180);

/// Time that a broker has beyond what it was given for the answer of its replicas.
const MARGIN: Duration = Duration::from_millis(500);

/// Least time for a try that can be repeated.
const LEAST_TRY: Duration = Duration::from_millis(500);

/// First and longest pause after a connection failed.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// What the task knows of the connection to a broker.
pub(super) struct Link {
    pub(super) state: LinkState,
    pub(super) delays: Delays,
    /// Records in the last request, and when it was answered: about as many callers may come back.
    pub(super) last: (usize, Instant),
    /// The broker reads nothing before then.
    pub(super) throttled_until: Instant,
}

pub(super) enum LinkState {
    /// There is none; not to be opened before then.
    Closed(Instant),
    /// It is being opened, or asks who we are.
    Opening,
    /// It can be written to; idle since then.
    Idle(Box<wire::Connection>, Instant),
    /// An answer is awaited.
    Busy,
}

impl Link {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            state: LinkState::Closed(now),
            delays: Delays::new(FIRST_PAUSE, 2.0, 0.2, MAX_PAUSE),
            last: (0, now),
            throttled_until: now,
        }
    }

    /// Lets go of a connection that cannot be relied on.
    pub(super) fn check(&mut self, now: Instant) {
        if let LinkState::Idle(connection, since) = &mut self.state
            && (*since + MAX_IDLE <= now || !connection.is_usable() || connection.unasked().now_or_never().is_some())
        {
            self.state = LinkState::Closed(now);
        }
    }

    pub(super) fn failed(&mut self, now: Instant) -> Instant {
        let until = now + self.delays.advance();
        self.state = LinkState::Closed(until);
        until
    }
}

/// What came of asking who we are.
#[derive(Debug)]
pub(super) enum Identified {
    /// It was not asked.
    Unasked,
    /// The broker knows us.
    As(Identity),
    /// It does not now.
    Not {
        why: String,
        /// It never will.
        for_good: bool,
    },
}

/// A connection that can be written to.
pub(super) struct Opened {
    pub(super) broker: i32,
    pub(super) connection: Result<Box<wire::Connection>, wire::Error>,
    pub(super) identified: Identified,
}

/// Opens a connection where there is none, and asks for an identity where one is wanted.
pub(super) async fn open(
    broker: i32,
    address: String,
    connector: Connector,
    connection: Option<Box<wire::Connection>>,
    identify: bool,
) -> Opened {
    let opened = match connection {
        Some(connection) => Ok(connection),
        None => wire::Connection::open(&connector, &address, OPENING).await.map(Box::new),
    };
    let mut identified = Identified::Unasked;
    let connection = match opened {
        Ok(mut connection) if identify => {
            identified = ask_identity(&mut connection).await;
            if connection.is_usable() {
                Ok(connection)
            } else {
                wire::Connection::open(&connector, &address, OPENING).await.map(Box::new)
            }
        }
        opened => opened,
    };
    Opened { broker, connection, identified }
}

async fn ask_identity(connection: &mut wire::Connection) -> Identified {
    let version = match connection.version::<InitProducerIdRequest>(INIT_PRODUCER_ID) {
        Ok(version) => version,
        Err(error) => return Identified::Not { why: chain(&error), for_good: true },
    };
    let request = InitProducerIdRequest::default().with_transactional_id(None).with_transaction_timeout_ms(i32::MAX);
    let mut delays = Delays::doubling(FIRST_PAUSE, MAX_PAUSE);
    let asked = timeout(IDENTITY, async {
        loop {
            let response = connection.call(version, &request).await?;
            match ResponseError::try_from_code(response.error_code) {
                None => return Ok(Ok(Identity { id: response.producer_id.0, epoch: response.producer_epoch })),
                // the first one that asks makes a broker fetch a block of ids from the controller
                Some(code) if code.is_retriable() => sleep(delays.advance()).await,
                Some(code) => return Ok::<_, wire::Error>(Err(code)),
            }
        }
    });
    match asked.await {
        Ok(Ok(Ok(identity))) => Identified::As(identity),
        // brokers before 2.8 ask for IdempotentWrite on the cluster
        Ok(Ok(Err(code))) => Identified::Not { why: code.to_string(), for_good: true },
        Ok(Err(error)) => Identified::Not { why: chain(&error), for_good: false },
        Err(_) => Identified::Not { why: format!("none within {IDENTITY:?}"), for_good: false },
    }
}

/// A request that was answered, or was not.
pub(super) struct Written {
    pub(super) broker: i32,
    pub(super) batches: Vec<Batch>,
    pub(super) outcome: Result<(Box<wire::Connection>, ProduceResponse), WriteError>,
}

/// Why there is no answer.
pub(super) struct WriteError {
    pub(super) trouble: Trouble,
    /// Whether anything can have gone out.
    pub(super) sent: bool,
}

/// Writes the batches, from which moment on their records count as on the wire, and waits for the answer.
pub(super) async fn write(
    broker: i32,
    mut connection: Box<wire::Connection>,
    topic: &str,
    batches: Vec<Batch>,
    until: Instant,
) -> Written {
    let version = match connection.version::<ProduceRequest>(PRODUCE) {
        Ok(version) => version,
        Err(error) => {
            let error = WriteError { trouble: error.into(), sent: false };
            return Written { broker, batches, outcome: Err(error) };
        }
    };
    let time = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    let data = TopicProduceData::default()
        .with_name(name(topic))
        .with_partition_data(batches.iter().map(Batch::data).collect());
    let request = ProduceRequest::default()
        .with_acks(ALL)
        .with_timeout_ms(i32::try_from(time.as_millis()).unwrap_or(i32::MAX))
        .with_topic_data(vec![data]);
    // A connection may be dead without a word. What the broker would know for a repetition is repeated in time on another.
    let repeatable = batches.iter().all(|batch| batch.stamp.is_some());
    let limit = if repeatable { (time / 2).max(LEAST_TRY) } else { time.saturating_add(MARGIN) };
    let outcome = match timeout(limit, connection.call(version, &request)).await {
        Ok(Ok(response)) => Ok((connection, response)),
        Ok(Err(error)) => Err(WriteError { trouble: error.into(), sent: true }),
        Err(_) => {
            let why = format!("broker {} did not answer within {limit:?}", connection.address());
            Err(WriteError { trouble: Trouble::passing(why), sent: true })
        }
    };
    Written { broker, batches, outcome }
}
