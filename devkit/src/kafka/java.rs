//! A running class of Kafka, in a process or in a container.
//!
//! Owns how it is signalled and ended, so that the rest need not ask which of the two it is.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::runtime::{Runtime, path_text};
use crate::process::{Process, Signal};

/// A Java process that ends with the program that started it.
#[derive(Debug)]
pub(crate) struct Java {
    process: Process,
    container: Option<String>,
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
        Ok(Self { process, container: line.container })
    }

    /// Whether it has not ended yet.
    pub(crate) fn is_running(&mut self) -> Result<bool> {
        Ok(self.process.exit_status()?.is_none())
    }

    /// Sends a signal to the Java process; one that has ended is no error.
    pub(crate) fn signal(&mut self, signal: Signal) -> Result<()> {
        let Some(name) = &self.container else { return self.process.signal(signal) };
        if self.process.exit_status()?.is_some() {
            return Ok(());
        }
        let run = Command::new("docker")
            .args(["kill", "--signal", &signal.as_raw().to_string(), name])
            .stdin(Stdio::null())
            .output()
            .context("cannot run docker")?;
        if !run.status.success() && self.process.exit_status()?.is_none() {
            bail!("docker kill failed: {}", String::from_utf8_lossy(&run.stderr).trim());
        }
        Ok(())
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// When it still runs after `limit`.
    pub(crate) async fn wait(&mut self, limit: Duration) -> Result<()> {
        self.process.wait(limit).await.map(drop)
    }
}

impl Drop for Java {
    fn drop(&mut self) {
        // The process itself dies with `Process`; a container has to be told.
        if self.container.is_some() {
            let _ = self.signal(Signal::KILL);
        }
    }
}
