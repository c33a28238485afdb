//! Standard output as a person or a program gets it: how wide it is, whether it takes colours, and that it may close.

use std::{
    env,
    io::{self, IsTerminal, Write},
};

use super::exit::Exit;

/// Width of a terminal that does not tell its own.
const DEFAULT_WIDTH: usize = 80;

/// What can be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Terminal {
    /// Columns; `None` where lines may be as long as they like, since a program reads them.
    pub(super) width: Option<usize>,
    /// Whether it shows colours.
    pub(super) colours: bool,
}

impl Terminal {
    /// Standard output. `NO_COLOR` (no-color.org) and `TERM=dumb` switch colours off; `COLUMNS` sets the width.
    pub(super) fn stdout() -> Self {
        let is_terminal = io::stdout().is_terminal();
        let set = |name| env::var_os(name).filter(|value| !value.is_empty());
        let colours = is_terminal && set("NO_COLOR").is_none() && set("TERM").is_none_or(|term| term != "dumb");
        let told = env::var("COLUMNS").ok().and_then(|text| text.parse().ok()).filter(|columns| *columns > 0);
        let own = || rustix::termios::tcgetwinsize(io::stdout()).ok().map(|size| usize::from(size.ws_col));
        let width = match told {
            None if is_terminal => Some(own().filter(|columns| *columns > 0).unwrap_or(DEFAULT_WIDTH)),
            told => told,
        };
        Self { width, colours }
    }
}

/// Writes to standard output; that nobody reads on is no failure.
pub(super) fn print(text: &str, exit: Exit) -> Exit {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Ok(()) => exit,
        // whoever read it has seen enough
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => exit,
        Err(error) => {
            eprintln!("postlane: {error}");
            Exit::Failed
        }
    }
}
