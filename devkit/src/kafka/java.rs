//! A running class of Kafka, in a process or in a container.
//!
//! Owns how it is signalled and ended, so that the rest need not ask which of the two it is.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::runtime::{Runtime, path_text};
use crate::process::{Process, Signal};

/// How long the end of a container is waited for where nobody can be told of its failure.
const CONTAINER_LIMIT: Duration = Duration::from_secs(10);

/// A Java process that ends with the program that started it.
#[derive(Debug)]
pub(crate) struct Java {
    process: Process,
    container: Option<String>,
    paused: bool,
}

impl Java {
    /// Starts `class`, its output appended to the file `log`; a container sees `folder` under the same path. When the program
    /// is gone, the watcher removes `folder` too, because no destructor does.
    pub(crate) fn spawn(
        runtime: &Runtime,
        jvm: &[&str],
        class: &str,
        arguments: &[&str],
        log: &Path,
        folder: Option<&Path>,
    ) -> Result<Self> {
        let line = runtime.command_line(jvm, class, arguments, folder);
        let mut when_orphaned = match &line.container {
            None => "kill -9 $$".to_owned(),
            Some(name) => format!("docker kill {name}; kill -9 $$"),
        };
        if let Some(folder) = folder {
            // A second time for what a dying process has still written.
            let quoted = format!("'{}'", path_text(folder)?.replace('\'', r"'\''"));
            when_orphaned = format!("{when_orphaned}; rm -rf {quoted}; sleep 1; rm -rf {quoted}");
        }
        let process = Process::spawn_with_watcher(&line.program, &line.arguments, log, &when_orphaned)?;
        Ok(Self { process, container: line.container, paused: false })
    }

    /// Whether it has not ended yet.
    pub(crate) fn is_running(&mut self) -> Result<bool> {
        Ok(self.process.exit_status()?.is_none())
    }

    /// Asks it to end in order (SIGTERM), woken up where it was paused.
    pub(crate) fn terminate(&mut self) -> Result<()> {
        self.resume()?;
        match &self.container {
            None => self.process.signal(Signal::TERM),
            Some(name) => docker(&mut self.process, &["kill", "--signal", "TERM", name]),
        }
    }

    /// Kills it (SIGKILL).
    pub(crate) fn kill(&mut self) -> Result<()> {
        match &self.container {
            None => self.process.signal(Signal::KILL),
            Some(name) => docker(&mut self.process, &["kill", name]),
        }
    }

    /// Freezes it (SIGSTOP) and returns when none of its threads runs any more.
    pub(crate) async fn pause(&mut self) -> Result<()> {
        match &self.container {
            None => self.process.pause().await?,
            Some(name) => docker(&mut self.process, &["pause", name])?,
        }
        self.paused = true;
        Ok(())
    }

    /// Lets it go on where it was paused.
    pub(crate) fn resume(&mut self) -> Result<()> {
        if !std::mem::take(&mut self.paused) {
            return Ok(());
        }
        match &self.container {
            None => self.process.signal(Signal::CONT),
            Some(name) => docker(&mut self.process, &["unpause", name]),
        }
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// When it still runs after `limit`.
    pub(crate) async fn wait(&mut self, limit: Duration) -> Result<()> {
        self.process.wait(limit).await.map(drop)
    }
}

/// A container is told through Docker; one that has ended is no error.
fn docker(process: &mut Process, arguments: &[&str]) -> Result<()> {
    if process.exit_status()?.is_some() {
        return Ok(());
    }
    let run = Command::new("docker").args(arguments).stdin(Stdio::null()).output().context("cannot run docker")?;
    if !run.status.success() && process.exit_status()?.is_none() {
        bail!("docker {} failed: {}", arguments.join(" "), String::from_utf8_lossy(&run.stderr).trim());
    }
    Ok(())
}

impl Drop for Java {
    fn drop(&mut self) {
        // The process itself dies with `Process`; a container has to be told, and its data is not to be removed before.
        if self.container.is_some() && self.kill().is_ok() {
            let deadline = Instant::now() + CONTAINER_LIMIT;
            while self.is_running().unwrap_or(false) && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}
