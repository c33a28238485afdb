//! A cluster of brokers: attached to or started, stopped and started again.
//!
//! Owns the brokers' common settings, their data and their life; what is done to topics, records and groups stands in the
//! modules beside this one.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rskafka::BackoffConfig;
use rskafka::client::{Client, ClientBuilder};
use tempfile::TempDir;

use super::BROKERS_VARIABLE;
use super::node::{Node, Ports, free_ports};
use super::runtime::Runtime;
use super::secured::{Listener, Secured};
use super::wire::Connection;

/// Another program may take a port between the choice and the start.
const ATTEMPTS: usize = 3;
/// The client's retries end here, so that a test fails instead of hanging.
const CLIENT_DEADLINE: Duration = Duration::from_secs(30);

/// A Kafka cluster: one of ours, which ends when this is dropped, or a foreign one.
#[derive(Debug)]
pub struct Cluster {
    bootstrap: String,
    // Before the data, so that the brokers are gone when it is removed.
    nodes: Vec<Node>,
    pub(super) secured: Option<Secured>,
    _data: Option<TempDir>,
}

/// Settings of a cluster to start.
#[derive(Debug, Clone)]
pub struct Builder {
    brokers: i32,
    secured: bool,
    properties: BTreeMap<String, String>,
}

impl Builder {
    /// The number of brokers, 1 unless set. The first three of three or more are the controllers and outlive the loss of one;
    /// with fewer, the first broker is the only controller.
    #[must_use]
    pub fn brokers(mut self, count: i32) -> Self {
        self.brokers = count;
        self
    }

    /// Sets a property of all brokers, over the kit's own choice where it has one.
    #[must_use]
    pub fn property(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.insert(name.into(), value.into());
        self
    }

    /// Adds the listeners of [`super::Listener`] to the plain one; for one broker only.
    #[must_use]
    pub fn secured(mut self) -> Self {
        self.secured = true;
        self
    }

    /// Whether asking for a topic creates it; not unless set.
    #[must_use]
    pub fn auto_create_topics(self, on: bool) -> Self {
        self.property("auto.create.topics.enable", on.to_string())
    }

    /// Starts the cluster and waits until it is ready, whatever `POSTLANE_TEST_BROKERS` says.
    ///
    /// # Errors
    /// When there is neither Java with Maven nor Docker, and when a broker does not come up: then with what its log says.
    pub async fn start(self) -> Result<Cluster> {
        ensure!(self.brokers > 0, "a cluster has at least one broker");
        ensure!(self.brokers == 1 || !self.secured, "a secured cluster has one broker");
        let mut attempt = 1;
        loop {
            match self.attempt().await {
                Err(error) if attempt < ATTEMPTS && format!("{error:#}").contains("Address already in use") => {
                    attempt += 1;
                }
                result => return result,
            }
        }
    }

    async fn attempt(&self) -> Result<Cluster> {
        Runtime::get().await?;
        let data = tempfile::Builder::new().prefix("postlane-kafka-").tempdir().context("no temporary folder")?;
        let extra = if self.secured { Listener::ALL.len().div_ceil(2) } else { 0 };
        let mut ports = free_ports(usize::try_from(self.brokers)? + extra)?;
        let rest = ports.split_off(usize::try_from(self.brokers)?);
        let secured = self.secured.then(|| {
            let ports = rest.iter().flat_map(|ports| [ports.clients, ports.controller]).collect();
            Secured::new(data.path().join("certificates"), ports)
        });
        let secured = secured.transpose()?;
        // 16 bytes in URL-safe base 64; the last of 22 digits has four spare bits.
        let cluster_id: String = std::iter::repeat_with(fastrand::alphanumeric).take(21).chain(['A']).collect();
        let mut prepared = tokio::task::JoinSet::new();
        for (id, own) in (1..).zip(&ports) {
            let folder = data.path().join(format!("broker-{id}"));
            let (own, cluster_id, properties) =
                (*own, cluster_id.clone(), self.properties_of(id, &ports, secured.as_ref()));
            let more = if self.secured { Secured::format_arguments() } else { Vec::new() };
            prepared.spawn(async move { Node::prepare(id, own, folder, &cluster_id, &properties, &more).await });
        }
        let mut nodes = prepared.join_all().await.into_iter().collect::<Result<Vec<Node>>>()?;
        nodes.sort_by_key(Node::id);
        let bootstrap = nodes.iter().map(Node::address).collect::<Vec<_>>().join(",");
        let cluster = Cluster { bootstrap, nodes, secured, _data: Some(data) };
        cluster.start_brokers().await?;
        Ok(cluster)
    }

