//! `cargo xtask bench`: mails a second from a backlog, beside what the machine's SMTP alone can do, and the memory that it
//! takes.
//!
//! Owns the plan of the rounds and the table. Each round measures postlane and then `smtp-source` against the same
//! `smtp-sink` with as many sessions and messages of the same size, so that both see the same machine.

mod backlog;
mod memory;
mod postfix;
mod service;

use std::{path::PathBuf, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use devkit::kafka::Cluster;

use self::{
    postfix::{Sink, Tools},
    service::{Measured, Run},
};

/// Arguments of `cargo xtask bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Mails in each round
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    mails: u32,
    /// SMTP sessions
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=256))]
    sessions: u32,
    /// Rounds
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=99))]
    rounds: u32,
    /// Partitions of each of the three topics
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    partitions: u32,
    /// Template of the mails: plain or password-reset
    #[arg(long, default_value = "plain")]
    template: String,
    /// Measure the memory instead: a large backlog while the relay is away, and then its delivery
    #[arg(long)]
    memory: bool,
    /// Take this program instead of building the release one
    #[arg(long, value_name = "PATH")]
    program: Option<PathBuf>,
}

/// Measures, and prints a table.
pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    let tools = Tools::find()?;
    let program = match &arguments.program {
        Some(program) => program.clone(),
        None => build()?,
    };
    eprintln!("waiting for a broker …");
    let cluster = Cluster::start().await?;
    if arguments.memory {
        return memory::run(&cluster, &program).await;
    }
    let plan = Run {
        cluster: &cluster,
        program: &program,
        mails: arguments.mails as usize,
        sessions: arguments.sessions,
        partitions: i32::try_from(arguments.partitions)?,
        template: &arguments.template,
    };
    let size = plan.size_of_a_mail().await?;
    let sink = Sink::start(&tools).await?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 1..=arguments.rounds {
        let measured = plan.measure(sink.port()).await?;
        let source = tools.source(sink.port(), arguments.sessions, arguments.mails, size).await?;
        eprintln!(
            "round {round}: postlane {:.0}/s, smtp-source {:.0}/s",
            measured.rate(),
            f64::from(arguments.mails) / source.as_secs_f64()
        );
        ours.push(measured);
        theirs.push(source);
    }
    print(&arguments, size, &ours, &theirs);
    Ok(())
}

fn print(arguments: &Arguments, size: usize, ours: &[Measured], theirs: &[Duration]) {
    let mails = f64::from(arguments.mails);
    println!(
        "\n{} mails of {size} bytes (template {}), {} sessions, {} rounds in turn, {} CPUs for all: broker, sink, client",
        arguments.mails,
        arguments.template,
        arguments.sessions,
        arguments.rounds,
        std::thread::available_parallelism().map_or(0, usize::from),
    );
    println!("{:<52} {:>8} {:>8} {:>8}", "mails a second", "median", "least", "most");
    let row = |name: &str, rates: Vec<f64>| {
        let (median, least, most) = spread(rates);
        println!("{name:<52} {median:>8.0} {least:>8.0} {most:>8.0}");
    };
    row("postlane, between its first and its last mail", ours.iter().map(Measured::rate).collect());
    row("postlane, from its start to its last mail", ours.iter().map(|run| mails / run.sent.as_secs_f64()).collect());
    row(
        "postlane, from its start to all committed and exit",
        ours.iter().map(|run| mails / run.ended.as_secs_f64()).collect(),
    );
    row("smtp-source -d, from its start to its exit", theirs.iter().map(|time| mails / time.as_secs_f64()).collect());
    let peak = ours.iter().map(|run| run.peak_memory).max().unwrap_or_default();
    println!("postlane's memory at its peak: {} MiB", peak >> 20);
}

/// Median, least and most.
fn spread(mut values: Vec<f64>) -> (f64, f64, f64) {
    values.sort_unstable_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
    (f64::midpoint(at(last / 2), at(last - last / 2)), at(0), at(last))
}

/// Builds postlane as it is released; returns where the program lies.
fn build() -> Result<PathBuf> {
    eprintln!("building the release …");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo).args(["build", "--release", "--package", "postlane"]).status().context("cargo")?;
    ensure!(status.success(), "the release does not build");
    // this program lies in target/debug or target/release
    let folder = std::env::current_exe()?.ancestors().nth(2).context("no target folder")?.join("release");
    Ok(folder.join("postlane"))
}

#[cfg(test)]
mod tests {
    use super::spread;

    #[test]
    fn the_median_is_the_middle_or_between_the_two_in_the_middle() {
        assert_eq!(spread(vec![3.0, 1.0, 2.0]), (2.0, 1.0, 3.0));
        assert_eq!(spread(vec![4.0, 1.0, 2.0, 3.0]), (2.5, 1.0, 4.0));
        assert_eq!(spread(vec![5.0]), (5.0, 5.0, 5.0));
    }
}
