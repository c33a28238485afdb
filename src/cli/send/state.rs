//! How far a file has been sent: kept beside it, so that a run goes on where the last one stopped.
//!
//! The state names a run by random characters, from which events without an id get theirs; says below which line everything is
//! settled and what is settled beyond; and knows the file by its first bytes, by those before that place, and by all that the
//! lines beyond take up. It is written to a file of its own and then renamed, so that there is always a whole one.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use data_encoding::HEXLOWER;
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The only form that is written and read.
const FORMAT: u32 = 1;
/// Bytes of a file's start by which it is known.
const HEAD: u64 = 64 * 1024;
/// Bytes before the place by which it is known.
const BEFORE: u64 = 4096;
/// Bytes that are read at once.
const CHUNK: usize = 64 * 1024;
/// Largest state that is read: there is room for every other line of the longest window.
const LARGEST: u64 = 16 * 1024 * 1024;
/// Refused lines whose numbers are kept, and how many of them are told.
const MOST_REFUSED: usize = 1000;
const MOST_TOLD: usize = 20;

/// Why a file cannot be resumed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The state cannot be read or written.
    #[error("the state file {} cannot be {what}: {source}", path.display())]
    Io {
        /// The state's file.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The events cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    Events {
        /// The file of events.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It holds something else.
    #[error("{} is no state of `postlane send`: name another file with --state", .0.display())]
    Foreign(PathBuf),
    /// The file is not the one that was begun.
    #[error(
        "{} is not the file that {} is about, or has changed before line {line}: bring the old one back to go on, or start anew \
         with --restart (which sends all of it){}",
        events.display(), state.display(), refused.as_ref().map(|what| format!("; {what}")).unwrap_or_default()
    )]
    Changed {
        /// The file of events.
        events: PathBuf,
        /// The state's file.
        state: PathBuf,
        /// The first line that may be as it was not.
        line: u64,
        /// What is to be said of lines that were refused, for they may be repaired now.
        refused: Option<String>,
    },
    /// Another process sends it.
    #[error("{} is being sent by another process", .0.display())]
    Locked(PathBuf),
}

/// A part of a file, by its length and its SHA-256.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Part {
    bytes: u64,
    sha256: String,
}

/// What is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    format: u32,
    /// Random characters that name the run.
    pub(super) run: String,
    /// Number of the lowest line that is not settled.
    pub(super) line: u64,
    /// Where it starts.
    pub(super) offset: u64,
    /// First and last line of each stretch that is settled beyond.
    pub(super) beyond: Vec<(u64, u64)>,
    /// Mails that were published.
    pub(super) published: u64,
    /// Lines that were refused.
    pub(super) refused: u64,
    /// Which ones, the first thousand.
    refused_lines: BTreeSet<u64>,
    head: Part,
    before: Part,
    /// From the place to the end of the last line that is settled beyond: their numbers hold for no other lines.
    beyond_part: Part,
}

impl State {
    /// Of a run that cannot be gone on with.
    pub(super) fn unkept(run: String) -> Self {
        let none = || Part { bytes: 0, sha256: String::new() };
        Self {
            format: FORMAT,
            run,
            line: 1,
            offset: 0,
            beyond: Vec::new(),
            published: 0,
            refused: 0,
            refused_lines: BTreeSet::new(),
            head: none(),
            before: none(),
            beyond_part: none(),
        }
    }

    /// Counts a line that was refused.
    pub(super) fn refuse(&mut self, number: u64) {
        self.refused += 1;
        if self.refused_lines.len() < MOST_REFUSED {
            self.refused_lines.insert(number);
        }
    }

    /// Which lines were refused, so that they count as settled whatever stands there now; and what to do about it.
    pub(super) fn refused_lines(&self) -> Option<String> {
        let mut numbers = self.refused_lines.iter().take(MOST_TOLD);
        let first = numbers.next()?;
        let more = self.refused.saturating_sub(MOST_TOLD as u64);
        let one = self.refused == 1;
        let mut text = format!("line{} {first}", if one { "" } else { "s" });
        numbers.for_each(|number| write!(text, ", {number}").expect("a String takes it"));
        if more > 0 {
            write!(text, " and {more} more").expect("a String takes it");
        }
        text.push_str(if one { " was" } else { " were" });
        Some(
            text + " refused by an earlier run and will not be tried again: what is repaired goes into a file of its own",
        )
    }
}

