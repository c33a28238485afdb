//! Texts of variables to values, and all that is wrong with them at once.

use std::{fmt, path::PathBuf, time::Duration};

use super::{Secret, SecretError, SecretSource, values};

/// Longest duration of a setting, 30 days.
const MAX_DURATION: Duration = Duration::from_secs(30 * 24 * 3600);

/// One wrong or missing variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Name of the variable.
    pub variable: String,
    /// What it held; never a secret.
    pub held: Option<String>,
    /// What was expected.
    pub expected: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.held {
            Some(held) => write!(f, "{}={held:?}: expected {}", self.variable, self.expected),
            None => write!(f, "{} is not set: expected {}", self.variable, self.expected),
        }
    }
}

/// All that is wrong with the environment, one line for each variable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError(pub Vec<Problem>);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(Problem::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

/// A value as it may be shown: without what stands before `@`, which could be a password, and without a query.
pub(crate) fn shown(value: &str) -> String {
    let (user, rest) = value.rsplit_once('@').map_or((None, value), |(user, rest)| (Some(user), rest));
    let scheme = user.and_then(|user| user.find("://").map(|at| &user[..at + 3])).unwrap_or_default();
    match (user, rest.split_once('?')) {
        // an @ within a query, or a ? within a password
        (Some(user), _) if user.contains('?') => format!("{scheme}***"),
        (Some(_), Some((rest, _))) => format!("{scheme}***@{rest}?***"),
        (Some(_), None) => format!("{scheme}***@{rest}"),
        (None, Some((rest, _))) => format!("{rest}?***"),
        (None, None) => value.to_owned(),
    }
}

/// Collects what is wrong while values are read.
#[derive(Default)]
pub(super) struct Reader {
    pub(super) problems: Vec<Problem>,
}

impl Reader {
    pub(super) fn problem(&mut self, variable: &str, held: Option<&str>, expected: impl Into<String>) {
        self.problems.push(Problem { variable: variable.to_owned(), held: held.map(shown), expected: expected.into() });
    }

    /// The parsed text; the default where it is absent or wrong (and then noted).
    pub(super) fn value<T>(
        &mut self,
        variable: &str,
        text: Option<&String>,
        default: T,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> T {
        self.optional(variable, text, expected, parse).unwrap_or(default)
    }

    pub(super) fn optional<T>(
        &mut self,
        variable: &str,
        text: Option<&String>,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let text = text.map(|text| text.trim()).filter(|text| !text.is_empty())?;
        let parsed = parse(text);
        if parsed.is_none() {
            self.problem(variable, Some(text), expected);
        }
        parsed
    }

    pub(super) fn duration(&mut self, variable: &str, text: Option<&String>, default: Duration) -> Duration {
        let expected = "a duration such as 250ms, 30s or 5m, above zero and at most 720h";
        self.value(variable, text, default, expected, |text| {
            values::duration(text).filter(|duration| !duration.is_zero() && *duration <= MAX_DURATION)
        })
    }

    pub(super) fn number(
        &mut self,
        variable: &str,
        text: Option<&String>,
        default: usize,
        least: usize,
        most: usize,
    ) -> usize {
        self.value(variable, text, default, &format!("a whole number from {least} to {most}"), |text| {
            text.parse().ok().filter(|number| (least..=most).contains(number))
        })
    }

    pub(super) fn size(
        &mut self,
        variable: &str,
        text: Option<&String>,
        default: usize,
        least: usize,
        most: usize,
    ) -> usize {
        let expected =
            format!("a size such as 64KiB or 10MB, {} to {}", values::size_text(least), values::size_text(most));
        self.value(variable, text, default, &expected, |text| {
            values::size(text).filter(|size| (least..=most).contains(size))
        })
    }

    /// A secret: the value itself, or a file that holds it; the file is read here to see that it can be.
    pub(super) fn secret(
        &mut self,
        (name, text): (&'static str, Option<&String>),
        (file_name, file): (&'static str, Option<&String>),
    ) -> Option<SecretSource> {
        let set = |text: Option<&String>| text.filter(|text| !text.is_empty()).cloned();
        match (set(text), set(file)) {
            (Some(_), Some(file)) => {
                self.problem(file_name, Some(&file), format!("no value beside {name}"));
                None
            }
            (Some(text), None) if text.contains(['\0', '\r', '\n']) => {
                self.problem(name, Some("***"), "a text without line breaks and NUL");
                None
            }
            (Some(text), None) => Some(SecretSource::Value(Secret::new(text))),
            (None, Some(file)) => {
                let source = SecretSource::File { variable: file_name, path: PathBuf::from(&file) };
                if let Err(error) = source.read() {
                    let expected = match error {
                        SecretError::Read { source, .. } => format!("a file that can be read ({source})"),
                        SecretError::Content { .. } => "a file with one line, the secret".to_owned(),
                    };
                    self.problem(file_name, Some(&file), expected);
                }
                Some(source)
            }
            (None, None) => None,
        }
    }

    /// One setting under two names: the newer one first; both at once must agree.
    pub(super) fn either<'a>(
        &mut self,
        (name, text): (&'static str, Option<&'a String>),
        (older_name, older): (&'static str, Option<&'a String>),
    ) -> (&'static str, Option<&'a String>) {
        let set = |text: Option<&'a String>| text.filter(|text| !text.trim().is_empty());
        match (set(text), set(older)) {
            (Some(newer), Some(older)) if newer.trim() != older.trim() => {
                self.problem(older_name, Some(older), format!("no value beside {name}, or the same one"));
                (name, Some(newer))
            }
            (Some(newer), _) => (name, Some(newer)),
            (None, Some(older)) => (older_name, Some(older)),
            (None, None) => (name, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_user_nor_query_is_shown() {
        for (value, expected) in [
            ("https://idp.example.com/token", "https://idp.example.com/token"),
            ("https://client:hunter2@idp.example.com/token", "https://***@idp.example.com/token"),
            ("https://client:hun@ter2/@idp.example.com", "https://***@idp.example.com"),
            ("https://idp.example.com/?code=hunter2", "https://idp.example.com/?***"),
            ("https://idp.example.com/?code=hunter2@x", "https://***"),
            ("https://client:hun?ter2@idp.example.com/", "https://***"),
            ("https://me@idp.example.com/?code=hunter2", "https://***@idp.example.com/?***"),
            ("a:9092,u:hunter2@b:9092", "***@b:9092"),
            ("kafka:9092", "kafka:9092"),
        ] {
            assert_eq!(shown(value), expected);
        }
    }
}
