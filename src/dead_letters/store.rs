//! Where the memory of what was sent back is kept: commits of the group `{KAFKA_GROUP_ID}-redrive` on the dead letter topic.
//!
//! Owns reading and writing them, and the lease that keeps two from sending letters back at the same time. The lease
//! stands before the text of the topic's first partition and counts up while its holder is at work; it needs no clock that
//! two machines agree on. Kafka itself fences nobody here: between two checks of the lease both could write, so it is
//! checked before each commit, and whoever has lost it stops.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};

use super::memory::Kept;
use crate::kafka::{
    client::Connector,
    coordinator::{self, Commit, Coordinator, Refusal},
    offsets::Position,
};

/// What is put behind the group's name.
const SUFFIX: &str = "-redrive";
/// For how long the brokers are to keep the memory: longer than any dead letter lives.
const RETENTION: Duration = Duration::from_secs(3650 * 24 * 3600);
/// A lease that has not changed for so long is nobody's any more. Its holder changes it at least each second.
const PATIENCE: Duration = Duration::from_secs(6);
/// How often another's lease is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// Time in which another one that has seen no lease either would have written its own.
const SETTLE: Duration = Duration::from_millis(500);
/// Marks a lease, and ends it.
const MARK: &str = "lease=";
const END: char = ';';
/// Bytes of a lease at the most.
pub(super) const LEASE: usize = 128;

/// Why the memory cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The coordinator refuses or does not answer.
    #[error(transparent)]
    Coordinator(#[from] coordinator::Error),
    /// One partition was refused.
    #[error("what was sent back of partition {partition} cannot be committed")]
    Refused {
        /// The partition.
        partition: i32,
        /// Why.
        #[source]
        source: Refusal,
    },
    /// Somebody else sends letters back.
    #[error("another redrive is at work: {holder}")]
    Busy {
        /// Who it is.
        holder: String,
    },
    /// Somebody else has taken over, or has reset the group.
    #[error("another program has changed what consumer group {group} keeps, and this redrive stops: {change}")]
    Overtaken {
        /// The group.
        group: String,
        /// What was found.
        change: String,
    },
}

/// Who sends letters back, and how far its count is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Host, process and a number that no other has.
    pub holder: String,
    /// Goes up while it works.
    pub beat: u64,
}

impl Lease {
    /// One for this process.
    pub fn new() -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host: String =
            host.trim().chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.')).take(32).collect();
        let host = if host.is_empty() { "host".to_owned() } else { host };
        let unique = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_nanos();
        let unique = unique & 0xffff_ffff;
        Self { holder: format!("{host} process {} ({unique:08x})", std::process::id()), beat: 0 }
    }

    fn text(&self) -> String {
        format!("{MARK}{},{}{END}", self.holder, self.beat)
    }

    /// The lease before a text, and the rest of it.
    pub(super) fn split(text: &str) -> (Option<Self>, &str) {
        let read = || {
            let (lease, rest) = text.strip_prefix(MARK)?.split_once(END)?;
            let (holder, beat) = lease.rsplit_once(',')?;
            Some((Self { holder: holder.to_owned(), beat: beat.parse().ok()? }, rest))
        };
        read().map_or((None, text), |(lease, rest)| (Some(lease), rest))
    }
}

impl Default for Lease {
    fn default() -> Self {
        Self::new()
    }
}

/// The commits.
pub struct Store {
    coordinator: Coordinator,
    topic: Arc<str>,
    ends: BTreeMap<i32, (i64, i64)>,
    lease: Lease,
    /// What this process has committed last, while it holds the lease.
    held: Option<BTreeMap<i32, (i64, String)>>,
}

impl Store {
    /// The commits of the group that belongs to `group` for these partitions.
    pub fn new(connector: Connector, group: &str, topic: Arc<str>, ends: BTreeMap<i32, (i64, i64)>) -> Self {
        let coordinator = Coordinator::new(connector, format!("{group}{SUFFIX}"));
        Self { coordinator, topic, ends, lease: Lease::new(), held: None }
    }

    /// The name of the group that remembers.
    pub fn group(&self) -> &str {
        self.coordinator.group()
    }

    /// What the group keeps now, and who works with it.
    ///
    /// # Errors
    ///
    /// [`Error::Coordinator`].
    pub async fn read(&mut self) -> Result<(Kept, Option<Lease>), Error> {
        let asked = [(Arc::clone(&self.topic), self.ends.keys().copied().collect())];
        let mut lease = None;
        let mut kept = Kept::new();
        for commit in self.coordinator.committed(&asked).await? {
            let (found, text) = Lease::split(&commit.metadata);
            lease = lease.or(found);
            if let Some(offset) = commit.offset {
                kept.insert(commit.partition, (offset, text.to_owned()));
            }
        }
        Ok((kept, lease))
    }

