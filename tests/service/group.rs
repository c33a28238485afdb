//! The consumer group: resets are obeyed, other programs respected, and foreign notes ignored.

use devkit::{
    kafka::GroupProtocol,
    smtp::{Command, Key, SmtpServer, on},
};
use postlane::event::Priority;

use crate::{
    bed::{Bed, SOON, end, event},
    watch::{copies, each_once, line, mails, odd_cluster, recipient, said, until},
};

#[tokio::test]
async fn a_reset_group_is_obeyed_backward_and_forward() {
    let deferred = on(Command::Rcpt).recipient(&recipient("n", 3)).reply(451, "4.7.1", "greylisted");
    let mut bed = Bed::with(SmtpServer::builder().rule(deferred), 1).await;
    bed.set("RETRY_INITIAL_DELAY", "1h");
    bed.set("RETRY_MAX_DELAY", "1h");
    bed.publish(Priority::Normal, mails("n", 0..10)).await;
    let mut service = bed.start();
    until("settled beyond the deferred one", async || {
        let progress = bed.progress_of(Priority::Normal, 0).await?;
        (progress.offset == 3 && (4..10).all(|offset| progress.has_settled(offset))).then_some(())
    })
    .await;
    assert!(service.terminate(SOON).await.expect("it ends").success());

    bed.smtp.clear();
    let reset = async |to| {
        let outcome = bed.cluster.reset_offsets(&bed.names.group, &bed.names.normal, &["--to-offset", to]).await;
        outcome.expect("a reset");
    };
    reset("1").await;
    let mut service = bed.start();
    bed.wait_for_no_lag(&mut service).await;
    let sent = copies(&bed.smtp);
    for number in 0..10 {
        let expected = if matches!(number, 0 | 3) { 1 } else { 2 };
        assert_eq!(sent[&recipient("n", number)], expected, "number {number}");
    }
    assert_eq!(said(&service, &["going on at the offset alone"]), 0, "a reset is nothing to warn of");
    end(service).await;

    bed.publish(Priority::Normal, mails("n", 10..15)).await;
    reset("12").await;
    let mut service = bed.start();
    bed.wait_for_no_lag(&mut service).await;
    each_once(&bed.smtp, "n", 12..15).await;
    assert!((10..12).all(|number| !copies(&bed.smtp).contains_key(&recipient("n", number))));
    end(service).await;
}

#[tokio::test]
async fn foreign_and_damaged_metadata_are_ignored_with_a_warning_each() {
    let bed = Bed::with(SmtpServer::builder(), 2).await;
    for partition in 0..2 {
        let prefix = format!("n{partition}");
        bed.publish_to(Priority::Normal, partition, mails(&prefix, 0..5)).await;
    }
    bed.commit(Priority::Normal, 0, 2, "consumer-7 on host b").await;
    bed.commit(Priority::Normal, 1, 3, "pl1:AAAAAAAAAAAA").await;
    let mut service = bed.start();
    bed.wait_for_no_lag(&mut service).await;
    each_once(&bed.smtp, "n0", 2..5).await;
    each_once(&bed.smtp, "n1", 3..5).await;
    assert_eq!(bed.smtp.ledger().accepted().len(), 5);
    for (partition, cause) in [("\"partition\":0", "not written by this version"), ("\"partition\":1", "damaged")] {
        assert_eq!(said(&service, &["WARN", "going on at the offset alone", partition, cause]), 1, "{cause}");
    }
    assert_eq!(said(&service, &["going on at the offset alone"]), 2);
    end(service).await;
}

async fn waits_for(protocol: GroupProtocol) {
    let bed = Bed::new().await;
    bed.publish(Priority::Normal, mails("n", 0..5)).await;
    let group = &bed.names.group;
    let foreign = bed.cluster.foreign_consumer(group, &bed.names.dead_letters, protocol).await.expect("a member");
    let mut service = bed.start();
    let complaint = line(&mut service, &["ERROR", "in use by another program", "nothing is read or committed"]).await;
    assert!(complaint.contains(&foreign.client_id), "{complaint}");
    assert!(bed.progress().await.is_empty(), "nothing is committed");
    foreign.leave().await.expect("it leaves");
    each_once(&bed.smtp, "n", 0..5).await;
    bed.wait_for_no_lag(&mut service).await;
    assert_eq!(said(&service, &["in use by another program"]), 1);
    let log = end(service).await;
    let first = |part: &str| log.lines().position(|line| line.contains(part));
    assert!(first("in use by another program") < first("\"message\":\"reading\""), "nothing is read before");
}

#[tokio::test]
async fn a_classic_member_of_another_program_is_waited_for() {
    waits_for(GroupProtocol::Classic).await;
}

#[tokio::test]
async fn a_member_of_the_newer_protocol_is_waited_for() {
    waits_for(GroupProtocol::Consumer).await;
}

async fn gives_way_to(protocol: GroupProtocol) {
    let bed = Bed::new().await;
    bed.publish(Priority::Normal, mails("n", 0..3)).await;
    let mut service = bed.start();
    bed.wait_for_no_lag(&mut service).await;
    let group = &bed.names.group;
    let foreign = bed.cluster.foreign_consumer(group, &bed.names.dead_letters, protocol).await.expect("a member");
    bed.publish(Priority::Normal, mails("n", 3..6)).await;
    let status = service.wait(SOON).await.expect("it ends");
    assert_eq!(status.code(), Some(75), "{}", service.tail());
    let complaint = service.lines_with(&["ERROR", "in use by another program", &foreign.client_id]);
    assert!(!complaint.is_empty(), "{}", service.tail());
    assert_eq!(bed.progress_of(Priority::Normal, 0).await.expect("a commit").offset, 3, "no commit over the member");
    foreign.leave().await.expect("it leaves");
}

#[tokio::test]
async fn a_classic_member_that_joins_ends_the_service() {
    gives_way_to(GroupProtocol::Classic).await;
}

#[tokio::test]
async fn a_member_of_the_newer_protocol_that_joins_ends_the_service() {
    gives_way_to(GroupProtocol::Consumer).await;
}

#[tokio::test]
async fn a_broker_that_takes_little_metadata_gets_less() {
    let deferred = on(Command::Rcpt)
        .recipient_contains("later")
        .per(Key::Recipient)
        .times(3, devkit::smtp::Action::reply(451, "4.7.1", "greylisted"));
    let mut bed = Bed::on(odd_cluster().await, SmtpServer::builder().rule(deferred), 1).await;
    bed.set("RETRY_MAX_ATTEMPTS", 5);
    bed.set("RETRY_INITIAL_DELAY", "1s");
    // no pattern that runs or a small bitmap could hold
    let events = (0..1200).map(|number: i64| {
        let kind = if number * number % 7 == 2 || number % 11 == 0 { "later" } else { "n" };
        event(&format!("{number}"), &recipient(kind, number))
    });
    bed.publish(Priority::Normal, events).await;
    let mut service = bed.start();
    line(&mut service, &["WARN", "offset.metadata.max.bytes"]).await;
    bed.wait_for_no_lag(&mut service).await;
    assert_eq!(bed.smtp.ledger().accepted().len(), 1200);
    assert!(bed.smtp.ledger().duplicates().is_empty());
    assert_eq!(said(&service, &["an offset was not stored"]), 0);
    end(service).await;
}
