//! A file of events, or standard input: where it starts, how it is told, and how it ends.

use std::{
    fs::File,
    io::{self, Read, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    time::Instant,
};

use data_encoding::BASE32_NOPAD;
use postlane::{Producer, config::mail_from_variables, email::MAX_SIZE, shutdown::Signals};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::{
    arguments::Arguments,
    book::{Book, Rejects},
    lines::Lines,
    look::Looker,
    one,
    progress::Progress,
    publish::{NotTaken, Publish, Taken},
    report::Report,
    run::{Options, Run},
    state::{self, State, Store},
};
use crate::cli::{
    exit::Exit,
    misconfigured, runtime,
    terminal::{self, complain},
    variables,
};

/// A source of lines and the state to start from.
struct Source {
    name: String,
    reader: Box<dyn Read + Send>,
    size: Option<u64>,
    state: State,
    store: Option<Store>,
}

pub(super) fn run(arguments: &Arguments, file: &Path) -> Exit {
    let local = arguments.check || arguments.dry_run;
    let source = match Source::open(arguments, file, local) {
        Ok(source) => source,
        Err(exit) => return exit,
    };
    let taker = if local { checker() } else { one::producer(arguments).map(Taker::Kafka) };
    taker.and_then(|taker| runtime::block_on(send(arguments, source, taker))).unwrap_or_else(|exit| exit)
}

fn checker() -> Result<Taker, Exit> {
    let settings = mail_from_variables(variables()).map_err(|error| misconfigured(&error))?;
    Looker::new(settings).map(|looker| Taker::Check(Box::new(looker))).map_err(|error| {
        complain(format_args!("TEMPLATES_DIR: {error}"));
        Exit::Config
    })
}

impl Source {
    fn open(arguments: &Arguments, path: &Path, local: bool) -> Result<Self, Exit> {
        if path == Path::new("-") {
            return stream("standard input".to_owned(), Box::new(io::stdin()), arguments);
        }
        let name = path.display().to_string();
        let failed = |error: &dyn std::fmt::Display| {
            complain(format_args!("{name}: {error}"));
            Exit::Failed
        };
        let found = std::fs::metadata(path).map_err(|error| failed(&error))?;
        if found.is_dir() {
            return Err(failed(&"is a folder"));
        }
        let mut file = File::open(path).map_err(|error| failed(&error))?;
        if !found.is_file() {
            return stream(name, Box::new(file), arguments);
        }
        if local {
            let state = State::unkept(String::new());
            return Ok(Self { name, reader: Box::new(file), size: Some(found.len()), state, store: None });
        }
        let store = Store::open(path, state_path(arguments, path)).map_err(|error| not_resumed(&error))?;
        let earlier = match store.load() {
            // but what is no state is not written over
            Ok(_) | Err(state::Error::Changed { .. }) if arguments.file.restart => None,
            earlier => earlier.map_err(|error| not_resumed(&error))?,
        };
        let state = match earlier {
            Some(state) => state,
            None => store.fresh(name_run()).map_err(|error| not_resumed(&error))?,
        };
        file.seek(SeekFrom::Start(state.offset)).map_err(|error| failed(&error))?;
        Ok(Self { name, reader: Box::new(file), size: Some(found.len()), state, store: Some(store) })
    }
}

fn stream(name: String, reader: Box<dyn Read + Send>, arguments: &Arguments) -> Result<Source, Exit> {
    if arguments.file.state.is_some() || arguments.file.restart {
        complain(format_args!("--state, --restart: {name} cannot be read again from where it stopped"));
        return Err(Exit::Usage);
    }
    Ok(Source { name, reader, size: None, state: State::unkept(name_run()), store: None })
}

fn state_path(arguments: &Arguments, file: &Path) -> PathBuf {
    arguments.file.state.clone().unwrap_or_else(|| {
        let mut name = file.to_owned().into_os_string();
        name.push(".postlane");
        name.into()
    })
}

fn not_resumed(error: &state::Error) -> Exit {
    complain(error);
    match error {
        state::Error::Locked(_) => Exit::Later,
        _ => Exit::Failed,
    }
}

/// Random characters.
fn name_run() -> String {
    let mut hash = Sha256::new();
    // each of these is seeded by the operating system
    for _ in 0..2 {
        let state = std::hash::RandomState::new();
        hash.update(std::hash::BuildHasher::hash_one(&state, Instant::now()).to_le_bytes());
    }
    let mut name = BASE32_NOPAD.encode(&hash.finalize()).to_ascii_lowercase();
    name.truncate(20);
    name
}

async fn send(arguments: &Arguments, source: Source, taker: Taker) -> Exit {
    let (sender, signals) = mpsc::channel(2);
    match Signals::new() {
        Ok(mut signals) => drop(tokio::spawn(async move { while sender.send(signals.next().await).await.is_ok() {} })),
        Err(error) => {
            complain(format_args!("signals cannot be handled: {error}"));
            return Exit::Failed;
        }
    }
    let rejects = match arguments.file.rejects.as_deref().map(Rejects::open).transpose() {
        Ok(Some(rejects))
            if arguments
                .file
                .path
                .iter()
                .map(PathBuf::as_path)
                .chain(source.store.iter().map(Store::path))
                .any(|other| rejects.is(other)) =>
        {
            complain(format_args!("--rejects: this is the file that is sent, or its state ({})", source.name));
            return Exit::Usage;
        }
        Ok(rejects) => rejects,
        Err(error) => {
            complain(error);
            return Exit::Failed;
        }
    };
    let options = Options {
        name: source.name.clone(),
        size: source.size,
        max_errors: arguments.file.max_errors,
        rate: arguments.file.rate,
        give_up_after: arguments.file.give_up_after,
    };
    let mut progress = Progress::new(!arguments.quiet);
    let earlier = (source.state.published, source.state.refused);
    let kept = source.store.as_ref().map(|store| store.path().to_owned());
    let goes_on = !arguments.quiet && (source.state.line > 1 || !source.state.beyond.is_empty());
    if let Some(kept) = kept.as_ref().filter(|_| goes_on) {
        progress.say(format_args!("going on at line {} ({})", source.state.line, kept.display()));
    }
    if let Some(refused) = source.state.refused_lines() {
        progress.say(format_args!("{}: {refused}, or all anew with --restart", source.name));
    }
    let lines = Lines::new(source.reader, source.state.line, source.state.offset, MAX_SIZE);
    let book = Book::new(source.state, source.store, rejects);
    let started = Instant::now();
    let producer = if let Taker::Kafka(producer) = &taker { Some(producer.clone()) } else { None };
    let finished = Run::new(taker, options, book, progress).run(lines, signals).await;
    if let Some(producer) = producer {
        producer.close().await;
    }
    let report = Report {
        name: &source.name,
        checked: arguments.check || arguments.dry_run,
        restarted: arguments.file.restart,
        state: kept.as_deref(),
        earlier,
        finished: &finished,
        took: started.elapsed(),
    };
    if let Some(trouble) = report.trouble() {
        complain(trouble);
    }
    let text = match (arguments.json, arguments.quiet) {
        (true, _) => report.json(),
        (false, true) => String::new(),
        (false, false) => report.text(),
    };
    terminal::report(&text, report.exit())
}

/// Who takes the events.
enum Taker {
    /// The brokers.
    Kafka(Producer),
    /// Nobody: they are checked, and all that are sound count as taken.
    Check(Box<Looker>),
}

impl Publish for Taker {
    async fn publish(&self, event: Vec<u8>) -> Result<Taken, NotTaken> {
        match self {
            Self::Kafka(producer) => producer.publish(event).await,
            Self::Check(looker) => match looker.look(&event, false) {
                Ok(_) => Ok(Taken::default()),
                Err(fault) => Err(NotTaken::Event(fault.to_string())),
            },
        }
    }
}
