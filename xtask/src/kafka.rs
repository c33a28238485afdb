//! `cargo xtask kafka`: a real broker in the foreground.
//!
//! Owns printing where it is and waiting for the end; the broker itself is the kit's.

use anyhow::{Context as _, Result};
use devkit::kafka::{BROKERS_VARIABLE, Cluster};
use tokio::signal::unix::{SignalKind, signal};

/// Arguments of `cargo xtask kafka`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The number of brokers
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..=9))]
    brokers: i32,
    /// A topic to create: NAME or NAME:PARTITIONS; may be repeated
    #[arg(long = "topic", value_name = "TOPIC")]
    topics: Vec<String>,
    /// A broker property, NAME=VALUE; may be repeated
    #[arg(long = "property", value_name = "PROPERTY")]
    properties: Vec<String>,
}

/// Starts the brokers, prints their addresses, and stops them on Ctrl-C or SIGTERM.
pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut builder = Cluster::builder().brokers(arguments.brokers);
    for property in &arguments.properties {
        let (name, value) = property.split_once('=').with_context(|| format!("not NAME=VALUE: {property}"))?;
        builder = builder.property(name, value);
    }
    eprintln!("starting Apache Kafka {} …", devkit::kafka::KAFKA_VERSION);
    let cluster = tokio::select! {
        started = builder.start() => started?,
        _ = tokio::signal::ctrl_c() => return Ok(()),
        _ = terminate.recv() => return Ok(()),
    };
    for topic in &arguments.topics {
        let (name, partitions) = topic.split_once(':').unwrap_or((topic, "1"));
        let partitions = partitions.parse().with_context(|| format!("not NAME:PARTITIONS: {topic}"))?;
        cluster.create_topic(name, partitions, &[]).await?;
    }
    println!("export {BROKERS_VARIABLE}={0}   # or KAFKA_BROKERS={0}", cluster.bootstrap());
    eprintln!("Ctrl-C stops it and removes its data");
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        _ = terminate.recv() => {}
    }
    Ok(())
}
