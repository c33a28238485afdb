//! The data that a template is rendered with: from the command line, a file or standard input.

use std::{
    fs,
    io::{self, Read as _},
};

use postlane::template::Data;

use super::super::{exit::Exit, terminal::complain};

/// Most that is read in bytes; an event cannot hold more.
const LIMIT: u64 = 16 * 1024 * 1024;

/// Reads what `--data` says: a JSON object, `@FILE`, or `@-` for standard input.
pub(super) fn read(argument: &str) -> Result<Data, Exit> {
    let (name, text) = match argument.strip_prefix('@') {
        None => ("--data".to_owned(), argument.to_owned()),
        Some("-") => {
            ("standard input".to_owned(), limited(io::stdin().lock()).map_err(|e| unreadable("standard input", &e))?)
        }
        Some(file) => {
            let text = fs::File::open(file).and_then(limited).map_err(|error| unreadable(file, &error))?;
            (file.to_owned(), text)
        }
    };
    serde_json::from_str(&text).map_err(|error| {
        complain(format_args!("{name}: expected a JSON object such as '{{\"Name\": \"you\"}}': {error}"));
        Exit::Usage
    })
}

fn limited(source: impl io::Read) -> io::Result<String> {
    let mut text = String::new();
    source.take(LIMIT + 1).read_to_string(&mut text)?;
    if text.len() as u64 > LIMIT { Err(io::Error::other(format!("more than {LIMIT} bytes"))) } else { Ok(text) }
}

fn unreadable(name: &str, error: &io::Error) -> Exit {
    complain(format_args!("{name}: {error}"));
    Exit::Usage
}
