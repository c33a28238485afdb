//! The task that writes to one partition of the dead letter topic.
//!
//! Owns batching, and the retries while the partition cannot be written. A letter that the broker does not take goes
//! back to the one who handed it in, so that it holds up no other.

use std::sync::{Arc, atomic::Ordering};

use rskafka::{
    client::{
        error::{Error as ClientError, ProtocolError, RequestError},
        partition::Compression,
    },
    record::Record,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};

use super::{health::Part, writer::Context};
use crate::{
    delay::Delays,
    kafka::shared_client::{Error, PartitionLink},
};

/// Bytes of letters in a batch, before compression, that is not a single letter.
///
/// A request of more than 8 KiB stalls for about 45 ms on rskafka's connections, which delay small writes.
pub(super) const BATCH_LIMIT: usize = 6 * 1024;

/// Estimate of what a letter takes beside its own bytes: lengths, deltas.
pub(super) const LETTER_OVERHEAD: usize = 64;

/// A letter on its way, and who waits for it.
pub(super) struct Order {
    pub(super) letter: Record,
    pub(super) done: oneshot::Sender<Outcome>,
}

/// What became of a letter.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The in-sync replicas have it.
    Written,
    /// The broker does not take it as it is.
    Refused {
        /// It never will.
        for_good: bool,
        /// What it said.
        detail: String,
    },
}

/// What an error says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing about the letters: the partition cannot be written now.
    Outage,
    /// This content is too large or invalid.
    Content,
    /// Perhaps something about the content.
    Doubtful,
}

/// Writes to one partition until nobody can hand in any more.
pub(super) struct Lane {
    context: Arc<Context>,
    index: i32,
    link: PartitionLink,
    queue: mpsc::Receiver<Order>,
    /// Letters that go alone, because a batch with them was refused.
    singles: Vec<Order>,
    /// A letter that did not fit into the last batch.
    held: Option<Order>,
}

impl Lane {
    pub(super) fn new(context: Arc<Context>, index: i32, queue: mpsc::Receiver<Order>) -> Self {
        let link = PartitionLink::new(context.shared.clone(), Arc::clone(&context.topic));
        Self { context, index, link, queue, singles: Vec::new(), held: None }
    }

    pub(super) async fn run(mut self) {
        while let Some(batch) = self.next_batch().await {
            self.write(batch).await;
        }
    }

    async fn next_batch(&mut self) -> Option<Vec<Order>> {
        if let Some(single) = self.singles.pop() {
            return Some(vec![single]);
        }
        let first = match self.held.take() {
            Some(order) => order,
            None => self.queue.recv().await?,
        };
        let mut size = size(&first);
        let mut batch = vec![first];
        while let Ok(order) = self.queue.try_recv() {
            size += self::size(&order);
            if size > BATCH_LIMIT {
                self.held = Some(order);
                break;
            }
            batch.push(order);
        }
        Some(batch)
    }

    async fn write(&mut self, mut batch: Vec<Order>) {
        let context = Arc::clone(&self.context);
        let (topic, part) = (&*context.topic, Part::Partition(self.index));
        let _attempt = context.health.attempt(part);
        let mut delays = Delays::doubling(context.timing.retry_initial, context.timing.retry_max);
        loop {
            // Who does not wait any more keeps the record unsettled, and will come again with it.
            batch.retain(|order| !order.done.is_closed());
            if batch.is_empty() {
                return;
            }
            let mut again = self.link.again();
            let produced = loop {
                match self.produce(batch.iter().map(|order| order.letter.clone()).collect()).await {
                    Err(error) if again.after(&error).await => {}
                    outcome => break outcome,
                }
            };
            let error = match produced {
                Ok(()) => {
                    context.health.recovered(topic, part);
                    return reply(batch, || Outcome::Written);
                }
                Err(error) => error,
            };
            let for_good = match verdict(&error) {
                Verdict::Outage => {
                    context.health.failing(topic, part, &error);
                    sleep(delays.advance()).await;
                    continue;
                }
                Verdict::Content => true,
                Verdict::Doubtful => false,
            };
            context.health.recovered(topic, part);
            if batch.len() == 1 {
                return reply(batch, || Outcome::Refused { for_good, detail: error.to_string() });
            }
            self.singles.extend(batch.into_iter().rev());
            return;
        }
    }

    /// rskafka asks for the acknowledgement of all in-sync replicas (`acks` -1) and gives the broker 30 seconds.
    async fn produce(&mut self, letters: Vec<Record>) -> Result<(), Error> {
        let limit = self.context.timing.answer;
        let (context, index) = (&self.context, self.index);
        let outcome = timeout(limit, async {
            let partition = self.link.partition(|count| {
                context.partition_count.store(count, Ordering::Relaxed);
                index % count
            });
            partition.await?.produce(letters, Compression::Gzip).await?;
            Ok(())
        })
        .await;
        self.link.settle(limit, outcome).await
    }
}

/// Nobody may be waiting any more; the letter is written all the same.
fn reply(batch: Vec<Order>, outcome: impl Fn() -> Outcome) {
    for order in batch {
        let _ = order.done.send(outcome());
    }
}

fn size(order: &Order) -> usize {
    order.letter.approximate_size() + LETTER_OVERHEAD
}

/// Error codes of the Produce API (<https://kafka.apache.org/protocol#protocol_error_codes>).
pub(super) fn verdict(error: &Error) -> Verdict {
    match error {
        Error::Client(ClientError::ServerError { protocol_error, .. }) => match protocol_error {
            // 10, 18, 87. Of 87 (validation by the broker or its plug-ins) most cases are about the value.
            ProtocolError::MessageTooLarge | ProtocolError::RecordListTooLarge | ProtocolError::InvalidRecord => {
                Verdict::Content
            }
            // About the record or the request, but neither the size nor surely the value.
            ProtocolError::UnknownServerError
            | ProtocolError::CorruptMessage
            | ProtocolError::InvalidTimestamp
            | ProtocolError::InvalidRequest
            | ProtocolError::UnsupportedForMessageFormat
            | ProtocolError::UnsupportedCompressionType
            | ProtocolError::PolicyViolation
            | ProtocolError::Unknown(_) => Verdict::Doubtful,
            // Leaders, replicas (7, 19, 20, 56), authorisation and the rest.
            _ => Verdict::Outage,
        },
        // It cannot be encoded, so it can never be sent.
        Error::Client(ClientError::Request(RequestError::WriteError(_))) => Verdict::Content,
        _ => Verdict::Outage,
    }
}
