//! The loop that reads one partition for as long as it is told to.
//!
//! Owns the position of the next fetch, what follows each [`FetchError`], and what is said about it. Knows nothing of
//! connections, and keeps no record: what it reads goes to the [`Sink`] at once.

use std::{convert::Infallible, pin::pin, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::{Bounds, FetchError, Fetched, PartitionReader};
use crate::{delay::Delays, kafka::Record};

/// Longest delay between fetches that bring nothing of what the partition holds.
const NO_RECORDS_MAX_DELAY: Duration = Duration::from_secs(1);

/// Where a partition's records go, and who hears how its reading fares.
#[async_trait]
pub trait Sink: Send + Sync {
    /// Waits until another fetch's records may come. Dropping the future has no effect.
    async fn room(&self);

    /// The broker is asked now.
    fn asking(&self) {}

    /// The broker has answered, whatever it said; the log ends at `high_watermark` where it told. Comes before
    /// the records are delivered.
    fn answered(&self, high_watermark: Option<i64>) {
        let _ = high_watermark;
    }

    /// Takes one record. Where the future is dropped, the record counts as not read.
    async fn deliver(&self, record: Record);

    /// All records below `next_offset` were delivered; what no record covers there is a gap in the log.
    fn advanced(&self, next_offset: i64, high_watermark: i64);

    /// The log begins at `to` only: what stood from `from` on is gone, and reading goes on at `to`.
    fn lost_to_retention(&self, from: i64, to: i64);

    /// The log ends before `from`: it was made anew or truncated. Reading goes on at its start, `to`, and offsets below
    /// `from` come again with other records.
    fn log_restarted(&self, from: i64, to: i64);

    /// Reading makes no progress, for a reason other than the last one. It goes on trying.
    fn halted(&self, why: Halt);

    /// Reading makes progress again.
    fn resumed(&self);
}

/// Why a partition's reading makes no progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Halt {
    /// Brokers away, or a leader that moves.
    Unavailable,
    /// The brokers answer, and list no such topic or partition.
    NotListed,
    /// The broker does not let us.
    Denied,
    /// What stands at the position cannot be decoded.
    Undecodable,
    /// The partition holds more, but the fetches bring no records.
    NoRecords,
    /// The position lies beyond the log's end.
    BeyondEnd,
}

/// Delays and patience of a loop.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// First delay after a failure; each further one is twice as long.
    pub retry_initial: Duration,
    /// Longest delay after a failure.
    pub retry_max: Duration,
    /// Delay before what could not be decoded is tried again.
    pub undecodable_retry: Duration,
    /// Time for which a position beyond the log's end is taken for a leader that lags.
    pub beyond_end_patience: Duration,
    /// Time for which fetches may bring nothing of what the partition holds before a warning says so.
    pub no_records_warning: Duration,
    /// Time after which the broker is asked for the log's end while what was read waits to be delivered, or what
    /// follows cannot be read.
    pub look_again: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            retry_initial: Duration::from_millis(100),
            retry_max: Duration::from_secs(5),
            undecodable_retry: Duration::from_secs(60),
            beyond_end_patience: Duration::from_secs(30),
            no_records_warning: Duration::from_secs(60),
            look_again: Duration::from_secs(3),
        }
    }
}

/// Reads one partition from a position on.
pub struct PartitionLoop<R> {
    reader: R,
    topic: Arc<str>,
    partition: i32,
    position: i64,
    sink: Arc<dyn Sink>,
    timing: Timing,
    delays: Delays,
    halted: Option<Halt>,
    beyond_end_since: Option<Instant>,
    no_records_since: Option<Instant>,
}

impl<R: PartitionReader> PartitionLoop<R> {
    /// Starts at offset `start`, the next one to be read.
    pub fn new(reader: R, topic: Arc<str>, partition: i32, start: i64, sink: Arc<dyn Sink>, timing: Timing) -> Self {
        Self {
            reader,
            topic,
            partition,
            position: start,
            sink,
            timing,
            delays: Delays::doubling(timing.retry_initial, timing.retry_max),
            halted: None,
            beyond_end_since: None,
            no_records_since: None,
        }
    }

    /// Reads until `shutdown` is cancelled, and then ends at once, whatever it waits for.
    ///
    /// Returns the position: all records below it were delivered. Records at and beyond it may have been delivered
    /// too, where the end came in the middle of a fetch's records.
    pub async fn run(mut self, shutdown: CancellationToken) -> i64 {
        match shutdown.run_until_cancelled(self.read()).await {
            None => self.position,
            Some(never) => match never {},
        }
    }

