//! Postfix's `smtp-sink`, which takes every mail, and `smtp-source`, which is as fast as a client can be.

use std::{
    net::{Ipv4Addr, TcpListener},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use devkit::process::Process;

/// Connections that may wait at the sink.
const BACKLOG: &str = "1000";
const START_LIMIT: Duration = Duration::from_secs(10);
const SOURCE_LIMIT: Duration = Duration::from_secs(600);

/// Where the two programs lie.
pub(super) struct Tools {
    sink: PathBuf,
    source: PathBuf,
}

impl Tools {
    /// Looks in PATH and where Debian puts them.
    pub(super) fn find() -> Result<Self> {
        Ok(Self { sink: find("smtp-sink")?, source: find("smtp-source")? })
    }

    /// The time in which smtp-source sends so many messages of so many bytes.
    pub(super) async fn source(&self, port: u16, sessions: u32, mails: u32, size: usize) -> Result<Duration> {
        let log = tempfile("source")?;
        let arguments = [
            "-d",
            "-s",
            &sessions.to_string(),
            "-m",
            &mails.to_string(),
            "-l",
            &size.to_string(),
            "-f",
            "shop@example.com",
            "-t",
            "customer@example.com",
            &format!("127.0.0.1:{port}"),
        ];
        let started = Instant::now();
        let mut process = Process::spawn(&self.source, &arguments, &log)?;
        let status = process.wait(SOURCE_LIMIT).await?;
        let took = started.elapsed();
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        let _ = std::fs::remove_file(&log);
        ensure!(status.success(), "smtp-source ended with {status}: {said}");
        Ok(took)
    }
}

/// A running smtp-sink; ends when dropped.
pub(super) struct Sink {
    _process: Process,
    port: u16,
    log: PathBuf,
}

impl Sink {
    pub(super) async fn start(tools: &Tools) -> Result<Self> {
        // smtp-sink wants a port by number; another program may take it in between, and then this fails
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        Self::start_on(tools, port).await
    }

    pub(super) async fn start_on(tools: &Tools, port: u16) -> Result<Self> {
        let log = tempfile("sink")?;
        let address = format!("127.0.0.1:{port}");
        // as root it wants another user to become
        let root = Path::new("/proc/self").metadata().is_ok_and(|own| own.uid() == 0);
        let user: &[&str] = if root { &["-u", "nobody"] } else { &[] };
        let mut process = Process::spawn(&tools.sink, &[user, &[address.as_str(), BACKLOG]].concat(), &log)?;
        let deadline = Instant::now() + START_LIMIT;
        while tokio::net::TcpStream::connect(&address).await.is_err() {
            let said = || std::fs::read_to_string(&log).unwrap_or_default();
            ensure!(process.exit_status()?.is_none(), "smtp-sink does not run: {}", said());
            ensure!(Instant::now() < deadline, "smtp-sink does not listen: {}", said());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(Self { _process: process, port, log })
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.log);
    }
}

fn tempfile(name: &str) -> Result<PathBuf> {
    let path = std::env::temp_dir().join(format!("postlane-bench-{}-{name}.log", std::process::id()));
    std::fs::write(&path, "").with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

fn find(name: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
        .with_context(|| format!("{name} is missing; it is part of Postfix: apt-get install postfix"))
}
