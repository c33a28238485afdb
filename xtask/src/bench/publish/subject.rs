//! Who is measured.

use std::{collections::BTreeMap, fmt, time::Duration};

use anyhow::{Context as _, Result, ensure};
use chrono::Utc;
use devkit::kafka::Cluster;
use postlane::Producer;
use rskafka::{
    client::{
        ClientBuilder,
        partition::{Compression, PartitionClient, UnknownTopicHandling},
    },
    record::Record,
};

use super::{PARTITIONS, latency::Measured};
use crate::bench::backlog;

/// Time that a mail may take: nothing is to be left out of the times.
const TIMEOUT: Duration = Duration::from_secs(120);

/// The event of a mail.
pub(super) fn event(number: u32) -> String {
    let event = backlog::event("plain", number as usize).unwrap_or_default();
    event.split_whitespace().collect::<Vec<_>>().join(" ")
}

pub(super) enum Subject {
    Postlane(Postlane),
    Plain(Plain),
}

impl Subject {
    pub(super) async fn send(&self, number: u32) -> Result<()> {
        match self {
            Self::Postlane(Postlane(producer)) => {
                let _ = producer.send_event(event(number)).await?;
                Ok(())
            }
            Self::Plain(plain) => plain.send(number).await,
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Postlane(_) => "postlane",
            Self::Plain(_) => "rskafka, a call a mail",
        })
    }
}

/// What applications use, with its usual settings but for the time, and room for all callers.
pub(super) struct Postlane(Producer);

impl Postlane {
    pub(super) async fn new(cluster: &Cluster, topic: &str) -> Result<Self> {
        let producer =
            Producer::builder().brokers(cluster.bootstrap().split(',')).topic(topic).timeout(TIMEOUT).build()?;
        producer.ready().await?;
        Ok(Self(producer))
    }
}

/// A produce call of rskafka for each mail, on one connection for each partition.
pub(super) struct Plain(Vec<PartitionClient>);

impl Plain {
    pub(super) async fn new(cluster: &Cluster, topic: &str) -> Result<Self> {
        let client = ClientBuilder::new(cluster.bootstrap().split(',').map(str::to_owned).collect()).build().await?;
        let mut partitions = Vec::new();
        for partition in 0..PARTITIONS {
            partitions.push(client.partition_client(topic, partition, UnknownTopicHandling::Retry).await?);
        }
        Ok(Self(partitions))
    }

    async fn send(&self, number: u32) -> Result<()> {
        let record = Record {
            key: Some(format!("bench-{number:07}").into_bytes()),
            value: Some(event(number).into_bytes()),
            headers: BTreeMap::new(),
            timestamp: Utc::now(),
        };
        let partition = &self.0[number as usize % self.0.len()];
        partition.produce(vec![record], Compression::NoCompression).await?;
        Ok(())
    }
}

/// Kafka's own performance tool, of which the last lines of each five seconds and of all are read.
pub(super) async fn java(
    cluster: &Cluster,
    topic: &str,
    rate: u32,
    warm_up: Duration,
    span: Duration,
    size: usize,
) -> Result<Measured> {
    // what it takes to warm up stands in its own figures
    let arguments = |seconds: u64| {
        let count = u64::from(rate) * seconds;
        [
            ("--topic", topic.to_owned()),
            ("--num-records", count.to_string()),
            ("--throughput", rate.to_string()),
            ("--record-size", size.to_string()),
        ]
        .into_iter()
        .flat_map(|(name, value)| [name.to_owned(), value])
        .chain(["--producer-props".to_owned(), format!("bootstrap.servers={}", cluster.bootstrap())])
        .chain(["acks=all".to_owned(), "linger.ms=0".to_owned()])
        .collect::<Vec<String>>()
    };
    let class = "org.apache.kafka.tools.ProducerPerformance";
    let all = arguments((warm_up + span).as_secs());
    let output = cluster.tool_with(class, &all.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    let last = output.stdout.lines().rfind(|line| line.contains("99.9th")).context("no figures")?;
    read(last)
}

/// `500 records sent, 99.9 records/sec (0.05 MB/sec), 1.23 ms avg latency, 45.00 ms max latency, 1 ms 50th, 2 ms 95th,
/// 3 ms 99th, 4 ms 99.9th.`
fn read(line: &str) -> Result<Measured> {
    let number = |unit: &str| -> Result<f64> {
        let (before, _) = line.split_once(unit).with_context(|| format!("no{unit} in {line:?}"))?;
        let text = before.rsplit([' ', ',']).next().unwrap_or_default();
        text.parse().with_context(|| format!("{text:?} in {line:?}"))
    };
    let measured = Measured {
        rate: number(" records/sec")?,
        p50: number(" ms 50th")?,
        p99: number(" ms 99th")?,
        p999: number(" ms 99.9th")?,
        max: number(" ms max latency")?,
    };
    ensure!(measured.rate > 0.0, "nothing was sent: {line:?}");
    Ok(measured)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_of_kafkas_tool_is_read() {
        let line = "25000 records sent, 999.960002 records/sec (0.48 MB/sec), 1.02 ms avg latency, 280.00 ms max latency, \
                    1 ms 50th, 2 ms 95th, 4 ms 99th, 32 ms 99.9th.";
        let measured = read(line).expect("figures");
        assert_eq!(measured, Measured { rate: 999.960_002, p50: 1.0, p99: 4.0, p999: 32.0, max: 280.0 });
    }
}
