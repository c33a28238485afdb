//! What has become of the lines: counted, refusals told and kept, and the state saved.

use std::{
    collections::BTreeMap,
    fs::{File, Metadata, OpenOptions},
    io::{self, BufWriter, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::{
    state::{self, State, Store},
    window::Window,
};

/// Refused lines that wait to be written.
const MOST_WAITING: usize = 1000;

/// Why it cannot be kept.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The state cannot.
    #[error(transparent)]
    State(#[from] state::Error),
    /// The refused lines cannot.
    #[error("{} cannot be written: {source}", path.display())]
    Rejects {
        /// Their file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// A file for the lines that were refused, as they were.
#[derive(Debug)]
pub(super) struct Rejects {
    file: BufWriter<File>,
    path: PathBuf,
    /// Not written yet, so that they are written in the order of their numbers.
    waiting: BTreeMap<u64, Vec<u8>>,
}

impl Rejects {
    /// Goes on at the end of a file, which is made where it is missing.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        match OpenOptions::new().create(true).append(true).open(path) {
            Ok(file) => Ok(Self { file: BufWriter::new(file), path: path.to_owned(), waiting: BTreeMap::new() }),
            Err(source) => Err(Error::Rejects { path: path.to_owned(), source }),
        }
    }

    /// Whether it is this file.
    pub(super) fn is(&self, path: &Path) -> bool {
        let of = |metadata: Metadata| (metadata.dev(), metadata.ino());
        let this = self.file.get_ref().metadata().map(of);
        std::fs::metadata(path).map(of).is_ok_and(|other| this.is_ok_and(|this| this == other))
    }

    fn put(&mut self, number: u64, line: Vec<u8>) -> Result<(), Error> {
        self.waiting.insert(number, line);
        if self.waiting.len() < MOST_WAITING { Ok(()) } else { self.write() }
    }

    fn write(&mut self) -> Result<(), Error> {
        let lines = std::mem::take(&mut self.waiting);
        let mut lines = lines.into_values();
        let written = lines.try_for_each(|mut line| {
            line.push(b'\n');
            self.file.write_all(&line)
        });
        written.map_err(|source| Error::Rejects { path: self.path.clone(), source })
    }

    fn keep(&mut self) -> Result<(), Error> {
        self.write()?;
        let kept = self.file.flush().and_then(|()| self.file.get_ref().sync_data());
        kept.map_err(|source| Error::Rejects { path: self.path.clone(), source })
    }
}

/// Keeps count.
#[derive(Debug)]
pub(super) struct Book {
    window: Window,
    state: State,
    store: Option<Store>,
    rejects: Option<Rejects>,
    /// Whether there is something that was not saved.
    unsaved: bool,
    /// Refused lines are missing in their file: they must not count as settled in a state any more.
    incomplete: bool,
    /// The state as it was saved last: its line, and the mails that it counts as published.
    saved: (u64, u64),
    /// Lines settled by an earlier run: first and last of each stretch.
    earlier: Vec<(u64, u64)>,
}

impl Book {
    /// Goes on from a state; it is saved where there is a store for it.
    pub(super) fn new(state: State, store: Option<Store>, rejects: Option<Rejects>) -> Self {
        let window = Window::new(state.line, state.offset);
        let saved = (state.line, state.published);
        Self { window, earlier: state.beyond.clone(), state, store, rejects, unsaved: true, incomplete: false, saved }
    }

    /// Name of the run, from which events without an id get theirs.
    pub(super) fn run(&self) -> &str {
        &self.state.run
    }

    /// Whether an earlier run has settled this line.
    pub(super) fn is_settled(&self, number: u64) -> bool {
        let at = self.earlier.partition_point(|(_, last)| *last < number);
        self.earlier.get(at).is_some_and(|(first, _)| *first <= number)
    }

    /// Notes a line with nothing to send: blank, or settled by an earlier run.
    pub(super) fn skip(&mut self, number: u64, end: u64) {
        self.unsaved = true;
        self.window.settle(number, end);
    }

    /// Notes a line whose mail was published.
    pub(super) fn published(&mut self, number: u64, end: u64) {
        self.state.published += 1;
        self.skip(number, end);
    }

    /// Notes a line that was refused; one that was too long to be read has no text.
    pub(super) fn refused(&mut self, number: u64, end: u64, line: Option<Vec<u8>>) -> Result<(), Error> {
        if let (Some(rejects), Some(line)) = (&mut self.rejects, line)
            && let Err(error) = rejects.put(number, line)
        {
            self.incomplete = true;
            return Err(error);
        }
        self.state.refuse(number);
        self.skip(number, end);
        Ok(())
    }

    /// Number of the lowest line that is not settled.
    pub(super) fn next(&self) -> u64 {
        self.window.next()
    }

    /// Where it starts.
    pub(super) fn offset(&self) -> u64 {
        self.window.offset()
    }

    /// Number of the highest line that is settled, or 0.
    pub(super) fn last(&self) -> u64 {
        self.window.beyond().last().map_or(self.window.next() - 1, |(_, last)| *last)
    }

    /// The line at which the next run goes on: that of the state as it was saved last. Without a state the lowest line that is
    /// not settled.
    pub(super) fn goes_on_at(&self) -> u64 {
        if self.store.is_some() { self.saved.0 } else { self.next() }
    }

    /// Mails that were published since the state was saved: the next run publishes them again, under the same ids.
    pub(super) fn unsaved(&self) -> u64 {
        if self.store.is_some() { self.state.published - self.saved.1 } else { 0 }
    }

    /// Mails published and lines refused, by earlier runs as well.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.state.published, self.state.refused)
    }

    /// Saves the state where it has changed, the refused lines first: what counts as settled is kept.
    pub(super) fn save(&mut self) -> Result<(), Error> {
        if !self.unsaved || self.incomplete {
            return Ok(());
        }
        if let Some(Err(error)) = self.rejects.as_mut().map(Rejects::keep) {
            self.incomplete = true;
            return Err(error);
        }
        if let Some(store) = &self.store {
            self.state.line = self.window.next();
            self.state.offset = self.window.offset();
            self.state.beyond = self.window.beyond();
            store.save(&mut self.state, self.window.end())?;
            self.saved = (self.state.line, self.state.published);
        }
        self.unsaved = false;
        Ok(())
    }
}
