//! Standard output and error as a person or a program gets them: how wide they are, whether they take colours, and that they
//! may close.

use std::{
    env,
    fmt::Display,
    io::{self, IsTerminal, Write},
    os::fd::AsFd,
    sync::OnceLock,
};

use clap::ValueEnum;

use super::exit::Exit;

/// Width of a terminal that does not tell its own.
const DEFAULT_WIDTH: usize = 80;

/// What `--color` said; written once, before any command runs.
static COLOR: OnceLock<Color> = OnceLock::new();

/// When colours are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum Color {
    /// On a terminal, unless `NO_COLOR`, `CLICOLOR=0` or `TERM=dumb` says otherwise; in a pipe where `CLICOLOR_FORCE` does
    #[default]
    Auto,
    /// Everywhere
    Always,
    /// Nowhere
    Never,
}

impl Color {
    /// Keeps the choice for everything that is shown from now on.
    pub(super) fn apply(self) {
        let _ = COLOR.set(self);
    }

    /// The choice as clap takes it for its own texts.
    pub(super) fn of_clap(self) -> clap::ColorChoice {
        match self {
            Self::Auto => clap::ColorChoice::Auto,
            Self::Always => clap::ColorChoice::Always,
            Self::Never => clap::ColorChoice::Never,
        }
    }

    /// Whether a stream shows colours, given the environment: no-color.org first, then bixense.com/clicolors.
    fn shown(self, is_terminal: bool, variable: impl Fn(&str) -> Option<String>) -> bool {
        let set = |name| variable(name).filter(|value| !value.is_empty());
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto if set("NO_COLOR").is_some() => false,
            Self::Auto if set("CLICOLOR_FORCE").is_some_and(|value| value != "0") => true,
            Self::Auto if set("CLICOLOR").is_some_and(|value| value == "0") => false,
            Self::Auto => is_terminal && set("TERM").is_none_or(|term| term != "dumb"),
        }
    }
}

/// What can be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Terminal {
    /// Columns; `None` where lines may be as long as they like, since a program reads them.
    pub(super) width: Option<usize>,
    /// Whether it shows colours.
    pub(super) colours: bool,
}

impl Terminal {
    /// Standard output. `--color` and the variables that [`Color`] names decide about colours; `COLUMNS` sets the width.
    pub(super) fn stdout() -> Self {
        Self::of(&io::stdout())
    }

    /// Standard error, where it is a terminal.
    pub(super) fn stderr() -> Option<Self> {
        io::stderr().is_terminal().then(|| Self::of(&io::stderr()))
    }

    /// The same of any stream.
    fn of(stream: &(impl IsTerminal + AsFd)) -> Self {
        let is_terminal = stream.is_terminal();
        let color = COLOR.get().copied().unwrap_or_default();
        let told = env::var("COLUMNS").ok().and_then(|text| text.parse().ok()).filter(|columns| *columns > 0);
        let own = || rustix::termios::tcgetwinsize(stream).ok().map(|size| usize::from(size.ws_col));
        let width = match told {
            None if is_terminal => Some(own().filter(|columns| *columns > 0).unwrap_or(DEFAULT_WIDTH)),
            told => told,
        };
        Self { width, colours: color.shown(is_terminal, |name| env::var(name).ok()) }
    }
}

/// Writes to standard output; that nobody reads on is no failure.
pub(super) fn print(text: &str, exit: Exit) -> Exit {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => exit,
        // whoever read it has seen enough
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => exit,
        Err(error) => {
            complain(error);
            Exit::Failed
        }
    }
}

/// The same for what is only told about work that is done: where it cannot be written, it stands on standard error, and the
/// status stays that of the work.
pub(super) fn report(text: &str, exit: Exit) -> Exit {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            complain(format_args!("standard output: {error}; it would have said:\n{}", text.trim_end()));
        }
        Ok(()) | Err(_) => {}
    }
    exit
}

/// Says what is wrong on standard error, by the program's name. Unlike `eprintln!` it does not panic where that is closed.
pub(super) fn complain(what: impl Display) {
    let _ = writeln!(io::stderr(), "postlane: {what}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_for_terminals_unless_somebody_says_otherwise() {
        let shown = |color: Color, is_terminal, variables: &[(&str, &str)]| {
            color.shown(is_terminal, |name| {
                variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
            })
        };
        for (variables, on_terminal, in_pipe) in [
            (&[][..], true, false),
            (&[("NO_COLOR", "1")], false, false),
            (&[("NO_COLOR", "")], true, false),
            (&[("TERM", "dumb")], false, false),
            (&[("CLICOLOR", "0")], false, false),
            (&[("CLICOLOR_FORCE", "1")], true, true),
            (&[("CLICOLOR_FORCE", "0")], true, false),
            (&[("CLICOLOR_FORCE", "1"), ("CLICOLOR", "0"), ("TERM", "dumb")], true, true),
            (&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], false, false),
        ] {
            assert_eq!(shown(Color::Auto, true, variables), on_terminal, "{variables:?} on a terminal");
            assert_eq!(shown(Color::Auto, false, variables), in_pipe, "{variables:?} in a pipe");
            for is_terminal in [true, false] {
                assert!(shown(Color::Always, is_terminal, variables));
                assert!(!shown(Color::Never, is_terminal, variables));
            }
        }
    }
}
