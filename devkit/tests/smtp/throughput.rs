//! How fast the server is itself, so that it is not what a benchmark measures.

use std::sync::Arc;

use devkit::smtp::{Retention, SmtpServer};
use tokio::time::Instant;

use crate::client::Client;

const CONNECTIONS: usize = 16;
const MAILS: usize = 40_000;

/// Client and server share the processors, so the server alone does more than what this prints.
#[ignore = "a measurement: cargo test --release -p devkit --test smtp -- --ignored --nocapture"]
#[tokio::test(flavor = "multi_thread")]
async fn mails_per_second() {
    let server = Arc::new(SmtpServer::builder().retention(Retention::Ids).start().await);
    let start = Instant::now();
    let clients: Vec<_> = (0..CONNECTIONS)
        .map(|number| {
            let server = Arc::clone(&server);
            tokio::spawn(async move {
                let mut client = Client::greeted(&server).await;
                let body = "Seventy octets and a line end, as a usual text mail has them, or so..\r\n".repeat(16);
                for mail in 0..MAILS / CONNECTIONS {
                    assert_eq!(client.envelope("to@example.org").await[2], "354");
                    client.send(format!("Message-ID: <{number}.{mail}@test>\r\n\r\n{body}.\r\n")).await;
                    assert!(client.reply().await.starts_with("250"));
                }
            })
        })
        .collect();
    for client in clients {
        client.await.expect("a client that got its answers");
    }
    let rate = u128::try_from(MAILS).expect("a small number") * 1000 / start.elapsed().as_millis();
    println!("{rate} mails/s over {CONNECTIONS} connections");
    assert_eq!(server.ledger().accepted().len(), MAILS);
    assert!(rate > 15_000, "{rate} mails/s");
}
