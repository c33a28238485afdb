//! `cargo xtask container`: the image as it is shipped, and a mail delivered from it.
//!
//! Owns what the image and a container of it must be: small, one process without any right, on a root that cannot be
//! written, healthy by its own word, and gone within its grace period when it is told to stop. The container shares the
//! host's network, so the Docker daemon must run on this machine (Linux).

mod docker;
mod process;

use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use devkit::{
    kafka::{Cluster, Compression, Record},
    service::Names,
    smtp::SmtpServer,
};

use self::{docker::Container, process::Traits};
use crate::{cargo, interrupt, progress::Progress};

/// What the image may weigh, in bytes; it is the program and nothing else.
const MOST_BYTES: u64 = 12_000_000;
/// `SHUTDOWN_TIMEOUT` by default, within which the container must have ended; what `docker stop` grants lies above.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(25);
const GRACE: Duration = Duration::from_secs(30);
/// Time for what should happen soon, on a machine with much else to do.
const SOON: Duration = Duration::from_secs(60);

/// Arguments of `cargo xtask container`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Put this program into the image instead of building the release one for musl
    #[arg(long, value_name = "PATH")]
    program: Option<PathBuf>,
    /// The image's name
    #[arg(long, default_value = "postlane:local")]
    image: String,
}

/// Builds the image, and lets a container of it do its work.
pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode> {
    interrupt::or_interrupted(async {
        let progress = Progress::start();
        let architecture = architecture()?;
        let program = match &arguments.program {
            Some(program) => program.clone(),
            None => cargo::build_release(Some(&format!("{}-unknown-linux-musl", std::env::consts::ARCH))).await?,
        };
        build(&program, architecture, &arguments.image).await?;
        inspect(&arguments.image, &progress).await?;
        deliver(&arguments.image, &progress).await?;
        Ok(ExitCode::SUCCESS)
    })
    .await
}

/// This machine's architecture as Docker names it.
fn architecture() -> Result<&'static str> {
    match std::env::consts::ARCH {
        "x86_64" => Ok("amd64"),
        "aarch64" => Ok("arm64"),
        other => anyhow::bail!("the Dockerfile knows amd64 and arm64, not {other}"),
    }
}

/// The Dockerfile's last stage, around a program that exists already.
async fn build(program: &Path, architecture: &str, image: &str) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies in the repository")?;
    let folder = root.join("dist").join(architecture);
    fs::create_dir_all(&folder)?;
    fs::copy(program, folder.join("postlane")).with_context(|| format!("cannot copy {}", program.display()))?;
    let root = root.to_str().context("the repository's path is not UTF-8")?;
    docker::run(&["build", "--tag", image, "--build-arg", "BINARY=prebuilt", root]).await.map(drop)
}

/// What the image says of itself.
async fn inspect(image: &str, progress: &Progress) -> Result<()> {
    let says = async |format: &str| docker::run(&["image", "inspect", "--format", format, image]).await;
    let bytes: u64 = says("{{.Size}}").await?.parse()?;
    ensure!(bytes < MOST_BYTES, "the image has {bytes} bytes, and {MOST_BYTES} are the limit");
    let layers = says("{{len .RootFS.Layers}}").await?;
    ensure!(layers == "1", "the image has {layers} layers: it should hold one file");
    let user = says("{{.Config.User}}").await?;
    let numeric = user.split(':').map(str::parse::<u32>).all(|id| id.is_ok_and(|id| id > 0));
    ensure!(numeric, "the image's user is {user:?}, which is not one with a number above 0");
    let signal = says("{{.Config.StopSignal}}").await?;
    ensure!(signal == "SIGTERM", "the image is stopped by {signal:?}");
    let health = says("{{json .Config.Healthcheck.Test}}").await?;
    ensure!(health == r#"["CMD","/postlane","healthcheck"]"#, "the image's health check is {health}");
    progress.step(format_args!("image {image}: {bytes} bytes, user {user}"));
    Ok(())
}

/// A mail from a broker through the container to a mail server; then the container's end.
async fn deliver(image: &str, progress: &Progress) -> Result<()> {
    let cluster = Cluster::start().await?;
    let names = Names::unique();
    for topic in names.lanes().into_iter().chain([names.dead_letters.as_str()]) {
        cluster.create_topic(topic, 1, &[]).await?;
    }
    let smtp = SmtpServer::builder().start().await;
    progress.step(format_args!("broker at {}, mail server at {}", cluster.bootstrap(), smtp.addr()));
    // free a moment ago; should another program have taken it, the container ends and says so
    let http = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    let variables = [
        ("KAFKA_BROKERS", cluster.bootstrap().to_owned()),
        ("KAFKA_TOPIC_HIGH", names.high.clone()),
        ("KAFKA_TOPIC_NORMAL", names.normal.clone()),
        ("KAFKA_TOPIC_LOW", names.low.clone()),
        ("KAFKA_DLQ_TOPIC", names.dead_letters.clone()),
        ("KAFKA_GROUP_ID", names.group.clone()),
        ("SMTP_HOST", "127.0.0.1".to_owned()),
        ("SMTP_PORT", smtp.port().to_string()),
        ("SMTP_ENCRYPTION", "none".to_owned()),
        ("HTTP_ADDR", http.to_string()),
    ];
    let container = Container::start(image, &variables).await?;
    let traits = Traits::of(container.process_id().await?)?;
    traits.check()?;
    progress.step(format_args!("container runs: {traits}"));

    let event = r#"{"message": {"id": "from-the-container", "from": "shop@example.com", "to": "user@example.com",
        "subject": "From the container", "template": "plain", "data": {"body": "It works."}}}"#;
    cluster.produce_spread(&names.high, vec![Record::new(event)], Compression::NoCompression).await?;
    if let Err(error) = smtp.wait_for_mails(1, SOON).await {
        anyhow::bail!("no mail came out of the container: {error}\n{}", container.log().await?);
    }
    progress.step("the mail is delivered");
    container.wait_until_healthy(SOON).await?;
    progress.step("the container is healthy");

    let told = Instant::now();
    let status = container.stop(GRACE).await?;
    let took = told.elapsed();
    let log = container.log().await?;
    ensure!(status == 0, "the container ended with {status} after {took:?}:\n{log}");
    ensure!(took < SHUTDOWN_TIMEOUT, "the container took {took:?} to end:\n{log}");
    let lag: Option<i64> = cluster.group_lag(&names.group).await?.iter().map(|partition| partition.lag).sum();
    ensure!(lag == Some(0), "the mail is sent and the container has ended, but the lag is {lag:?}:\n{log}");
    let mails = smtp.ledger().accepted().len();
    ensure!(mails == 1, "one event has become {mails} mails:\n{log}");
    progress.step(format_args!("stopped by SIGTERM in {:.1} s, exit status 0, lag 0", took.as_secs_f64()));
    Ok(())
}
