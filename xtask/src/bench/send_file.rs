//! `postlane send --file` with a large file: lines a second and the memory that it takes, beside Kafka's own
//! `kafka-console-producer` with the same file, the same number of partitions and `acks=all`.

use std::{
    fs::File,
    io::{BufWriter, Write as _},
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use devkit::{kafka::Cluster, service::Names};

use super::{backlog, row, service::builder};

/// The peak of the memory is looked at this often.
const POLL: Duration = Duration::from_millis(20);

/// Rounds in turn with all programs, and a table.
pub(super) async fn run<'a>(
    cluster: &Cluster,
    programs: impl Iterator<Item = &'a Path> + Clone,
    (lines, rounds, partitions): (u32, u32, i32),
) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("events.ndjson");
    let bytes = write(&file, lines)?;
    let mut ours: Vec<Vec<(Duration, usize)>> = programs.clone().map(|_| Vec::new()).collect();
    let mut theirs = Vec::new();
    for round in 1..=rounds {
        for (program, ours) in programs.clone().zip(&mut ours) {
            let names = backlog::publish(cluster, partitions, 0, |_| String::new()).await?;
            let measured = send(cluster, program, &names, &file).await?;
            eprintln!("round {round}: {} {:.0}/s", program.display(), rate(lines, measured.0));
            count(cluster, &names, lines).await?;
            backlog::remove(cluster, &names).await?;
            ours.push(measured);
        }
        let names = backlog::publish(cluster, partitions, 0, |_| String::new()).await?;
        let started = Instant::now();
        let arguments = ["--topic", names.normal.as_str(), "--producer-property", "acks=all"];
        cluster.feed("org.apache.kafka.tools.ConsoleProducer", &arguments, &file).await?;
        theirs.push(started.elapsed());
        eprintln!("round {round}: kafka-console-producer {:.0}/s", rate(lines, started.elapsed()));
        count(cluster, &names, lines).await?;
        backlog::remove(cluster, &names).await?;
    }
    println!(
        "\n{lines} events of {} bytes, {partitions} partitions, acks=all, {rounds} rounds in turn, {} CPUs with the broker",
        bytes / u64::from(lines),
        std::thread::available_parallelism().map_or(0, usize::from),
    );
    for (program, ours) in programs.zip(&ours) {
        println!("{:<52} {:>8} {:>8} {:>8}", program.display(), "median", "least", "most");
        row("lines/s from its start to its exit", 0, ours.iter().map(|(time, _)| rate(lines, *time)).collect());
        #[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
        let peaks = ours.iter().map(|(_, peak)| *peak as f64 / f64::from(1 << 20)).collect();
        row("peak memory, in MiB", 1, peaks);
    }
    row(
        "kafka-console-producer, from its start to its exit",
        0,
        theirs.iter().map(|time| rate(lines, *time)).collect(),
    );
    Ok(())
}

fn rate(lines: u32, time: Duration) -> f64 {
    f64::from(lines) / time.as_secs_f64()
}

/// Events of the normal lane on one line each; the bytes of all.
fn write(path: &Path, lines: u32) -> Result<u64> {
    let mut file = BufWriter::new(File::create(path)?);
    for number in 0..lines {
        let event: String = backlog::event("plain", number as usize)?.lines().map(str::trim_start).collect();
        writeln!(file, "{event}")?;
    }
    Ok(file.into_inner()?.metadata()?.len())
}

/// Time from the program's start to its end, and the peak of its memory in bytes.
async fn send(cluster: &Cluster, program: &Path, names: &Names, file: &Path) -> Result<(Duration, usize)> {
    let file = file.to_str().context("the path is not UTF-8")?;
    let mut command = builder(program, cluster, names, 1).command(&["send", "--file", file, "--restart", "--json"]);
    let started = Instant::now();
    let mut child = command.stdout(Stdio::null()).spawn()?;
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    loop {
        if let Some(ended) = child.try_wait()? {
            ensure!(ended.success(), "{} ended with {ended}", program.display());
            return Ok((started.elapsed(), peak));
        }
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let kib = text.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse().ok());
        peak = peak.max(kib.map_or(0, |kib: usize| kib * 1024));
        tokio::time::sleep(POLL).await;
    }
}

/// Demands that every event is there.
async fn count(cluster: &Cluster, names: &Names, lines: u32) -> Result<()> {
    let mut found = 0;
    for partition in cluster.partitions(&names.normal).await? {
        let (start, end) = cluster.offsets(&names.normal, partition).await?;
        found += end - start;
    }
    if found == i64::from(lines) { Ok(()) } else { bail!("{found} records of {lines}") }
}
