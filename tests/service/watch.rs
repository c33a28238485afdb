//! What the tests of the Kafka side look at: commits with their metadata, conditions that come true, mails by number.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use devkit::{kafka::Cluster, service::Service, smtp::SmtpServer};
use postlane::{
    event::Priority,
    kafka::{
        client::Connector,
        coordinator::{Commit, Committed, Coordinator},
        offsets::Snapshot,
    },
};
use serde_json::Value;
use tokio::{
    sync::{Mutex, MutexGuard, OnceCell},
    time::{Duration, Instant, sleep},
};

use crate::bed::{Bed, SOON, event};

/// What one partition has committed.
pub(crate) struct Progress {
    pub(crate) offset: i64,
    pub(crate) metadata: String,
    beyond: Option<Snapshot>,
}

impl Progress {
    fn of(committed: Committed) -> Option<Self> {
        let offset = committed.offset?;
        let beyond = (!committed.metadata.is_empty())
            .then(|| Snapshot::parse(offset, &committed.metadata).expect("metadata of postlane"));
        Some(Self { offset, metadata: committed.metadata, beyond })
    }

    /// Whether a restart would take this offset for settled.
    pub(crate) fn has_settled(&self, offset: i64) -> bool {
        let beyond = self.beyond.as_ref();
        offset < self.offset || beyond.is_some_and(|it| offset < it.end && !it.unsettled.contains(&offset))
    }
}

impl Bed {
    pub(crate) fn coordinator(&self) -> Coordinator {
        let brokers = self.cluster.bootstrap().split(',').map(str::to_owned).collect();
        Coordinator::new(Connector::plaintext(brokers), self.names.group.as_str())
    }

    /// What the group has committed for the partitions of the lanes that exist, foreign metadata as they are.
    pub(crate) async fn commits(&self) -> Vec<Committed> {
        let mut asked = Vec::new();
        for topic in self.names.lanes() {
            asked.push((Arc::from(topic), self.cluster.partitions(topic).await.expect("partitions")));
        }
        asked.retain(|(_, partitions)| !partitions.is_empty());
        self.coordinator().committed(&asked).await.expect("commits")
    }

    /// The same by topic and partition, without those that have no commit.
    pub(crate) async fn progress(&self) -> BTreeMap<(String, i32), Progress> {
        let commits = self.commits().await.into_iter();
        commits
            .filter_map(|commit| {
                let of = (commit.topic.to_string(), commit.partition);
                Progress::of(commit).map(|progress| (of, progress))
            })
            .collect()
    }

    /// What one partition has committed, `None` where it has not.
    pub(crate) async fn progress_of(&self, lane: Priority, partition: i32) -> Option<Progress> {
        self.progress().await.remove(&(self.topic(lane).to_owned(), partition))
    }

    /// Waits until the group has committed this offset.
    pub(crate) async fn wait_for_offset(&self, lane: Priority, partition: i32, offset: i64) {
        until(&format!("offset {offset} of {lane} {partition} is committed"), async || {
            self.progress_of(lane, partition).await.filter(|progress| progress.offset == offset)
        })
        .await;
    }

    /// Commits as another program would that is no member of the group.
    pub(crate) async fn commit(&self, lane: Priority, partition: i32, offset: i64, metadata: &str) {
        let commit = Commit { topic: self.topic(lane).into(), partition, offset, metadata: metadata.to_owned() };
        for settled in self.coordinator().commit(&[commit]).await.expect("a commit") {
            settled.result.expect("stored");
        }
    }

    /// Publishes to one partition and returns when it is written.
    pub(crate) async fn publish_to(&self, lane: Priority, partition: i32, events: impl IntoIterator<Item = Value>) {
        let records = events.into_iter().map(|event| devkit::kafka::Record::new(event.to_string())).collect();
        self.cluster.produce(self.topic(lane), partition, records).await.expect("published");
    }
}

/// Waits until the condition gives something.
pub(crate) async fn until<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + SOON;
    loop {
        if let Some(found) = condition().await {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {SOON:?}: {what}");
        sleep(Duration::from_millis(50)).await;
    }
}

/// The recipient of a mail of [`mails`].
pub(crate) fn recipient(prefix: &str, number: i64) -> String {
    format!("{prefix}-{number}@example.com")
}

/// Mails with numbers in their ids and recipients.
pub(crate) fn mails(prefix: &str, numbers: std::ops::Range<i64>) -> Vec<Value> {
    numbers.map(|number| event(&format!("{prefix}-{number}"), &recipient(prefix, number))).collect()
}

/// How often each recipient's mail was accepted.
pub(crate) fn copies(smtp: &SmtpServer) -> HashMap<String, usize> {
    let mut copies = HashMap::new();
    for mail in smtp.ledger().accepted() {
        for recipient in &mail.recipients {
            *copies.entry(recipient.clone()).or_default() += 1;
        }
    }
    copies
}

/// Waits for these mails and demands that none of them came twice.
pub(crate) async fn each_once(smtp: &SmtpServer, prefix: &str, numbers: std::ops::Range<i64>) {
    let wanted: Vec<String> = numbers.map(|number| recipient(prefix, number)).collect();
    let arrived = until(&format!("all mails of {prefix}"), async || {
        let copies = copies(smtp);
        wanted.iter().all(|recipient| copies.contains_key(recipient)).then_some(copies)
    })
    .await;
    for recipient in &wanted {
        assert_eq!(arrived[recipient], 1, "{recipient}");
    }
}

/// How often the service has said a line with these parts.
pub(crate) fn said(service: &Service, parts: &[&str]) -> usize {
    service.lines_with(parts).len()
}

/// A line of the service's log, once it is there.
pub(crate) async fn line(service: &mut Service, parts: &[&str]) -> String {
    service.wait_for_line(parts, SOON).await.expect("the line")
}

/// A broker that tests may stop, kill and freeze, one test at a time; each leaves it running.
pub(crate) async fn fragile_cluster() -> MutexGuard<'static, &'static Cluster> {
    static CLUSTER: OnceCell<Mutex<&'static Cluster>> = OnceCell::const_new();
    let start = async || Mutex::new(started(Cluster::builder()).await);
    let guard = CLUSTER.get_or_init(start).await.lock().await;
    if !guard.nodes().iter().all(|node| node.is_running().expect("a state")) {
        guard.restart().await.expect("it starts again");
    }
    guard
}

/// A broker that creates topics when they are asked for and takes little metadata.
pub(crate) async fn odd_cluster() -> &'static Cluster {
    static CLUSTER: OnceCell<&'static Cluster> = OnceCell::const_new();
    let start =
        async || started(Cluster::builder().auto_create_topics(true).property("offset.metadata.max.bytes", "64")).await;
    CLUSTER.get_or_init(start).await
}

/// A cluster that ends with the test program: its processes are tied to it.
pub(crate) async fn started(builder: devkit::kafka::Builder) -> &'static Cluster {
    Box::leak(Box::new(builder.start().await.expect("a cluster")))
}
