//! All templates with all that is wrong with them, for those who write them.
//!
//! The service takes [`Templates`], which are sound or not there at all. A [`Survey`] keeps what is sound beside what is
//! broken, and knows which file serves which template. What follows from it is for its users to say.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::Path,
};

use super::{
    Data, Origin, Part, Problem, Templates, Usage,
    error::LoadError,
    files::{self, Files},
    variables,
};

/// The templates of a folder and the built-in ones, sound and broken.
pub struct Survey {
    files: Files,
    templates: Templates,
    problems: Vec<Problem>,
}

impl Survey {
    /// Reads the built-in templates and over them those of a folder, whatever is wrong with them.
    pub fn load(dir: Option<&Path>) -> Self {
        let mut files = Files::built_in();
        let mut problems = Vec::new();
        if let Some(dir) = dir {
            files.overlay(dir, &mut problems);
        }
        let templates = Templates::build(&files, &mut problems);
        let problems = LoadError::new(problems).into_problems();
        Self { files, templates, problems }
    }

    /// The templates, to render those parts that are sound.
    pub fn templates(&self) -> &Templates {
        &self.templates
    }

    /// Names of all templates in alphabetical order, also of those that have no part that could be rendered.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.files.templates()
    }

    /// Whether there is a template of that name, sound or not.
    pub fn contains(&self, name: &str) -> bool {
        self.names().any(|known| known == name)
    }

    /// The parts that are there, also those that are broken.
    pub fn parts(&self, name: &str) -> Vec<Part> {
        Part::ALL.into_iter().filter(|part| self.files.sources().contains_key(&part.path(name))).collect()
    }

    /// Where the files of a template come from.
    pub fn origin(&self, name: &str) -> Origin {
        self.files.origin(name)
    }

    /// Whether a file, `folder/file`, comes from the folder and not with the program.
    pub fn is_own(&self, file: &str) -> bool {
        self.files.is_own(file)
    }

    /// The template's `sample.json` as it stands there.
    pub fn sample_text(&self, name: &str) -> Option<&str> {
        self.files.sample(name)
    }

    /// Name of the file that holds the template's sample data.
    pub fn sample_file(name: &str) -> String {
        files::sample_path(name)
    }

    /// What keeps `serve` from starting, by file and line.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The same for one template: in its folder and in the files that it extends, includes and imports.
    pub fn problems_of(&self, name: &str) -> impl Iterator<Item = &Problem> {
        let files = self.files_of(name);
        let own = format!("{name}/");
        self.problems.iter().filter(move |problem| {
            problem.file.starts_with(&own) || *problem.file == own[..own.len() - 1] || files.contains(&problem.file)
        })
    }

    /// Whether nothing keeps a part from being rendered, in its file and in those that it leads to.
    pub fn is_sound(&self, name: &str, part: Part) -> bool {
        let mut files = BTreeMap::new();
        variables::reach(&part.path(name), self.files.sources(), &BTreeSet::new(), &mut files);
        !self.problems.iter().any(|problem| files.contains_key(&problem.file))
    }

    /// What a template asks for, through layouts, includes and macros: each path once, by its first place.
    pub fn usages(&self, name: &str) -> Vec<Usage> {
        variables::usages(&self.templates.env, self.files.sources(), &self.roots(name))
    }

    /// The files that make up a template, with those that it extends, includes and imports.
    pub fn files_of(&self, name: &str) -> BTreeSet<String> {
        let mut found = BTreeMap::new();
        for root in self.roots(name) {
            variables::reach(&root, self.files.sources(), &BTreeSet::new(), &mut found);
        }
        found.into_keys().collect()
    }

    /// Paths of sample data that the template does not use, and the line of the sample in which each stands.
    pub fn unused(&self, name: &str) -> Vec<(String, Option<usize>)> {
        let (Some(sample), Some(text)) = (self.templates.sample(name), self.sample_text(name)) else {
            return Vec::new();
        };
        let paths = variables::unused(&self.usages(name), sample);
        paths
            .into_iter()
            .map(|path| (variables::line_of_key(text, &path), path))
            .map(|(line, path)| (path, line))
            .collect()
    }

    /// What the template asks for and the data does not have, by the shortest path that is missing.
    pub fn missing(&self, name: &str, data: &Data) -> Vec<Usage> {
        variables::missing(self.usages(name), data)
    }

    fn roots(&self, name: &str) -> Vec<String> {
        self.parts(name).into_iter().map(|part| part.path(name)).collect()
    }
}

impl fmt::Debug for Survey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Survey")
            .field("templates", &self.templates)
            .field("problems", &self.problems)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
