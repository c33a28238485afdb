//! One broker of a cluster: its settings, its start and its end.
//!
//! Owns the folder with the properties, the log and the data, and the process. Does not know the other brokers but by their
//! addresses.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::java::Java;
use super::runtime::{Runtime, path_text};
use super::wire::Connection;

/// A cold start on a busy machine takes less.
const START_LIMIT: Duration = Duration::from_secs(120);
/// An orderly stop that takes longer is cut short: the last brokers of a cluster wait in vain for a quorum.
const STOP_LIMIT: Duration = Duration::from_secs(15);
const LAST_ERRORS: usize = 20;
const LAST_LINES: usize = 10;
const POLL: Duration = Duration::from_millis(50);

const LOG: &str = "broker.log";
const PROPERTIES: &str = "server.properties";
/// Start fast and stay small.
const JVM: [&str; 8] = [
    "-Xms64m",
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:-UsePerfData",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=info",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
];

/// The two ports of a broker.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ports {
    pub(crate) clients: u16,
    pub(crate) controller: u16,
}

/// A broker that this process started.
#[derive(Debug)]
pub struct Node {
    id: i32,
    address: String,
    cluster_id: String,
    /// Lies in the folder of the cluster, which goes with it.
    folder: PathBuf,
    java: Mutex<Option<Java>>,
}

impl Node {
    /// Writes the settings and formats the storage, with these further arguments for the tool.
    pub(crate) async fn prepare(
        id: i32,
        ports: Ports,
        folder: PathBuf,
        cluster_id: &str,
        properties: &[(String, String)],
        more: &[String],
    ) -> Result<Self> {
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let file = folder.join(PROPERTIES);
        let mut text = String::new();
        for (name, value) in properties {
            // Backslashes escape in a properties file.
            let _ = writeln!(text, "{name}={}", value.replace('\\', "\\\\"));
        }
        let _ = writeln!(text, "log.dirs={}", folder.join("data").display());
        std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        let address = format!("127.0.0.1:{}", ports.clients);
        let node = Self { id, address, cluster_id: cluster_id.to_owned(), folder, java: Mutex::new(None) };
        let mut arguments = vec!["format", "-t", cluster_id, "-c", path_text(&file)?];
        arguments.extend(more.iter().map(String::as_str));
        let mut format = node.spawn("kafka.tools.StorageTool", &arguments).await?;
        format.wait(START_LIMIT).await?;
        if !node.folder.join("data/meta.properties").exists() {
            bail!("Kafka's storage tool failed:\n{}", node.complaint());
        }
        Ok(node)
    }

    /// The `node.id`, from 1.
    #[must_use]
    pub fn id(&self) -> i32 {
        self.id
    }

