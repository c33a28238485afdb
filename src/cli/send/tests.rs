//! Whole runs over a file, with a publisher that follows a script.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{Seek as _, SeekFrom},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tempfile::TempDir;
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};

use super::{
    book::{Book, Rejects},
    lines::Lines,
    progress::{Progress, grouped},
    publish::{NotTaken, Publish, Taken},
    report::Report,
    run::{End, Finished, Options, Run},
    state::{Error, Store},
};

const SOON: Duration = Duration::from_secs(20);

/// Takes what it is told to.
#[derive(Clone, Default)]
struct Script {
    /// Ids that were taken, and how often.
    taken: Arc<Mutex<BTreeMap<String, usize>>>,
    away: Arc<AtomicBool>,
    /// Away as soon as so many were taken.
    leaves_after: Arc<AtomicUsize>,
    /// Away for this mail alone.
    never_takes: Arc<Mutex<String>>,
    at_once: Arc<AtomicUsize>,
    most_at_once: Arc<AtomicUsize>,
}

impl Script {
    fn new() -> Self {
        let script = Self::default();
        script.leaves_after.store(usize::MAX, Ordering::SeqCst);
        script
    }

    fn taken(&self) -> BTreeMap<String, usize> {
        self.taken.lock().expect("no panic").clone()
    }

    async fn has_taken(&self, count: usize) {
        let reached = async {
            while self.taken().len() < count {
                tokio::task::yield_now().await;
            }
        };
        timeout(SOON, reached).await.expect("so many are taken soon");
    }
}

impl Publish for Script {
    async fn publish(&self, event: Vec<u8>) -> Result<Taken, NotTaken> {
        let now = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_at_once.fetch_max(now, Ordering::SeqCst);
        tokio::task::yield_now().await;
        self.at_once.fetch_sub(1, Ordering::SeqCst);
        let event: serde_json::Value =
            serde_json::from_slice(&event).map_err(|_| NotTaken::Event("no event".to_owned()))?;
        let mut taken = self.taken.lock().expect("no panic");
        let id = event["message"]["id"].as_str().expect("an id was put in");
        if self.away.load(Ordering::SeqCst)
            || taken.len() >= self.leaves_after.load(Ordering::SeqCst)
            || *self.never_takes.lock().expect("no panic") == id
        {
            return Err(NotTaken::Away { why: "away".to_owned(), unknown: false });
        }
        *taken.entry(id.to_owned()).or_default() += 1;
        Ok(Taken::default())
    }
}

struct Bed {
    folder: TempDir,
    script: Script,
}

impl Bed {
    fn new(lines: usize) -> Self {
        let lines: Vec<String> = (1..=lines).map(|number| format!("{{\"message\":{{\"n\":{number}}}}}\n")).collect();
        Self::with(&lines.concat())
    }

    fn with(text: &str) -> Self {
        let bed = Self { folder: TempDir::new().expect("a folder"), script: Script::new() };
        fs::write(bed.events(), text).expect("written");
        bed
    }

