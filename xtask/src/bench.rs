//! `cargo xtask bench`: mails a second from a backlog, beside what the machine's SMTP alone can do, the memory that it
//! takes, what the program takes while there is nothing to do, how long it takes to publish a mail, and how fast a file of
//! events is published.
//!
//! Owns the plan of the rounds and the table. Each round measures postlane (or each of the programs named, in turn) and then
//! `smtp-source` against the same `smtp-sink` with as many sessions and messages of the same size, so that all see the same
//! machine.

mod backlog;
mod idle;
mod memory;
mod postfix;
mod publish;
mod send_file;
mod service;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Result;
use devkit::kafka::Cluster;

use self::{
    postfix::{Sink, Tools},
    service::{Measured, Run},
};
use crate::cargo;

/// Arguments of `cargo xtask bench`.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
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
    /// Measure what it takes before and without any mail instead: size, start to ready, idle memory and CPU
    #[arg(long, conflicts_with = "memory")]
    idle: bool,
    /// Measure how long applications wait for a mail to be safe in Kafka instead
    #[arg(long, conflicts_with_all = ["memory", "idle"])]
    publish: bool,
    /// Measure `send --file` with as many lines as --mails says instead, beside kafka-console-producer
    #[arg(long, conflicts_with_all = ["memory", "idle", "publish"])]
    send_file: bool,
    /// Take this program instead of building the release one; several are measured in turn
    #[arg(long = "program", value_name = "PATH")]
    programs: Vec<PathBuf>,
    /// Build the release for this target, such as x86_64-unknown-linux-musl
    #[arg(long, value_name = "TRIPLE", conflicts_with = "programs")]
    target: Option<String>,
}

/// Measures, and prints a table.
pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    if arguments.publish {
        return publish::run(arguments.rounds).await;
    }
    let programs = if arguments.programs.is_empty() {
        vec![cargo::build_release(arguments.target.as_deref()).await?]
    } else {
        arguments.programs.clone()
    };
    eprintln!("waiting for a broker …");
    let cluster = Cluster::start().await?;
    if arguments.memory {
        for program in &programs {
            memory::run(&cluster, program).await?;
        }
        return Ok(());
    }
    if arguments.send_file {
        let plan = (arguments.mails, arguments.rounds, i32::try_from(arguments.partitions)?);
        return send_file::run(&cluster, programs.iter().map(PathBuf::as_path), plan).await;
    }
    if arguments.idle {
        for program in &programs {
            idle::run(&cluster, program, arguments.rounds).await?;
        }
        return Ok(());
    }
    let tools = Tools::find()?;
    let plan = |program| -> Result<Run<'_>> {
        Ok(Run {
            cluster: &cluster,
            program,
            mails: arguments.mails as usize,
            sessions: arguments.sessions,
            partitions: i32::try_from(arguments.partitions)?,
            template: &arguments.template,
        })
    };
    let size = plan(&programs[0])?.size_of_a_mail().await?;
    let sink = Sink::start(&tools).await?;
    let mut ours: Vec<Vec<Measured>> = programs.iter().map(|_| Vec::new()).collect();
    let mut theirs = Vec::new();
    for round in 1..=arguments.rounds {
        for (program, ours) in programs.iter().zip(&mut ours) {
            let measured = plan(program)?.measure(sink.port()).await?;
            eprintln!("round {round}: {} {:.0}/s", program.display(), measured.rate());
            ours.push(measured);
        }
        let source = tools.source(sink.port(), arguments.sessions, arguments.mails, size).await?;
        eprintln!("round {round}: smtp-source {:.0}/s", f64::from(arguments.mails) / source.as_secs_f64());
        theirs.push(source);
    }
    println!(
        "\n{} mails of {size} bytes (template {}), {} sessions, {} rounds in turn, {} CPUs for all: broker, sink, client",
        arguments.mails,
        arguments.template,
        arguments.sessions,
        arguments.rounds,
        std::thread::available_parallelism().map_or(0, usize::from),
    );
    for (program, ours) in programs.iter().zip(&ours) {
        print(program, f64::from(arguments.mails), ours);
    }
    let rates = theirs.iter().map(|time| f64::from(arguments.mails) / time.as_secs_f64()).collect();
    row("smtp-source -d, from its start to its exit", 0, rates);
    Ok(())
}

fn print(program: &Path, mails: f64, ours: &[Measured]) {
    println!("{:<52} {:>8} {:>8} {:>8}", program.display(), "median", "least", "most");
    let rates = |time: fn(&Measured) -> Duration| ours.iter().map(|run| mails / time(run).as_secs_f64()).collect();
    row("mails/s between its first and its last mail", 0, ours.iter().map(Measured::rate).collect());
    row("mails/s from its start to its last mail", 0, rates(|run| run.sent));
    row("mails/s from its start to all committed and exit", 0, rates(|run| run.ended));
    row(
        "CPU time for a mail, in microseconds",
        1,
        ours.iter().map(|run| run.cpu.as_secs_f64() * 1e6 / mails).collect(),
    );
    row("peak memory, in MiB", 1, ours.iter().map(Measured::peak_mebibytes).collect());
}

fn row(name: &str, digits: usize, values: Vec<f64>) {
    let (median, least, most) = spread(values);
    println!("  {name:<50} {median:>8.digits$} {least:>8.digits$} {most:>8.digits$}");
}

/// Median, least and most.
fn spread(mut values: Vec<f64>) -> (f64, f64, f64) {
    values.sort_unstable_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
    (f64::midpoint(at(last / 2), at(last - last / 2)), at(0), at(last))
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