    fn properties_of(&self, id: i32, ports: &[Ports], secured: Option<&Secured>) -> Vec<(String, String)> {
        let own =
            (1..).zip(ports).find(|(other, _)| *other == id).map(|(_, own)| *own).expect("a broker has its ports");
        let controllers = if self.brokers < 3 { 1 } else { 3 };
        let voters: Vec<String> = (1..=controllers)
            .zip(ports)
            .map(|(voter, ports)| format!("{voter}@127.0.0.1:{}", ports.controller))
            .collect();
        let more = secured.map(Secured::addresses).unwrap_or_default();
        let clients = format!("PLAINTEXT://127.0.0.1:{}{more}", own.clients);
        let (roles, listeners) = if id <= controllers {
            ("broker,controller", format!("{clients},CONTROLLER://127.0.0.1:{}", own.controller))
        } else {
            ("broker", clients.clone())
        };
        let replicas = self.brokers.min(3).to_string();
        let in_sync = if self.brokers < 3 { "1" } else { "2" };
        let mut all: BTreeMap<&str, String> = BTreeMap::from([
            ("process.roles", roles.to_owned()),
            ("node.id", id.to_string()),
            ("controller.quorum.voters", voters.join(",")),
            ("controller.listener.names", "CONTROLLER".to_owned()),
            ("inter.broker.listener.name", "PLAINTEXT".to_owned()),
            ("listeners", listeners),
            ("advertised.listeners", clients),
            ("default.replication.factor", replicas.clone()),
            ("offsets.topic.replication.factor", replicas.clone()),
            ("transaction.state.log.replication.factor", replicas),
            ("transaction.state.log.min.isr", in_sync.to_owned()),
        ]);
        all.extend(FOR_TESTS.map(|(name, value)| (name, value.to_owned())));
        all.extend(self.properties.iter().map(|(name, value)| (name.as_str(), value.clone())));
        let mut all: Vec<_> = all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        all.extend(secured.map(Secured::properties).unwrap_or_default());
        all
    }
}

/// Broker settings that make tests quick and brokers small; everything else is Kafka's default.
const FOR_TESTS: [(&str, &str); 16] = [
    ("auto.create.topics.enable", "false"),
    ("group.initial.rebalance.delay.ms", "0"),
    // Members of both protocols may be declared dead fast; the classic ones choose their timeout themselves.
    ("group.min.session.timeout.ms", "500"),
    ("group.consumer.min.session.timeout.ms", "500"),
    ("group.consumer.session.timeout.ms", "10000"),
    ("group.consumer.min.heartbeat.interval.ms", "100"),
    ("group.consumer.heartbeat.interval.ms", "500"),
    ("offsets.topic.num.partitions", "4"),
    ("transaction.state.log.num.partitions", "4"),
    // A broker that was killed loses its partitions after this time.
    ("broker.session.timeout.ms", "4000"),
    ("broker.heartbeat.interval.ms", "500"),
    ("num.network.threads", "2"),
    ("num.io.threads", "4"),
    ("log.cleaner.dedupe.buffer.size", "4194304"),
    ("log.index.size.max.bytes", "1048576"),
    ("log.segment.delete.delay.ms", "1000"),
];

impl Cluster {
    /// The cluster that `POSTLANE_TEST_BROKERS` names, else a new one of one broker.
    ///
    /// # Errors
    /// Those of [`Cluster::attach`] and [`Builder::start`].
    pub async fn start() -> Result<Self> {
        match std::env::var(BROKERS_VARIABLE) {
            Ok(brokers) if !brokers.trim().is_empty() => Self::attach(brokers.trim()).await,
            _ => Self::builder().start().await,
        }
    }

