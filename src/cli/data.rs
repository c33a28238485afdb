//! The template's data: from the command line, a file or standard input.

use std::{
    fs::File,
    io::{self, Read},
};

use serde_json::{Map, Value};

use super::{exit::Exit, terminal::complain};

/// Most that is read in bytes: no event holds more.
const LARGEST: u64 = 16 * 1024 * 1024;

/// Reads what `--data` says: a JSON object, `@FILE`, or `@-` for standard input.
pub(super) fn read(argument: &str) -> Result<Map<String, Value>, Exit> {
    let text = match argument.strip_prefix('@') {
        None => Ok(argument.to_owned()),
        Some("-") => limited(io::stdin().lock()),
        Some(file) => File::open(file).and_then(limited),
    };
    let wrong = |why: &dyn std::fmt::Display| {
        complain(format_args!("--data: {why}"));
        Exit::Usage
    };
    let text = text.map_err(|error| wrong(&format_args!("{argument}: {error}")))?;
    match serde_json::from_str(&text) {
        Ok(Value::Object(data)) => Ok(data),
        Ok(_) => Err(wrong(&"expected a JSON object such as '{\"Name\":\"you\"}'")),
        Err(error) => Err(wrong(&format_args!("expected a JSON object such as '{{\"Name\":\"you\"}}': {error}"))),
    }
}

fn limited(source: impl Read) -> io::Result<String> {
    let mut text = String::new();
    source.take(LARGEST + 1).read_to_string(&mut text)?;
    if text.len() as u64 > LARGEST { Err(io::Error::other("is too large for an event")) } else { Ok(text) }
}
