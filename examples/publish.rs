//! Publishes one event to the normal lane, as any Kafka client can:
//!
//! ```text
//! KAFKA_BROKERS=localhost:9092 cargo run --example publish -- user@example.com
//! ```

use std::{collections::BTreeMap, env, time::Duration};

use anyhow::{Context, Result};
use chrono::Utc;
use rskafka::{
    BackoffConfig,
    client::{
        ClientBuilder,
        partition::{Compression, UnknownTopicHandling},
    },
    record::Record,
};
use serde_json::json;

#[tokio::main]
async fn main() -> Result<()> {
    let to = env::args().nth(1).context("usage: publish <recipient address>")?;
    let brokers = env::var("KAFKA_BROKERS").unwrap_or_else(|_| "localhost:9092".to_owned());
    let topic = env::var("KAFKA_TOPIC").unwrap_or_else(|_| "email-queue".to_owned());

    let now = Utc::now();
    // The same id always makes the same Message-ID: choose it once for each mail, and keep it when you publish again.
    let id = format!("hello-{}", now.timestamp_micros());
    let event = json!({
        "type": "notification",
        "message": {
            "id": id,
            "from": "Example <noreply@example.com>",
            "to": to,
            "subject": "Hello from Kafka",
            "template": "plain",
            "data": { "body": "This mail was an event in a topic a moment ago." },
        },
    });

    // Without a deadline the client tries for ever.
    let backoff = BackoffConfig { deadline: Some(Duration::from_secs(10)), ..BackoffConfig::default() };
    let brokers = brokers.split(',').map(|broker| broker.trim().to_owned()).collect();
    let client = ClientBuilder::new(brokers).backoff_config(backoff).build().await?;
    let partition = client.partition_client(topic.as_str(), 0, UnknownTopicHandling::Error).await?;
    let record = Record {
        key: Some(id.clone().into_bytes()),
        value: Some(event.to_string().into_bytes()),
        headers: BTreeMap::new(),
        timestamp: now,
    };
    let offsets = partition.produce(vec![record], Compression::NoCompression).await?;
    println!("published {id} to {topic}, partition 0, offset {}", offsets[0]);
    Ok(())
}
