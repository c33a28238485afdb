//! `postlane serve` as a child process, and what it says.
//!
//! Owns the process, its environment and its log. Knows the program only from outside: variables, signals, exit
//! status, lines.

use std::{
    collections::BTreeMap,
    fmt::Display,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitStatus,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::process::{Process, Signal};

/// The log is looked at this often.
const POLL: Duration = Duration::from_millis(20);

/// The lanes' topics, the dead letters' and the group of one test.
#[derive(Debug, Clone)]
pub struct Names {
    /// Topic of the high lane.
    pub high: String,
    /// Topic of the normal lane.
    pub normal: String,
    /// Topic of the low lane.
    pub low: String,
    /// Topic of the dead letters.
    pub dead_letters: String,
    /// Consumer group.
    pub group: String,
}

impl Names {
    /// Names that no other test has.
    #[must_use]
    pub fn unique() -> Self {
        let base = crate::kafka::unique("mail");
        Self {
            high: format!("{base}-high"),
            low: format!("{base}-low"),
            dead_letters: format!("{base}-dlq"),
            group: format!("{base}-group"),
            normal: base,
        }
    }

    /// The lanes' topics, high to low.
    #[must_use]
    pub fn lanes(&self) -> [&str; 3] {
        [&self.high, &self.normal, &self.low]
    }
}

/// How a service is started.
#[derive(Debug, Clone)]
pub struct Builder {
    program: PathBuf,
    variables: BTreeMap<String, String>,
    log: Option<PathBuf>,
}

impl Builder {
    /// The program at this path with an empty environment, but for a log of JSON lines and HTTP on a free port.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        let variables = [("LOG_FORMAT", "json"), ("HTTP_ADDR", "127.0.0.1:0")];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        Self { program: program.into(), variables, log: None }
    }

    /// Sets a variable.
    #[must_use]
    pub fn set(mut self, name: &str, value: impl Display) -> Self {
        self.variables.insert(name.to_owned(), value.to_string());
        self
    }

    /// Appends the log to this file, which stays; by default it goes with the service.
    #[must_use]
    pub fn log_to(mut self, file: impl Into<PathBuf>) -> Self {
        self.log = Some(file.into());
        self
    }

    /// Sets topics and group.
    #[must_use]
    pub fn names(self, names: &Names) -> Self {
        self.set("KAFKA_TOPIC_HIGH", &names.high)
            .set("KAFKA_TOPIC_NORMAL", &names.normal)
            .set("KAFKA_TOPIC_LOW", &names.low)
            .set("KAFKA_DLQ_TOPIC", &names.dead_letters)
            .set("KAFKA_GROUP_ID", &names.group)
    }

    /// The program with these arguments and the variables that were set, and no others.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> std::process::Command {
        let mut command = std::process::Command::new(&self.program);
        command.args(arguments).env_clear().envs(&self.variables).stdin(std::process::Stdio::null());
        command
    }

    /// Starts `serve`.
    ///
    /// # Errors
    /// When the process cannot be started.
    pub fn start(&self) -> Result<Service> {
        let folder = TempDir::with_prefix("postlane-service-")?;
        let log = self.log.clone().unwrap_or_else(|| folder.path().join("log"));
        let mut arguments = vec!["-i".to_owned()];
        arguments.extend(self.variables.iter().map(|(name, value)| format!("{name}={value}")));
        arguments.push(self.program.to_str().context("the program's path is not UTF-8")?.to_owned());
        arguments.push("serve".to_owned());
        let process = Process::spawn("/usr/bin/env", &arguments, &log)?;
        Ok(Service { process, log, _folder: folder })
    }
}

/// A running service; killed when dropped.
#[derive(Debug)]
pub struct Service {
    process: Process,
    log: PathBuf,
    _folder: TempDir,
}

impl Service {
    /// All that it has said so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Where its log stands.
    #[must_use]
    pub fn log_file(&self) -> &Path {
        &self.log
    }

    /// The lines of the log that hold all of these parts.
    #[must_use]
    pub fn lines_with(&self, parts: &[&str]) -> Vec<String> {
        self.log().lines().filter(|line| parts.iter().all(|part| line.contains(part))).map(str::to_owned).collect()
    }

    /// Waits until some line of the log holds all of these parts.
    ///
    /// # Errors
    /// When none does within this time, or the process has ended without it.
    pub async fn wait_for_line(&mut self, parts: &[&str], within: Duration) -> Result<String> {
        let deadline = Instant::now() + within;
        loop {
            let ended = self.process.exit_status()?;
            if let Some(line) = self.lines_with(parts).into_iter().next() {
                return Ok(line);
            }
            if let Some(status) = ended {
                bail!("the service ended with {status} before it said {parts:?}:\n{}", self.tail());
            }
            if Instant::now() >= deadline {
                bail!("the service has not said {parts:?} within {within:?}:\n{}", self.tail());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// How the process ended, or `None` while it runs.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn exit_status(&mut self) -> Result<Option<ExitStatus>> {
        self.process.exit_status()
    }

    /// Waits until it listens for HTTP, and tells where: a line of its log says so.
    ///
    /// # Errors
    /// When it does not say so within this time: HTTP is off, or the log leaves the line out.
    pub async fn http_address(&mut self, within: Duration) -> Result<SocketAddr> {
        let line = self.wait_for_line(&["\"message\":\"listening\""], within).await?;
        let address = line.split("\"address\":\"").nth(1).and_then(|rest| rest.split('"').next());
        address.and_then(|text| text.parse().ok()).with_context(|| format!("no address in {line}"))
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// When it still runs after `within`.
    pub async fn wait(&mut self, within: Duration) -> Result<ExitStatus> {
        self.process.wait(within).await.with_context(|| self.tail())
    }

    /// SIGTERM, and then its end.
    ///
    /// # Errors
    /// When it still runs after `within`.
    pub async fn terminate(&mut self, within: Duration) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.wait(within).await
    }

    /// SIGKILL, and then its end.
    ///
    /// # Errors
    /// When the system refuses.
    pub async fn kill(&mut self) -> Result<()> {
        self.signal(Signal::KILL)?;
        self.wait(Duration::from_secs(10)).await.map(drop)
    }

    /// The log's last lines, for an error.
    #[must_use]
    pub fn tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(25)..].join("\n")
    }
}
