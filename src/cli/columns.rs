//! A table with named columns: what is too wide for a terminal is left out or cut, what a program reads never is.
//!
//! Knows nothing of what is told.

use std::fmt::Write as _;

use super::{table::Tone, terminal::Terminal};

/// Spaces between two columns.
const GAP: usize = 2;

/// A column.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    pub(super) title: &'static str,
    /// Columns of the terminal that it should have at least; titles and short cells may be narrower.
    pub(super) least: usize,
    /// Numbers stand at the right.
    pub(super) right: bool,
    /// On a terminal that is too narrow the highest goes first; 0 always stays.
    pub(super) rank: u8,
}

impl Column {
    pub(super) const fn text(title: &'static str, least: usize, rank: u8) -> Self {
        Self { title, least, right: false, rank }
    }

    /// One that is never cut.
    pub(super) const fn whole(title: &'static str, rank: u8) -> Self {
        Self { title, least: usize::MAX, right: false, rank }
    }

    pub(super) const fn number(title: &'static str, rank: u8) -> Self {
        Self { title, least: usize::MAX, right: true, rank }
    }
}

/// One cell.
#[derive(Debug, Clone, Default)]
pub(super) struct Cell {
    text: String,
    tone: Option<Tone>,
}

impl Cell {
    /// Controls and what turns the direction of writing do not reach the terminal.
    pub(super) fn new(text: impl AsRef<str>) -> Self {
        Self { text: visible(text.as_ref()), tone: None }
    }

    pub(super) fn toned(self, tone: Tone) -> Self {
        Self { tone: Some(tone), ..self }
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::new(text)
    }
}

/// A text without anything that a terminal would obey, on one line.
pub(super) fn visible(text: &str) -> String {
    text.chars().map(visible_char).collect()
}

/// The same, but lines stay lines.
pub(super) fn visible_lines(text: &str) -> String {
    text.replace("\r\n", "\n").chars().map(|c| if c == '\n' { c } else { visible_char(c) }).collect()
}

fn visible_char(c: char) -> char {
    match c {
        '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' => '\u{fffd}',
        c => c,
    }
}

/// Which columns are shown, and how wide.
#[derive(Debug)]
pub(super) struct Layout {
    shown: Vec<(usize, Column, usize)>,
    cut: bool,
    colours: bool,
}

impl Layout {
    /// Wide enough for these rows where the terminal is; later rows may be wider.
    pub(super) fn new(columns: &[Column], rows: &[Vec<Cell>], terminal: Terminal) -> Self {
        let natural = |index: usize, column: &Column| {
            let cells = rows.iter().filter_map(|row| row.get(index)).map(|cell| width(&cell.text)).max();
            width(column.title).max(cells.unwrap_or_default())
        };
        let mut shown: Vec<(usize, Column, usize)> =
            columns.iter().enumerate().map(|(index, column)| (index, *column, natural(index, column))).collect();
        let Some(room) = terminal.width.map(|columns| columns.saturating_sub(1)) else {
            return Self { shown, cut: false, colours: terminal.colours };
        };
        let total = |shown: &[(usize, Column, usize)], least: bool| {
            let own =
                |(_, column, width): &(usize, Column, usize)| if least { column.least.min(*width) } else { *width };
            shown.iter().map(own).sum::<usize>() + GAP * shown.len().saturating_sub(1)
        };
        while total(&shown, true) > room {
            let Some(last) = shown.iter().map(|(_, column, _)| column.rank).max().filter(|rank| *rank > 0) else {
                break;
            };
            shown.retain(|(_, column, _)| column.rank != last);
        }
        while total(&shown, false) > room {
            let spare = |(_, column, width): &&mut (usize, Column, usize)| width.saturating_sub(column.least);
            let Some(widest) = shown.iter_mut().filter(|it| spare(it) > 0).max_by_key(spare) else { break };
            widest.2 -= 1;
        }
        Self { shown, cut: true, colours: terminal.colours }
    }

    pub(super) fn header(&self) -> String {
        let titles = self.shown.iter().map(|(_, column, _)| Cell::new(column.title).toned(Tone::Quiet));
        self.line(titles)
    }

    pub(super) fn row(&self, cells: &[Cell]) -> String {
        self.line(self.shown.iter().map(|(index, ..)| cells.get(*index).cloned().unwrap_or_default()))
    }

    fn line(&self, cells: impl Iterator<Item = Cell>) -> String {
        let mut out = String::new();
        let mut pending = 0;
        for ((_, column, room), cell) in self.shown.iter().zip(cells) {
            let text = if self.cut { cut(&cell.text, *room) } else { cell.text };
            let pad = room.saturating_sub(width(&text));
            let (before, after) = if column.right { (pad, 0) } else { (0, pad) };
            if text.is_empty() {
                pending += before;
            } else {
                let _ = write!(out, "{:1$}", "", pending + before);
                match cell.tone.filter(|_| self.colours) {
                    Some(tone) => _ = write!(out, "\x1b[{}m{text}\x1b[0m", tone.colour()),
                    None => out.push_str(&text),
                }
                pending = 0;
            }
            pending += after + GAP;
        }
        out.push('\n');
        out
    }
}

fn cut(text: &str, room: usize) -> String {
    if width(text) <= room {
        return text.to_owned();
    }
    text.chars().take(room.saturating_sub(1)).chain(['…']).collect()
}

fn width(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 4] = [
        Column::whole("PLACE", 0),
        Column::text("TEMPLATE", 8, 1),
        Column::number("TRIES", 2),
        Column::text("MORE", 4, 3),
    ];

    fn rows() -> Vec<Vec<Cell>> {
        [["0:1", "password-reset", "3", "somewhere"], ["10:1234", "x", "", "y"]]
            .map(|row| row.map(Cell::new).to_vec())
            .to_vec()
    }

    fn shown(width: Option<usize>) -> String {
        let rows = rows();
        let layout = Layout::new(&COLUMNS, &rows, Terminal { width, colours: false });
        rows.iter().fold(layout.header(), |text, row| text + &layout.row(row))
    }

    #[test]
    fn a_program_gets_everything() {
        let all = "\
PLACE    TEMPLATE        TRIES  MORE
0:1      password-reset      3  somewhere
10:1234  x                      y
";
        assert_eq!(shown(None), all);
        assert_eq!(shown(Some(100)), all);
    }

    #[test]
    fn what_does_not_fit_is_cut_and_then_left_out() {
        assert_eq!(
            shown(Some(38)),
            "\
PLACE    TEMPLATE      TRIES  MORE
0:1      password-re…      3  somewh…
10:1234  x                    y
"
        );
        assert_eq!(shown(Some(21)), "PLACE    TEMPLATE\n0:1      password-r…\n10:1234  x\n");
        for width in 18..60 {
            let widest = shown(Some(width)).lines().map(super::width).max().unwrap_or_default();
            assert!(widest < width, "{widest} of {width}");
        }
    }

    #[test]
    fn nothing_of_a_cell_is_obeyed() {
        assert_eq!(Cell::new("a\x1b[2J\u{202e}b\nc").text, "a\u{fffd}[2J\u{fffd}b\u{fffd}c");
    }
}
