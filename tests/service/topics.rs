//! Topics and partitions that come, go and shrink, and where reading starts.

use devkit::{
    kafka::Record,
    smtp::{Command, SmtpServer, on},
};
use postlane::event::Priority;

use crate::{
    bed::{Bed, SOON, end},
    operator::{Metrics, Operator},
    watch::{copies, each_once, line, mails, odd_cluster, recipient, said, until},
};

#[tokio::test]
async fn missing_topics_are_waited_for_and_never_created() {
    let cluster = odd_cluster().await;
    let mut bed = Bed::bare(cluster, SmtpServer::builder()).await;
    bed.set("KAFKA_DISCOVERY_INTERVAL", "300ms");
    for topic in [&bed.names.high, &bed.names.normal] {
        cluster.create_topic(topic, 1, &[]).await.expect("a topic");
    }
    bed.publish(Priority::Normal, mails("n", 0..3)).await;
    bed.publish_records(Priority::Normal, [Record::new("rubbish")]).await;
    let mut service = bed.start();
    line(&mut service, &["WARN", "does not exist", &bed.names.low]).await;
    line(&mut service, &["ERROR", "dead letter topic does not exist"]).await;
    bed.publish(Priority::Normal, mails("n", 4..6)).await;
    bed.publish(Priority::High, mails("h", 0..3)).await;
    each_once(&bed.smtp, "n", 4..6).await;
    each_once(&bed.smtp, "h", 0..3).await;
    bed.wait_for_offset(Priority::High, 0, 3).await;
    bed.wait_for_offset(Priority::Normal, 0, 3).await;
    for topic in [&bed.names.low, &bed.names.dead_letters] {
        assert!(cluster.partitions(topic).await.expect("an answer").is_empty(), "{topic} was created");
    }

    cluster.create_topic(&bed.names.dead_letters, 1, &[]).await.expect("a topic");
    assert_eq!(bed.dead_letters(1).await[0].text(), "rubbish");
    bed.wait_for_offset(Priority::Normal, 0, 6).await;
    cluster.create_topic(&bed.names.low, 1, &[]).await.expect("a topic");
    bed.publish(Priority::Low, mails("l", 0..3)).await;
    each_once(&bed.smtp, "l", 0..3).await;
    bed.wait_for_no_lag(&mut service).await;
    assert_eq!(said(&service, &["lane's topic does not exist"]), 1);
    assert_eq!(said(&service, &["dead letter topic does not exist"]), 1);
    assert_eq!(bed.dead_letters_now().await.len(), 1);
    end(service).await;
}

#[tokio::test]
async fn latest_is_for_topics_without_a_commit_and_new_partitions_start_at_their_beginning() {
    let mut bed = Bed::new().await;
    bed.set("KAFKA_AUTO_OFFSET_RESET", "latest");
    bed.set("KAFKA_DISCOVERY_INTERVAL", "2s");
    bed.publish(Priority::Normal, mails("old", 0..3)).await;
    bed.publish(Priority::High, mails("committed", 0..3)).await;
    bed.commit(Priority::High, 0, 1, "").await;
    let service = bed.start();
    bed.wait_for_offset(Priority::Normal, 0, 3).await;
    bed.publish(Priority::Normal, mails("new", 0..3)).await;
    each_once(&bed.smtp, "new", 0..3).await;
    each_once(&bed.smtp, "committed", 1..3).await;

    bed.cluster.create_partitions(&bed.names.normal, 2).await.expect("a second partition");
    bed.publish_to(Priority::Normal, 1, mails("second", 0..3)).await;
    each_once(&bed.smtp, "second", 0..3).await;
    end(service).await;

    bed.cluster.create_partitions(&bed.names.normal, 3).await.expect("a third partition");
    bed.publish_to(Priority::Normal, 0, mails("stopped", 0..2)).await;
    bed.publish_to(Priority::Normal, 2, mails("third", 0..2)).await;
    let mut service = bed.start();
    each_once(&bed.smtp, "stopped", 0..2).await;
    each_once(&bed.smtp, "third", 0..2).await;
    bed.wait_for_no_lag(&mut service).await;
    end(service).await;
    let copies = copies(&bed.smtp);
    assert!((0..3).all(|number| !copies.contains_key(&recipient("old", number))), "latest skips them");
    assert!(!copies.contains_key(&recipient("committed", 0)));
    assert_eq!(copies.len(), 12);
}

