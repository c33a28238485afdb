//! Docker's command line: `docker`, or the program that `DOCKER` names.
//!
//! Owns the calls and a container that is removed when it is dropped.

use std::{
    ffi::OsString,
    process::{Command as Blocking, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::process::Command;

/// A container's health is looked at this often.
const POLL: Duration = Duration::from_millis(200);

fn program() -> OsString {
    std::env::var_os("DOCKER").unwrap_or_else(|| "docker".into())
}

/// Runs it and returns what it prints, without white space around it.
pub(super) async fn run<A: AsRef<str>>(arguments: &[A]) -> Result<String> {
    run_with(arguments, false).await
}

async fn run_with<A: AsRef<str>>(arguments: &[A], errors_too: bool) -> Result<String> {
    let arguments: Vec<&str> = arguments.iter().map(AsRef::as_ref).collect();
    let output = Command::new(program())
        // Docker 20.10 has it, but not as its default
        .env("DOCKER_BUILDKIT", "1")
        .args(&arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .with_context(|| format!("cannot run {}", program().display()))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "docker {} failed: {}", arguments.join(" "), errors.trim());
    let mut said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if errors_too {
        said.push_str(errors.trim());
    }
    Ok(said)
}

/// A container; removed when dropped.
pub(super) struct Container {
    id: String,
}

impl Container {
    /// Starts one with what the deployment files give it: no right, no second process, a root that cannot be written.
    pub(super) async fn start(image: &str, variables: &[(&str, String)]) -> Result<Self> {
        let mut arguments: Vec<String> = [
            "run",
            "--detach",
            "--network=host",
            "--read-only",
            "--cap-drop=ALL",
            "--security-opt=no-new-privileges",
            "--health-interval=1s",
        ]
        .map(str::to_owned)
        .into();
        arguments.extend(variables.iter().map(|(name, value)| format!("--env={name}={value}")));
        arguments.push(image.to_owned());
        Ok(Self { id: run(&arguments).await? })
    }

    /// The number under which this machine knows its first process.
    pub(super) async fn process_id(&self) -> Result<u32> {
        let id: u32 = self.inspect("{{.State.Pid}}").await?.parse()?;
        ensure!(id > 0, "the container has ended:\n{}", self.log().await?);
        Ok(id)
    }

    /// Waits until its own health check has said so.
    pub(super) async fn wait_until_healthy(&self, within: Duration) -> Result<()> {
        let deadline = Instant::now() + within;
        loop {
            let state = self.inspect("{{.State.Status}} {{.State.Health.Status}}").await?;
            if state == "running healthy" {
                return Ok(());
            }
            if !state.starts_with("running ") || Instant::now() >= deadline {
                let checks = self.inspect("{{json .State.Health.Log}}").await?;
                bail!("the container is {state:?}, not healthy: {checks}\n{}", self.log().await?);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Tells it to stop, kills it after `grace`; returns its exit status, which is 137 for one that was killed.
    pub(super) async fn stop(&self, grace: Duration) -> Result<i32> {
        run(&["stop", "--time", grace.as_secs().to_string().as_str(), self.id.as_str()]).await?;
        Ok(self.inspect("{{.State.ExitCode}}").await?.parse()?)
    }

    /// All that it has said.
    pub(super) async fn log(&self) -> Result<String> {
        run_with(&["logs", &self.id], true).await
    }

    async fn inspect(&self, format: &str) -> Result<String> {
        run(&["inspect", "--format", format, self.id.as_str()]).await
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = Blocking::new(program()).args(["rm", "--force", &self.id]).stdout(Stdio::null()).status();
    }
}
