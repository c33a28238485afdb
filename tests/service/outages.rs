//! Brokers that are away, die, hang or give their partitions to others.

use std::time::Duration;

use devkit::{
    kafka::{Cluster, Record},
    smtp::{Command, SmtpServer},
};
use postlane::event::Priority;

use crate::{
    bed::{Bed, SOON, end},
    watch::{each_once, fragile_cluster, line, mails, said, started, until},
};

#[tokio::test]
async fn a_broker_that_is_away_at_the_start_is_waited_for() {
    let cluster = fragile_cluster().await;
    let bed = Bed::on(*cluster, SmtpServer::builder(), 1).await;
    bed.publish(Priority::Normal, mails("n", 0..5)).await;
    cluster.stop().await.expect("stopped");
    let mut service = bed.start();
    line(&mut service, &["WARN", "the partitions cannot be determined"]).await;
    cluster.restart().await.expect("started");
    each_once(&bed.smtp, "n", 0..5).await;
    bed.wait_for_no_lag(&mut service).await;
    assert_eq!(said(&service, &["the partitions cannot be determined"]), 1);
    assert_eq!(said(&service, &["the brokers answer again"]), 1);
    end(service).await;
}

#[tokio::test]
async fn a_broker_that_is_killed_and_comes_back_costs_nothing() {
    let cluster = fragile_cluster().await;
    let smtp = SmtpServer::builder().latency(Command::Dot, Duration::from_millis(100));
    let bed = Bed::on(*cluster, smtp, 2).await;
    bed.publish(Priority::Normal, mails("n", 0..300)).await;
    bed.publish(Priority::High, mails("h", 0..100)).await;
    let mut service = bed.start();
    bed.smtp.wait_for_mails(50, SOON).await.expect("some mails");
    cluster.kill().await.expect("killed");
    line(&mut service, &["WARN", "offsets cannot be committed"]).await;
    cluster.restart().await.expect("started");
    bed.publish(Priority::Normal, mails("n", 300..310)).await;
    each_once(&bed.smtp, "n", 0..310).await;
    each_once(&bed.smtp, "h", 0..100).await;
    bed.wait_for_no_lag(&mut service).await;
    assert_eq!(said(&service, &["offsets cannot be committed"]), 1);
    assert_eq!(said(&service, &["offsets are committed again"]), 1);
    end(service).await;
}

#[tokio::test]
async fn a_broker_that_hangs_for_a_while_costs_nothing() {
    let cluster = fragile_cluster().await;
    let smtp = SmtpServer::builder().latency(Command::Dot, Duration::from_millis(100));
    let bed = Bed::on(*cluster, smtp, 1).await;
    bed.publish(Priority::Normal, mails("n", 0..200)).await;
    let mut service = bed.start();
    bed.smtp.wait_for_mails(20, SOON).await.expect("some mails");
    cluster.pause().await.expect("frozen");
    line(&mut service, &["WARN", "offsets cannot be committed"]).await;
    each_once(&bed.smtp, "n", 0..200).await;
    cluster.resume().expect("thawed");
    bed.publish(Priority::Normal, mails("n", 200..210)).await;
    each_once(&bed.smtp, "n", 0..210).await;
    bed.wait_for_no_lag(&mut service).await;
    assert_eq!(said(&service, &["offsets cannot be committed"]), 1);
    end(service).await;
}

#[tokio::test]
async fn a_leader_that_dies_is_followed_and_dead_letters_wait_for_their_replicas() {
    let cluster = started(Cluster::builder().brokers(3)).await;
    let smtp = SmtpServer::builder().latency(Command::Dot, Duration::from_millis(50));
    let bed = Bed::bare(cluster, smtp).await;
    for topic in bed.names.lanes() {
        cluster.create_topic(topic, 3, &[]).await.expect("a topic");
    }
    // since Kafka 3.8 a topic never demands more replicas than it has, so a broker has to be lost
    cluster.create_topic(&bed.names.dead_letters, 1, &[("min.insync.replicas", "3")]).await.expect("a topic");
    bed.publish(Priority::Normal, mails("n", 0..300)).await;
    let mut service = bed.start();
    bed.smtp.wait_for_mails(30, SOON).await.expect("some mails");
    let leader = cluster.leader(&bed.names.normal, 0).await.expect("an answer").expect("a leader");
    let broker = cluster.node(leader).expect("a broker");
    broker.kill().await.expect("killed");
    until("the others have noticed", async || {
        cluster.leader(&bed.names.normal, 0).await.ok().flatten().filter(|now| *now != leader)
    })
    .await;
    bed.publish_records(Priority::High, [Record::new("rubbish").key("k")]).await;
    bed.publish(Priority::Normal, mails("n", 300..330)).await;
    each_once(&bed.smtp, "n", 0..330).await;
    line(&mut service, &["WARN", "cannot write dead letters"]).await;
    bed.wait_for_lag(&mut service, 1).await;
    assert!(bed.dead_letters_now().await.is_empty());

    broker.start().await.expect("started");
    bed.wait_for_no_lag(&mut service).await;
    let letters = bed.dead_letters_now().await;
    assert!(letters.iter().all(|letter| letter.text() == "rubbish" && letter.key.as_deref() == Some(b"k")));
    assert!(!letters.is_empty());
    assert_eq!(said(&service, &["cannot write dead letters"]), 1);
    each_once(&bed.smtp, "n", 0..330).await;
    end(service).await;
    cluster.kill().await.expect("killed");
}
