//! Which data a template asks for, without rendering it.
//!
//! Follows layouts, includes and macros by the names in their tags. Static: a branch counts whether or not data leads into
//! it. Where it cannot know (what a loop's variable holds, an index), it keeps silent: rendering finds that.

use std::collections::{BTreeMap, BTreeSet};

use minijinja::Environment;

use super::{
    Data,
    check::{Tag, tags},
};

/// Names that the engine gives, in some places.
const GIVEN: [&str; 6] = ["loop", "self", "super", "caller", "varargs", "kwargs"];

/// Something of the data that a template asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// Name, or names with points between: `Order.Total`.
    pub path: String,
    /// File in which it is asked for, `folder/file`.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Whether the template asks somewhere if it is there: by `if`, `is`, `or` or the filter `default`.
    pub optional: bool,
    /// Whether it is called like a function.
    pub function: bool,
    /// Whether it is asked for as it is, not only for what is in it.
    whole: bool,
}

/// The files that one leads to, with their sources less the blocks that are overridden.
pub(super) fn reach(
    file: &str,
    sources: &BTreeMap<String, String>,
    overridden: &BTreeSet<String>,
    found: &mut BTreeMap<String, String>,
) {
    let Some(source) = sources.get(file).filter(|_| !found.contains_key(file)) else { return };
    let blocks = spans(source, "block");
    let source = without(source, &blocks, overridden);
    found.insert(file.to_owned(), source.clone());
    // of a block that calls super(), what it overrides is shown as well
    let mine = blocks.iter().filter(|block| !block.body.contains("super()")).map(|block| block.name.to_owned());
    let overridden: BTreeSet<String> = overridden.iter().cloned().chain(mine).collect();
    for (word, target) in tags(&source).filter_map(|tag| tag.target()) {
        let none = BTreeSet::new();
        reach(target, sources, if word == "extends" { &overridden } else { &none }, found);
    }
}

/// What a template asks for whose parts are the roots: each path and each path before it once.
pub(super) fn usages(env: &Environment<'_>, sources: &BTreeMap<String, String>, roots: &[String]) -> Vec<Usage> {
    let mut all: Vec<Usage> = Vec::new();
    let mut guarded = BTreeSet::new();
    for root in roots {
        let mut files = BTreeMap::new();
        reach(root, sources, &BTreeSet::new(), &mut files);
        forget_macros(&mut files);
        for source in files.values() {
            guarded.extend(tags(source).flat_map(|tag| guards(&tag)));
        }
        // the part itself first, so that a path is shown there and not in a layout
        let mut order: Vec<&String> = files.keys().collect();
        order.sort_by_key(|file| *file != root);
        for file in order {
            let elsewhere = files.iter().filter(|(other, _)| *other != file);
            let mut known: BTreeSet<&str> =
                elsewhere.flat_map(|(_, source)| bound(source, &["set", "for", "with"])).collect();
            // a variable that is set within an `if` is there behind it, too, and a macro before its place
            known.extend(bound(&files[file], &["set", "macro"]));
            for usage in asked(env, file, &files[file]) {
                let root = usage.path.split('.').next().unwrap_or_default();
                if !known.contains(root) {
                    add(&mut all, usage);
                }
            }
        }
    }
    for usage in &mut all {
        usage.optional = guarded.contains(&usage.path);
    }
    all
}

fn add(all: &mut Vec<Usage>, usage: Usage) {
    let ends = usage.path.match_indices('.').map(|(at, _)| at).collect::<Vec<_>>();
    for end in ends {
        let shorter = Usage { path: usage.path[..end].to_owned(), whole: false, function: false, ..usage.clone() };
        if !all.iter().any(|known| known.path == shorter.path) {
            all.push(shorter);
        }
    }
    match all.iter_mut().find(|known| known.path == usage.path) {
        Some(known) => known.whole |= usage.whole,
        None => all.push(usage),
    }
}

