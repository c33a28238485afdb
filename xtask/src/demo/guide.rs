//! What a person may try while the demo keeps running: the commands, and the file that sets their variables.
//!
//! Owns the texts and the small scripts around Kafka's tools. All commands are meant for the folder of this repository.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use devkit::{kafka::Cluster, service::Names};

use super::{Folder, events};
use crate::progress::Progress;

/// Kafka's tools under the names that they have in its own distribution, and their classes.
const TOOLS: [(&str, &str); 4] = [
    ("kafka-topics.sh", "org.apache.kafka.tools.TopicCommand"),
    ("kafka-consumer-groups.sh", super::GROUP_TOOL),
    ("kafka-console-producer.sh", "org.apache.kafka.tools.ConsoleProducer"),
    ("kafka-console-consumer.sh", "org.apache.kafka.tools.consumer.ConsoleConsumer"),
];

/// Headings, and commands that are indented.
const GUIDE: &str = include_str!("guide.txt");

/// The variables of whoever wants to talk to what is running, and where the programs are.
pub(super) struct Surroundings {
    pub(super) variables: Vec<(&'static str, String)>,
    pub(super) program: PathBuf,
}

impl Surroundings {
    /// Writes `env` for a shell to read, and scripts for Kafka's tools to `bin`.
    ///
    /// # Errors
    /// When a file cannot be written, or there is no Java for the tools.
    pub(super) async fn write(&self, folder: &Folder, cluster: &Cluster) -> Result<()> {
        let tools = folder.path.join("bin");
        fs::create_dir_all(&tools).with_context(|| format!("cannot make {}", tools.display()))?;
        for (name, class) in TOOLS {
            let script = cluster.tool_script(class).await?;
            let file = tools.join(name);
            fs::write(&file, script).with_context(|| format!("cannot write {}", file.display()))?;
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;
        }
        let programs = self.program.parent().unwrap_or(Path::new("."));
        let mut lines = vec!["# For a shell: . this file".to_owned()];
        for (name, value) in &self.variables {
            lines.push(format!("export {name}={}", quoted(value)));
        }
        let paths = [programs, &tools].map(|path| quoted(&path.display().to_string())).join(":");
        lines.push(format!("export PATH={paths}:\"$PATH\"\n"));
        fs::write(folder.path.join("env"), lines.join("\n")).context("cannot write the file of variables")
    }
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Prints what can be done now.
pub(super) fn print(progress: &Progress, folder: &Folder, names: &Names) {
    progress.heading("Everything runs until Ctrl-C. In another terminal, in this folder, first:");
    progress.line("");
    progress.line(format_args!("  . {}", folder.shown("env")));
    for line in GUIDE.lines() {
        let line = filled(line, folder, names);
        if line.is_empty() || line.starts_with(' ') { progress.line(line) } else { progress.heading(line) }
    }
    progress.line("");
    progress.line(format_args!(
        "The mail server refuses {} for good and defers the first mail to {}. Mails are kept in\n\
         {} and listed in {}; open that in a browser.",
        events::UNKNOWN,
        events::GREYLISTED,
        folder.shown("mails"),
        folder.shown("index.html"),
    ));
    progress.heading("What happens");
}

/// A line of the guide with the names of this demo.
fn filled(line: &str, folder: &Folder, names: &Names) -> String {
    let folder = folder.shown.display().to_string();
    line.replace("FOLDER", &folder).replace("DEAD_LETTERS", &names.dead_letters).replace("GROUP", &names.group)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_back_what_was_quoted() {
        let word = "it's $HOME \"quoted\" \\ `x`";
        let output = std::process::Command::new("sh").args(["-c", &format!("printf %s {}", quoted(word))]).output();
        assert_eq!(String::from_utf8_lossy(&output.expect("a shell").stdout), word);
    }

    #[test]
    fn the_files_that_the_commands_name_are_there() {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository");
        let named: Vec<&str> = GUIDE
            .split_whitespace()
            .filter(|word| word.starts_with("examples/") || word.starts_with("templates/"))
            .collect();
        assert!(named.len() > 5, "{named:?}");
        for file in named {
            assert!(repository.join(file).exists(), "{file}");
        }
    }
}
