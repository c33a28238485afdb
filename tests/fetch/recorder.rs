//! A sink that remembers what it was told.

use std::{sync::Mutex, time::Duration};

use async_trait::async_trait;
use tokio::{sync::watch, time::timeout};

use postlane::kafka::{
    Record,
    fetch::{Halt, Sink},
};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Told {
    Delivered(i64),
    LostToRetention(i64, i64),
    LogRestarted(i64, i64),
    Halted(Halt),
    Resumed,
}

/// Remembers all it is told; `room` lets pass as long as `open` is true.
pub(crate) struct Recorder {
    told: Mutex<Vec<Told>>,
    records: Mutex<Vec<Record>>,
    advanced: watch::Sender<(i64, i64)>,
    count: watch::Sender<usize>,
    pub(crate) open: watch::Sender<bool>,
    deadline: Duration,
}

impl Recorder {
    /// Waiting for something takes no longer than `deadline`.
    pub(crate) fn new(deadline: Duration) -> Self {
        Self {
            deadline,
            told: Mutex::default(),
            records: Mutex::default(),
            advanced: watch::Sender::new((-1, -1)),
            count: watch::Sender::new(0),
            open: watch::Sender::new(true),
        }
    }

    pub(crate) fn told(&self) -> Vec<Told> {
        self.told.lock().unwrap().clone()
    }

    pub(crate) fn records(&self) -> Vec<Record> {
        self.records.lock().unwrap().clone()
    }

    pub(crate) fn advanced(&self) -> (i64, i64) {
        *self.advanced.borrow()
    }

    /// Waits until `enough` says yes to all that was told so far.
    pub(crate) async fn until(&self, enough: impl Fn(&[Told]) -> bool) {
        let mut count = self.count.subscribe();
        let waited = timeout(self.deadline, count.wait_for(|_| enough(&self.told()))).await;
        waited.unwrap_or_else(|_| panic!("told only {:?}", self.told())).unwrap();
    }

    /// Waits until the position has reached `offset`.
    pub(crate) async fn reached(&self, offset: i64) {
        let mut advanced = self.advanced.subscribe();
        let waited = timeout(self.deadline, advanced.wait_for(|(next, _)| *next >= offset)).await;
        waited.unwrap_or_else(|_| panic!("only at {:?}", self.advanced())).unwrap();
    }

    fn tell(&self, what: Told) {
        self.told.lock().unwrap().push(what);
        self.count.send_modify(|count| *count += 1);
    }
}

#[async_trait]
impl Sink for Recorder {
    async fn room(&self) {
        self.open.subscribe().wait_for(|open| *open).await.unwrap();
    }

    async fn deliver(&self, record: Record) {
        let offset = record.offset;
        self.records.lock().unwrap().push(record);
        self.tell(Told::Delivered(offset));
    }

    fn advanced(&self, next_offset: i64, high_watermark: i64) {
        self.advanced.send_replace((next_offset, high_watermark));
    }

    fn lost_to_retention(&self, from: i64, to: i64) {
        self.tell(Told::LostToRetention(from, to));
    }

    fn log_restarted(&self, from: i64, to: i64) {
        self.tell(Told::LogRestarted(from, to));
    }

    fn halted(&self, why: Halt) {
        self.tell(Told::Halted(why));
    }

    fn resumed(&self) {
        self.tell(Told::Resumed);
    }
}
