//! What a run over a file has come to: for a person, for a program, and as an exit status.

use std::{fmt::Write as _, path::Path, time::Duration};

use serde_json::json;

use super::{
    progress::{clock, grouped},
    run::{End, Finished},
};
use crate::cli::exit::Exit;

/// A run that has ended.
pub(super) struct Report<'a> {
    /// Name of the file.
    pub(super) name: &'a str,
    /// Nothing was published: it was checked.
    pub(super) checked: bool,
    /// It was begun anew on purpose.
    pub(super) restarted: bool,
    /// Where its state is kept.
    pub(super) state: Option<&'a Path>,
    /// Published and refused by earlier runs.
    pub(super) earlier: (u64, u64),
    pub(super) finished: &'a Finished,
    pub(super) took: Duration,
}

impl Report<'_> {
    /// How the program ends.
    pub(super) fn exit(&self) -> Exit {
        match &self.finished.end {
            End::Signal("SIGTERM") => Exit::Terminated,
            End::Signal(_) => Exit::Interrupted,
            End::GaveUp(_) => Exit::Later,
            End::Errors | End::Setup(_) | End::Read(_) | End::Book(_) => Exit::Failed,
            End::Finished if self.finished.book.counts().1 > 0 => Exit::Failed,
            End::Finished => Exit::Done,
        }
    }

    /// Why it ended early, for standard error; what to do about it.
    pub(super) fn trouble(&self) -> Option<String> {
        let line = self.finished.book.goes_on_at();
        let why = match &self.finished.end {
            End::Finished => return None,
            End::Errors => format!("stopped: {} lines were refused (--max-errors)", grouped(self.finished.refused)),
            End::Signal(name) => format!("stopped by {name}"),
            End::GaveUp(why) => format!("gave up (--give-up-after): {why}"),
            End::Setup(why) => format!("stopped, for no mail would be taken: {why}"),
            End::Read(error) => format!("{}: {error}", self.name),
            End::Book(error) => format!("stopped: {error}"),
        };
        let on = match self.state {
            _ if self.checked => String::new(),
            // without a first state nothing is begun
            _ if matches!(self.finished.end, End::Book(_)) && self.published() == 0 => {
                "; nothing was published".to_owned()
            }
            Some(state) => {
                let command = if self.restarted { "the same command without --restart" } else { "the same command" };
                format!("; {command} goes on at line {line} ({})", state.display())
            }
            None => format!("; what was settled ends before line {line}, and this cannot be gone on with"),
        };
        let again = match self.finished.book.unsaved() {
            0 => String::new(),
            count => format!(
                " and publishes {}, which went out since that was saved (up to line {}), again under the same ids",
                mails(count),
                self.finished.book.last(),
            ),
        };
        Some(why + &on + &again)
    }

    /// Mails of this run.
    fn published(&self) -> u64 {
        self.finished.book.counts().0 - self.earlier.0
    }

    /// For a person.
    pub(super) fn text(&self) -> String {
        let (published, refused) = self.finished.book.counts();
        let now = self.published();
        let did = if self.checked { "Sound" } else { "Published" };
        let seconds = self.took.as_secs_f64();
        let mut text = format!("{did}: {} in {}", mails(now), clock(self.took));
        if now > 0 && seconds >= 1.0 {
            #[expect(
                clippy::cast_precision_loss,
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a rate"
            )]
            let rate = (now as f64 / seconds) as u64;
            let _ = write!(text, " ({}/s)", grouped(rate));
        }
        if self.earlier != (0, 0) {
            let _ = write!(text, ", {} with those before", grouped(published));
        }
        if refused > 0 {
            let _ = write!(text, "; refused: {}", lines(refused));
            if self.finished.refused == 0 {
                text.push_str(" by earlier runs, which this one does not try again (--restart sends all anew)");
            }
        }
        if self.finished.twice_possible > 0 {
            let _ = write!(text, "; perhaps published twice: {}", mails(self.finished.twice_possible));
        }
        text + ".\n"
    }

    /// For a program.
    pub(super) fn json(&self) -> String {
        let (published, refused) = self.finished.book.counts();
        let result = match &self.finished.end {
            End::Finished if refused > 0 => "refused",
            End::Finished if self.checked => "checked",
            End::Finished => "published",
            End::Errors => "too-many-errors",
            End::Signal(_) => "interrupted",
            End::GaveUp(_) => "gave-up",
            End::Setup(_) | End::Read(_) | End::Book(_) => "failed",
        };
        let count = if self.checked { "sound" } else { "published" };
        let mut object = json!({
            "result": result,
            "file": self.name,
            count: self.published(),
            "refused": self.finished.refused,
            "next_line": self.finished.book.goes_on_at(),
            "seconds": (self.took.as_secs_f64() * 1000.0).round() / 1000.0,
        });
        if !self.checked {
            object["published_in_all"] = published.into();
            object["refused_in_all"] = refused.into();
            object["twice_possible"] = self.finished.twice_possible.into();
            object["state"] = self.state.map(|state| state.display().to_string()).into();
        }
        object.to_string() + "\n"
    }
}

fn mails(count: u64) -> String {
    format!("{} mail{}", grouped(count), if count == 1 { "" } else { "s" })
}

fn lines(count: u64) -> String {
    format!("{} line{}", grouped(count), if count == 1 { "" } else { "s" })
}
