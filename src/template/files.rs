//! Where the sources come from: the built-in files and a folder over them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
};

use super::{Data, error::Problem};
use crate::event::{LAYOUTS, is_template_folder};

/// Largest file of `TEMPLATES_DIR` in bytes.
const MAX_FILE_SIZE: u64 = 1024 * 1024;

const SAMPLE: &str = "sample.json";

macro_rules! built_in {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/templates/", $name)))),*]
    };
}

/// Every file below `templates/`; a test compares the list with the folder.
const BUILT_IN: &[(&str, &str)] = built_in![
    "layouts/base.html.j2",
    "layouts/base.txt.j2",
    "layouts/elements.html.j2",
    "order-confirmation/html.html.j2",
    "order-confirmation/sample.json",
    "order-confirmation/subject.txt.j2",
    "order-confirmation/text.txt.j2",
    "password-reset/html.html.j2",
    "password-reset/sample.json",
    "password-reset/subject.txt.j2",
    "password-reset/text.txt.j2",
    "plain/html.html.j2",
    "plain/sample.json",
    "plain/text.txt.j2",
    "welcome/html.html.j2",
    "welcome/sample.json",
    "welcome/subject.txt.j2",
    "welcome/text.txt.j2",
];

/// A part of a mail, each from a file of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// `subject.txt.j2`
    Subject,
    /// `text.txt.j2`
    Text,
    /// `html.html.j2`
    Html,
}

impl Part {
    /// Every part there can be.
    pub const ALL: [Self; 3] = [Self::Subject, Self::Text, Self::Html];

    /// `subject`, `text` or `html`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Subject => "subject",
            Self::Text => "text",
            Self::Html => "html",
        }
    }

    fn file(self) -> &'static str {
        match self {
            Self::Subject => "subject.txt.j2",
            Self::Text => "text.txt.j2",
            Self::Html => "html.html.j2",
        }
    }

    /// Name of the part's source: `password-reset/html.html.j2`.
    pub fn path(self, template: &str) -> String {
        format!("{template}/{}", self.file())
    }
}

/// Where the files of a template come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// All with the program.
    BuiltIn,
    /// All from `TEMPLATES_DIR`.
    Folder,
    /// Some from `TEMPLATES_DIR`, in the place of built-in ones or beside them.
    Overridden,
}

impl Origin {
    /// `built-in`, `folder` or `overridden`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BuiltIn => "built-in",
            Self::Folder => "folder",
            Self::Overridden => "overridden",
        }
    }
}

/// Sources by name, `folder/file`, with `/` on every system.
pub(super) struct Files {
    sources: BTreeMap<String, String>,
    samples: BTreeMap<String, String>,
    /// Folders that were seen, also those in which no part was found.
    templates: BTreeSet<String>,
    /// Files that were read from a folder, blank ones included.
    own: BTreeSet<String>,
}

impl Files {
    pub(super) fn built_in() -> Self {
        let mut files = Self {
            sources: BTreeMap::new(),
            samples: BTreeMap::new(),
            templates: BTreeSet::new(),
            own: BTreeSet::new(),
        };
        for (name, source) in BUILT_IN {
            let (folder, file) = name.split_once('/').expect("every built-in file stands in a folder");
            files.insert(folder, file, (*source).to_owned());
        }
        files
    }

    /// Lays a folder over what is there: its files replace those of the same name, a blank one removes it.
    pub(super) fn overlay(&mut self, dir: &Path, problems: &mut Vec<Problem>) {
        let root = match dir.canonicalize() {
            Ok(root) => root,
            Err(error) => return problems.push(Problem::new(dir.display(), error)),
        };
        for folder in entries(&root, "", &root, problems) {
            if !root.join(&folder).is_dir() {
                if is_template_file(&folder) {
                    problems.push(Problem::new(&folder, "is in no template's folder"));
                }
                continue;
            }
            if !is_template_folder(&folder) {
                problems.push(Problem::new(
                    &folder,
                    "is not a template name: letters, digits, '-', '_' and '.', at most 64",
                ));
                continue;
            }
            if folder != LAYOUTS {
                self.templates.insert(folder.clone());
            }
            for file in entries(&root, &folder, &root.join(&folder), problems) {
                self.read(&root, &folder, &file, problems);
            }
        }
    }

    fn read(&mut self, root: &Path, folder: &str, file: &str, problems: &mut Vec<Problem>) {
        let name = format!("{folder}/{file}");
        let known = if folder == LAYOUTS {
            file.ends_with(".txt.j2") || file.ends_with(".html.j2")
        } else {
            file == SAMPLE || Part::ALL.iter().any(|part| part.file() == file)
        };
        if !known {
            if is_template_file(file) {
                let expected = if folder == LAYOUTS {
                    "is neither *.txt.j2 nor *.html.j2"
                } else {
                    "is none of subject.txt.j2, text.txt.j2, html.html.j2"
                };
                problems.push(Problem::new(name, expected));
            }
            return;
        }
        match read(&root.join(folder).join(file)) {
            Ok(source) => {
                self.own.insert(name);
                self.insert(folder, file, source);
            }
            Err(error) => problems.push(Problem::new(name, error)),
        }
    }

