//! A table of results: one line for a result, its name and what there is to say, broken at the terminal's width.
//!
//! Knows nothing of what is told. Where a terminal is too narrow for columns, the text stands below the name.

use std::fmt::Write as _;

use super::terminal::Terminal;

/// Spaces between two columns.
const GAP: usize = 2;
/// Columns for a result, so that a table does not move with its worst one.
const LEAST_RESULT: usize = 4;
/// Columns that a text should have beside the names; below, it goes under them.
const LEAST_TEXT: usize = 30;
/// Longest name that others are aligned to.
const LONGEST_NAME: usize = 32;
/// Indent of a text that stands under its name.
const INDENT: usize = 4;
/// Before an advice, and the rest of its lines.
const ARROW: &str = "-> ";

/// How a result is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Good,
    Doubtful,
    Bad,
    Quiet,
}

impl Tone {
    /// The parameter of SGR (ECMA-48).
    pub(super) fn colour(self) -> &'static str {
        match self {
            Self::Good => "32",
            Self::Doubtful => "33",
            Self::Bad => "1;31",
            Self::Quiet => "2",
        }
    }
}

/// One line of the table.
#[derive(Debug, Clone)]
pub(super) struct Line<'a> {
    pub(super) result: &'a str,
    pub(super) tone: Tone,
    pub(super) name: &'a str,
    pub(super) text: &'a str,
    /// What to do.
    pub(super) advice: Option<&'a str>,
}

/// The lines as they are printed.
pub(super) fn render(lines: &[Line<'_>], terminal: Terminal) -> String {
    let longest =
        |of: for<'b> fn(&'b Line<'_>) -> &'b str| lines.iter().map(|line| width(of(line))).max().unwrap_or_default();
    let result_width = longest(|line| line.result).max(LEAST_RESULT) + GAP;
    let name_width = longest(|line| line.name).min(LONGEST_NAME) + GAP;
    let aligned = terminal.width.is_none_or(|columns| columns >= result_width + name_width + LEAST_TEXT);
    let indent = if aligned { result_width + name_width } else { INDENT };
    // a line that fills the last column makes some terminals break once more
    let room = terminal.width.map_or(usize::MAX, |columns| columns.saturating_sub(indent + 1).max(1));

    let mut out = String::new();
    for line in lines {
        let (start, end) =
            if terminal.colours { (format!("\x1b[{}m", line.tone.colour()), "\x1b[0m") } else { Default::default() };
        let _ =
            write!(out, "{start}{}{end}{:pad$}{}", line.result, "", line.name, pad = result_width - width(line.result));
        let mut rows = wrap(line.text, room, "");
        rows.extend(line.advice.into_iter().flat_map(|advice| wrap(advice, room, ARROW)));
        let beside = aligned && width(line.name) + GAP <= name_width;
        for (index, row) in rows.iter().enumerate() {
            if index == 0 && beside {
                let _ = write!(out, "{:pad$}{row}", "", pad = name_width - width(line.name));
            } else {
                let _ = write!(out, "\n{:indent$}{row}", "");
            }
        }
        out.push('\n');
    }
    out
}

/// The text in rows of at most `room` columns; the first starts with `mark`, the others with as many spaces. A word that is
/// longer is broken.
fn wrap(text: &str, room: usize, mark: &str) -> Vec<String> {
    let room = room.saturating_sub(mark.len()).max(1);
    let mut rows: Vec<String> = Vec::new();
    let mut row = String::new();
    for word in text.split_whitespace() {
        let mut rest: Vec<char> = word.chars().collect();
        if !row.is_empty() && width(&row) + 1 + rest.len() > room {
            rows.push(std::mem::take(&mut row));
        }
        while rest.len() > room {
            let tail = rest.split_off(room);
            rows.push(rest.into_iter().collect());
            rest = tail;
        }
        if !row.is_empty() {
            row.push(' ');
        }
        row.extend(rest);
    }
    rows.push(row);
    let margin = " ".repeat(mark.len());
    let lead = |index| if index == 0 { mark } else { margin.as_str() };
    rows.into_iter().enumerate().map(|(index, row)| format!("{}{row}", lead(index))).collect()
}

fn width(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: [Line<'_>; 4] = [
        Line { result: "ok", tone: Tone::Good, name: "broker kafka-1:9092", text: "answers after 3 ms", advice: None },
        Line {
            result: "FAIL",
            tone: Tone::Bad,
            name: "topic email-queue-low",
            text: "does not exist",
            advice: Some("make it with `postlane topics create`, or set KAFKA_CREATE_TOPICS=true"),
        },
        Line { result: "-", tone: Tone::Quiet, name: "lag", text: "not tried", advice: None },
        Line {
            result: "warn",
            tone: Tone::Doubtful,
            name: "broker a-name-that-is-longer-than-all-others.example.com:9092",
            text: "is far away",
            advice: None,
        },
    ];

    fn plain(width: impl Into<Option<usize>>) -> String {
        render(&LINES, Terminal { width: width.into(), colours: false })
    }

    #[test]
    fn eighty_columns() {
        assert_eq!(
            plain(80),
            "\
ok    broker kafka-1:9092               answers after 3 ms
FAIL  topic email-queue-low             does not exist
                                        -> make it with `postlane topics
                                           create`, or set
                                           KAFKA_CREATE_TOPICS=true
-     lag                               not tried
warn  broker a-name-that-is-longer-than-all-others.example.com:9092
                                        is far away
"
        );
    }

    #[test]
    fn a_narrow_terminal_has_the_text_below() {
        assert_eq!(
            render(&LINES[..2], Terminal { width: Some(40), colours: false }),
            "\
ok    broker kafka-1:9092
    answers after 3 ms
FAIL  topic email-queue-low
    does not exist
    -> make it with `postlane topics
       create`, or set
       KAFKA_CREATE_TOPICS=true
"
        );
    }

    #[test]
    fn no_line_of_text_reaches_the_last_column() {
        for columns in 12..120 {
            let names = |line: &&str| !LINES.iter().any(|known| line.contains(known.name));
            let longest = plain(columns).lines().filter(names).map(width).max().unwrap_or_default();
            assert!(longest < columns, "{longest} of {columns}");
        }
    }

    #[test]
    fn a_program_gets_one_line_for_the_text_and_one_for_the_advice() {
        assert_eq!(plain(None).lines().count(), LINES.len() + 2);
    }

    #[test]
    fn colours_are_around_the_result_alone() {
        let text = render(&LINES[1..2], Terminal { width: None, colours: true });
        assert!(text.starts_with("\x1b[1;31mFAIL\x1b[0m  topic"), "{text:?}");
        assert_eq!(text.matches('\x1b').count(), 2);
        assert!(!plain(None).contains('\x1b'));
    }
}