    /// `host:port` for clients; the same after a restart.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Whether its process runs, paused or not.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn is_running(&self) -> Result<bool> {
        self.lock().as_mut().map_or(Ok(false), Java::is_running)
    }

    /// Starts it on its ports and data and waits until it answers and knows itself to be in the cluster. Does nothing where
    /// it runs.
    ///
    /// # Errors
    /// When it ends instead or does not answer in time; the error has what its log says.
    pub async fn start(&self) -> Result<()> {
        self.launch().await?;
        self.until_ready(&[self.id], false).await
    }

    /// Stops it in order (SIGTERM) and waits until it is gone; after 15 s it is killed.
    ///
    /// # Errors
    /// When the process cannot be signalled.
    pub async fn stop(&self) -> Result<()> {
        let Some(mut java) = self.lock().take() else { return Ok(()) };
        java.terminate()?;
        if java.wait(STOP_LIMIT).await.is_err() {
            java.kill()?;
            java.wait(STOP_LIMIT).await?;
        }
        Ok(())
    }

    /// Kills it (SIGKILL), as a crash would, and waits until it is gone.
    ///
    /// # Errors
    /// When the process cannot be signalled.
    pub async fn kill(&self) -> Result<()> {
        let Some(mut java) = self.lock().take() else { return Ok(()) };
        java.kill()?;
        java.wait(STOP_LIMIT).await
    }

    /// Freezes it (SIGSTOP): connections stay open, and from the return on nothing answers.
    ///
    /// # Errors
    /// When it does not run or cannot be signalled.
    pub async fn pause(&self) -> Result<()> {
        let mut java = self.lock().take().context("the broker does not run")?;
        let paused = java.pause().await;
        *self.lock() = Some(java);
        paused
    }

    /// Lets it go on (SIGCONT).
    ///
    /// # Errors
    /// When it does not run or cannot be signalled.
    pub fn resume(&self) -> Result<()> {
        self.lock().as_mut().context("the broker does not run")?.resume()
    }

    /// Starts the process without waiting for an answer.
    pub(crate) async fn launch(&self) -> Result<()> {
        if self.is_running()? {
            return Ok(());
        }
        let file = self.folder.join(PROPERTIES);
        let java = self.spawn("kafka.Kafka", &[path_text(&file)?]).await?;
        *self.lock() = Some(java);
        Ok(())
    }

    /// Waits until the broker says that `brokers` are in the cluster and, if asked for, that no partition lacks a leader.
    pub(crate) async fn until_ready(&self, brokers: &[i32], leaders: bool) -> Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            if !self.is_running()? {
                bail!("broker {} ended at its start; from its log:\n{}", self.id, self.complaint());
            }
            match self.answers(brokers, leaders).await {
                Ok(true) => return Ok(()),
                Ok(false) | Err(_) if Instant::now() < deadline => tokio::time::sleep(POLL).await,
                Ok(false) => bail!("broker {} is not ready:\n{}", self.id, self.complaint()),
                Err(error) => {
                    return Err(error.context(format!("broker {} is not ready:\n{}", self.id, self.complaint())));
                }
            }
        }
    }

    async fn answers(&self, brokers: &[i32], leaders: bool) -> Result<bool> {
        let metadata = Connection::open(&self.address).await?.metadata(None).await?;
        // Another cluster's broker may have taken the port, while ours is about to fail.
        let ours = metadata.cluster_id.as_ref().is_some_and(|id| id.as_str() == self.cluster_id);
        let known = brokers.iter().all(|id| metadata.brokers.iter().any(|broker| broker.node_id.0 == *id));
        let mut partitions = metadata.topics.iter().flat_map(|topic| &topic.partitions);
        Ok(ours && known && (!leaders || partitions.all(|partition| partition.leader_id.0 >= 0)))
    }

    async fn spawn(&self, class: &str, arguments: &[&str]) -> Result<Java> {
        let log = self.folder.join(LOG);
        Java::spawn(Runtime::get().await?, &JVM, class, arguments, &log, self.folder.parent())
    }

    /// All that the broker has logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.folder.join(LOG)).unwrap_or_default()).into_owned()
    }

    /// What the log says of the reason why the broker does not work.
    fn complaint(&self) -> String {
        let log = std::fs::read(self.folder.join(LOG)).unwrap_or_default();
        excerpt(&String::from_utf8_lossy(&log))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Java>> {
        self.java.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The last errors and the last lines: a broker that fails goes on to write a page about its orderly shutdown.
fn excerpt(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    let ending = lines.len().saturating_sub(LAST_LINES);
    let tells = |line: &&&str| {
        let word = |word: &&str| line.contains(word);
        ["ERROR", "FATAL", "Exception"].iter().any(word) && !line.starts_with(char::is_whitespace) && !word(&" INFO ")
    };
    let errors: Vec<&str> = lines[..ending].iter().filter(tells).copied().collect();
    let errors = &errors[errors.len().saturating_sub(LAST_ERRORS)..];
    [errors, &lines[ending..]].concat().join("\n")
}

/// Ports for `count` brokers, free at the moment.
///
/// They lie below the range from which the system takes the ports of outgoing connections (from 32,768 on Linux): while a
/// broker is down nobody else may get its port, least of all a client that tries it, which would then connect to itself.
pub(crate) fn free_ports(count: usize) -> Result<Vec<Ports>> {
    let mut held = Vec::new();
    for _ in 0..2000 {
        if held.len() == 2 * count {
            break;
        }
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, fastrand::u16(15_000..32_000))) {
            held.push(listener);
        }
    }
    let ports = held.iter().map(|listener| Ok(listener.local_addr()?.port())).collect::<Result<Vec<u16>>>()?;
    if ports.len() < 2 * count {
        bail!("no free ports between 15000 and 32000");
    }
    Ok(ports.chunks_exact(2).map(|pair| Ports { clients: pair[0], controller: pair[1] }).collect())
}

#[cfg(test)]
mod tests {
    use super::{LAST_LINES, excerpt};

    #[test]
    fn an_excerpt_has_the_reason_and_the_end() {
        let shutdown = "08:15:00.100 [main] INFO a.B - Stopped\n".repeat(100);
        let log = format!("INFO up\n[main] ERROR a.B - cannot bind\n\tat java.net.BindException\n{shutdown}");
        let lines: Vec<String> = excerpt(&log).lines().map(str::to_owned).collect();
        assert_eq!(lines[0], "[main] ERROR a.B - cannot bind");
        assert_eq!(lines.len(), 1 + LAST_LINES);
        assert_eq!(excerpt("one\nERROR two"), "one\nERROR two", "nothing is told twice");
    }
}
