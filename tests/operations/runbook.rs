//! The quotations of the runbook and of the night on call: what it tells people to look for must be what the service says.

use std::{fs, path::Path};

use crate::{path, read};

/// The crate's code with each run of blanks, and each line that goes on in a text, as one blank.
fn code(folder: &Path) -> String {
    let mut code = String::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let file = entry.expect("an entry").path();
        if file.is_dir() {
            code += &self::code(&file);
        } else {
            code += &fs::read_to_string(&file).expect("text");
        }
    }
    one_line(&code.replace("\\\n", " "))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Texts between backticks that are sentences, not commands, queries or fields.
fn quotations(page: &str) -> Vec<String> {
    let prose: String = page.split("```").step_by(2).collect();
    let quoted = prose.split('`').skip(1).step_by(2).map(one_line);
    let starts_like_a_message = |text: &String| text.starts_with(|first: char| first.is_ascii_lowercase());
    let is_command = |text: &String| {
        text.contains(['(', '{', '=', '|', '[', '/'])
            || text.contains(" -")
            || text.contains(".sh ")
            || ["postlane ", "systemctl ", "kubectl ", "docker "].iter().any(|program| text.starts_with(program))
    };
    quoted.filter(|text| text.contains(' ') && starts_like_a_message(text) && !is_command(text)).collect()
}

#[test]
fn what_the_runbook_quotes_is_said() {
    let quotations = [quotations(&read("docs/runbook.md")), quotations(&read("docs/on-call.md"))];
    assert!(quotations[0].len() > 20 && quotations[1].len() > 3, "{quotations:?}");
    let quotations = quotations.concat();
    let code = code(&path("src"));
    let unsaid: Vec<&String> = quotations.iter().filter(|text| !code.contains(text.as_str())).collect();
    assert_eq!(unsaid, Vec::<&String>::new(), "the service says no such thing any more");
}