    async fn read(&mut self) -> Infallible {
        loop {
            self.sink.room().await;
            let asked = Instant::now();
            self.sink.asking();
            match self.reader.fetch(self.position).await {
                Ok(fetched) => {
                    self.sink.answered(Some(fetched.high_watermark));
                    self.take(fetched, asked).await;
                }
                Err(FetchError::OutOfRange) => {
                    self.sink.answered(None);
                    self.out_of_range().await;
                }
                Err(error) => {
                    if !matches!(error, FetchError::Unavailable { .. }) {
                        self.sink.answered(None);
                    }
                    self.failed(error).await;
                }
            }
        }
    }

    async fn take(&mut self, fetched: Fetched, asked: Instant) {
        let Fetched { records, next_offset, high_watermark } = fetched;
        self.beyond_end_since = None;
        let progress = next_offset > self.position || high_watermark <= self.position;
        if progress {
            // what was in the way is not any more, however long the records take from here on
            self.no_records_since = None;
            self.delays.reset();
            self.resume();
        }
        if !records.is_empty() {
            self.hand_over(records).await;
        }
        self.position = self.position.max(next_offset);
        self.sink.advanced(self.position, high_watermark);
        if !progress {
            self.no_records(high_watermark, asked).await;
        }
    }

    /// Delivers what a fetch has brought. While that takes long, because what was read before still waits to be sent,
    /// the broker is asked now and then where the log ends: else nobody would know how the lag grows, or that the
    /// broker is gone. That records move meanwhile says nothing of the broker.
    async fn hand_over(&mut self, records: Vec<Record>) {
        let sink = Arc::clone(&self.sink);
        let mut delivering = pin!(async {
            for record in records {
                sink.deliver(record).await;
            }
        });
        let pause = self.timing.look_again;
        loop {
            let mut asked = false;
            let look = async {
                sleep(pause).await;
                sink.asking();
                asked = true;
                self.reader.bounds().await
            };
            let bounds = tokio::select! {
                biased;
                () = &mut delivering => {
                    if asked {
                        // nobody waits for this answer any more
                        sink.answered(None);
                    }
                    return;
                }
                bounds = look => bounds,
            };
            // a failure is an end of the question, too: what it means is told by the halt
            sink.answered(bounds.as_ref().ok().map(|bounds| bounds.log_end));
            match bounds {
                Ok(_) => self.resume(),
                Err(error) => self.cannot_look(&error),
            }
        }
    }

    /// Says that it is unknown where the log ends while records wait, unless the broker has refused to tell.
    fn cannot_look(&mut self, error: &FetchError) {
        let why = match error {
            FetchError::Unavailable { .. } => Halt::Unavailable,
            FetchError::NotListed { .. } => Halt::NotListed,
            FetchError::OutOfRange | FetchError::Denied { .. } | FetchError::Undecodable { .. } => return,
        };
        if self.halt(why) {
            let (topic, partition) = (&self.topic, self.partition);
            warn!(%topic, partition, detail = %error, "cannot ask where the log ends; trying again");
        }
    }

    /// Asks where the log ends.
    async fn look(&mut self) -> Result<Bounds, FetchError> {
        self.sink.asking();
        let bounds = self.reader.bounds().await;
        self.sink.answered(bounds.as_ref().ok().map(|bounds| bounds.log_end));
        bounds
    }

    /// Waits before what the broker has, but does not give, is asked for again, and looks now and then how much that is.
    ///
    /// Ends early where the broker does not answer: the next fetch tells what that means.
    async fn wait_and_look(&mut self, delay: Duration) {
        let until = Instant::now() + delay;
        loop {
            let looked = self.look().await;
            sleep_until(until.min(Instant::now() + self.timing.look_again)).await;
            let silent = matches!(looked, Err(FetchError::Unavailable { .. } | FetchError::NotListed { .. }));
            if silent || Instant::now() >= until {
                return;
            }
        }
    }

    /// The partition holds more, but nothing came: a transaction that is still open, or a batch of which no record is
    /// left from the position on. rskafka hides where such a batch ends, so it cannot be passed.
    async fn no_records(&mut self, high_watermark: i64, asked: Instant) {
        let since = *self.no_records_since.get_or_insert(asked);
        if since.elapsed() >= self.timing.no_records_warning {
            if self.halt(Halt::NoRecords) {
                let (topic, partition, offset) = (&self.topic, self.partition, self.position);
                warn!(
                    %topic, partition, offset, high_watermark,
                    "fetches bring no records although the partition holds more: a transaction is open, or a batch \
                     has no records left from here on; the position stays"
                );
            }
        } else if self.halted != Some(Halt::NoRecords) {
            self.resume();
        }
        // Such a batch comes at once, whole, each time; an open transaction may end any moment.
        let delay = self.delays.advance().min(NO_RECORDS_MAX_DELAY);
        sleep(delay.saturating_sub(asked.elapsed())).await;
    }

