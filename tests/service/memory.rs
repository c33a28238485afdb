//! Memory is bounded by the configured buffers, whatever waits in Kafka and however long the relay is away.

use std::{fs, time::Duration};

use devkit::{
    kafka::Record,
    service::Service,
    smtp::{Retention, SmtpServer},
};
use postlane::event::Priority;
use serde_json::json;

use crate::bed::{Bed, SOON, end, event_with};

const MIB: usize = 1 << 20;
/// `KAFKA_BUFFER_BYTES`, `KAFKA_WINDOW_BYTES` and `KAFKA_FETCH_MAX_BYTES` of these tests.
const BUFFER: usize = 4 * MIB;
const WINDOW: usize = 6 * MIB;
const FETCH: usize = MIB;
/// Three lanes with one partition each.
const HELD: usize = 3 * (WINDOW + FETCH);
/// The program with its sessions, and what decoding and rendering take besides the records.
const PROGRAM: usize = 64 * MIB;
/// An allocator may keep what was freed: half as much again.
const BOUND: usize = PROGRAM + HELD * 3 / 2;

/// The most memory that a process has had at once, in bytes.
fn peak_memory(service: &Service) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", service.id())).expect("a running process");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("Linux says so");
    let kib: usize = line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number");
    kib * 1024
}

/// Publishes records that carry this many bytes which no mail shows, starts while the relay is away, and lets all of it
/// be delivered after. Returns the peak.
async fn peak_of(record_bytes: usize, total_bytes: usize) -> usize {
    let mut bed = Bed::with(SmtpServer::builder().retention(Retention::Ids), 1).await;
    bed.set("KAFKA_BUFFER_BYTES", BUFFER);
    bed.set("KAFKA_WINDOW_BYTES", WINDOW);
    bed.set("KAFKA_FETCH_MAX_BYTES", FETCH);
    let each = total_bytes / record_bytes / 3;
    let weight = "x".repeat(record_bytes - 500);
    for lane in Priority::ALL {
        let record = |number| {
            let data = json!({"data": {"body": "short", "weight": weight}});
            Record::new(event_with(&format!("{lane}-{number}"), "kunde@example.com", &data).to_string())
        };
        bed.publish_records(lane, (0..each).map(record)).await;
    }
    bed.smtp.stop().await;
    let mut service = bed.start();
    // two probes, seconds apart: time to read far more than what was published
    service.wait_for_line(&["the relay is still down"], SOON).await.expect("it notices");
    let while_down = peak_memory(&service);
    bed.smtp.start_again().await.expect("the same port");
    bed.smtp.wait_for_mails(3 * each, Duration::from_secs(180)).await.expect("all of them");
    bed.wait_for_no_lag(&mut service).await;
    let peak = peak_memory(&service);
    assert!(while_down <= peak);
    end(service).await;
    peak
}

#[tokio::test]
async fn a_backlog_stays_in_kafka_while_the_relay_is_away() {
    let total = 4 * BOUND;
    let peak = peak_of(30_000, total).await;
    assert!(
        peak < BOUND,
        "{} MiB for a backlog of {} MiB, at most {} MiB are allowed",
        peak / MIB,
        total / MIB,
        BOUND / MIB
    );
}

#[tokio::test]
async fn records_of_a_megabyte_stay_within_the_buffers() {
    let total = 3 * BOUND;
    let peak = peak_of(1_000_000, total).await;
    assert!(
        peak < BOUND,
        "{} MiB for a backlog of {} MiB, at most {} MiB are allowed",
        peak / MIB,
        total / MIB,
        BOUND / MIB
    );
}
