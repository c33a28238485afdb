//! What came of the events, as text in at most 80 columns.

use devkit::service::Names;

use super::{Folder, outcome::Outcome};
use crate::progress::{Progress, table};

/// The tool's columns that are shown; the others say nothing new or are empty without members.
const LAG_COLUMNS: [&str; 5] = ["TOPIC", "PARTITION", "CURRENT-OFFSET", "LOG-END-OFFSET", "LAG"];

/// Prints mails, dead letters, the lag, and where there is more.
pub(super) fn print(progress: &Progress, outcome: &Outcome, names: &Names, folder: &Folder) {
    progress.heading("Mails that the server has accepted");
    let rows: Vec<Vec<String>> = outcome
        .mails
        .iter()
        .map(|mail| {
            let attempts = mail.attempts.to_string();
            [&mail.lane, &mail.subject, &mail.to, &attempts, &mail.queue_id].map(|text| cell(text)).into()
        })
        .collect();
    lines(progress, &table(&["LANE", "SUBJECT", "TO (MASKED)", "ATTEMPTS", "QUEUE ID"], &rows, &[6, 25, 23, 8, 8]));

    progress.heading(format_args!("Dead letters in {}", names.dead_letters));
    let rows: Vec<Vec<String>> = outcome
        .letters
        .iter()
        .map(|letter| {
            [&letter.reason, &letter.stage, &letter.code, &letter.attempts, &letter.origin]
                .map(|text| cell(text))
                .into()
        })
        .collect();
    let heading = ["REASON", "STAGE", "CODE", "ATTEMPTS", "RECORD"];
    let rows = table(&heading, &rows, &[]);
    lines(progress, &rows[..1]);
    for (row, letter) in rows[1..].iter().zip(&outcome.letters) {
        progress.line(row);
        let part = if letter.is_partial { " (one recipient of several; the others have the mail)" } else { "" };
        for line in wrapped(&format!("{}{part}", letter.message), 74) {
            progress.line(progress.quiet(format_args!("      {line}")));
        }
    }

    progress.heading(format_args!("kafka-consumer-groups --describe --group {}", names.group));
    lines(progress, &lag_table(&outcome.lag));

    progress.heading("To look at");
    for (file, what) in [
        ("index.html", "all of it in a browser, mails as HTML"),
        ("mails", "the mails as .html and .eml"),
        ("postlane.log", "what postlane said"),
        ("kafka-consumer-groups.txt", "the tool's output with all its columns"),
    ] {
        progress.line(format_args!("  {:<38} {what}", folder.shown(file)));
    }
}

fn cell(text: &str) -> String {
    if text.is_empty() { "-" } else { text }.to_owned()
}

fn lines(progress: &Progress, lines: &[String]) {
    for line in lines {
        progress.line(line);
    }
}

/// The tool's own cells, without its padding to 150 columns.
fn lag_table(text: &str) -> Vec<String> {
    let mut rows = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let Some(heading) = rows.find(|cells| cells.contains(&"LAG")) else {
        return text.lines().map(|line| format!("  {line}")).collect();
    };
    let columns: Vec<usize> =
        LAG_COLUMNS.iter().filter_map(|name| heading.iter().position(|title| title == name)).collect();
    let pick = |cells: &[&str]| -> Vec<String> {
        columns.iter().map(|&column| cells.get(column).copied().unwrap_or("-").to_owned()).collect()
    };
    let rows: Vec<Vec<String>> = rows.filter(|cells| !cells.is_empty()).map(|cells| pick(&cells)).collect();
    let heading = pick(&heading);
    table(&heading.iter().map(String::as_str).collect::<Vec<_>>(), &rows, &[])
}

/// Lines of at most `width` characters, broken at blanks.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tools_table_keeps_the_columns_that_matter() {
        let text = "\nConsumer group 'g' has no active members.\n\n\
            GROUP  TOPIC  PARTITION  CURRENT-OFFSET  LOG-END-OFFSET  LAG  CONSUMER-ID  HOST  CLIENT-ID\n\
            g      mail   0          7               10              3    -            -     -\n";
        let shown = lag_table(text);
        assert_eq!(shown.len(), 2);
        assert_eq!(shown[1].split_whitespace().collect::<Vec<_>>(), ["mail", "0", "7", "10", "3"]);
        assert_eq!(lag_table("Error: no group"), ["  Error: no group"]);
    }

    #[test]
    fn long_texts_are_broken_at_blanks() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("unbreakable", 4), ["unbreakable"]);
    }
}
