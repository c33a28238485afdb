//! How large the program is, how soon it is ready, and what it takes while there is nothing to do.
//!
//! Owns the rounds and their table. Topics are empty and settings the default ones; a relay is not needed, since it is only
//! tried when there is a mail.

use std::{
    net::Ipv4Addr,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use devkit::{kafka::Cluster, service::Names};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::sleep,
};

use super::{
    backlog, row,
    service::{builder, cpu_time, memory},
};

/// Partitions of each of the three topics: what postlane makes by default.
const PARTITIONS: i32 = 6;
/// What is measured of a service that does nothing.
const IDLE: Duration = Duration::from_secs(60);
/// The longest time to get ready.
const LIMIT: Duration = Duration::from_secs(60);
/// Between two questions.
const POLL: Duration = Duration::from_millis(1);

/// What one round has shown.
struct Measured {
    /// From the start of the process to the first 200 of `/readyz`.
    ready: Duration,
    /// In bytes, when it has been ready for [`IDLE`].
    resident: usize,
    /// In all of [`IDLE`].
    cpu: Duration,
}

/// Measures the rounds and prints a table.
pub(super) async fn run(cluster: &Cluster, program: &Path, rounds: u32) -> Result<()> {
    let names = backlog::publish(cluster, PARTITIONS, 0, |_| String::new()).await?;
    // the group has a commit, as after any restart
    measure(cluster, program, &names, Duration::ZERO).await?;
    let mut measured = Vec::new();
    for round in 1..=rounds {
        let this = measure(cluster, program, &names, IDLE).await?;
        eprintln!("round {round}: ready after {:?}", this.ready);
        measured.push(this);
    }
    backlog::remove(cluster, &names).await?;
    println!("\n{}: {} bytes; {rounds} rounds, 3 topics of {PARTITIONS} partitions", program.display(), size(program)?);
    println!("{:<52} {:>8} {:>8} {:>8}", "", "median", "least", "most");
    let of = |value: fn(&Measured) -> f64| measured.iter().map(value).collect();
    row("start to ready, in ms", 0, of(|round| round.ready.as_secs_f64() * 1e3));
    row("memory when idle for 60 s (resident), in MiB", 1, of(|round| mebibytes(round.resident)));
    row("CPU in these 60 s, in % of one", 2, of(|round| round.cpu.as_secs_f64() / IDLE.as_secs_f64() * 100.0));
    Ok(())
}

async fn measure(cluster: &Cluster, program: &Path, names: &Names, idle: Duration) -> Result<Measured> {
    let port = || -> Result<u16> { Ok(std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port()) };
    let (http, relay) = (port()?, port()?);
    let builder = builder(program, cluster, names, relay).set("HTTP_ADDR", format!("127.0.0.1:{http}"));
    let begun = Instant::now();
    let mut service = builder.start()?;
    while !is_ready(http).await {
        if begun.elapsed() > LIMIT || service.exit_status()?.is_some() {
            bail!("postlane does not get ready:\n{}", service.tail());
        }
        sleep(POLL).await;
    }
    let ready = begun.elapsed();
    let before = cpu_time(&service)?;
    sleep(idle).await;
    let (resident, after) = (memory(&service, "VmRSS:")?, cpu_time(&service)?);
    let cpu = after.checked_sub(before).context("processor time goes on")?;
    service.terminate(Duration::from_secs(30)).await?;
    Ok(Measured { ready, resident, cpu })
}

async fn is_ready(port: u16) -> bool {
    let answer = async {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        stream.write_all(b"GET /readyz HTTP/1.0\r\nHost: localhost\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    answer.await.is_ok_and(|answer| answer.split(' ').nth(1) == Some("200"))
}

fn size(program: &Path) -> Result<u64> {
    Ok(program.metadata().with_context(|| program.display().to_string())?.len())
}

#[expect(clippy::cast_precision_loss, reason = "bytes far below 2^52")]
fn mebibytes(bytes: usize) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
