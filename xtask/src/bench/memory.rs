//! The memory that postlane takes while a large backlog waits for a relay that is away, and while it is delivered after.

use std::{net::Ipv4Addr, path::Path, time::Duration};

use anyhow::Result;
use devkit::kafka::Cluster;

use super::{
    backlog,
    postfix::{Sink, Tools},
    service::{Outcomes, builder, peak_memory},
};

/// Partitions of each topic.
const PARTITIONS: i32 = 1;

/// How many records of how many bytes.
const BACKLOGS: [(usize, usize); 2] = [(200_000, 1_000), (300, 1_000_000)];

/// Measures one backlog after the other and prints a line for each.
pub(super) async fn run(cluster: &Cluster, program: &Path) -> Result<()> {
    let tools = Tools::find()?;
    println!(
        "memory with the default settings, {PARTITIONS} partition in each of three topics, relay away and then back"
    );
    println!("{:>8} {:>10} {:>10} {:>12} {:>12}", "records", "bytes each", "MiB in all", "MiB (away)", "MiB (peak)");
    for (records, bytes) in BACKLOGS {
        let event = |number| event(number, bytes);
        let names = backlog::publish(cluster, PARTITIONS, records, event).await?;
        let port = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let mut service = builder(program, cluster, &names, port).start()?;
        service.wait_for_line(&["the relay is still down"], Duration::from_secs(60)).await?;
        let away = peak_memory(&service)?;
        let _sink = Sink::start_on(&tools, port).await?;
        Outcomes::follow(&mut service, records).await?;
        let peak = peak_memory(&service)?;
        println!("{records:>8} {bytes:>10} {:>10} {:>12} {:>12}", (records * bytes) >> 20, away >> 20, peak >> 20);
        service.terminate(Duration::from_secs(30)).await?;
        backlog::remove(cluster, &names).await?;
    }
    Ok(())
}

/// An event of about so many bytes, most of which no mail shows.
fn event(number: usize, bytes: usize) -> String {
    let rest = "x".repeat(bytes.saturating_sub(260));
    format!(
        r#"{{"message": {{"id": "bench-{number:07}", "from": "Shop <shop@example.com>", "to": "customer@example.com",
        "subject": "Hello", "template": "plain", "data": {{"body": "short", "weight": "{rest}"}}}}}}"#
    )
}
