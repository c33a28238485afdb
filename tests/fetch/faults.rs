//! The loop on a fake reader: faults and their timing, with paused time.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use chrono::DateTime;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::recorder::{Recorder, Told};
use postlane::kafka::{
    Record,
    fetch::{Bounds, FetchError, Fetched, Halt, PartitionLoop, PartitionReader, Timing},
};

const HOUR: Duration = Duration::from_secs(3600);

/// `None` is a fetch that stays without an answer.
type Answer = Option<Result<Fetched, FetchError>>;

/// Answers each fetch by a function of the number of the call, the offset and the time since the start.
struct Fake<F> {
    answer: F,
    bounds: Bounds,
    asked: Arc<Mutex<Vec<(Duration, i64)>>>,
    start: Instant,
}

#[async_trait]
impl<F> PartitionReader for Fake<F>
where
    F: FnMut(usize, i64, Duration) -> Answer + Send,
{
    async fn fetch(&mut self, offset: i64) -> Result<Fetched, FetchError> {
        let elapsed = self.start.elapsed();
        let call = {
            let mut asked = self.asked.lock().unwrap();
            asked.push((elapsed, offset));
            asked.len() - 1
        };
        match (self.answer)(call, offset, elapsed) {
            Some(answer) => answer,
            None => std::future::pending().await,
        }
    }

    async fn bounds(&mut self) -> Result<Bounds, FetchError> {
        Ok(self.bounds)
    }
}

fn record(offset: i64) -> Record {
    Record {
        topic: "t".into(),
        partition: 0,
        offset,
        timestamp: DateTime::UNIX_EPOCH,
        arrived: DateTime::UNIX_EPOCH,
        key: None,
        value: Some(vec![]),
        headers: BTreeMap::new(),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "the shape of the fake's answers")]
fn brings(offsets: &[i64], next_offset: i64, high_watermark: i64) -> Answer {
    let records = offsets.iter().copied().map(record).collect();
    Some(Ok(Fetched { records, next_offset, high_watermark }))
}

#[expect(clippy::unnecessary_wraps, reason = "the shape of the fake's answers")]
fn unavailable() -> Answer {
    Some(Err(FetchError::Unavailable { detail: "gone".into() }))
}

struct Run {
    sink: Arc<Recorder>,
    asked: Arc<Mutex<Vec<(Duration, i64)>>>,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<i64>,
}

impl Run {
    fn start<F>(start: i64, bounds: Bounds, answer: F) -> Self
    where
        F: FnMut(usize, i64, Duration) -> Answer + Send + 'static,
    {
        let sink = Arc::new(Recorder::new(HOUR));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let shutdown = CancellationToken::new();
        let fake = Fake { answer, bounds, asked: Arc::clone(&asked), start: Instant::now() };
        let partition_loop = PartitionLoop::new(fake, "t".into(), 0, start, sink.clone(), Timing::default());
        let task = tokio::spawn(partition_loop.run(shutdown.clone()));
        Self { sink, asked, shutdown, task }
    }

    fn asked_at(&self) -> Vec<u128> {
        self.asked.lock().unwrap().iter().map(|(at, _)| at.as_millis()).collect()
    }

    async fn end(self) -> i64 {
        self.shutdown.cancel();
        self.task.await.unwrap()
    }
}

const EMPTY: Bounds = Bounds { log_start: 0, log_end: 0 };

#[tokio::test(start_paused = true)]
async fn delivers_in_order_and_goes_on_at_the_next_offset() {
    let run = Run::start(5, EMPTY, |call, offset, _| match call {
        0 => brings(&[5, 6], 7, 12),
        // A gap: the batch covers more than its records.
        1 => brings(&[9], 12, 12),
        _ => {
            assert_eq!(offset, 12);
            None
        }
    });
    run.sink.reached(12).await;
    assert_eq!(run.sink.told(), [Told::Delivered(5), Told::Delivered(6), Told::Delivered(9)]);
    assert_eq!(run.sink.advanced(), (12, 12));
    let asked: Vec<i64> = run.asked.lock().unwrap().iter().map(|(_, offset)| *offset).collect();
    assert_eq!(asked[..2], [5, 7]);
    assert_eq!(run.end().await, 12);
}

