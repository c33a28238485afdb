//! Buffers and windows: a backlog that does not move costs bounded memory and holds up no other topic.

use std::fs;

use devkit::{
    service::Service,
    smtp::{Action, Command, SmtpServer, on},
};
use postlane::event::Priority;
use serde_json::json;
use tokio::time::{Duration, timeout};

use crate::{
    bed::{Bed, SOON, event_with},
    watch::{each_once, mails, recipient, until},
};

#[tokio::test]
async fn a_full_window_stops_its_partition_alone() {
    let deferred = on(Command::Rcpt).recipient_contains("low-").reply(451, "4.7.1", "greylisted");
    let mut bed = Bed::with(SmtpServer::builder().rule(deferred), 1).await;
    bed.set("KAFKA_WINDOW_RECORDS", 50);
    bed.set("RETRY_INITIAL_DELAY", "1h");
    bed.set("RETRY_MAX_DELAY", "1h");
    bed.publish(Priority::Low, mails("low", 0..200)).await;
    let mut service = bed.start();
    bed.smtp.wait_until(|ledger| ledger.count(Command::Rcpt) >= 50, SOON).await.expect("a window of attempts");
    bed.publish(Priority::High, mails("high", 0..20)).await;
    bed.publish(Priority::Normal, mails("normal", 0..20)).await;
    each_once(&bed.smtp, "high", 0..20).await;
    each_once(&bed.smtp, "normal", 0..20).await;
    bed.wait_for_lag(&mut service, 200).await;
    assert_eq!(bed.smtp.ledger().count(Command::Rcpt), 50 + 40, "no more than the window is tried");
    assert_eq!(service.lines_with(&["\"outcome\":\"deferred\""]).len(), 50);
}

#[tokio::test]
async fn a_full_buffer_stops_fetching_and_the_other_topics_go_on() {
    const MAILS: i64 = 600;
    const EACH: usize = 200_000;
    let silent = on(Command::Dot).recipient_contains("low-").act(Action::silence());
    let mut bed = Bed::with(SmtpServer::builder().rule(silent), 1).await;
    bed.set("SMTP_SESSIONS", 8);
    bed.set("SMTP_SESSIONS_RESERVED", 2);
    bed.set("KAFKA_BUFFER_BYTES", "2MiB");
    bed.set("KAFKA_WINDOW_BYTES", "512MiB");
    let filler = "x".repeat(EACH);
    let events = (0..MAILS).map(|number| {
        let data = json!({"data": {"body": "short", "filler": filler}});
        event_with(&format!("low-{number}"), &recipient("low", number), &data)
    });
    bed.publish(Priority::Low, events).await;
    let service = bed.start();
    bed.smtp.wait_until(|ledger| ledger.count(Command::Dot) == 6, SOON).await.expect("six sessions are stuck");
    bed.publish(Priority::High, mails("high", 0..50)).await;
    each_once(&bed.smtp, "high", 0..50).await;
    // a backlog of 120 MB would come in within this time
    let backlog = usize::try_from(MAILS).expect("a few") * EACH;
    let grown = until("memory grows", async || (memory(&service) > backlog).then_some(memory(&service)));
    if let Ok(bytes) = timeout(Duration::from_secs(3), grown).await {
        panic!("the service holds {bytes} bytes");
    }
    assert_eq!(bed.smtp.ledger().accepted().len(), 50);
}

/// Resident bytes of the process.
fn memory(service: &Service) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", service.id())).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("resident memory");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") * 1024
}
