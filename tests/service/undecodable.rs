//! Batches that rskafka cannot read: one partition stands still, loudly, and nothing else.

use devkit::{
    kafka::{End, Record, unique},
    smtp::SmtpServer,
};
use postlane::event::Priority;

use crate::{
    bed::{Bed, end, event},
    operator::Operator,
    watch::{each_once, line, mails, said},
};

#[tokio::test]
async fn a_batch_that_cannot_be_decoded_stops_its_partition_alone() {
    let bed = Bed::with(SmtpServer::builder(), 2).await;
    let (normal, low) = (bed.names.normal.as_str(), bed.names.low.as_str());
    bed.publish_to(Priority::Normal, 0, mails("before", 0..2)).await;
    bed.publish_to(Priority::Low, 1, mails("low", 0..2)).await;
    let mut service = bed.start();
    each_once(&bed.smtp, "before", 0..2).await;
    each_once(&bed.smtp, "low", 0..2).await;

    let record = |id: &str| Record::new(event(id, &format!("{id}@example.com")).to_string());
    let writes = [(normal, 0, vec![record("in-transaction")])];
    bed.cluster.transaction(&unique("txn"), &writes, End::Commit).await.expect("a transaction");
    bed.cluster.produce_raw(low, 1, &[record("null-header").null_header("x")]).await.expect("written");
    bed.publish_to(Priority::Normal, 0, mails("behind", 0..2)).await;
    let stops = ["ERROR", "cannot decode what follows"];
    line(&mut service, &[stops[0], stops[1], normal, "\"partition\":0"]).await;
    line(&mut service, &[stops[0], stops[1], low, "\"partition\":1"]).await;

    let operator = Operator::of(&mut service).await;
    shows_what_it_holds_up(operator, normal).await;
    bed.publish_to(Priority::Normal, 1, mails("beside", 0..5)).await;
    bed.publish_to(Priority::Low, 0, mails("beside-low", 0..5)).await;
    bed.publish(Priority::High, mails("high", 0..4)).await;
    each_once(&bed.smtp, "beside", 0..5).await;
    each_once(&bed.smtp, "beside-low", 0..5).await;
    each_once(&bed.smtp, "high", 0..4).await;
    bed.wait_for_offset(Priority::Normal, 1, 5).await;
    bed.wait_for_offset(Priority::Low, 0, 5).await;
    assert_eq!(said(&service, &stops), 2, "once for each partition: {}", service.tail());
    end(service).await;
    // it is found there at the start as well
    let mut service = bed.start();
    let operator = Operator::of(&mut service).await;
    shows_what_it_holds_up(operator, normal).await;
    end(service).await;
    let stands = [(Priority::Normal, 0, 2..=3), (Priority::Low, 1, 2..=2)];
    for (lane, partition, at) in stands {
        let offset = bed.progress_of(lane, partition).await.expect("a commit").offset;
        assert!(at.contains(&offset), "{lane} {partition} has moved to {offset}");
    }
    assert!(bed.dead_letters_now().await.is_empty());
}

/// Two mails stand behind the transaction in partition 0, and the wait grows.
async fn shows_what_it_holds_up(operator: Operator, normal: &str) {
    let series = |name: &str| format!("{name}{{lane=\"normal\",topic=\"{normal}\",partition=\"0\"}}");
    let lag = series("postlane_lag_records");
    operator
        .wait_for_metrics("a lag and an age", |metrics| {
            metrics.series().contains(&&lag)
                && metrics.value(&lag) >= 3.0
                && metrics.value(&series("postlane_oldest_unsettled_age_seconds")) > 2.0
                && metrics.value(&series("postlane_partition_halted")) > 0.0
        })
        .await;
}
