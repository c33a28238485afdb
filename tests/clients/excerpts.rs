//! Documents that quote a file say what it says: after a line `From [file](…):` the next block of code is a part of it.

use std::{fs, path::Path};

/// Documents, and how many quotations each has at least.
const DOCUMENTS: [(&str, usize); 2] = [("docs/clients.md", 4), ("README.md", 1)];

#[test]
fn quoted_programs_are_quoted_word_for_word() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (document, least) in DOCUMENTS {
        let text = fs::read_to_string(repository.join(document)).expect("a document");
        let quotations = quotations(&text);
        assert!(quotations.len() >= least, "{document} quotes only {quotations:?}");
        for (file, block) in quotations {
            let source = fs::read_to_string(repository.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
            assert!(source.contains(block), "{document} says that this is in {file}:\n{block}");
        }
    }
}

/// Files and what is quoted of them.
fn quotations(text: &str) -> Vec<(&str, &str)> {
    let named = text.match_indices("From [").filter_map(|(at, _)| {
        let rest = &text[at + "From [".len()..];
        let (file, rest) = rest.split_once("](")?;
        let (_, rest) = rest.split_once("):\n")?;
        let (_, rest) = rest.strip_prefix('\n')?.strip_prefix("```")?.split_once('\n')?;
        Some((file, rest.split_once("\n```")?.0))
    });
    named.collect()
}

#[test]
fn a_quotation_is_the_block_behind_the_file() {
    let text = "Text.\n\nFrom [a/b.go](../a/b.go):\n\n```go\none\n\ntwo\n```\n\nFrom [c](c): not a block\n";
    assert_eq!(quotations(text), [("a/b.go", "one\n\ntwo")]);
}

#[test]
fn the_table_of_errors_has_all_of_them() {
    let source = include_str!("../../src/producer/error.rs");
    let (_, rest) = source.split_once("pub enum SendError {").expect("the errors");
    let (variants, _) = rest.split_once("\n}").expect("their end");
    let names = variants.lines().filter_map(|line| {
        let line = line.strip_prefix("    ")?;
        let end = line.find(|c: char| !c.is_alphanumeric())?;
        line.starts_with(char::is_uppercase).then(|| &line[..end])
    });
    let names: Vec<&str> = names.collect();
    assert!(names.len() >= 9, "{names:?}");
    let document = include_str!("../../docs/migrating.md");
    for name in names {
        let listed = document.lines().any(|line| line.starts_with('|') && line.contains(&format!("`{name}`")));
        assert!(listed, "{name} is not in docs/migrating.md");
    }
}
