//! Lines on standard output while more of them are made. That nobody reads on ends the command, and is no failure.

use std::io::{self, BufWriter, IsTerminal as _, Stdout, Write as _};

use crate::cli::{exit::Exit, terminal::complain};

/// Nobody reads on, or it cannot be written: the command ends like this.
#[derive(Debug, Clone, Copy)]
pub(super) struct Closed(pub(super) Exit);

/// Standard output.
pub(super) struct Out {
    to: BufWriter<Stdout>,
    at_once: bool,
}

impl Out {
    pub(super) fn new() -> Self {
        let stdout = io::stdout();
        Self { at_once: stdout.is_terminal(), to: BufWriter::with_capacity(64 * 1024, stdout) }
    }

    pub(super) fn put(&mut self, text: &str) -> Result<(), Closed> {
        self.put_bytes(text.as_bytes())
    }

    pub(super) fn put_bytes(&mut self, bytes: &[u8]) -> Result<(), Closed> {
        self.to.write_all(bytes).and_then(|()| if self.at_once { self.to.flush() } else { Ok(()) }).map_err(closed)
    }

    /// Writes what is left.
    pub(super) fn end(&mut self) -> Result<(), Closed> {
        self.to.flush().map_err(closed)
    }
}

fn closed(error: io::Error) -> Closed {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Closed(Exit::Done);
    }
    complain(error);
    Closed(Exit::Failed)
}
