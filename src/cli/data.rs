//! The template's data: from the command line, a file or standard input.

use std::{
    fs::File,
    io::{self, Read},
};

use serde_json::{Map, Value};

use super::{exit::Exit, terminal::complain};

/// Most that is read in bytes: no event holds more.
const LARGEST: u64 = 16 * 1024 * 1024;
const EXPECTED: &str = "expected a JSON object such as '{\"Name\":\"you\"}'";

/// Reads what `--data` says: a JSON object, `@FILE`, or `@-` for standard input.
pub(super) fn read(argument: &str) -> Result<Map<String, Value>, Exit> {
    parse(argument).map_err(|why| {
        complain(format_args!("--data: {why}"));
        Exit::Usage
    })
}

/// The same, with what is wrong as a text.
pub(super) fn parse(argument: &str) -> Result<Map<String, Value>, String> {
    let text = match argument.strip_prefix('@') {
        None => Ok(argument.to_owned()),
        Some("-") => limited(io::stdin().lock()),
        Some(file) => File::open(file).and_then(limited),
    };
    let text = text.map_err(|error| format!("{argument}: {error}"))?;
    match serde_json::from_str(&text) {
        Ok(Value::Object(data)) => Ok(data),
        Ok(_) => Err(EXPECTED.to_owned()),
        Err(error) => Err(format!("{EXPECTED}: {error}")),
    }
}

fn limited(source: impl Read) -> io::Result<String> {
    let mut text = String::new();
    source.take(LARGEST + 1).read_to_string(&mut text)?;
    if text.len() as u64 > LARGEST { Err(io::Error::other("is too large for an event")) } else { Ok(text) }
}
