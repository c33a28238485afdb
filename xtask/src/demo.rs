//! `cargo xtask demo`: the whole way of a mail, on a real broker.
//!
//! Owns the story: what is started, in which order, and what must have come of it. What is published stands in [`events`],
//! what came of it is read by [`outcome`], and shown by [`report`] and [`page`]. With `--keep` all of it stays for a person to
//! play with: [`keep`].

mod events;
mod guide;
mod keep;
mod outcome;
mod page;
mod report;

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use devkit::{
    kafka::{BROKERS_VARIABLE, Cluster, KAFKA_VERSION, Record},
    service::{Builder, Names, Service},
    smtp::{Action, Command, SmtpServer, on},
};

use self::{events::Event, outcome::Outcome};
use crate::{cargo, interrupt, progress::Progress};

/// Time for what takes a moment on a machine with nothing else to do.
const SOON: Duration = Duration::from_secs(60);
/// The first retry comes after this time; by default it is a minute.
const RETRY_DELAY: &str = "2s";
const GROUP_TOOL: &str = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";

/// Arguments of `cargo xtask demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Leave everything running until Ctrl-C, and print the commands to try
    #[arg(long)]
    keep: bool,
}

/// What the demo leaves behind.
struct Folder {
    path: PathBuf,
    shown: PathBuf,
}

/// Plays the demo; fails when anything is not as it should be.
pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode> {
    if arguments.keep {
        return keep::run().await;
    }
    interrupt::or_interrupted(async { play().await.map(|()| ExitCode::SUCCESS) }).await
}

async fn play() -> Result<()> {
    let progress = Progress::start();
    let folder = Folder::empty()?;
    let Stage { program, cluster, names, smtp } = Stage::set(&progress, &folder, 1).await?;
    let mut service = service(&program, &cluster, &names, &smtp).start()?;
    let delivered = deliver(&progress, &cluster, &names, &smtp, &mut service).await;
    let log = folder.path.join("postlane.log");
    fs::write(&log, service.log()).with_context(|| format!("cannot write {}", log.display()))?;
    let outcome = delivered.with_context(|| format!("see {}", folder.shown("postlane.log")))?;
    fs::write(folder.path.join("kafka-consumer-groups.txt"), &outcome.lag)?;
    fs::write(folder.path.join("index.html"), page::index(&outcome, "nothing left in the topics."))?;
    report::print(&progress, &outcome, &names, &folder);
    // Before the last word: from then on nothing runs any more.
    drop((service, smtp, cluster));
    let problems = outcome.problems();
    ensure!(problems.is_empty(), "the demo did not go as it should: {}", problems.join("; "));
    progress.line("");
    progress.step("all went as it should; postlane, mail server and broker are stopped");
    Ok(())
}

/// What stands around the service.
struct Stage {
    program: PathBuf,
    cluster: Cluster,
    names: Names,
    smtp: SmtpServer,
}

impl Stage {
    /// A broker with the topics, the program, and a mail server that saves what it gets to the folder.
    async fn set(progress: &Progress, folder: &Folder, partitions: i32) -> Result<Self> {
        progress.step(format_args!("starting a real broker: Apache Kafka {KAFKA_VERSION}"));
        let cluster = Cluster::start().await?;
        let (names, whose) = if cluster.nodes().is_empty() {
            (Names::unique(), format!(", as {BROKERS_VARIABLE} says; topics with names of their own"))
        } else {
            (default_names(), String::new())
        };
        progress.step(format_args!("the broker answers at {}{whose}", cluster.bootstrap()));
        progress.step("building postlane");
        let program = cargo::build_postlane().await?;
        for topic in names.lanes().into_iter().chain([names.dead_letters.as_str()]) {
            cluster.create_topic(topic, partitions, &[]).await?;
        }
        progress.step(format_args!("topics: {}, {}", names.lanes().join(", "), names.dead_letters));
        let smtp = mail_server(folder).await?;
        progress.step(format_args!("a mail server that keeps what it gets listens on {}", smtp.addr()));
        Ok(Self { program, cluster, names, smtp })
    }
}

/// `postlane serve` between broker and mail server.
fn service(program: &Path, cluster: &Cluster, names: &Names, smtp: &SmtpServer) -> Builder {
    Builder::new(program)
        .names(names)
        .set("KAFKA_BROKERS", cluster.bootstrap())
        .set("SMTP_HOST", "127.0.0.1")
        .set("SMTP_PORT", smtp.port())
        .set("SMTP_ENCRYPTION", "none")
        .set("COMMIT_INTERVAL", "200ms")
        .set("RETRY_INITIAL_DELAY", RETRY_DELAY)
}

