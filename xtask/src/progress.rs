//! What a chore says while it works: plain lines, each with the time since the start.
//!
//! Owns the look of the lines. Colours only on a terminal, and not with `NO_COLOR`.

use std::{
    fmt::Display,
    io::{self, IsTerminal as _, Write as _},
    time::Instant,
};

/// Says things on standard output.
#[derive(Debug)]
pub(crate) struct Progress {
    started: Instant,
    colours: bool,
}

impl Progress {
    /// Counts from now.
    pub(crate) fn start() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { started: Instant::now(), colours: wanted && io::stdout().is_terminal() }
    }

    /// A step, with the time.
    pub(crate) fn step(&self, text: impl Display) {
        let elapsed = format!("{:6.1} s", self.started.elapsed().as_secs_f64());
        self.line(format_args!("{}  {text}", self.quiet(elapsed)));
    }

    /// A heading, with an empty line before it.
    pub(crate) fn heading(&self, text: impl Display) {
        self.line("");
        self.line(self.styled("1", text));
    }

    /// A line as it is.
    #[expect(clippy::unused_self, reason = "all that is said goes through the same hands")]
    pub(crate) fn line(&self, text: impl Display) {
        // Nobody listens any more, as with `| head`: that ends no chore.
        let _ = writeln!(io::stdout(), "{text}");
    }

    /// A text that is less important than those around it.
    pub(crate) fn quiet(&self, text: impl Display) -> String {
        self.styled("2", text)
    }

    fn styled(&self, style: &str, text: impl Display) -> String {
        if self.colours { format!("\x1b[{style}m{text}\x1b[0m") } else { text.to_string() }
    }
}

/// Rows with their columns aligned, two blanks between them, each line indented by two; cells beyond `limits` are cut.
pub(crate) fn table(heading: &[&str], rows: &[Vec<String>], limits: &[usize]) -> Vec<String> {
    let cut = |cell: &str, column: usize| {
        let limit = limits.get(column).copied().unwrap_or(usize::MAX);
        if cell.chars().count() <= limit {
            cell.to_owned()
        } else {
            cell.chars().take(limit.saturating_sub(1)).chain(['…']).collect()
        }
    };
    let heading: Vec<String> = heading.iter().map(|&cell| cell.to_owned()).collect();
    let all: Vec<Vec<String>> = std::iter::once(&heading)
        .chain(rows)
        .map(|row| row.iter().enumerate().map(|(column, cell)| cut(cell, column)).collect())
        .collect();
    let width = |column: usize| all.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    all.iter()
        .map(|row| {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let width = width(column).unwrap_or_default();
                line.push_str("  ");
                line.push_str(cell);
                line.extend(std::iter::repeat_n(' ', width - cell.chars().count()));
            }
            line.truncate(line.trim_end().len());
            line
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::table;

    #[test]
    fn columns_are_aligned_and_cut() {
        let rows = [vec!["a".to_owned(), "é".to_owned(), "x".to_owned()], vec!["long one".to_owned(), "b".to_owned()]];
        assert_eq!(table(&["A", "BB", "C"], &rows, &[5]), ["  A      BB  C", "  a      é   x", "  long…  b"]);
    }
}