    /// Settings of a new cluster.
    #[must_use]
    pub fn builder() -> Builder {
        Builder { brokers: 1, secured: false, properties: BTreeMap::new() }
    }

    /// A cluster that runs already, `host:port` and more of them separated by commas. It is never stopped, and nothing of it
    /// is changed but what the caller asks for.
    ///
    /// # Errors
    /// When no broker answers there.
    pub async fn attach(brokers: &str) -> Result<Self> {
        let asked = async { Connection::open(brokers).await?.metadata(Some(&[])).await };
        asked.await.with_context(|| format!("no Kafka at {brokers}, the value of {BROKERS_VARIABLE}"))?;
        Ok(Self { bootstrap: brokers.to_owned(), nodes: Vec::new(), secured: None, _data: None })
    }

    /// The addresses for clients, `host:port` separated by commas: a value of `KAFKA_BROKERS`.
    #[must_use]
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// Our brokers; none of a cluster that was attached to.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Our broker with this `node.id`, from 1.
    ///
    /// # Errors
    /// When there is none.
    pub fn node(&self, id: i32) -> Result<&Node> {
        self.nodes.iter().find(|node| node.id() == id).with_context(|| format!("no broker {id} of ours"))
    }

    /// Stops all brokers in order (SIGTERM) and waits until they are gone.
    ///
    /// # Errors
    /// When the cluster is not ours.
    pub async fn stop(&self) -> Result<()> {
        for node in self.ours()?.iter().rev() {
            node.stop().await?;
        }
        Ok(())
    }

    /// Kills all brokers (SIGKILL).
    ///
    /// # Errors
    /// When the cluster is not ours.
    pub async fn kill(&self) -> Result<()> {
        for node in self.ours()? {
            node.kill().await?;
        }
        Ok(())
    }

    /// Stops what runs, and starts all brokers on the same ports and data; ready when every partition has a leader.
    ///
    /// # Errors
    /// When the cluster is not ours, or a broker does not come up.
    pub async fn restart(&self) -> Result<()> {
        self.stop().await?;
        self.start_brokers().await
    }

    /// Freezes all brokers (SIGSTOP): connections stay open, and from the return on nothing answers.
    ///
    /// # Errors
    /// When the cluster is not ours or does not run.
    pub async fn pause(&self) -> Result<()> {
        for node in self.ours()? {
            node.pause().await?;
        }
        Ok(())
    }

    /// Lets frozen brokers go on (SIGCONT).
    ///
    /// # Errors
    /// When the cluster is not ours or does not run.
    pub fn resume(&self) -> Result<()> {
        self.ours()?.iter().try_for_each(Node::resume)
    }

    async fn start_brokers(&self) -> Result<()> {
        for node in self.ours()? {
            node.launch().await?;
        }
        let ids: Vec<i32> = self.nodes.iter().map(Node::id).collect();
        for node in &self.nodes {
            node.until_ready(&ids, true).await?;
        }
        Ok(())
    }

    fn ours(&self) -> Result<&[Node]> {
        if self.nodes.is_empty() {
            bail!("the brokers at {} were not started here and are left alone", self.bootstrap);
        }
        Ok(&self.nodes)
    }

    /// A new rskafka client. Not kept between calls: one that has seen a broker go keeps its dead connection.
    pub(crate) async fn client(&self) -> Result<Client> {
        let brokers = self.bootstrap.split(',').map(|address| address.trim().to_owned()).collect();
        let backoff = BackoffConfig {
            init_backoff: Duration::from_millis(50),
            max_backoff: Duration::from_secs(1),
            deadline: Some(CLIENT_DEADLINE),
            ..BackoffConfig::default()
        };
        Ok(ClientBuilder::new(brokers).client_id("postlane-devkit").backoff_config(backoff).build().await?)
    }
}