    fn events(&self) -> PathBuf {
        self.folder.path().join("events")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn start(&self, change: impl FnOnce(&mut Options)) -> (mpsc::Sender<&'static str>, JoinHandle<Finished>) {
        let store = Store::open(&self.events(), self.path("state")).expect("a store");
        let state = store.load().expect("a state").unwrap_or_else(|| store.fresh("run".to_owned()).expect("a file"));
        let mut options =
            Options { name: "events".to_owned(), size: None, max_errors: 1000, rate: None, give_up_after: SOON };
        change(&mut options);
        let mut file = File::open(self.events()).expect("a file");
        file.seek(SeekFrom::Start(state.offset)).expect("a place");
        let lines = Lines::new(file, state.line, state.offset, 1000);
        let rejects = Rejects::open(&self.path("rejects")).expect("a file");
        let book = Book::new(state, Some(store), Some(rejects));
        let (sender, signals) = mpsc::channel(2);
        let run = Run::new(self.script.clone(), options, book, Progress::new(false));
        (sender, tokio::spawn(run.run(lines, signals)))
    }

    async fn run(&self) -> Finished {
        let (_sender, run) = self.start(|_| {});
        timeout(SOON, run).await.expect("it ends").expect("no panic")
    }

    fn ids(lines: impl IntoIterator<Item = usize>) -> BTreeSet<String> {
        lines.into_iter().map(|number| format!("run-{number}")).collect()
    }

    fn taken_once(&self) -> BTreeSet<String> {
        let taken = self.script.taken();
        let twice: Vec<_> = taken.iter().filter(|(_, times)| **times > 1).take(3).collect();
        assert!(twice.is_empty(), "{twice:?}");
        taken.into_keys().collect()
    }

    fn assert_taken_once(&self, lines: impl IntoIterator<Item = usize>) {
        let (taken, expected) = (self.taken_once(), Self::ids(lines));
        assert!(taken == expected, "{} of {}, such as {:?}", taken.len(), expected.len(), taken.first());
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).expect("a file")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_line_goes_out_once_and_never_too_many_at_once() {
    let bed = Bed::new(20_000);
    let finished = bed.run().await;
    assert!(matches!(finished.end, End::Finished));
    assert_eq!(finished.book.counts(), (20_000, 0));
    bed.assert_taken_once(1..=20_000);
    assert!(bed.script.most_at_once.load(Ordering::SeqCst) <= 4096);

    // and again there is nothing left to do
    drop(finished);
    let finished = bed.run().await;
    assert_eq!((finished.book.counts(), finished.book.next()), ((20_000, 0), 20_001));
    assert_eq!(bed.taken_once().len(), 20_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_lines_are_kept_and_the_others_go_on() {
    let long = format!("{{\"message\":{{\"x\":\"{}\"}}}}", "x".repeat(2000));
    let text = format!("{{\"message\":{{}}}}\n\nnot an event\n{long}\n{{\"message\":{{}}}}\n{{broken");
    let bed = Bed::with(&text);
    let finished = bed.run().await;
    assert!(matches!(finished.end, End::Finished));
    assert_eq!(finished.book.counts(), (2, 3));
    bed.assert_taken_once([1, 5]);
    let mut rejects: Vec<String> = read(&bed.path("rejects")).lines().map(str::to_owned).collect();
    rejects.sort();
    assert_eq!(rejects, ["not an event", "{broken"], "what is too long was never read");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_bad_lines_end_it() {
    let bed = Bed::with(&"rubbish\n".repeat(100_000));
    let (_sender, run) = bed.start(|options| options.max_errors = 10);
    let finished = timeout(SOON, run).await.expect("it ends").expect("no panic");
    assert!(matches!(finished.end, End::Errors));
    // no more than were on their way
    assert!((10..=5000).contains(&finished.refused), "{}", finished.refused);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_is_waited_for() {
    let bed = Bed::new(10_000);
    bed.script.leaves_after.store(3_000, Ordering::SeqCst);
    let (_sender, run) = bed.start(|_| {});
    bed.script.has_taken(3_000).await;
    assert!(!run.is_finished());
    bed.script.leaves_after.store(usize::MAX, Ordering::SeqCst);
    let finished = timeout(SOON, run).await.expect("it ends").expect("no panic");
    assert!(matches!(finished.end, End::Finished));
    bed.assert_taken_once(1..=10_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_that_lasts_ends_it_and_the_next_run_goes_on() {
    let bed = Bed::new(10_000);
    bed.script.leaves_after.store(3_000, Ordering::SeqCst);
    let (_sender, run) = bed.start(|options| options.give_up_after = Duration::from_millis(300));
    let finished = timeout(SOON, run).await.expect("it ends").expect("no panic");
    assert!(matches!(&finished.end, End::GaveUp(why) if why == "away"), "{:?}", finished.end);
    assert_eq!(finished.book.counts(), (3_000, 0));
    drop(finished);

    bed.script.leaves_after.store(usize::MAX, Ordering::SeqCst);
    let finished = bed.run().await;
    assert!(matches!(finished.end, End::Finished));
    bed.assert_taken_once(1..=10_000);
}

/// Lines that are settled beyond the place are known by their numbers: with one line more or less before them those would be of
/// other lines, and a mail would be missing or there twice.
#[tokio::test]
async fn a_file_that_was_edited_before_lines_that_are_settled_does_not_go_on() {
    let bed = Bed::new(20_000);
    let sent = 15_000;
    *bed.script.never_takes.lock().expect("no panic") = format!("run-{sent}");
    let (_sender, run) = bed.start(|options| options.give_up_after = Duration::from_millis(100));
    let finished = timeout(SOON, run).await.expect("it ends").expect("no panic");
    assert!(matches!(finished.end, End::GaveUp(_)), "{:?}", finished.end);
    assert_eq!(finished.book.next(), sent as u64);
    assert!(bed.taken_once().len() > sent, "some beyond were taken");
    drop(finished);

    let whole = read(&bed.events());
    let line = whole.lines().nth(sent - 1).expect("a line").to_owned() + "\n";
    for edited in [whole.replace(&line, ""), whole.replace(&line, &line.repeat(2))] {
        fs::write(bed.events(), edited).expect("written");
        let loaded = Store::open(&bed.events(), bed.path("state")).expect("a store").load();
        assert!(matches!(loaded, Err(Error::Changed { line, .. }) if line > sent as u64), "{loaded:?}");
    }
    // as it was it goes on
    fs::write(bed.events(), whole).expect("written");
    bed.script.never_takes.lock().expect("no panic").clear();
    bed.run().await;
    bed.assert_taken_once(1..=20_000);
}

/// A full disk, for one: what was saved before it is where the next run goes on, whatever went out since.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_that_cannot_be_saved_any_more_ends_it_and_what_is_said_is_true() {
    let bed = Bed::new(10_000);
    bed.script.leaves_after.store(3_000, Ordering::SeqCst);
    let (_sender, run) = bed.start(|_| {});
    bed.script.has_taken(3_000).await;
    fs::create_dir(bed.path("state.new")).expect("in its way");
    bed.script.leaves_after.store(usize::MAX, Ordering::SeqCst);
    let finished = timeout(SOON, run).await.expect("it ends").expect("no panic");
    assert!(matches!(finished.end, End::Book(_)), "{:?}", finished.end);

    let taken = bed.script.taken().len();
    let saved: serde_json::Value = serde_json::from_str(&read(&bed.path("state"))).expect("a state");
    let again = taken - usize::try_from(saved["published"].as_u64().expect("a number")).expect("small");
    assert!(again > 0);
    let state = bed.path("state");
    let report = Report {
        name: "events",
        checked: false,
        restarted: false,
        state: Some(&state),
        earlier: (0, 0),
        finished: &finished,
        took: SOON,
    };
    let (trouble, json) = (report.trouble().expect("trouble"), report.json());
    let (line, again_told) = (saved["line"].as_u64().expect("a number"), grouped(again as u64));
    assert!(trouble.contains(&format!("goes on at line {line} (")), "{trouble}");
    assert!(trouble.contains(&format!("publishes {again_told} mails, which went out since")), "{trouble}");
    assert!(json.contains(&format!("\"next_line\":{line},")), "{json}");
    drop(finished);

    fs::remove_dir(bed.path("state.new")).expect("out of its way");
    bed.run().await;
    let twice: usize = bed.script.taken().values().map(|times| times - 1).sum();
    assert_eq!((bed.script.taken().len(), twice), (10_000, again), "as it was told");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_ends_it_and_the_next_run_goes_on() {
    let bed = Bed::new(50_000);
    let (sender, run) = bed.start(|_| {});
    bed.script.has_taken(5_000).await;
    sender.send("SIGINT").await.expect("it listens");
    let finished = timeout(SOON, run).await.expect("it ends").expect("no panic");
    assert!(matches!(finished.end, End::Signal("SIGINT")), "{:?}", finished.end);
    assert_eq!(finished.book.counts().0, bed.taken_once().len() as u64, "what was on its way is waited for");
    drop(finished);
    bed.run().await;
    bed.assert_taken_once(1..=50_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_while_the_brokers_are_away_ends_it_at_once() {
    let bed = Bed::new(10_000);
    bed.script.away.store(true, Ordering::SeqCst);
    let (sender, run) = bed.start(|_| {});
    let tried = async {
        while bed.script.most_at_once.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, tried).await.expect("it is tried");
    sender.send("SIGTERM").await.expect("it listens");
    let finished = timeout(Duration::from_secs(5), run).await.expect("it ends").expect("no panic");
    assert!(matches!(finished.end, End::Signal("SIGTERM")), "{:?}", finished.end);
    assert_eq!(finished.book.next(), 1);
}

/// As after SIGKILL: nothing is saved any more, and nobody waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_repeated_after_a_crash_has_the_same_ids() {
    let bed = Bed::new(100_000);
    let (_sender, run) = bed.start(|_| {});
    bed.script.has_taken(10_000).await;
    run.abort();
    assert!(run.await.is_err());
    let finished = bed.run().await;
    assert!(matches!(finished.end, End::Finished));
    let taken: BTreeSet<String> = bed.script.taken().into_keys().collect();
    assert!(taken == Bed::ids(1..=100_000), "{} ids", taken.len());
}