#[tokio::test]
async fn what_retention_took_is_counted_loudly_and_reading_goes_on_behind_it() {
    let deferred = on(Command::Rcpt).recipient(&recipient("n", 1)).reply(451, "4.7.1", "greylisted");
    let mut bed = Bed::with(SmtpServer::builder().rule(deferred), 1).await;
    bed.set("RETRY_INITIAL_DELAY", "1h");
    bed.set("RETRY_MAX_DELAY", "1h");
    bed.publish(Priority::Normal, mails("n", 0..5)).await;
    let service = bed.start();
    until("one is deferred", async || {
        let progress = bed.progress_of(Priority::Normal, 0).await?;
        (progress.offset == 1 && progress.has_settled(4)).then_some(())
    })
    .await;
    end(service).await;
    bed.publish(Priority::Normal, mails("n", 5..12)).await;
    bed.set("KAFKA_AUTO_OFFSET_RESET", "latest");
    bed.cluster.delete_records(&bed.names.normal, 0, 8).await.expect("deleted");
    let mut service = bed.start();
    each_once(&bed.smtp, "n", 8..12).await;
    bed.wait_for_no_lag(&mut service).await;
    assert_eq!(said(&service, &["ERROR", "retention has deleted", "\"lost\":7"]), 1, "{}", service.tail());
    assert_eq!(bed.smtp.ledger().accepted().len(), 8);
    end(service).await;
}

#[tokio::test]
async fn a_topic_made_anew_is_read_from_its_start() {
    let bed = Bed::new().await;
    let made_anew = async || {
        bed.cluster.delete_topic(&bed.names.normal).await.expect("deleted");
        bed.cluster.create_topic(&bed.names.normal, 1, &[]).await.expect("a topic");
    };
    bed.publish(Priority::Normal, mails("first", 0..5)).await;
    let mut service = bed.start();
    bed.wait_for_no_lag(&mut service).await;
    end(service).await;
    made_anew().await;
    bed.publish(Priority::Normal, mails("second", 0..4)).await;
    let mut service = bed.start();
    each_once(&bed.smtp, "second", 0..4).await;
    bed.wait_for_no_lag(&mut service).await;

    // and while it is read, after a patience of 30 s with a leader that may lag
    made_anew().await;
    bed.publish(Priority::Normal, mails("third", 0..3)).await;
    each_once(&bed.smtp, "third", 0..3).await;
    bed.wait_for_no_lag(&mut service).await;
    assert_eq!(said(&service, &["the topic was made anew or truncated"]), 1);
    end(service).await;
}

#[tokio::test]
async fn partitions_that_a_new_topic_lacks_are_not_missed_and_come_back() {
    let mut bed = Bed::with(SmtpServer::builder(), 2).await;
    bed.set("KAFKA_DISCOVERY_INTERVAL", "1s");
    let (cluster, normal) = (bed.cluster, bed.names.normal.clone());
    let halted = format!("postlane_partition_halted{{lane=\"normal\",topic=\"{normal}\",partition=\"1\"}}");
    let listed = |metrics: &Metrics| metrics.series().contains(&&halted);
    bed.publish_to(Priority::Normal, 1, mails("first", 0..3)).await;
    let mut service = bed.start();
    let operator = Operator::of(&mut service).await;
    bed.wait_for_no_lag(&mut service).await;
    operator.wait_until_ready().await;
    bed.smtp.hold(Command::Dot);
    bed.publish_to(Priority::Normal, 1, mails("held", 0..1)).await;
    bed.smtp.wait_until(|ledger| ledger.held() == 1, SOON).await.expect("it waits for its answer");

    cluster.delete_topic(&normal).await.expect("deleted");
    cluster.create_topic(&normal, 1, &[]).await.expect("a topic");
    operator.wait_for_metrics("one partition less", |metrics| !listed(metrics)).await;
    bed.smtp.release(Command::Dot);
    line(&mut service, &["WARN", "an offset was not stored", &normal]).await;
    operator.wait_until_ready().await;
    assert!((operator.metrics().await.value("postlane_broker_up") - 1.0).abs() < f64::EPSILON);
    bed.publish_to(Priority::Normal, 0, mails("second", 0..3)).await;
    each_once(&bed.smtp, "second", 0..3).await;

    cluster.create_partitions(&normal, 2).await.expect("a second partition");
    operator.wait_for_metrics("both partitions", listed).await;
    bed.publish_to(Priority::Normal, 1, mails("third", 0..2)).await;
    each_once(&bed.smtp, "third", 0..2).await;
    operator.wait_until_ready().await;
    bed.wait_for_no_lag(&mut service).await;
    each_once(&bed.smtp, "held", 0..1).await;
    end(service).await;
}