    async fn out_of_range(&mut self) {
        let bounds = match self.look().await {
            Ok(bounds) => bounds,
            Err(error) => return self.failed(error).await,
        };
        let (topic, partition, offset) = (&self.topic, self.partition, self.position);
        let (log_start, log_end) = (bounds.log_start, bounds.log_end);
        if offset < log_start {
            let lost = log_start - offset;
            error!(
                %topic, partition, offset, log_start, lost,
                "retention has deleted records that were not read yet: these mails are lost; going on at the log's start"
            );
            self.sink.lost_to_retention(offset, log_start);
            self.jump(log_start);
            return;
        }
        if offset <= log_end {
            // The log has moved between the two answers.
            self.beyond_end_since = None;
            debug!(%topic, partition, offset, log_start, log_end, "the offset is in the log by now");
            return sleep(self.delays.advance()).await;
        }
        let since = *self.beyond_end_since.get_or_insert_with(Instant::now);
        if since.elapsed() >= self.timing.beyond_end_patience {
            error!(
                %topic, partition, offset, log_start, log_end,
                "the log ends before the position: the topic was made anew or truncated; going on at the log's start"
            );
            self.sink.log_restarted(offset, log_start);
            self.jump(log_start);
            return;
        }
        if self.halt(Halt::BeyondEnd) {
            let (topic, patience) = (&self.topic, self.timing.beyond_end_patience);
            warn!(
                %topic, partition, offset, log_start, log_end, ?patience,
                "the position lies beyond the log's end; waiting for a leader that may lag"
            );
        }
        sleep(self.delays.advance()).await;
    }

    async fn failed(&mut self, error: FetchError) {
        self.beyond_end_since = None;
        self.no_records_since = None;
        let (why, detail) = match error {
            FetchError::Unavailable { detail } => (Halt::Unavailable, detail),
            FetchError::NotListed { detail } => (Halt::NotListed, detail),
            FetchError::Denied { detail } => (Halt::Denied, detail),
            FetchError::Undecodable { detail } => (Halt::Undecodable, detail),
            // The bounds cannot be out of range; a reader that says so has no answer.
            FetchError::OutOfRange => (Halt::Unavailable, FetchError::OutOfRange.to_string()),
        };
        let news = self.halt(why);
        let (topic, partition, offset) = (&self.topic, self.partition, self.position);
        if why == Halt::Undecodable {
            let retry = self.timing.undecodable_retry;
            if news {
                error!(
                    %topic, partition, offset, detail, ?retry,
                    "cannot decode what follows this offset, so this partition stops here and is tried again; nothing \
                     is skipped. Known causes: a transaction marker, a header without a value, a damaged batch. Look \
                     with kafka-console-consumer --partition --offset; copy what is wanted to a clean topic, or delete \
                     everything up to and including it with kafka-delete-records"
                );
            }
            return self.wait_and_look(retry).await;
        }
        let delay = self.delays.advance();
        match why {
            _ if !news => debug!(%topic, partition, offset, detail, ?delay, "still cannot fetch"),
            Halt::Denied => error!(%topic, partition, offset, detail, "the broker denies the fetch; trying again"),
            _ => warn!(%topic, partition, offset, detail, "cannot fetch; trying again"),
        }
        match why {
            Halt::Denied => self.wait_and_look(delay).await,
            _ => sleep(delay).await,
        }
    }

    fn jump(&mut self, position: i64) {
        self.position = position;
        self.beyond_end_since = None;
        self.delays.reset();
    }

    /// Notes why there is no progress. Whether that is news.
    fn halt(&mut self, why: Halt) -> bool {
        let news = self.halted != Some(why);
        if news {
            self.halted = Some(why);
            self.delays.reset();
            self.sink.halted(why);
        }
        news
    }

    fn resume(&mut self) {
        if let Some(why) = self.halted.take() {
            let (topic, partition, offset) = (&self.topic, self.partition, self.position);
            info!(%topic, partition, offset, ?why, "fetching again");
            self.sink.resumed();
        }
    }
}