    fn insert(&mut self, folder: &str, file: &str, source: String) {
        if file == SAMPLE {
            self.samples.insert(folder.to_owned(), source);
            return;
        }
        if folder != LAYOUTS {
            self.templates.insert(folder.to_owned());
        }
        let name = format!("{folder}/{file}");
        if source.trim().is_empty() {
            self.sources.remove(&name);
        } else if file == Part::Subject.file() {
            self.sources.insert(name, one_line(&source));
        } else {
            self.sources.insert(name, source);
        }
    }

    /// The parts of each template.
    pub(super) fn parts(&self, problems: &mut Vec<Problem>) -> BTreeMap<String, BTreeSet<Part>> {
        let mut all = BTreeMap::new();
        for template in &self.templates {
            let parts: BTreeSet<Part> =
                Part::ALL.into_iter().filter(|part| self.sources.contains_key(&part.path(template))).collect();
            if parts.contains(&Part::Text) || parts.contains(&Part::Html) {
                all.insert(template.clone(), parts);
            } else {
                problems.push(Problem::new(template, "has neither text.txt.j2 nor html.html.j2"));
            }
        }
        all
    }

    /// The sample data of each template that has some.
    pub(super) fn samples(&self, problems: &mut Vec<Problem>) -> BTreeMap<String, Data> {
        let mut all = BTreeMap::new();
        for (template, text) in &self.samples {
            match serde_json::from_str(text) {
                Ok(data) => _ = all.insert(template.clone(), data),
                Err(error) => problems.push(Problem::json(&sample_path(template), &error)),
            }
        }
        all
    }

    /// The sources by name.
    pub(super) fn sources(&self) -> &BTreeMap<String, String> {
        &self.sources
    }

    /// The sample data of a template as it stands in its file.
    pub(super) fn sample(&self, template: &str) -> Option<&str> {
        self.samples.get(template).map(String::as_str)
    }

    /// Names of all templates, also of those without a part.
    pub(super) fn templates(&self) -> impl Iterator<Item = &str> {
        self.templates.iter().map(String::as_str)
    }

    /// Whether a file, `folder/file`, comes from the folder and not with the program.
    pub(super) fn is_own(&self, name: &str) -> bool {
        self.own.contains(name)
    }

    /// Where the files of a template come from.
    pub(super) fn origin(&self, template: &str) -> Origin {
        let of = |name: &str| name.split_once('/').is_some_and(|(folder, _)| folder == template);
        let built_in = BUILT_IN.iter().any(|(name, _)| of(name));
        match (built_in, self.own.iter().any(|name| of(name))) {
            (true, true) => Origin::Overridden,
            (true, false) => Origin::BuiltIn,
            (false, _) => Origin::Folder,
        }
    }
}

/// Name of a template's sample: `welcome/sample.json`.
pub(super) fn sample_path(template: &str) -> String {
    format!("{template}/{SAMPLE}")
}

/// Names in a folder, sorted, without hidden files; what leads out of `root` is a problem.
///
/// Symbolic links within `root` are followed: that is how Kubernetes mounts a `ConfigMap`.
fn entries(root: &Path, folder: &str, path: &Path, problems: &mut Vec<Problem>) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let list = match fs::read_dir(path).and_then(Iterator::collect::<io::Result<Vec<_>>>) {
        Ok(list) => list,
        Err(error) => {
            problems.push(Problem::new(path.display(), error));
            return names;
        }
    };
    for entry in list {
        let file_name = entry.file_name();
        let name = file_name.to_string_lossy();
        if name.starts_with('.') || name.ends_with('~') {
            continue;
        }
        let shown = if folder.is_empty() { name.to_string() } else { format!("{folder}/{name}") };
        match entry.path().canonicalize() {
            _ if file_name.to_str().is_none() => problems.push(Problem::new(shown, "has a name that is not UTF-8")),
            Ok(target) if target.starts_with(root) => _ = names.insert(name.into_owned()),
            Ok(_) => problems.push(Problem::new(shown, "leads out of the templates' folder")),
            Err(error) => problems.push(Problem::new(shown, error)),
        }
    }
    names
}

/// A subject's file as one line: its line ends are blanks. One from the data stays and is refused when the mail is
/// composed.
fn one_line(source: &str) -> String {
    source.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

fn read(path: &Path) -> io::Result<String> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::other("is not a regular file"));
    }
    if metadata.len() > MAX_FILE_SIZE {
        return Err(io::Error::other(format!("is larger than {MAX_FILE_SIZE} bytes")));
    }
    String::from_utf8(fs::read(path)?).map_err(|_| io::Error::other("is not UTF-8"))
}

fn is_template_file(name: &str) -> bool {
    let extension = Path::new(name).extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    ["j2", "jinja", "jinja2"].iter().any(|known| extension.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(dir: &Path, prefix: &str, names: &mut Vec<String>) {
        for entry in fs::read_dir(dir).expect("readable folder") {
            let entry = entry.expect("readable entry");
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if entry.path().is_dir() {
                walk(&entry.path(), &format!("{name}/"), names);
            } else {
                names.push(name);
            }
        }
    }

    #[test]
    fn the_list_names_every_file_of_the_folder() {
        let mut found = Vec::new();
        walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join("templates"), "", &mut found);
        found.sort();
        assert_eq!(found, BUILT_IN.iter().map(|(name, _)| (*name).to_owned()).collect::<Vec<_>>());
    }
}
