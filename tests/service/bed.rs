//! What every test stands on: topics of its own on the shared broker, a mail server, and the service between them.

use std::{collections::BTreeMap, time::Duration};

use devkit::{
    kafka::{Cluster, Compression, Record, StoredRecord},
    service::{Builder, Names, Service},
    smtp::{self, SmtpServer},
};
use postlane::{
    event::Priority,
    kafka::{client::Connector, coordinator::Coordinator},
};
use serde_json::{Value, json};

/// Time for what should happen soon, on a machine with much else to do.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// Topics, a mail server, and how the service is started.
pub(crate) struct Bed {
    pub(crate) cluster: &'static Cluster,
    pub(crate) names: Names,
    pub(crate) smtp: SmtpServer,
    builder: Builder,
}

impl Bed {
    /// One partition for each topic, a mail server that accepts everything, and delays short enough for tests.
    pub(crate) async fn new() -> Self {
        Self::with(SmtpServer::builder(), 1).await
    }

    pub(crate) async fn with(smtp: smtp::Builder, partitions: i32) -> Self {
        let cluster = devkit::kafka::shared().await.expect("a broker");
        Self::on(cluster, smtp, partitions).await
    }

    pub(crate) async fn on(cluster: &'static Cluster, smtp: smtp::Builder, partitions: i32) -> Self {
        let bed = Self::bare(cluster, smtp).await;
        for topic in bed.names.lanes().into_iter().chain([bed.names.dead_letters.as_str()]) {
            cluster.create_topic(topic, partitions, &[]).await.expect("a topic");
        }
        bed
    }

    /// The same without any topic.
    pub(crate) async fn bare(cluster: &'static Cluster, smtp: smtp::Builder) -> Self {
        let names = Names::unique();
        let smtp = smtp.start().await;
        let builder = Builder::new(env!("CARGO_BIN_EXE_postlane"))
            .names(&names)
            .set("KAFKA_BROKERS", cluster.bootstrap())
            .set("SMTP_HOST", "127.0.0.1")
            .set("SMTP_PORT", smtp.port())
            .set("SMTP_ENCRYPTION", "none")
            .set("MAIL_FROM", "Shop <shop@example.com>")
            .set("COMMIT_INTERVAL", "100ms")
            .set("RETRY_INITIAL_DELAY", "100ms")
            .set("RETRY_MAX_DELAY", "1s")
            .set("RETRY_MULTIPLIER", "2")
            .set("SHUTDOWN_TIMEOUT", "10s");
        Self { cluster, names, smtp, builder }
    }

    /// Sets a variable of every service that is started from now on.
    pub(crate) fn set(&mut self, name: &str, value: impl std::fmt::Display) {
        self.builder = self.builder.clone().set(name, value);
    }

    pub(crate) fn start(&self) -> Service {
        self.builder.start().expect("the service starts")
    }

    /// Another command of the program, to be started.
    pub(crate) fn command(&self, arguments: &[&str]) -> tokio::process::Command {
        let mut command = tokio::process::Command::from(self.builder.command(arguments));
        command.kill_on_drop(true);
        command
    }

    /// Runs another command of the program to its end: exit status, standard output and error.
    pub(crate) async fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let output = tokio::time::timeout(SOON, self.command(arguments).output()).await;
        let output = output.expect("it ends").expect("it runs");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        (output.status.code(), text(output.stdout), text(output.stderr))
    }

    pub(crate) fn topic(&self, lane: Priority) -> &str {
        self.names.lanes()[lane.index()]
    }

    /// Publishes events over the partitions of a lane.
    pub(crate) async fn publish(&self, lane: Priority, events: impl IntoIterator<Item = Value>) {
        self.publish_records(lane, events.into_iter().map(|event| Record::new(event.to_string()))).await;
    }

    pub(crate) async fn publish_records(&self, lane: Priority, records: impl IntoIterator<Item = Record>) {
        let records = records.into_iter().collect();
        self.cluster.produce_spread(self.topic(lane), records, Compression::NoCompression).await.expect("published");
    }

    /// The dead letters, once there are so many.
    pub(crate) async fn dead_letters(&self, count: usize) -> Vec<StoredRecord> {
        self.cluster.read_until(&self.names.dead_letters, count, SOON).await.expect("dead letters")
    }

    /// The dead letters there are now.
    pub(crate) async fn dead_letters_now(&self) -> Vec<StoredRecord> {
        self.cluster.read_all(&self.names.dead_letters).await.expect("dead letters")
    }

    /// What the group has committed for each partition of the lanes.
    pub(crate) async fn committed(&self) -> BTreeMap<(String, i32), Option<i64>> {
        let brokers = self.cluster.bootstrap().split(',').map(str::to_owned).collect();
        let mut coordinator = Coordinator::new(Connector::plaintext(brokers), self.names.group.as_str());
        let mut asked = Vec::new();
        for topic in self.names.lanes() {
            asked.push((topic.into(), self.cluster.partitions(topic).await.expect("partitions")));
        }
        let committed = coordinator.committed(&asked).await.expect("commits");
        committed.into_iter().map(|commit| ((commit.topic.to_string(), commit.partition), commit.offset)).collect()
    }

    /// Records of the lanes that are not committed.
    pub(crate) async fn lag(&self) -> i64 {
        let mut lag = 0;
        for ((topic, partition), offset) in self.committed().await {
            let (start, end) = self.cluster.offsets(&topic, partition).await.expect("offsets");
            lag += end - offset.unwrap_or(start);
        }
        lag
    }

    /// Waits until the group has committed all that was published.
    pub(crate) async fn wait_for_no_lag(&self, service: &mut Service) {
        self.wait_for_lag(service, 0).await;
    }

    pub(crate) async fn wait_for_lag(&self, service: &mut Service, expected: i64) {
        let deadline = tokio::time::Instant::now() + SOON;
        loop {
            let lag = self.lag().await;
            if lag == expected {
                return;
            }
            let ended = service.exit_status().expect("a state");
            assert!(ended.is_none(), "the service ended:\n{}", service.tail());
            assert!(
                tokio::time::Instant::now() < deadline,
                "the lag is still {lag}, not {expected}:\n{}",
                service.tail()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The lag as Kafka's own tool reports it.
    pub(crate) async fn lag_by_kafkas_tool(&self) -> i64 {
        let lag = self.cluster.group_lag(&self.names.group).await.expect("kafka-consumer-groups");
        lag.iter().map(|partition| partition.lag.expect("a committed partition")).sum()
    }
}

/// A mail with the template `plain`.
pub(crate) fn event(id: &str, to: &str) -> Value {
    json!({"type": "notification", "message": {
        "id": id, "to": to, "subject": format!("Subject {id}"), "template": "plain", "data": {"body": format!("Body {id}")},
    }})
}

/// The same with more fields of `message`.
pub(crate) fn event_with(id: &str, to: &str, fields: &Value) -> Value {
    let mut event = event(id, to);
    let message = event["message"].as_object_mut().expect("an object");
    for (name, value) in fields.as_object().expect("an object") {
        message.insert(name.clone(), value.clone());
    }
    event
}

/// Ends a service as an operator would and demands a clean end.
pub(crate) async fn end(mut service: Service) -> String {
    let status = service.terminate(Duration::from_secs(20)).await.expect("it ends");
    assert!(status.success(), "{status}:\n{}", service.tail());
    service.log()
}
