//! A file of events on its way: many in flight, bounded in number and bytes, each settled where it ends.

use std::{
    collections::{BTreeMap, VecDeque},
    io::Read,
    sync::Arc,
    time::Duration,
};

use postlane::config::RateLimit;
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

use super::{
    batches::{self, Batch},
    book::{self, Book},
    gate::{Closed, Gate},
    identity::with_id,
    lines::{Content, Line, Lines},
    pace::Pace,
    progress::{Progress, Standing, clock},
    publish::{NotTaken, Publish, Taken},
};

/// Mails on their way at once.
const IN_FLIGHT: usize = 4096;
/// Bytes of events on their way at once; a larger event goes alone.
const IN_FLIGHT_BYTES: usize = 16 * 1024 * 1024;
/// Lines that are begun beyond the lowest that is not settled.
const LOOKAHEAD: u64 = 100_000;
/// And bytes: whenever the state is saved, those beyond are read again.
const LOOKAHEAD_BYTES: u64 = 64 * 1024 * 1024;
/// The state is saved, and progress looked at, this often.
const SAVE: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(100);
/// An outage is told when it has lasted so long.
const TOLD_AFTER: Duration = Duration::from_secs(1);

/// How it is to be done.
#[derive(Debug, Clone)]
pub(super) struct Options {
    /// Name of the file, for what is said.
    pub(super) name: String,
    /// Bytes of the file; `None` for a stream.
    pub(super) size: Option<u64>,
    /// Refused lines after which it ends.
    pub(super) max_errors: u64,
    /// Mails in a span.
    pub(super) rate: Option<RateLimit>,
    /// How long an outage may last.
    pub(super) give_up_after: Duration,
}

/// Why it ended.
#[derive(Debug)]
pub(super) enum End {
    /// All lines are settled.
    Finished,
    /// Too many were refused.
    Errors,
    /// A signal of this name.
    Signal(&'static str),
    /// The brokers were away for too long.
    GaveUp(String),
    /// No mail would be taken.
    Setup(String),
    /// The file cannot be read any further.
    Read(std::io::Error),
    /// What was done cannot be kept.
    Book(book::Error),
}

/// How one line ended.
enum Settled {
    Published(Taken),
    Refused(String, Vec<u8>),
    Setup(String),
    /// It was begun and is not settled.
    Left,
}

struct Done {
    number: u64,
    end: u64,
    bytes: usize,
    settled: Settled,
}

/// A run.
pub(super) struct Run<P> {
    publisher: Arc<P>,
    options: Options,
    gate: Arc<Gate>,
    book: Book,
    progress: Progress,
    pace: Option<Pace>,
    tasks: JoinSet<Done>,
    /// Lines that were read and not begun.
    queue: VecDeque<Line>,
    bytes: usize,
    refused: u64,
    /// What is wrong with lines that were refused, until all before them are settled: it is told in their order.
    refusals: BTreeMap<u64, String>,
    twice_possible: u64,
    end: Option<End>,
    outage_told: Option<Instant>,
}

impl<P: Publish> Run<P> {
    pub(super) fn new(publisher: P, options: Options, book: Book, progress: Progress) -> Self {
        Self {
            publisher: Arc::new(publisher),
            gate: Arc::new(Gate::new(options.give_up_after)),
            pace: options.rate.map(Pace::new),
            options,
            book,
            progress,
            tasks: JoinSet::new(),
            queue: VecDeque::new(),
            bytes: 0,
            refused: 0,
            refusals: BTreeMap::new(),
            twice_possible: 0,
            end: None,
            outage_told: None,
        }
    }

