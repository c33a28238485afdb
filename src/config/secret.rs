//! Texts that are never shown, and where they come from.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use crate::file;

/// Longest file of a secret in bytes: tokens are the longest, and have a few thousand.
const MAX_FILE: usize = 64 * 1024;

/// A text that is never shown: no `Debug`, no `Display` of its content.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that sends it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Where a secret comes from: a file is read anew for each new connection, so that it can be replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// The value of a variable.
    Value(Secret),
    /// A file; one line break at its end does not belong to the secret.
    File {
        /// Name of the variable that names the file.
        variable: &'static str,
        /// The file.
        path: PathBuf,
    },
}

/// Why a secret cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be read.
    #[error("{variable}: cannot read {}", path.display())]
    Read {
        /// Name of the variable that names the file.
        variable: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file holds no secret, or one that cannot be sent.
    #[error("{variable}: {} is empty, or holds more than one line", path.display())]
    Content {
        /// Name of the variable that names the file.
        variable: &'static str,
        /// The file.
        path: PathBuf,
    },
}

impl SecretSource {
    /// The file, where it is one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Value(_) => None,
            Self::File { path, .. } => Some(path),
        }
    }

    /// The secret as it stands now. Waits for the file system, however long: for the start of the program.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, is no regular one or has more than 64 KiB, is empty, or holds line breaks or NUL
    /// before its end.
    pub fn read(&self) -> Result<Secret, SecretError> {
        match self {
            Self::Value(secret) => Ok(secret.clone()),
            Self::File { variable, path } => secret(variable, path, file::read(path, MAX_FILE)),
        }
    }

    /// The same while the service runs: a file system that hangs holds nobody up for longer than a few seconds.
    ///
    /// # Errors
    ///
    /// Those of [`Self::read`], and where no answer comes in time.
    pub async fn load(&self) -> Result<Secret, SecretError> {
        match self {
            Self::Value(secret) => Ok(secret.clone()),
            Self::File { variable, path } => {
                let own = path.clone();
                let content = file::apart(path, move || file::read(&own, MAX_FILE)).await.and_then(|content| content);
                secret(variable, path, content)
            }
        }
    }
}

fn secret(variable: &'static str, path: &Path, content: io::Result<Vec<u8>>) -> Result<Secret, SecretError> {
    let text = content.and_then(|content| {
        String::from_utf8(content).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"))
    });
    let text = text.map_err(|source| SecretError::Read { variable, path: path.to_owned(), source })?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() || text.contains(['\0', '\r', '\n']) {
        return Err(SecretError::Content { variable, path: path.to_owned() });
    }
    Ok(Secret::new(text))
}
