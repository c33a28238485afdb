//! What is published before a measurement: topics of its own, filled in all three lanes.

use anyhow::{Result, bail};
use devkit::{
    kafka::{Cluster, Compression, Record},
    service::Names,
};

/// Topics with so many events, spread over the lanes as the default weights share them out.
pub(super) async fn publish(
    cluster: &Cluster,
    partitions: i32,
    mails: usize,
    event: impl Fn(usize) -> String,
) -> Result<Names> {
    let names = Names::unique();
    for topic in names.lanes().into_iter().chain([names.dead_letters.as_str()]) {
        cluster.create_topic(topic, partitions, &[]).await?;
    }
    let bounds = [0, mails * 6 / 10, mails * 9 / 10, mails];
    for (lane, bounds) in names.lanes().into_iter().zip(bounds.windows(2)) {
        // in parts, so that not all of a large backlog stands in this program's memory
        for start in (bounds[0]..bounds[1]).step_by(10_000) {
            let records = (start..bounds[1].min(start + 10_000)).map(|number| Record::new(event(number))).collect();
            cluster.produce_spread(lane, records, Compression::NoCompression).await?;
        }
    }
    Ok(names)
}

/// Removes what was published.
pub(super) async fn remove(cluster: &Cluster, names: &Names) -> Result<()> {
    for topic in names.lanes().into_iter().chain([names.dead_letters.as_str()]) {
        cluster.delete_topic(topic).await?;
    }
    Ok(())
}

/// An event whose mails all have the same size.
pub(super) fn event(template: &str, number: usize) -> Result<String> {
    let (subject, data) = match template {
        "plain" => {
            ("Your order is on its way", r#"{"body": "The parcel was handed over today.\nIt arrives on Monday."}"#)
        }
        "password-reset" => ("Password Reset Request", r#"{"Link": "https://example.com/reset?token=abc123"}"#),
        other => bail!("no events for the template {other}: take plain or password-reset"),
    };
    Ok(format!(
        r#"{{"type": "notification", "message": {{"id": "bench-{number:07}", "from": "Shop <shop@example.com>",
        "to": "customer-{number:07}@example.com", "subject": "{subject}", "template": "{template}", "data": {data},
        "priority": "normal", "timestamp": "2026-01-05T08:00:00Z", "retry_count": 0, "max_retries": 3}}}}"#
    ))
}
