//! The shortest useful program: one mail, by way of Kafka.
//!
//! ```text
//! KAFKA_BROKERS=localhost:9092 cargo run --example publish -- user@example.com
//! ```

use std::env;

use anyhow::{Context, Result};
use postlane::{Email, Producer};
use serde_json::json;

#[tokio::main]
async fn main() -> Result<()> {
    let to = env::args().nth(1).context("usage: publish <recipient address>")?;

    // an application keeps one producer, and clones it for its tasks
    let producer = Producer::from_env()?;
    let email = Email::to(to)
        .from("Example <noreply@example.com>")
        .subject("Hello from Kafka")
        .template("plain")
        .data(json!({ "body": "This mail was an event in a topic a moment ago." }));
    let receipt = producer.send(email).await?;
    println!("mail {} is safe: {}", receipt.id(), receipt.way());

    producer.close().await;
    Ok(())
}
