//! What operators are given beside the binary: alert rules, their pages in the runbook, the dashboard.
//!
//! `promtool` judges the queries; the rest is held against each other and against the names in the code.

mod alerts;
mod dashboard;
mod names;
mod recorded;
mod runbook;

use std::{
    fs,
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The alert rules, from the repository's root.
const RULES: &str = "deploy/prometheus/postlane.rules.yml";

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn read(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Files of a folder, in the order of their names.
fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(path(folder)).unwrap_or_else(|error| panic!("{folder}: {error}"));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|file| file.extension().is_some_and(|found| found == extension));
    files.sort();
    assert!(!files.is_empty(), "no file in {folder}");
    files
}

/// Runs promtool with this input and demands that it finds nothing.
fn promtool(arguments: &[&str], input: &str) {
    let child = Command::new("promtool")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            panic!(
                "there is no promtool: install Debian's package prometheus (apt-get install --no-install-recommends prometheus)"
            )
        }
        Err(error) => panic!("promtool: {error}"),
    };
    let mut stdin = child.stdin.take().expect("piped");
    // a promtool that fails before it has read everything says why
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().expect("its output");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "promtool {}: {}\n{said}", arguments.join(" "), output.status);
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}