/// A file of events with its state, locked against other runs.
#[derive(Debug)]
pub(super) struct Store {
    events: File,
    events_path: PathBuf,
    path: PathBuf,
}

impl Store {
    /// Locks a file of events; its state is at `path`.
    pub(super) fn open(events_path: &Path, path: PathBuf) -> Result<Self, Error> {
        let failed = |source| Error::Events { path: events_path.to_owned(), source };
        let events = File::open(events_path).map_err(failed)?;
        // other errors count for nothing: some network file systems have no locks for files that are only read
        if flock(&events, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK) {
            return Err(Error::Locked(events_path.to_owned()));
        }
        Ok(Self { events, events_path: events_path.to_owned(), path })
    }

    /// Where the state is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The state of a run that has not begun.
    pub(super) fn fresh(&self, run: String) -> Result<State, Error> {
        let size = self.events.metadata().map_err(|source| self.unread(source))?.len();
        Ok(State { head: self.part(0, size.min(HEAD))?, ..State::unkept(run) })
    }

    /// The state of an earlier run, if there is one.
    pub(super) fn load(&self) -> Result<Option<State>, Error> {
        let text = match fs::metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Ok(found) if found.len() > LARGEST => return Err(Error::Foreign(self.path.clone())),
            Err(error) => return Err(self.failed("read", error)),
            Ok(_) => fs::read(&self.path).map_err(|error| self.failed("read", error))?,
        };
        let state: State = serde_json::from_slice(&text)
            .ok()
            .filter(|state: &State| state.format == FORMAT && state.line > 0)
            .ok_or_else(|| Error::Foreign(self.path.clone()))?;
        let same = |start: u64, part: &Part| match self.part(start, part.bytes) {
            Ok(found) => Ok(found == *part),
            Err(Error::Events { source, .. }) if source.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(error),
        };
        let before = state.offset.checked_sub(state.before.bytes);
        let known = same(0, &state.head)?
            && before.map_or(Ok(false), |start| same(start, &state.before))?
            && same(state.offset, &state.beyond_part)?;
        if !known {
            let (events, path) = (self.events_path.clone(), self.path.clone());
            let line = state.beyond.last().map_or(state.line, |(_, last)| last + 1);
            return Err(Error::Changed { events, state: path, line, refused: state.refused_lines() });
        }
        Ok(Some(state))
    }

    /// Puts a state in the place of the last one; the lines that are settled beyond end at `end`.
    pub(super) fn save(&self, state: &mut State, end: u64) -> Result<(), Error> {
        let bytes = state.offset.min(BEFORE);
        state.before = self.part(state.offset - bytes, bytes)?;
        state.beyond_part = self.part(state.offset, end.saturating_sub(state.offset))?;
        let text = serde_json::to_vec(state).expect("a state is numbers and texts");
        let mut name = self.path.clone().into_os_string();
        name.push(".new");
        let written = File::create(&name).and_then(|mut file| {
            file.write_all(&text)?;
            file.write_all(b"\n")?;
            file.sync_data()?;
            fs::rename(&name, &self.path)
        });
        if written.is_err() {
            let _ = fs::remove_file(&name);
        }
        written.map_err(|error| self.failed("written", error))
    }

    fn part(&self, start: u64, bytes: u64) -> Result<Part, Error> {
        let (mut hash, mut at) = (Sha256::new(), start);
        let mut buffer = vec![0; CHUNK];
        let end = start.saturating_add(bytes);
        while at < end {
            let length = usize::try_from(end - at).map_or(CHUNK, |left| left.min(CHUNK));
            self.events.read_exact_at(&mut buffer[..length], at).map_err(|source| self.unread(source))?;
            hash.update(&buffer[..length]);
            at += length as u64;
        }
        Ok(Part { bytes, sha256: HEXLOWER.encode(&hash.finalize()) })
    }

    fn failed(&self, what: &'static str, source: io::Error) -> Error {
        Error::Io { path: self.path.clone(), what, source }
    }

    fn unread(&self, source: io::Error) -> Error {
        Error::Events { path: self.events_path.clone(), source }
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn events(folder: &TempDir, text: &str) -> (PathBuf, PathBuf) {
        let path = folder.path().join("events.ndjson");
        fs::write(&path, text).expect("written");
        (path.clone(), folder.path().join("events.ndjson.postlane"))
    }

    fn text(lines: std::ops::Range<u32>) -> String {
        lines.map(|number| format!("{{\"line\":{number:06}}}")).collect::<Vec<_>>().join("\n") + "\n"
    }

    fn begun(folder: &TempDir, content: &str) -> Store {
        let (path, state_path) = events(folder, content);
        let store = Store::open(&path, state_path).expect("open");
        assert_eq!(store.load().expect("no state"), None);
        let mut state = store.fresh("run".to_owned()).expect("a state");
        (state.line, state.offset, state.beyond, state.published) = (101, 1600, vec![(103, 104)], 102);
        store.save(&mut state, 104 * 16).expect("saved");
        assert_eq!(store.load().expect("a state"), Some(state));
        store
    }

    #[test]
    fn the_same_file_goes_on_and_so_does_one_that_has_grown() {
        let folder = TempDir::new().expect("a folder");
        // longer than what is known of its start
        let long = text(1..9000);
        let store = begun(&folder, &long);
        let (path, _) = events(&folder, &(long + &text(9000..9100)));
        drop(store);
        let store = Store::open(&path, folder.path().join("events.ndjson.postlane")).expect("open");
        assert_eq!(store.load().expect("a state").map(|state| state.line), Some(101));
    }

    #[test]
    fn another_file_does_not_go_on() {
        let content = text(1..9000);
        let before = |old: &str, new: &str| content.replacen(old, new, 1);
        for (what, other) in [
            ("another start", before("000001", "00x001")),
            ("a line longer", before("000050", "00000050")),
            ("shorter", content[..1500].to_owned()),
            ("empty", String::new()),
        ] {
            let folder = TempDir::new().expect("a folder");
            let store = begun(&folder, &content);
            events(&folder, &other);
            assert!(matches!(store.load(), Err(Error::Changed { line: 105, .. })), "{what}");
        }
    }

    #[test]
    fn what_is_before_the_place_counts_beyond_the_start_as_well() {
        let folder = TempDir::new().expect("a folder");
        let content = text(1..9000);
        let (path, state_path) = events(&folder, &content);
        let store = Store::open(&path, state_path).expect("open");
        let mut state = store.fresh("run".to_owned()).expect("a state");
        (state.line, state.offset) = (8001, 8000 * 16);
        store.save(&mut state, 0).expect("saved");
        events(&folder, &content.replace("007990", "00x990"));
        assert!(matches!(store.load(), Err(Error::Changed { line: 8001, .. })));
    }

    /// Their numbers would hold for other lines: one that was never sent would count as settled.
    #[test]
    fn a_line_that_goes_or_comes_before_those_that_are_settled_beyond_is_a_change() {
        let folder = TempDir::new().expect("a folder");
        let content = text(1..9000);
        let (path, state_path) = events(&folder, &content);
        let store = Store::open(&path, state_path).expect("open");
        let mut state = store.fresh("run".to_owned()).expect("a state");
        (state.line, state.offset, state.beyond) = (8001, 8000 * 16, vec![(8100, 8200)]);
        store.save(&mut state, 8200 * 16).expect("saved");
        let line = |number: u32| format!("{{\"line\":{number:06}}}\n");
        for (what, changed, goes_on) in [
            ("taken out", content.replace(&line(8001), ""), false),
            ("put in", content.replace(&line(8050), &line(8050).repeat(2)), false),
            ("one of those", content.replace(&line(8150), &line(9150)), false),
            ("behind them", content.replace(&line(8201), ""), true),
        ] {
            events(&folder, &changed);
            assert_eq!(store.load().is_ok(), goes_on, "{what}");
        }
    }

    #[test]
    fn a_file_that_is_no_state_is_left_alone() {
        let folder = TempDir::new().expect("a folder");
        let (path, _) = events(&folder, "{}\n");
        for foreign in ["", "{}", "{\"format\":2}", "not JSON"] {
            let state_path = folder.path().join("state");
            fs::write(&state_path, foreign).expect("written");
            let store = Store::open(&path, state_path).expect("open");
            assert!(matches!(store.load(), Err(Error::Foreign(_))), "{foreign}");
            drop(store);
        }
    }

    #[test]
    fn one_run_at_a_time() {
        let folder = TempDir::new().expect("a folder");
        let (path, state_path) = events(&folder, "{}\n");
        let first = Store::open(&path, state_path.clone()).expect("open");
        assert!(matches!(Store::open(&path, state_path.clone()), Err(Error::Locked(_))));
        drop(first);
        Store::open(&path, state_path).expect("open again");
    }
}
