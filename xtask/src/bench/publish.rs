//! `cargo xtask bench --publish`: how long an application waits for a mail to be safe.
//!
//! Owns the plan: the loads, who has to bear them, and the table. All are measured in turn against the same broker, on a
//! topic of their own, with the same acknowledgement (all in-sync replicas) and values of the same size: postlane's
//! `Producer`, rskafka with one call a mail, and Kafka's own performance tool where the load is one that it knows.
//!
//! This program is built without optimisation as a rule: what is measured here is built with it and started anew.

mod latency;
mod load;
mod subject;

use std::time::Duration;

use anyhow::{Result, ensure};
use devkit::kafka::{Cluster, unique};

use self::{
    load::{closed, open},
    subject::{Plain, Postlane, Subject, java},
};
use crate::cargo;

/// Profile of cargo's in which the measured program is built: optimised, and built in minutes.
const PROFILE: &str = "bench-publish";
/// Tells the program that it is the measured one.
const MEASURED: &str = "POSTLANE_BENCH_MEASURED";

/// Partitions of the topic.
const PARTITIONS: i32 = 6;
/// Mails a second of the open loops.
const RATES: [u32; 2] = [100, 1000];
/// Time before an open loop counts, and time for which it does.
const WARM_UP: Duration = Duration::from_secs(5);
const MEASURE: Duration = Duration::from_secs(20);
/// Callers of the closed loop, each of which sends one mail after the other, and mails of each.
const CALLERS: u32 = 5000;
const MAILS_OF_EACH: u32 = 20;

/// Builds what is measured, and starts it.
pub(crate) async fn run(rounds: u32) -> Result<()> {
    if std::env::var_os(MEASURED).is_some() {
        return measure(rounds).await;
    }
    let rounds = rounds.to_string();
    let line =
        ["run", "--quiet", "--package", "xtask", "--profile", PROFILE, "--", "bench", "--publish", "--rounds", &rounds];
    let status = cargo::run(&line, &[(MEASURED, "1")]).await?;
    ensure!(status.success(), "the measured program failed: see above");
    Ok(())
}

async fn measure(rounds: u32) -> Result<()> {
    eprintln!("waiting for a broker …");
    let cluster = Cluster::start().await?;
    let topic = unique("bench-publish");
    for topic in [topic.clone(), format!("{topic}-high"), format!("{topic}-low")] {
        cluster.create_topic(&topic, PARTITIONS, &[]).await?;
    }
    let size = subject::event(0).len();
    println!(
        "values of {size} bytes, {PARTITIONS} partitions, acks=all, {} CPUs for broker and clients; times in ms",
        std::thread::available_parallelism().map_or(0, usize::from),
    );
    println!("{:<42} {:>9} {:>9} {:>9} {:>9} {:>9}", "", "mails/s", "p50", "p99", "p99.9", "max");
    let subjects = || async {
        let ours = Postlane::new(&cluster, &topic).await?;
        anyhow::Ok([Subject::Postlane(ours), Subject::Plain(Plain::new(&cluster, &topic).await?)])
    };
    for round in 1..=rounds {
        println!("round {round}");
        for rate in RATES {
            for subject in subjects().await? {
                let name = format!("  {rate}/s open loop: {subject}");
                let measured = open(subject, rate, WARM_UP, MEASURE).await?;
                println!("{name:<42} {measured}");
            }
            let measured = java(&cluster, &topic, rate, WARM_UP, MEASURE, size).await?;
            println!("{:<42} {measured}", format!("  {rate}/s: kafka's own tool, start included"));
        }
        for subject in subjects().await? {
            let name = format!("  {CALLERS} callers: {subject}");
            let measured = closed(subject, CALLERS, MAILS_OF_EACH).await?;
            println!("{name:<42} {measured}");
        }
    }
    for topic in [topic.clone(), format!("{topic}-high"), format!("{topic}-low")] {
        cluster.delete_topic(&topic).await?;
    }
    Ok(())
}
