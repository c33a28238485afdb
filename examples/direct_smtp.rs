//! Mails without Kafka: the same producer, templates and checks, straight to the relay (`KAFKA_ENABLED=false`).
//!
//! ```text
//! SMTP_HOST=localhost SMTP_PORT=1025 cargo run --example direct_smtp -- ann@example.com bob@example.com
//! ```
//!
//! It is one attempt: what the relay refuses for now is this program's to try again, while the service would do that by
//! itself. `SMTP_USER`, `SMTP_PASSWORD` and the others are those of the service.

use std::env;

use anyhow::{Result, bail};
use postlane::{Email, Producer};
use serde_json::json;
use tokio::task::JoinSet;

#[tokio::main]
async fn main() -> Result<()> {
    let recipients: Vec<String> = env::args().skip(1).collect();
    if recipients.is_empty() {
        bail!("usage: direct_smtp <recipient address>...");
    }
    let producer = Producer::builder().environment().kafka_enabled(false).build()?;

    // all at once: the producer bounds the sessions, and whoever waits gets one in turn
    let mut sends = JoinSet::new();
    for to in recipients {
        let producer = producer.clone();
        sends.spawn(async move {
            let email =
                Email::to(to).from("Example <noreply@example.com>").template("welcome").data(json!({ "Name": "you" }));
            producer.send(email).await
        });
    }
    let mut failed = 0;
    while let Some(sent) = sends.join_next().await {
        match sent? {
            Ok(receipt) => println!("{}: {}", receipt.message_id().unwrap_or_default(), receipt.way()),
            Err(error) => {
                failed += 1;
                // sent again under the same id, both copies would have the same Message-ID
                let hint = if error.may_go_out() { " (it may be there all the same)" } else { "" };
                eprintln!("{error}{hint}");
            }
        }
    }

    // ends the sessions with QUIT
    producer.close().await;
    if failed > 0 {
        bail!("{failed} mails were not sent");
    }
    Ok(())
}