/// What one file asks for, as the engine sees it.
fn asked(env: &Environment<'_>, file: &str, source: &str) -> Vec<Usage> {
    let Ok(template) = env.template_from_named_str(file, source) else { return Vec::new() };
    let mut paths: Vec<String> = template.undeclared_variables(true).into_iter().collect();
    paths.sort();
    let globals: BTreeSet<&str> = env.globals().map(|(name, _)| name).collect();
    let mut found = Vec::new();
    for path in paths {
        let root = path.split('.').next().unwrap_or_default();
        if GIVEN.contains(&root) || globals.contains(root) {
            continue;
        }
        let mention = tags(source)
            .flat_map(|tag| names(&tag))
            .find(|name| name.path.strip_prefix(&path).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')));
        let offset = mention.as_ref().map_or(0, |name| name.path.as_ptr() as usize - source.as_ptr() as usize);
        let called = mention.is_some_and(|name| name.called && name.path == path);
        // of `Order.items()` it is the order that is asked for
        let (path, function) = match path.rsplit_once('.') {
            Some((object, _)) if called => (object.to_owned(), false),
            _ => (path, called),
        };
        let line = source[..offset].matches('\n').count() + 1;
        found.push(Usage { path, file: file.to_owned(), line, optional: false, function, whole: true });
    }
    found.sort_by_key(|usage| usage.line);
    found
}

/// What the data does not have, by the shortest path that is missing.
pub(super) fn missing(usages: Vec<Usage>, data: &Data) -> Vec<Usage> {
    let lacks = |path: &str| {
        let mut object = data;
        for name in path.split('.') {
            match object.get(name) {
                Some(serde_json::Value::Object(inner)) => object = inner,
                // null says that it may be absent; what a list holds is not known here
                Some(serde_json::Value::Null | serde_json::Value::Array(_)) => return false,
                Some(_) => return !path.ends_with(name),
                None => return true,
            }
        }
        false
    };
    let all: Vec<Usage> = usages.into_iter().filter(|usage| lacks(&usage.path)).collect();
    let shortest = |usage: &&Usage| {
        !all.iter().any(|other| usage.path.strip_prefix(&other.path).is_some_and(|rest| rest.starts_with('.')))
    };
    all.iter().filter(shortest).cloned().collect()
}

/// Paths of the data that nothing asks for; of an object that nothing asks for the object alone.
pub(super) fn unused(usages: &[Usage], data: &Data) -> Vec<String> {
    let mut found = Vec::new();
    collect_unused(usages, data, "", &mut found);
    found
}

fn collect_unused(usages: &[Usage], data: &Data, before: &str, found: &mut Vec<String>) {
    for (key, value) in data {
        let path = format!("{before}{key}");
        match (usages.iter().find(|usage| usage.path == path), value) {
            (None, _) => found.push(path),
            (Some(usage), serde_json::Value::Object(inner)) if !usage.whole => {
                collect_unused(usages, inner, &format!("{path}."), found);
            }
            (Some(_), _) => {}
        }
    }
}

/// The line of a JSON text in which the last name of a path is a key.
pub(super) fn line_of_key(json: &str, path: &str) -> Option<usize> {
    let mut at = 0;
    for name in path.split('.') {
        let key = serde_json::Value::from(name).to_string();
        let found = json[at..]
            .match_indices(&key)
            .find(|(found, _)| json[at + found + key.len()..].trim_start().starts_with(':'));
        at += found?.0 + key.len();
    }
    Some(json[..at].matches('\n').count() + 1)
}

/// Empties the macros that nothing calls: a file of macros serves many templates, and each calls a few of them.
fn forget_macros(files: &mut BTreeMap<String, String>) {
    let mut called: BTreeSet<String> = BTreeSet::new();
    for source in files.values() {
        let uses = tags(source).filter(|tag| tag.word().is_none_or(|(word, _)| word != "macro"));
        called.extend(uses.flat_map(|tag| names(&tag)).flat_map(|name| name.path.split('.')).map(str::to_owned));
    }
    for source in files.values_mut() {
        let macros = spans(source, "macro");
        let unused = macros.iter().map(|span| span.name.to_owned()).filter(|name| !called.contains(name)).collect();
        let rest = without(source, &macros, &unused);
        *source = rest;
    }
}

/// A block or a macro of a source.
struct Span<'a> {
    name: &'a str,
    start: usize,
    end: usize,
    body: &'a str,
}

