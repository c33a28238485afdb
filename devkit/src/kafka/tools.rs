//! Kafka's own command-line tools, run against a cluster.
//!
//! Owns starting a tool and taking its output. Where only a foreign cluster is at hand the jars are fetched when a tool is
//! first asked for.

use std::ffi::OsString;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::process::Command;
use tokio::time::timeout;

use super::cluster::Cluster;
use super::runtime::Runtime;

const TOOL_LIMIT: Duration = Duration::from_secs(120);
/// A tool lives for a second or two: no time for the second compiler.
pub(crate) const TOOL_JVM: [&str; 5] = [
    "-Xmx256m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:-UsePerfData",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
];

/// For a tool that works for long: with both compilers.
const LONG_TOOL_JVM: [&str; 2] = ["-Xmx256m", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"];

/// What a tool has written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Its standard output.
    pub stdout: String,
    /// Its standard error: the log, from warnings on.
    pub stderr: String,
}

impl Cluster {
    /// Runs one of Kafka's tools by its class name, such as `org.apache.kafka.tools.TopicCommand`, with
    /// `--bootstrap-server` set to this cluster.
    ///
    /// # Errors
    /// When there is no Java to run it, when it fails (with what it wrote), or when it runs for more than two minutes.
    pub async fn tool(&self, class: &str, arguments: &[&str]) -> Result<Output> {
        let mut all = vec!["--bootstrap-server", self.bootstrap()];
        all.extend(arguments);
        self.tool_with(class, &all).await
    }

    /// The same for a tool that is told the brokers in another way: with these arguments alone.
    ///
    /// # Errors
    /// As [`tool`](Self::tool).
    pub async fn tool_with(&self, class: &str, arguments: &[&str]) -> Result<Output> {
        self.run_tool(&TOOL_JVM, class, arguments, Stdio::null()).await
    }

    /// The same with a file on its standard input, for a tool that works for long.
    ///
    /// # Errors
    /// As [`tool`](Self::tool), and when the file cannot be read.
    pub async fn feed(&self, class: &str, arguments: &[&str], input: &Path) -> Result<Output> {
        let mut all = vec!["--bootstrap-server", self.bootstrap()];
        all.extend(arguments);
        let input = std::fs::File::open(input).with_context(|| format!("cannot read {}", input.display()))?;
        self.run_tool(&LONG_TOOL_JVM, class, &all, input.into()).await
    }

    async fn run_tool(&self, jvm: &[&str], class: &str, arguments: &[&str], input: Stdio) -> Result<Output> {
        let line = Runtime::get().await?.command_line(jvm, class, arguments, None);
        let mut command = Command::new(&line.program);
        command.args(&line.arguments).stdin(input).kill_on_drop(true);
        let run = timeout(TOOL_LIMIT, command.output()).await;
        let run = run.with_context(|| format!("{class} runs for more than {TOOL_LIMIT:?}"))?;
        let run = run.with_context(|| format!("cannot run {}", line.program.display()))?;
        let output = Output {
            stdout: String::from_utf8_lossy(&run.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&run.stderr).into_owned(),
        };
        if !run.status.success() {
            bail!("{class} failed ({}):\n{}{}", run.status, output.stdout, output.stderr);
        }
        Ok(output)
    }

    /// A shell script that runs such a tool, `--bootstrap-server` set, with the arguments that the script gets.
    ///
    /// # Errors
    /// When there is no Java to run it.
    pub async fn tool_script(&self, class: &str) -> Result<String> {
        let bootstrap = ["--bootstrap-server", self.bootstrap()];
        let line = Runtime::get().await?.command_line(&TOOL_JVM, class, &bootstrap, None);
        let words = std::iter::once(line.program.as_os_str()).chain(line.arguments.iter().map(OsString::as_os_str));
        let words: Vec<String> =
            words.map(|word| format!("'{}'", word.to_string_lossy().replace('\'', r"'\''"))).collect();
        Ok(format!("#!/bin/sh\nexec {} \"$@\"\n", words.join(" ")))
    }
}
