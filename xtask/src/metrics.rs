//! `cargo xtask metrics`: records what `/metrics` says of the service in trouble.
//!
//! Owns the situations that the tests of the alert rules begin from. Each has topics, a mail server and a service of its
//! own on one broker; what is scraped when the trouble shows goes to `tests/fixtures/metrics`, with the topics named as
//! by default.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use devkit::{
    kafka::{Cluster, Record},
    service::{Builder, Names, Service},
    smtp::SmtpServer,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{sleep, timeout},
};

use crate::{cargo, interrupt, progress::Progress};

/// Time for what takes a moment on a machine with nothing else to do.
const SOON: Duration = Duration::from_secs(60);
/// Between two scrapes.
const POLL: Duration = Duration::from_millis(200);

/// Records all situations.
pub(crate) async fn run() -> Result<ExitCode> {
    interrupt::or_interrupted(async { record().await.map(|()| ExitCode::SUCCESS) }).await
}

async fn record() -> Result<()> {
    let progress = Progress::start();
    progress.step("building postlane");
    let program = cargo::build_postlane().await?;
    progress.step("starting a broker");
    let cluster = Cluster::builder().start().await?;
    let kit = Kit { program, cluster };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/metrics");
    fs::create_dir_all(&folder)?;
    let save = |name: &str, scrape: Result<String>| -> Result<()> {
        let scrape = scrape.with_context(|| name.to_owned())?;
        fs::write(folder.join(name).with_extension("prom"), scrape)?;
        progress.step(name);
        Ok(())
    };
    save("well", kit.well().await)?;
    save("relay-down", kit.relay_down().await)?;
    save("login-refused", kit.login_refused().await)?;
    save("template-broken", kit.template_broken().await)?;
    save("malformed-flood", kit.malformed_flood().await)?;
    save("no-dead-letter-topic", kit.no_dead_letter_topic().await)?;
    save("lane-missing", kit.lane_missing().await)?;
    save("records-lost", kit.records_lost().await)?;
    // the last one: no broker is left
    save("broker-away", kit.broker_away().await)?;
    Ok(())
}

struct Kit {
    program: PathBuf,
    cluster: Cluster,
}

/// What one situation is made of.
struct Bed<'a> {
    cluster: &'a Cluster,
    names: Names,
    smtp: SmtpServer,
    builder: Builder,
}

impl Kit {
    /// With all topics but those that end like this.
    async fn bed(&self, smtp: devkit::smtp::Builder, missing: Option<&str>) -> Result<Bed<'_>> {
        let names = Names::unique();
        for topic in names.lanes().into_iter().chain([names.dead_letters.as_str()]) {
            if missing.is_none_or(|ending| !topic.ends_with(ending)) {
                self.cluster.create_topic(topic, 2, &[]).await?;
            }
        }
        let smtp = smtp.try_start().await?;
        let builder = Builder::new(&self.program)
            .names(&names)
            .set("KAFKA_BROKERS", self.cluster.bootstrap())
            .set("SMTP_HOST", "127.0.0.1")
            .set("SMTP_PORT", smtp.port())
            .set("SMTP_ENCRYPTION", "none")
            .set("COMMIT_INTERVAL", "100ms");
        Ok(Bed { cluster: &self.cluster, names, smtp, builder })
    }

    async fn well(&self) -> Result<String> {
        let bed = self.bed(SmtpServer::builder(), None).await?;
        bed.publish(&[mail("plain"), mail("plain"), mail("welcome"), mail("plain")]).await?;
        bed.scrape_when(&["postlane_records_settled_total{lane=\"normal\"} 4", "postlane_commit_age_seconds 0.0"]).await
    }

    async fn relay_down(&self) -> Result<String> {
        let mut bed = self.bed(SmtpServer::builder(), None).await?;
        bed.smtp.stop().await;
        bed.publish(&[mail("plain"), mail("plain"), mail("plain")]).await?;
        bed.scrape_when(&["postlane_relay_up 0", "postlane_ready_mails{lane=\"normal\"} 3"]).await
    }

    async fn login_refused(&self) -> Result<String> {
        let mut bed = self.bed(SmtpServer::builder().login("shop", "the new one").require_auth(), None).await?;
        bed.builder = bed.builder.set("SMTP_USER", "shop").set("SMTP_PASSWORD", "the old one");
        bed.publish(&[mail("plain"), mail("plain")]).await?;
        bed.scrape_when(&["postlane_relay_up 0", "postlane_ready_mails{lane=\"normal\"} 2"]).await
    }

    async fn template_broken(&self) -> Result<String> {
        let mut bed = self.bed(SmtpServer::builder(), None).await?;
        let templates = tempfile::tempdir()?;
        let folder = templates.path().join("welcome");
        fs::create_dir(&folder)?;
        fs::write(folder.join("text.txt.j2"), "Dear {{ FirstName }}")?;
        bed.builder = bed.builder.set("TEMPLATES_DIR", templates.path().display());
        let mut events = vec![mail("plain"); 20];
        events.extend(vec![mail("welcome"); 40]);
        bed.publish(&events).await?;
        bed.scrape_when(&[
            "postlane_records_settled_total{lane=\"normal\"} 60",
            "postlane_template_errors_total{template=\"welcome\"} 40",
            "postlane_commit_age_seconds 0.0",
        ])
        .await
    }

    async fn malformed_flood(&self) -> Result<String> {
        let bed = self.bed(SmtpServer::builder(), None).await?;
        let mut events = vec![mail("plain"); 100];
        events.extend(vec![json!({"message": {"to": 7}}); 500]);
        bed.publish(&events).await?;
        bed.scrape_when(&["postlane_records_settled_total{lane=\"normal\"} 600", "postlane_commit_age_seconds 0.0"])
            .await
    }

    async fn no_dead_letter_topic(&self) -> Result<String> {
        let bed = self.bed(SmtpServer::builder(), Some("-dlq")).await?;
        bed.publish(&[json!({"message": {"to": 7}}), mail("plain")]).await?;
        bed.scrape_when(&[
            "postlane_dead_letters_writable 0",
            "postlane_dead_letters_pending 1",
            "postlane_records_settled_total{lane=\"normal\"} 1",
        ])
        .await
    }

    async fn lane_missing(&self) -> Result<String> {
        let bed = self.bed(SmtpServer::builder(), Some("-low")).await?;
        bed.publish(&[mail("plain")]).await?;
        bed.scrape_when(&[
            "postlane_ready 0",
            "postlane_records_settled_total{lane=\"normal\"} 1",
            "postlane_commit_age_seconds 0.0",
        ])
        .await
    }

    async fn records_lost(&self) -> Result<String> {
        let bed = self.bed(SmtpServer::builder(), None).await?;
        bed.publish(&[mail("plain")]).await?;
        let mut service = bed.builder.start()?;
        bed.smtp.wait_for_mails(1, SOON).await?;
        service.terminate(SOON).await?;
        bed.publish(&vec![mail("plain"); 30]).await?;
        for partition in bed.cluster.partitions(&bed.names.normal).await? {
            let (_, end) = bed.cluster.offsets(&bed.names.normal, partition).await?;
            bed.cluster.delete_records(&bed.names.normal, partition, end - 1).await?;
        }
        bed.scrape_when(&["postlane_records_settled_total{lane=\"normal\"} 2", "postlane_commit_age_seconds 0.0"]).await
    }

    async fn broker_away(&self) -> Result<String> {
        let mut bed = self.bed(SmtpServer::builder(), None).await?;
        // long enough for the broker to go before the commit
        bed.builder = bed.builder.set("COMMIT_INTERVAL", "5s");
        bed.publish(&[mail("plain")]).await?;
        let mut service = bed.builder.start()?;
        bed.scrape_of(&mut service, &["postlane_records_settled_total{lane=\"normal\"} 1"]).await?;
        bed.cluster.kill().await?;
        bed.scrape_of(&mut service, &["postlane_broker_up 0"]).await
    }
}

