//! What the engine would notice only with a mail: references, filters and tests that are not there.

use std::collections::BTreeMap;

use minijinja::Environment;

use super::{engine::is_html, error::Problem};

/// A tag or a printed expression of a source.
pub(super) struct Tag<'a> {
    /// Byte at which it starts.
    pub(super) start: usize,
    /// Byte after its end.
    pub(super) end: usize,
    pub(super) line: usize,
    /// `{% %}`, else `{{ }}`.
    pub(super) block: bool,
    pub(super) text: &'a str,
}

impl<'a> Tag<'a> {
    /// The word that a `{% %}` starts with, and the rest.
    pub(super) fn word(&self) -> Option<(&'a str, &'a str)> {
        let word = self.text.split_once(char::is_whitespace).unwrap_or((self.text, ""));
        self.block.then_some(word)
    }

    /// The file that it refers to, by a name in quotes.
    pub(super) fn target(&self) -> Option<(&'a str, &'a str)> {
        let (word, rest) = self.word()?;
        if !matches!(word, "extends" | "include" | "import" | "from") {
            return None;
        }
        literal(rest).map(|(target, _)| (word, target))
    }
}

/// Checks a source whose syntax is sound.
pub(super) fn check(
    name: &str,
    sources: &BTreeMap<String, String>,
    env: &Environment<'_>,
    problems: &mut Vec<Problem>,
) {
    for tag in tags(&sources[name]) {
        if tag.block
            && let Some(text) = reference(name, tag.text, sources)
        {
            problems.push(Problem::at(name, tag.line, text));
        }
        for (kind, word) in uses(&tag) {
            if !is_known(env, kind, word) {
                problems.push(Problem::at(name, tag.line, format_args!("unknown {kind} {word}")));
            }
        }
    }
    if extends_itself(name, sources) {
        problems.push(Problem::new(name, "extends itself"));
    }
}

/// The tag in which a byte of a source stands, without its braces.
pub(super) fn tag_at(source: &str, at: usize) -> Option<&str> {
    tags(source).take_while(|tag| tag.start <= at).last().map(|tag| tag.text)
}

/// What is wrong with the file that a tag refers to, if it refers to one.
fn reference(name: &str, tag: &str, sources: &BTreeMap<String, String>) -> Option<String> {
    let (word, rest) = tag.split_once(char::is_whitespace)?;
    if !matches!(word, "extends" | "include" | "import" | "from") {
        return None;
    }
    let Some((target, rest)) = literal(rest) else {
        return Some(format!("{word} takes the name of a file in quotes"));
    };
    if !sources.contains_key(target) {
        let optional = word == "include" && rest.split_whitespace().eq(["ignore", "missing"]);
        return (!optional).then(|| format!("{word}: there is no {target}"));
    }
    if is_html(name) && !is_html(target) {
        return Some(format!("{word}: {target} is not escaped for HTML"));
    }
    None
}

fn extends_itself(name: &str, sources: &BTreeMap<String, String>) -> bool {
    let mut current = name;
    for _ in 0..=sources.len() {
        let parent = sources.get(current).and_then(|source| {
            tags(source).find_map(|tag| {
                let (word, rest) = tag.text.split_once(char::is_whitespace)?;
                (tag.block && word == "extends").then(|| literal(rest)).flatten()
            })
        });
        match parent {
            Some((parent, _)) if parent == name => return true,
            Some((parent, _)) => current = parent,
            None => return false,
        }
    }
    false
}

/// A quoted text at the start and what follows it.
fn literal(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start();
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let (inside, rest) = text[1..].split_once(quote)?;
    // An expression that only begins with a text is none.
    let ends = rest.is_empty() || rest.starts_with(char::is_whitespace);
    (ends && !rest.trim_start().starts_with(['~', '+', '|', '%', '*'])).then_some((inside, rest))
}

/// The tags of a source, in order; comments and raw blocks are left out.
pub(super) fn tags(source: &str) -> impl Iterator<Item = Tag<'_>> {
    let mut at = 0;
    let mut raw = false;
    std::iter::from_fn(move || {
        loop {
            let start = at + source[at..].find('{')?;
            let rest = &source[start..];
            if !raw && rest.starts_with("{#") {
                at = start + rest.find("#}")? + 2;
                continue;
            }
            let block = rest.starts_with("{%");
            if !block && (raw || !rest.starts_with("{{")) {
                at = start + 1;
                continue;
            }
            let length = if raw { rest.find("%}")? } else { end(rest, if block { "%}" } else { "}}" })? };
            let text = rest[2..length].trim_matches(['-', '+']).trim();
            if raw && text != "endraw" {
                at = start + 2;
                continue;
            }
            at = start + length + 2;
            raw = block && text == "raw";
            let line = source[..start].matches('\n').count() + 1;
            return Some(Tag { start, end: at, line, block, text });
        }
    })
}

/// Where a tag ends, not counting what stands in quotes.
fn end(tag: &str, close: &str) -> Option<usize> {
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in tag.char_indices().skip(2) {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(_) if c == '\\' => escaped = true,
            Some(open) if c == open => quote = None,
            None if matches!(c, '"' | '\'') => quote = Some(c),
            None if tag[at..].starts_with(close) => return Some(at),
            Some(_) | None => {}
        }
    }
    None
}

/// Filters and tests that a tag uses.
fn uses<'a>(tag: &Tag<'a>) -> Vec<(&'static str, &'a str)> {
    let mut found = Vec::new();
    let mut next = if tag.block && tag.text.starts_with("filter ") { Some("filter") } else { None };
    let mut rest = if next.is_some() { &tag.text["filter ".len()..] } else { tag.text };
    let mut after_dot = false;
    while let Some(c) = rest.chars().next() {
        let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        if word > 0 {
            let (name, after) = rest.split_at(word);
            rest = after;
            match next {
                Some("test") if name == "not" => continue,
                Some(kind) => found.push((kind, name)),
                None => {}
            }
            let is_test = next.is_none() && name == "is" && !after_dot;
            next = is_test.then_some("test");
            after_dot = false;
            continue;
        }
        if matches!(c, '"' | '\'') {
            rest = &rest[quoted(rest)..];
            next = None;
            continue;
        }
        if !c.is_whitespace() {
            next = (c == '|').then_some("filter");
            after_dot = c == '.';
        }
        rest = &rest[c.len_utf8()..];
    }
    found
}

/// Length of the quoted text at the start, quotes included.
pub(super) fn quoted(text: &str) -> usize {
    let open = text.as_bytes()[0];
    let mut escaped = false;
    for (at, &byte) in text.as_bytes().iter().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            _ if byte == open => return at + 1,
            _ => {}
        }
    }
    text.len()
}

fn is_known(env: &Environment<'_>, kind: &str, name: &str) -> bool {
    env.compile_expression_owned(format!("{name:?} is {kind}"))
        .and_then(|expression| expression.eval(()))
        .is_ok_and(|known| known.is_true())
}
