//! What every test stands on: topics of its own, a folder, and the program as a child process.

use std::{
    collections::BTreeMap,
    fmt::Display,
    fs,
    io::Write as _,
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use devkit::{
    kafka::{Cluster, StoredRecord},
    process::Process,
    service::Names,
};
use postlane::event::Priority;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Time for what should happen soon, on a machine with much else to do.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// How the program ended, and what it said.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    /// The object on standard output.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    #[track_caller]
    pub(crate) fn assert(&self, status: i32) -> &Self {
        assert_eq!(self.status, Some(status), "{self:?}");
        self
    }
}

/// The program with nothing but these variables.
pub(crate) struct Program {
    variables: BTreeMap<String, String>,
    pub(crate) folder: TempDir,
}

impl Program {
    pub(crate) fn new() -> Self {
        Self { variables: BTreeMap::new(), folder: TempDir::new().expect("a folder") }
    }

    pub(crate) fn set(&mut self, name: &str, value: impl Display) {
        self.variables.insert(name.to_owned(), value.to_string());
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_postlane"));
        command.args(arguments).env_clear().envs(&self.variables).current_dir(&self.folder).stdin(Stdio::null());
        command
    }

    /// Runs it to its end.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Ended {
        self.run_with(arguments, "").await
    }

    /// The same with this on standard input.
    pub(crate) async fn run_with(&self, arguments: &[&str], input: &str) -> Ended {
        let mut command = self.command(arguments);
        if !input.is_empty() {
            command.stdin(Stdio::piped());
        }
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut command = tokio::process::Command::from(command);
        let mut child = command.kill_on_drop(true).spawn().expect("it starts");
        if let Some(mut stdin) = child.stdin.take() {
            let input = input.to_owned();
            tokio::spawn(async move { tokio::io::AsyncWriteExt::write_all(&mut stdin, input.as_bytes()).await });
        }
        let output = tokio::time::timeout(SOON, child.wait_with_output()).await.expect("it ends").expect("it runs");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        Ended { status: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// Starts it with what it says in a file.
    pub(crate) fn start(&self, arguments: &[&str]) -> Running {
        let log = self.path("log");
        let mut all = vec!["-i".to_owned()];
        all.extend(self.variables.iter().map(|(name, value)| format!("{name}={value}")));
        all.push(env!("CARGO_BIN_EXE_postlane").to_owned());
        all.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        Running { process: Process::spawn("/usr/bin/env", &all, &log).expect("it starts"), log }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        fs::write(self.path(name), text).expect("written");
        self.path(name).to_str().expect("UTF-8").to_owned()
    }

    pub(crate) fn append(&self, name: &str, text: &str) {
        let mut file = fs::OpenOptions::new().append(true).open(self.path(name)).expect("a file");
        file.write_all(text.as_bytes()).expect("written");
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect("a file")
    }

    /// The state beside `events`, or null while there is none.
    pub(crate) fn state(&self) -> Value {
        let text = fs::read_to_string(self.path("events.postlane")).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// Waits until the state beside `events` says that so many mails were published.
    pub(crate) async fn wait_for_published(&self, count: u64) {
        self.wait_for(|| self.state()["published"].as_u64().is_some_and(|published| published >= count)).await;
    }

    pub(crate) async fn wait_for(&self, mut condition: impl FnMut() -> bool) {
        let deadline = tokio::time::Instant::now() + SOON;
        while !condition() {
            assert!(tokio::time::Instant::now() < deadline, "state {}", self.state());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// The program while it runs; killed when dropped.
pub(crate) struct Running {
    pub(crate) process: Process,
    log: PathBuf,
}

impl Running {
    /// All that it has said so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub(crate) async fn wait(&mut self) -> Option<i32> {
        let status = self.process.wait(SOON).await;
        status.unwrap_or_else(|error| panic!("{error:#}: {}", self.log())).code()
    }
}

/// The program on topics of its own.
pub(crate) struct Bed<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) names: Names,
    pub(crate) program: Program,
}

impl Bed<'static> {
    pub(crate) async fn new() -> Self {
        Self::on(devkit::kafka::shared().await.expect("a broker")).await
    }
}

impl<'a> Bed<'a> {
    /// Three partitions for each lane.
    pub(crate) async fn on(cluster: &'a Cluster) -> Self {
        let names = Names::unique();
        for topic in names.lanes() {
            cluster.create_topic(topic, 3, &[]).await.expect("a topic");
        }
        let mut program = Program::new();
        program.set("KAFKA_BROKERS", cluster.bootstrap());
        for (name, topic) in ["KAFKA_TOPIC_HIGH", "KAFKA_TOPIC_NORMAL", "KAFKA_TOPIC_LOW"].iter().zip(names.lanes()) {
            program.set(name, topic);
        }
        program.set("KAFKA_DLQ_TOPIC", &names.dead_letters);
        Self { cluster, names, program }
    }

    pub(crate) fn topic(&self, lane: Priority) -> &str {
        self.names.lanes()[lane.index()]
    }

    /// All records of a lane.
    pub(crate) async fn records(&self, lane: Priority) -> Vec<StoredRecord> {
        self.cluster.read_all(self.topic(lane)).await.expect("records")
    }

    /// The ids of the mails of a lane, and how often each is there.
    pub(crate) async fn ids(&self, lane: Priority) -> BTreeMap<String, usize> {
        let mut ids = BTreeMap::new();
        for record in self.records(lane).await {
            let event: Value = serde_json::from_str(&record.text()).expect("an event");
            let id = event["message"]["id"].as_str().expect("an id").to_owned();
            assert_eq!(record.key.as_deref(), Some(id.as_bytes()), "the key is the id");
            *ids.entry(id).or_default() += 1;
        }
        ids
    }

    /// Demands that each of these mails is in a lane once, and no other.
    pub(crate) async fn assert_once(&self, lane: Priority, ids: impl IntoIterator<Item = String>) {
        let expected: BTreeMap<String, usize> = ids.into_iter().map(|id| (id, 1)).collect();
        let found = self.ids(lane).await;
        assert!(found == expected, "{} of {} ids, {:?}", found.len(), expected.len(), found.iter().take(3));
    }
}

/// A file of events `m1` and so on.
pub(crate) fn events(numbers: impl IntoIterator<Item = usize>) -> String {
    numbers.into_iter().map(|number| event(&format!("m{number}"), "a@example.com") + "\n").collect()
}

pub(crate) fn ids(numbers: impl IntoIterator<Item = usize>) -> impl Iterator<Item = String> {
    numbers.into_iter().map(|number| format!("m{number}"))
}

/// An event of the normal lane.
pub(crate) fn event(id: &str, to: &str) -> String {
    json!({"type": "notification", "message": {
        "id": id, "from": "shop@example.com", "to": to, "subject": "Hello", "template": "plain", "data": {"body": "x"},
    }})
    .to_string()
}