    /// Goes through the lines until they end, or something ends it; then waits for what is on its way. A second signal
    /// does not.
    pub(super) async fn run<R>(mut self, lines: Lines<R>, mut signals: mpsc::Receiver<&'static str>) -> Finished
    where
        R: Read + Send + 'static,
    {
        // a new run is named before its first mail, or a repeat of it could have another id
        if let Err(error) = self.book.save() {
            return self.finish(End::Book(error));
        }
        let mut batches = Some(batches::read(lines));
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut saved = Instant::now();
        loop {
            let pause = self.begin();
            self.tell(self.book.next());
            let idle = self.tasks.is_empty();
            if idle && (self.end.is_some() || (self.queue.is_empty() && batches.is_none())) {
                break;
            }
            let hungry = self.end.is_none() && self.queue.is_empty();
            tokio::select! {
                Some(name) = signals.recv() => {
                    self.gate.close();
                    if matches!(self.end, Some(End::Signal(_))) {
                        break;
                    }
                    self.end = Some(End::Signal(name));
                }
                Some(done) = self.tasks.join_next() => {
                    self.settle(done.expect("a task does not panic and is not aborted while this waits for it"));
                    while let Some(done) = self.tasks.try_join_next() {
                        self.settle(done.expect("a task does not panic and is not aborted while this waits for it"));
                    }
                }
                batch = next(&mut batches), if hungry && batches.is_some() => match batch {
                    Some(Ok(batch)) => self.queue.extend(batch),
                    Some(Err(error)) => self.end = Some(End::Read(error)),
                    None => batches = None,
                },
                () = sleep_until(pause.unwrap_or_else(Instant::now)), if pause.is_some() => {}
                _ = tick.tick() => {
                    if saved.elapsed() >= SAVE {
                        self.save();
                        saved = Instant::now();
                    }
                    self.show();
                }
            }
        }
        let end = self.end.take().unwrap_or(End::Finished);
        self.finish(end)
    }

    fn finish(mut self, end: End) -> Finished {
        self.tell(u64::MAX);
        self.progress.clear();
        let end = match self.book.save() {
            Ok(()) => end,
            Err(error) => End::Book(error),
        };
        Finished { end, book: self.book, refused: self.refused, twice_possible: self.twice_possible }
    }

    /// Begins as many lines as there is room for; says until when the rate wants it to wait.
    fn begin(&mut self) -> Option<Instant> {
        while self.end.is_none() {
            let line = self.queue.front()?;
            let event = match &line.content {
                _ if line.number - self.book.next() >= LOOKAHEAD => return None,
                _ if line.end - self.book.offset() > LOOKAHEAD_BYTES && !self.tasks.is_empty() => return None,
                _ if self.book.is_settled(line.number) => None,
                Content::Blank => None,
                Content::TooLong(length) => {
                    let (number, end, why) =
                        (line.number, line.end, format!("{length} bytes are too long for an event"));
                    self.queue.pop_front();
                    self.refuse(number, end, &why, None);
                    continue;
                }
                Content::Event(event) => Some(event),
            };
            if let Some(event) = event {
                let full = self.tasks.len() >= IN_FLIGHT || self.bytes + event.len() > IN_FLIGHT_BYTES;
                if (full && !self.tasks.is_empty()) || self.gate.outage().is_some() {
                    return None;
                }
                if let Some(pace) = &mut self.pace {
                    if pace.next() > Instant::now() {
                        return Some(pace.next());
                    }
                    pace.take();
                }
            }
            let line = self.queue.pop_front()?;
            match line.content {
                Content::Event(event) if !self.book.is_settled(line.number) => {
                    self.publish(line.number, line.end, event);
                }
                Content::Event(_) | Content::Blank | Content::TooLong(_) => self.book.skip(line.number, line.end),
            }
        }
        None
    }

    fn publish(&mut self, number: u64, end: u64, event: Vec<u8>) {
        let (publisher, gate) = (Arc::clone(&self.publisher), Arc::clone(&self.gate));
        let id = format!("{}-{number}", self.book.run());
        let bytes = event.len();
        self.bytes += bytes;
        self.tasks.spawn(async move {
            let settled = publish(&*publisher, &gate, event, &id).await;
            Done { number, end, bytes, settled }
        });
    }

    fn settle(&mut self, done: Done) {
        self.bytes -= done.bytes;
        match done.settled {
            Settled::Published(taken) => {
                self.twice_possible += u64::from(taken.twice_possible);
                self.book.published(done.number, done.end);
            }
            Settled::Refused(why, event) => self.refuse(done.number, done.end, &why, Some(event)),
            Settled::Setup(why) => {
                self.gate.close();
                self.end.get_or_insert(End::Setup(why));
            }
            Settled::Left => {
                let why = self.gate.outage().map(|outage| outage.why).unwrap_or_default();
                self.end.get_or_insert(End::GaveUp(why));
            }
        }
    }

    fn refuse(&mut self, number: u64, end: u64, why: &str, line: Option<Vec<u8>>) {
        // an event is one line
        let why = why.replace(" at line 1 column ", " at column ");
        self.refusals.insert(number, why);
        self.refused += 1;
        if let Err(error) = self.book.refused(number, end, line) {
            self.end.get_or_insert(End::Book(error));
        }
        if self.refused >= self.options.max_errors {
            self.end.get_or_insert(End::Errors);
        }
    }

    /// Tells what is wrong with refused lines before this one.
    fn tell(&mut self, before: u64) {
        while let Some(refusal) = self.refusals.first_entry().filter(|refusal| *refusal.key() < before) {
            let (number, why) = refusal.remove_entry();
            self.progress.say(format_args!("{}:{number}: {why}", self.options.name));
        }
    }

    fn save(&mut self) {
        if let Err(error) = self.book.save() {
            self.end.get_or_insert(End::Book(error));
        }
    }

    fn show(&mut self) {
        let outage = self.gate.outage().filter(|_| !self.gate.is_closed());
        match (&outage, self.outage_told) {
            (Some(outage), None) if outage.since.elapsed() >= TOLD_AFTER => {
                let limit = self.options.give_up_after;
                self.progress.say(format_args!("no mails are taken: {}; waiting, up to {}", outage.why, clock(limit)));
                self.outage_told = Some(outage.since);
            }
            (None, Some(since)) if self.end.is_none() => {
                self.progress.say(format_args!("it goes on after {}", clock(since.elapsed())));
                self.outage_told = None;
            }
            _ => {}
        }
        let (published, refused) = self.book.counts();
        let bytes = self.options.size.map(|size| (self.book.offset().min(size), size));
        let waiting = outage.map(|outage| (outage.why, outage.since.elapsed()));
        self.progress.draw(&Standing { published, refused, bytes, waiting });
    }
}

/// What a run has come to.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) end: End,
    pub(super) book: Book,
    /// Lines refused in this run.
    pub(super) refused: u64,
    /// Mails published in this run of which an earlier try may have been taken as well.
    pub(super) twice_possible: u64,
}

/// Publishes one event, however long the brokers are away.
async fn publish<P: Publish>(publisher: &P, gate: &Gate, event: Vec<u8>, id: &str) -> Settled {
    let mut probing = false;
    let mut maybe_taken = false;
    loop {
        let whole = with_id(&event, || id.to_owned()).into_owned();
        match publisher.publish(whole).await {
            Ok(taken) => {
                gate.passed();
                return Settled::Published(Taken { twice_possible: taken.twice_possible || maybe_taken });
            }
            Err(NotTaken::Event(why)) => {
                if probing {
                    // who waits for this one must not wait on
                    gate.passed();
                }
                return Settled::Refused(why, event);
            }
            Err(NotTaken::Setup(why)) => return Settled::Setup(why),
            Err(NotTaken::Away { why, unknown }) => {
                maybe_taken |= unknown;
                match gate.wait(&why, probing).await {
                    Ok(turn) => probing = turn,
                    Err(Closed) => return Settled::Left,
                }
            }
        }
    }
}

async fn next(batches: &mut Option<mpsc::Receiver<Batch>>) -> Option<Batch> {
    batches.as_mut()?.recv().await
}