    /// Takes the lease, if the group still keeps `before`, of which `ours` belongs to this topic.
    ///
    /// Waits some seconds where one was left behind.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] where another one works, [`Error::Overtaken`] where one has worked since: nothing was written then.
    /// Otherwise those of reading and writing.
    pub async fn claim(&mut self, before: &Kept, ours: &Kept) -> Result<(), Error> {
        let until = Instant::now() + PATIENCE;
        let (mut kept, first) = self.read().await?;
        let mut current = first.clone();
        while let Some(lease) = current {
            if first.as_ref() != Some(&lease) {
                return Err(Error::Busy { holder: lease.holder });
            }
            if Instant::now() >= until {
                break;
            }
            sleep(LOOK).await;
            (kept, current) = self.read().await?;
        }
        if kept != *before {
            return Err(self.overtaken("letters were sent back since they were counted; run it again"));
        }
        self.write(ours, true).await?;
        sleep(SETTLE).await;
        let (after, lease) = self.read().await?;
        match lease {
            Some(lease) if lease == self.lease => {
                self.held = Some(after);
                Ok(())
            }
            Some(lease) => Err(Error::Busy { holder: lease.holder }),
            None => Err(self.overtaken("the lease is gone")),
        }
    }

    /// Remembers these positions, if the lease is still ours.
    ///
    /// # Errors
    ///
    /// [`Error::Overtaken`] where it is not; nothing was written then. Otherwise those of reading and writing.
    pub async fn commit(&mut self, positions: impl IntoIterator<Item = (i32, Position)>) -> Result<(), Error> {
        self.check().await?;
        let kept = positions.into_iter().map(|(partition, it)| (partition, (it.offset, it.metadata))).collect();
        self.lease.beat += 1;
        self.write(&kept, true).await?;
        self.held = Some(kept);
        Ok(())
    }

    /// Shows that this process is still at work.
    ///
    /// # Errors
    ///
    /// As [`commit`](Self::commit).
    pub async fn beat(&mut self) -> Result<(), Error> {
        self.check().await?;
        let kept = self.held.clone().unwrap_or_default();
        self.lease.beat += 1;
        self.write(&kept, true).await
    }

    /// Gives the lease back, and lets the rest stand.
    ///
    /// # Errors
    ///
    /// As [`commit`](Self::commit).
    pub async fn release(&mut self) -> Result<(), Error> {
        if self.held.is_none() {
            return Ok(());
        }
        self.check().await?;
        let kept = self.held.take().unwrap_or_default();
        self.write(&kept, false).await
    }

    async fn check(&mut self) -> Result<(), Error> {
        let (kept, lease) = self.read().await?;
        match lease {
            Some(lease) if lease.holder == self.lease.holder => {}
            Some(lease) => return Err(self.overtaken(&format!("{} works with it", lease.holder))),
            None => return Err(self.overtaken("the lease is gone")),
        }
        if self.held.as_ref().is_some_and(|held| *held != kept) {
            return Err(self.overtaken("its offsets are others"));
        }
        Ok(())
    }

    fn overtaken(&self, change: &str) -> Error {
        Error::Overtaken { group: self.group().to_owned(), change: change.to_owned() }
    }

    /// Commits for all partitions, for those without a position their log's start.
    async fn write(&mut self, kept: &Kept, with_lease: bool) -> Result<(), Error> {
        let first = self.ends.keys().next().copied();
        let commits: Vec<Commit> = self
            .ends
            .iter()
            .map(|(&partition, &(start, _))| {
                let (offset, text) = kept.get(&partition).cloned().unwrap_or((start, String::new()));
                let lease = if with_lease && Some(partition) == first { self.lease.text() } else { String::new() };
                Commit { topic: Arc::clone(&self.topic), partition, offset, metadata: lease + &text }
            })
            .collect();
        for settled in self.coordinator.commit_for(&commits, RETENTION).await? {
            settled.result.map_err(|source| Error::Refused { partition: settled.partition, source })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_stands_before_the_text_and_has_its_bound() {
        let lease = Lease { beat: u64::MAX, ..Lease::new() };
        assert!(lease.text().len() <= LEASE, "{}", lease.text());
        let text = format!("{}pl1:abc", lease.text());
        assert_eq!(Lease::split(&text), (Some(lease), "pl1:abc"));
        for other in ["", "pl1:abc", "lease=", "lease=x;", "lease=x,y;pl1:"] {
            assert_eq!(Lease::split(other), (None, other));
        }
    }
}