#[tokio::test(start_paused = true)]
async fn no_fetch_without_room() {
    let sink = Arc::new(Recorder::new(HOUR));
    sink.open.send_replace(false);
    let asked = Arc::new(Mutex::new(Vec::new()));
    let fake = Fake {
        answer: |call, _, _| if call == 0 { brings(&[0], 1, 1) } else { None },
        bounds: EMPTY,
        asked: Arc::clone(&asked),
        start: Instant::now(),
    };
    let shutdown = CancellationToken::new();
    let partition_loop = PartitionLoop::new(fake, "t".into(), 0, 0, sink.clone(), Timing::default());
    let task = tokio::spawn(partition_loop.run(shutdown.clone()));
    tokio::time::advance(Duration::from_secs(3600)).await;
    assert!(asked.lock().unwrap().is_empty());
    sink.open.send_replace(true);
    sink.reached(1).await;
    shutdown.cancel();
    assert_eq!(task.await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn unavailable_is_said_once_and_retried_with_growing_delays() {
    let run = Run::start(
        3,
        EMPTY,
        |call, _, _| if call < 8 { unavailable() } else { (call == 8).then(|| brings(&[3], 4, 4))? },
    );
    run.sink.reached(4).await;
    assert_eq!(run.sink.told(), [Told::Halted(Halt::Unavailable), Told::Resumed, Told::Delivered(3)]);
    assert_eq!(run.asked_at()[..9], [0, 100, 300, 700, 1500, 3100, 6300, 11300, 16300]);
    assert!(run.asked.lock().unwrap()[..9].iter().all(|(_, offset)| *offset == 3));
    run.end().await;
}

#[tokio::test(start_paused = true)]
async fn denied_is_told_apart_from_unavailable() {
    let run = Run::start(0, EMPTY, |call, _, _| match call {
        0 => unavailable(),
        1 | 2 => Some(Err(FetchError::Denied { detail: "no".into() })),
        3 => brings(&[], 0, 0),
        _ => None,
    });
    run.sink.until(|told| told.contains(&Told::Resumed)).await;
    assert_eq!(run.sink.told(), [Told::Halted(Halt::Unavailable), Told::Halted(Halt::Denied), Told::Resumed]);
    run.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_decoded_is_tried_again_each_minute_and_never_passed() {
    let run = Run::start(7, EMPTY, |call, offset, _| match call {
        0..5 => {
            assert_eq!(offset, 7);
            Some(Err(FetchError::Undecodable { detail: "Unknown control batch record version: 4096".into() }))
        }
        5 => brings(&[7], 8, 8),
        _ => None,
    });
    run.sink.reached(8).await;
    assert_eq!(run.asked_at()[..6], [0, 60_000, 120_000, 180_000, 240_000, 300_000]);
    assert_eq!(run.sink.told(), [Told::Halted(Halt::Undecodable), Told::Resumed, Told::Delivered(7)]);
    run.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_retention_took_is_counted_and_reading_goes_on_at_the_logs_start() {
    let run = Run::start(10, Bounds { log_start: 25, log_end: 30 }, |_, offset, _| match offset {
        10 => Some(Err(FetchError::OutOfRange)),
        25 => brings(&[25], 26, 30),
        _ => None,
    });
    run.sink.reached(26).await;
    assert_eq!(run.sink.told(), [Told::LostToRetention(10, 25), Told::Delivered(25)]);
    assert_eq!(run.asked_at()[1], 0, "nothing to wait for");
    run.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_lags_for_less_than_the_patience_costs_nothing() {
    let run = Run::start(10, Bounds { log_start: 0, log_end: 9 }, |_, offset, elapsed| {
        assert_eq!(offset, 10, "the position has moved");
        if elapsed < Duration::from_secs(29) {
            Some(Err(FetchError::OutOfRange))
        } else if elapsed < Duration::from_secs(60) {
            brings(&[], 10, 10)
        } else {
            None
        }
    });
    run.sink.until(|told| told.contains(&Told::Resumed)).await;
    assert_eq!(run.sink.told(), [Told::Halted(Halt::BeyondEnd), Told::Resumed]);
    run.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_log_made_anew_is_read_from_its_start_after_the_patience() {
    let run = Run::start(10, Bounds { log_start: 2, log_end: 5 }, |_, offset, _| match offset {
        10 => Some(Err(FetchError::OutOfRange)),
        2 => brings(&[2, 3, 4], 5, 5),
        _ => None,
    });
    run.sink.until(|told| told.contains(&Told::Resumed)).await;
    let told = run.sink.told();
    assert_eq!(told[..3], [Told::Halted(Halt::BeyondEnd), Told::LogRestarted(10, 2), Told::Resumed]);
    let asked = run.asked.lock().unwrap().clone();
    let restarted = asked.iter().find(|(_, offset)| *offset == 2).unwrap().0;
    assert!((Duration::from_secs(30)..Duration::from_secs(36)).contains(&restarted), "{restarted:?}");
    assert_eq!(run.end().await, 5);
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_no_proof_of_a_new_log() {
    // Out of range, then away for a minute, then out of range for 20 s more: never 30 s of proof in one piece.
    let run = Run::start(10, Bounds { log_start: 0, log_end: 5 }, |_, offset, elapsed| {
        if offset == 11 {
            return None;
        }
        assert_eq!(offset, 10, "the position has moved");
        match elapsed.as_secs() {
            0..20 | 80..100 => Some(Err(FetchError::OutOfRange)),
            20..80 => unavailable(),
            _ => brings(&[10], 11, 11),
        }
    });
    run.sink.until(|told| told.contains(&Told::Delivered(10))).await;
    assert!(!run.sink.told().iter().any(|told| matches!(told, Told::LogRestarted(..))));
    run.shutdown.cancel();
}

#[tokio::test(start_paused = true)]
async fn fetches_without_the_records_that_are_there_are_paced_and_said_once() {
    let run = Run::start(4, EMPTY, |_, offset, elapsed| {
        if elapsed < Duration::from_secs(120) {
            brings(&[], offset, 9)
        } else {
            (offset == 4).then(|| brings(&[8], 9, 9))?
        }
    });
    run.sink.reached(9).await;
    assert_eq!(run.sink.told(), [Told::Halted(Halt::NoRecords), Told::Resumed, Told::Delivered(8)]);
    let asked = run.asked_at();
    assert_eq!(asked[..6], [0, 100, 300, 700, 1500, 2500]);
    assert!(asked.len() < 130, "{} fetches in two minutes", asked.len());
    run.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_partition_is_no_trouble() {
    let run = Run::start(4, EMPTY, |call, offset, _| if call < 3 { brings(&[], offset, 4) } else { None });
    run.sink.reached(4).await;
    tokio::time::advance(Duration::from_secs(600)).await;
    assert!(run.sink.told().is_empty());
    assert_eq!(run.end().await, 4);
}

#[tokio::test(start_paused = true)]
async fn shutdown_ends_a_long_poll_at_once() {
    let run = Run::start(4, EMPTY, |_, _, _| None);
    tokio::task::yield_now().await;
    let cancelled = Instant::now();
    assert_eq!(run.end().await, 4);
    assert_eq!(cancelled.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn shutdown_ends_the_wait_after_a_failure_at_once() {
    let run = Run::start(4, EMPTY, |_, _, _| Some(Err(FetchError::Undecodable { detail: "CRC error".into() })));
    run.sink.until(|told| told.contains(&Told::Halted(Halt::Undecodable))).await;
    let cancelled = Instant::now();
    assert_eq!(run.end().await, 4);
    assert_eq!(cancelled.elapsed(), Duration::ZERO);
}