fn spans<'a>(source: &'a str, kind: &str) -> Vec<Span<'a>> {
    let mut open = Vec::new();
    let mut closed = Vec::new();
    for tag in tags(source) {
        match tag.word() {
            Some((word, rest)) if word == kind => {
                open.push((rest.split(|c: char| !is_word(c)).next().unwrap_or_default(), tag.end));
            }
            Some((word, _)) if word.strip_prefix("end") == Some(kind) => {
                closed.extend(open.pop().map(|(name, start)| Span {
                    name,
                    start,
                    end: tag.start,
                    body: &source[start..tag.start],
                }));
            }
            _ => {}
        }
    }
    closed
}

/// A source in which some bodies are empty; its lines keep their numbers.
fn without(source: &str, spans: &[Span<'_>], names: &BTreeSet<String>) -> String {
    let mut out = String::with_capacity(source.len());
    let mut at = 0;
    let mut gone: Vec<&Span<'_>> = spans.iter().filter(|span| names.contains(span.name)).collect();
    gone.sort_by_key(|span| span.start);
    for span in gone {
        // one that stands in another that is gone, too
        if span.start >= at {
            out.push_str(&source[at..span.start]);
            out.extend(span.body.matches('\n'));
            at = span.end;
        }
    }
    out.push_str(&source[at..]);
    out
}

/// Names that tags of some kinds bring into being.
fn bound<'a>(source: &'a str, words: &[&str]) -> Vec<&'a str> {
    let mut found = Vec::new();
    for tag in tags(source) {
        let Some((word, rest)) = tag.word().filter(|(word, _)| words.contains(word)) else { continue };
        let targets = match word {
            "for" => rest.split(" in ").next().unwrap_or_default(),
            // `with a = 1, b = 2`; names in the values do no harm but to hide what is missing there
            "with" => rest,
            "macro" => rest.split('(').next().unwrap_or_default(),
            _ => rest.split('=').next().unwrap_or_default(),
        };
        found.extend(targets.split(|c: char| !is_word(c)).filter(|name| !name.is_empty()));
    }
    found
}

/// A name in an expression, with what follows it by points.
struct Name<'a> {
    path: &'a str,
    called: bool,
    /// What stands in the tag before it and behind it.
    before: &'a str,
    after: &'a str,
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The names in a tag that may be data: not those of filters and tests, and nothing in quotes.
fn names<'a>(tag: &Tag<'a>) -> Vec<Name<'a>> {
    let text = tag.text;
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        if matches!(c, '"' | '\'') {
            at += super::check::quoted(&text[at..]);
            continue;
        }
        if !is_word(c) {
            at += c.len_utf8();
            continue;
        }
        let end = at + text[at..].find(|c| !is_word(c) && c != '.').unwrap_or(text.len() - at);
        let path = text[at..end].trim_end_matches('.');
        let before = text[..at].trim_end();
        let is_filter = before.ends_with('|') || before.ends_with(" is") || before.ends_with(" is not");
        if !is_filter && !before.ends_with('.') && !c.is_ascii_digit() {
            let after = &text[at + path.len()..];
            found.push(Name { path, called: after.starts_with('('), before, after });
        }
        at = end;
    }
    found
}

/// The paths of which a tag asks whether they are there.
fn guards(tag: &Tag<'_>) -> Vec<String> {
    let tests = tag.word().is_some_and(|(word, _)| matches!(word, "if" | "elif"));
    let guards = |name: &Name<'_>| {
        let after = name.after.trim_start();
        let filter = after.strip_prefix('|').map(str::trim_start).unwrap_or_default();
        let filter = filter.split(|c: char| !is_word(c)).next();
        tests
            || format!("{} ", name.before).contains(" if ")
            || after.starts_with("is ")
            || after.starts_with("or ")
            || matches!(filter, Some("default" | "d"))
    };
    names(tag).into_iter().filter(guards).map(|name| name.path.to_owned()).collect()
}
