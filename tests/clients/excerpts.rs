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
        assert!(quotations.len() >= least, "{document} quotes only {:?}", quotations);
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
