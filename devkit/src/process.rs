//! Child processes that never outlive the program that started them.
//!
//! Owns spawning, signals and the lifeline; knows nothing of what the processes are. Destructors do not run for statics nor
//! when the program is killed, so every child is tied to a pipe that the kernel closes in any case: a small shell watches
//! its reading end and kills the child when it closes.

use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, WaitId, WaitIdOptions, kill_process, waitid};

pub use rustix::process::Signal;

/// Runs the watcher in the background, then becomes the child itself, so that the child has the shell's process id (`$$`).
/// The watcher ends without doing anything when it reads a line, and runs `$0` when the pipe closes.
const WATCH_AND_BECOME: &str = r#"exec 3<&0
( IFS= read -r line <&3 || eval "$0" ) >/dev/null 2>&1 &
exec "$@" 3<&- </dev/null"#;

/// Waiting for a process to end looks at it this often.
const POLL: Duration = Duration::from_millis(20);
const PAUSE_LIMIT: Duration = Duration::from_secs(10);

/// A child process in a process group of its own, killed when this is dropped or when the program ends in any way.
#[derive(Debug)]
pub struct Process {
    child: Child,
    lifeline: Option<ChildStdin>,
    pid: Pid,
}

impl Process {
    /// Starts `program` with `arguments`, its standard output and error appended to the file `log`.
    ///
    /// # Errors
    /// When the log cannot be opened or the process not be started.
    pub fn spawn<A: AsRef<OsStr>>(program: impl AsRef<OsStr>, arguments: &[A], log: &Path) -> Result<Self> {
        Self::spawn_with_watcher(program, arguments, log, "kill -9 $$")
    }

    /// The same, with the shell command that the watcher runs if the program is gone: for a child that stands for a process
    /// elsewhere, as `docker run` does.
    ///
    /// # Errors
    /// When the log cannot be opened or the process not be started.
    pub fn spawn_with_watcher<A: AsRef<OsStr>>(
        program: impl AsRef<OsStr>,
        arguments: &[A],
        log: &Path,
        when_orphaned: &str,
    ) -> Result<Self> {
        let output = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("cannot open {}", log.display()))?;
        let name = program.as_ref().to_owned();
        let mut child = Command::new("/bin/sh")
            .arg("-c")
            .arg(WATCH_AND_BECOME)
            .arg(when_orphaned)
            .arg(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {}", OsString::from(&name).display()))?;
        let lifeline = child.stdin.take();
        let pid = Pid::from_child(&child);
        Ok(Self { child, lifeline, pid })
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How the process ended, or `None` while it runs.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn exit_status(&mut self) -> Result<Option<ExitStatus>> {
        let status = self.child.try_wait().context("cannot ask for the state of a child process")?;
        if status.is_some() {
            self.disarm();
        }
        Ok(status)
    }

    /// Sends a signal; a process that has ended is no error.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        if self.exit_status()?.is_some() {
            return Ok(());
        }
        kill_process(self.pid, signal).with_context(|| format!("cannot signal process {}", self.id()))
    }

    /// Stops the process (SIGSTOP) and returns when none of its threads runs any more.
    ///
    /// # Errors
    /// When it has ended, or cannot be stopped within ten seconds.
    pub async fn pause(&mut self) -> Result<()> {
        self.signal(Signal::STOP)?;
        let deadline = Instant::now() + PAUSE_LIMIT;
        let stopped = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG;
        loop {
            match waitid(WaitId::Pid(self.pid), stopped).context("cannot ask for the state of a child process")? {
                Some(_) => return Ok(()),
                None if self.exit_status()?.is_some() => bail!("process {} has ended", self.id()),
                None if Instant::now() >= deadline => bail!("process {} does not stop", self.id()),
                None => tokio::time::sleep(POLL).await,
            }
        }
    }

    /// Waits until the process has ended.
    ///
    /// # Errors
    /// When it still runs after `limit`.
    pub async fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.exit_status()? {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                bail!("process {} still runs after {limit:?}", self.id());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Tells the watcher that the process is gone: its id may belong to another one from now on.
    fn disarm(&mut self) {
        if let Some(mut lifeline) = self.lifeline.take() {
            let _ = lifeline.write_all(b"gone\n");
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.signal(Signal::KILL).is_ok() && self.child.wait().is_ok() {
            self.disarm();
        }
    }
}