impl Bed<'_> {
    /// To the normal lane, over its partitions.
    async fn publish(&self, events: &[Value]) -> Result<()> {
        for (partition, events) in (0..).zip(events.chunks(events.len().div_ceil(2))) {
            let records = events.iter().map(|event| Record::new(event.to_string())).collect();
            self.cluster.produce(&self.names.normal, partition, records).await?;
        }
        Ok(())
    }

    /// Starts the service and scrapes it once all of these lines are there.
    async fn scrape_when(&self, lines: &[&str]) -> Result<String> {
        let mut service = self.builder.start()?;
        self.scrape_of(&mut service, lines).await
    }

    async fn scrape_of(&self, service: &mut Service, lines: &[&str]) -> Result<String> {
        let address = service.http_address(SOON).await?;
        let deadline = Instant::now() + SOON;
        loop {
            let scrape = scrape(address).await?;
            let missing: Vec<_> = lines.iter().filter(|line| !scrape.lines().any(|found| found == **line)).collect();
            if missing.is_empty() {
                return Ok(ordered(&scrape).replace(&self.names.normal, "email-queue"));
            }
            if Instant::now() >= deadline {
                bail!("the service does not report {missing:?}:\n{}", service.tail());
            }
            sleep(POLL).await;
        }
    }
}

/// The text of `/metrics`.
async fn scrape(address: SocketAddr) -> Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n").await?;
    let mut answer = String::new();
    timeout(SOON, stream.read_to_string(&mut answer)).await??;
    let (head, body) = answer.split_once("\r\n\r\n").context("no answer in HTTP")?;
    if head.split(' ').nth(1) != Some("200") {
        bail!("/metrics answers {head}");
    }
    Ok(body.to_owned())
}

/// The series of each family by their labels: the service writes them in any order.
fn ordered(scrape: &str) -> String {
    let labels = |line: &&str| -> String {
        let labels = line.split_once('{').and_then(|(_, rest)| rest.rsplit_once('}')).map_or("", |(labels, _)| labels);
        // the buckets of a histogram stay in their order
        labels.split(',').filter(|label| !label.starts_with("le=")).collect()
    };
    let mut lines: Vec<&str> = scrape.lines().collect();
    for family in lines.chunk_by_mut(|_, next| !next.starts_with("# HELP ")) {
        let described = family.iter().take_while(|line| line.starts_with('#')).count();
        family[described..].sort_by_key(labels);
    }
    lines.join("\n") + "\n"
}

fn mail(template: &str) -> Value {
    json!({"message": {
        "from": "shop@example.com", "to": "user@example.com", "subject": "Hello", "template": template, "data": {"body": "Hello."},
    }})
}
