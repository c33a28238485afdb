//! What a person sees while a file is sent: one line at the bottom of the terminal, and what is said above it. A program gets
//! only what is said.

use std::{
    fmt::{Display, Write as _},
    io::{self, Write as _},
    time::Duration,
};

use tokio::time::Instant;

use crate::cli::terminal::Terminal;

/// Time between two drawings.
const REDRAW: Duration = Duration::from_millis(100);
/// The rate is that of the last so many seconds.
const RATE_WINDOW: Duration = Duration::from_secs(5);
/// Columns of the bar.
const BAR: usize = 24;
/// Back to the first column, and away with the line (ECMA-48 EL).
const CLEAR: &str = "\r\x1b[K";

/// How far it is.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Standing {
    /// Mails published, this time and before.
    pub(super) published: u64,
    /// Lines refused, this time and before.
    pub(super) refused: u64,
    /// Bytes of the file that are settled, and all of them; `None` where nobody knows.
    pub(super) bytes: Option<(u64, u64)>,
    /// Why it waits, and for how long already.
    pub(super) waiting: Option<(String, Duration)>,
}

/// The line at the bottom.
#[derive(Debug)]
pub(super) struct Progress {
    wanted: bool,
    drawn: bool,
    last: Option<Instant>,
    /// Moments with what was published and settled then, for the rate.
    past: std::collections::VecDeque<(Instant, u64, u64)>,
}

impl Progress {
    /// Drawn where standard error is a terminal and it is wanted.
    pub(super) fn new(wanted: bool) -> Self {
        Self { wanted, drawn: false, last: None, past: std::collections::VecDeque::new() }
    }

    /// Says something that stays.
    pub(super) fn say(&mut self, what: impl Display) {
        self.clear();
        let _ = writeln!(io::stderr(), "postlane: {what}");
        self.last = None;
    }

    /// Draws it, unless that was done just before.
    pub(super) fn draw(&mut self, standing: &Standing) {
        let now = Instant::now();
        if !self.wanted || self.last.is_some_and(|last| now.duration_since(last) < REDRAW) {
            return;
        }
        // its width may have changed
        let Some(terminal) = Terminal::stderr() else { return };
        self.last = Some(now);
        self.past.push_back((now, standing.published, standing.bytes.map_or(0, |(done, _)| done)));
        while self.past.len() > 2 && self.past.get(1).is_some_and(|(at, ..)| now.duration_since(*at) >= RATE_WINDOW) {
            self.past.pop_front();
        }
        let (from, published, done) = self.past.front().copied().expect("one was just put in");
        let seconds = now.duration_since(from).as_secs_f64();
        let speed = |now: u64, then: u64| if seconds > 0.0 { float(now.saturating_sub(then)) / seconds } else { 0.0 };
        let bytes_speed = speed(standing.bytes.map_or(0, |(done, _)| done), done);
        let text = line(standing, speed(standing.published, published), bytes_speed, terminal);
        let _ = write!(io::stderr(), "{CLEAR}{text}");
        let _ = io::stderr().flush();
        self.drawn = true;
    }

    /// Takes the line away.
    pub(super) fn clear(&mut self) {
        if std::mem::take(&mut self.drawn) {
            let _ = write!(io::stderr(), "{CLEAR}");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

/// The line, shorter than the terminal is wide.
fn line(standing: &Standing, per_second: f64, bytes_per_second: f64, terminal: Terminal) -> String {
    let mut parts = Vec::new();
    if let Some((done, all)) = standing.bytes {
        let share = if all == 0 { 1.0 } else { (float(done) / float(all)).clamp(0.0, 1.0) };
        let percent = whole(share * 100.0);
        parts.push(if standing.waiting.is_some() {
            format!("{percent:>3}%")
        } else {
            format!("{percent:>3}% {}", bar(share))
        });
    }
    parts.push(format!("{} mails", grouped(standing.published)));
    if standing.refused > 0 {
        parts.push(format!("{} refused", grouped(standing.refused)));
    }
    match (&standing.waiting, standing.bytes) {
        (Some((_, since)), _) => parts.push(format!("brokers away for {}, waiting", clock(*since))),
        (None, Some((done, all))) if bytes_per_second > 0.0 => {
            parts.push(format!("{}/s", grouped(whole(per_second))));
            let left = float(all.saturating_sub(done)) / bytes_per_second;
            if left.is_finite() && left < 100.0 * 3600.0 {
                parts.push(format!("{} left", clock(Duration::from_secs_f64(left))));
            }
        }
        (None, _) => parts.push(format!("{}/s", grouped(whole(per_second)))),
    }
    let room = terminal.width.unwrap_or(usize::MAX).saturating_sub(1);
    let text: String = parts.join("  ").chars().take(room).collect();
    if terminal.colours && standing.waiting.is_some() { format!("\x1b[33m{text}\x1b[0m") } else { text }
}

fn bar(share: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to BAR")]
    #[expect(clippy::cast_precision_loss, reason = "BAR is small")]
    let done = ((share * BAR as f64) as usize).min(BAR);
    let head = if done == 0 || done == BAR { "" } else { ">" };
    let full = "=".repeat(done - head.len());
    format!("[{:<BAR$}]", full + head)
}

#[expect(clippy::cast_precision_loss, reason = "shown with few digits")]
fn float(number: u64) -> f64 {
    number as f64
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float to a whole number saturates")]
fn whole(number: f64) -> u64 {
    number.round() as u64
}

/// `1,234,567`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `0:07`, `12:34` or `1:02:03`.
pub(super) fn clock(span: Duration) -> String {
    let seconds = span.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let mut text = String::new();
    let _ = if hours > 0 {
        write!(text, "{hours}:{minutes:02}:{seconds:02}")
    } else {
        write!(text, "{minutes}:{seconds:02}")
    };
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDE: Terminal = Terminal { width: Some(80), colours: false };

    #[test]
    fn the_line() {
        let mut standing = Standing { published: 450_123, bytes: Some((45, 100)), ..Standing::default() };
        assert_eq!(
            line(&standing, 52_310.4, 1.0, WIDE),
            " 45% [=========>              ]  450,123 mails  52,310/s  0:55 left"
        );
        standing.refused = 3;
        standing.waiting = Some(("no answer".to_owned(), Duration::from_secs(75)));
        assert_eq!(line(&standing, 0.0, 0.0, WIDE), " 45%  450,123 mails  3 refused  brokers away for 1:15, waiting");
        let narrow = Terminal { width: Some(20), ..WIDE };
        assert_eq!(line(&standing, 0.0, 0.0, narrow).chars().count(), 19);
        let stream = Standing { published: 7, ..Standing::default() };
        assert_eq!(line(&stream, 3.0, 0.0, WIDE), "7 mails  3/s");
        let empty = Standing { bytes: Some((0, 0)), ..Standing::default() };
        assert_eq!(line(&empty, 0.0, 0.0, WIDE), "100% [========================]  0 mails  0/s");
    }

    #[test]
    fn numbers_and_times() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
        for (seconds, text) in [(0, "0:00"), (754, "12:34"), (3723, "1:02:03")] {
            assert_eq!(clock(Duration::from_secs(seconds)), text);
        }
    }
}