/// Waits until it reads all lanes.
async fn reads_lanes(service: &mut Service, names: &Names) -> Result<()> {
    service.wait_for_line(&["postlane starts"], SOON).await?;
    for topic in names.lanes() {
        service.wait_for_line(&["\"reading\"", &format!("\"{topic}\"")], SOON).await?;
    }
    Ok(())
}

/// From the first event to the end of the service.
async fn deliver(
    progress: &Progress,
    cluster: &Cluster,
    names: &Names,
    smtp: &SmtpServer,
    service: &mut Service,
) -> Result<Outcome> {
    reads_lanes(service, names).await?;
    progress.step("postlane serve runs and reads the three lanes");

    let published = Instant::now();
    let all = events::all();
    publish(cluster, names, &all).await?;
    let counts = [0, 1, 2].map(|lane| all.iter().filter(|event| event.lane == lane).count());
    let [high, normal, low] = counts;
    progress.step(format_args!("{} events published: {high} high, {normal} normal, {low} low", all.len()));
    smtp.wait_for_mails(1, SOON).await.context("no mail has arrived")?;
    progress.step(format_args!("the first mail has arrived, {} ms after publishing", published.elapsed().as_millis()));
    service.wait_for_line(&["\"outcome\":\"deferred\""], SOON).await?;
    progress.step(format_args!("one mail was deferred by the server and is tried again in about {RETRY_DELAY}"));
    let mails = all.iter().filter(|event| event.is_delivered()).count();
    smtp.wait_for_mails(mails, SOON).await.context("not all mails have arrived")?;
    let letters = all.iter().filter(|event| event.dead_letter.is_some()).count();
    let letters = cluster.read_until(&names.dead_letters, letters, SOON).await?;
    progress.step(format_args!("{mails} mails have arrived, {} dead letters are written", letters.len()));

    progress.step("asking Kafka's own tool how far the group is");
    let lag = lag(cluster, &names.group).await?;
    progress.step("it reports a lag of 0: all that was published is settled and committed");
    let status = service.terminate(SOON).await?;
    ensure!(status.success(), "postlane ended with {status}");
    progress.step("postlane has ended on SIGTERM, in order");
    // Only now: nothing can come after the end.
    let letters = cluster.read_all(&names.dead_letters).await?;
    Outcome::new(all, &smtp.ledger(), &letters, &service.log(), lag)
}

async fn publish(cluster: &Cluster, names: &Names, events: &[Event]) -> Result<()> {
    for (lane, topic) in names.lanes().into_iter().enumerate() {
        let events = events.iter().filter(|event| event.lane == lane);
        let records = events.map(|event| Record::new(event.value.as_bytes()).key(event.key)).collect();
        cluster.produce(topic, 0, records).await?;
    }
    Ok(())
}

/// What `kafka-consumer-groups --describe` writes, once it reports a lag of 0.
async fn lag(cluster: &Cluster, group: &str) -> Result<String> {
    let deadline = Instant::now() + SOON;
    loop {
        let lag = cluster.group_lag(group).await?;
        if lag.iter().all(|partition| partition.lag == Some(0)) {
            return Ok(cluster.tool(GROUP_TOOL, &["--describe", "--group", group]).await?.stdout);
        }
        if Instant::now() >= deadline {
            bail!("kafka-consumer-groups still reports a lag: {lag:?}");
        }
    }
}

/// Accepts all mails but those to [`events::GREYLISTED`] at first, and those to [`events::UNKNOWN`].
async fn mail_server(folder: &Folder) -> Result<SmtpServer> {
    let greylisted = Action::reply(451, "4.7.1", "greylisted, try again");
    let server = SmtpServer::builder()
        .save_to(folder.path.join("mails"))
        .rule(on(Command::Rcpt).recipient(events::GREYLISTED).once(greylisted))
        .rule(on(Command::Rcpt).recipient(events::UNKNOWN).reply(550, "5.1.1", "no such user"));
    Ok(server.try_start().await?)
}

/// The names that postlane has by default.
fn default_names() -> Names {
    Names {
        high: "email-queue-high".to_owned(),
        normal: "email-queue".to_owned(),
        low: "email-queue-low".to_owned(),
        dead_letters: "email-dlq".to_owned(),
        group: "messaging-service-group".to_owned(),
    }
}

impl Folder {
    /// `target/demo`, without what an earlier demo left there.
    fn empty() -> Result<Self> {
        let program = env::current_exe().context("cannot tell where this program is")?;
        let target = program.parent().and_then(Path::parent).context("this program does not lie in cargo's folder")?;
        let path = target.join("demo");
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot empty {}", path.display()));
            }
            _ => fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?,
        }
        let here = env::current_dir().unwrap_or_default();
        let shown = path.strip_prefix(&here).unwrap_or(&path).to_owned();
        Ok(Self { path, shown })
    }

    /// A file in it as a user would write it.
    fn shown(&self, file: &str) -> String {
        self.shown.join(file).display().to_string()
    }
}
