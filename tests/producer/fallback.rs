//! Mails that Kafka does not take, and those that are not meant for it, straight by SMTP.

use std::time::Duration;

use devkit::{
    kafka::{self, Cluster},
    smtp::{Action, Command, End, SmtpServer, on},
};
use futures::future::join_all;
use postlane::{
    Priority, Producer, SendError,
    producer::{Circuit, ProducerBuilder, Way},
};
use tokio::time::Instant;

use super::common::{builder, keys, lanes, mail};

/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(30);
/// `PUBLISH_TIMEOUT` of these tests.
const TIMEOUT: Duration = Duration::from_millis(400);

/// The same settings with a relay for what Kafka does not take.
pub(crate) fn with_relay(builder: ProducerBuilder, smtp: &SmtpServer) -> ProducerBuilder {
    builder
        .variable("FALLBACK", "smtp")
        .variable("SMTP_HOST", "127.0.0.1")
        .variable("SMTP_PORT", smtp.port().to_string())
        .variable("SMTP_ENCRYPTION", "none")
}

/// A producer whose brokers are not there.
fn nowhere() -> ProducerBuilder {
    Producer::builder().brokers(["127.0.0.1:1"]).mail_from("Shop <shop@example.com>").timeout(TIMEOUT)
}

fn is_by_smtp(way: &Way) -> bool {
    matches!(way, Way::Smtp { reply, .. } if reply.starts_with("250"))
}

#[tokio::test]
async fn without_kafka_mails_go_straight_to_the_relay() {
    let smtp = SmtpServer::builder().start().await;
    let settings = Producer::builder().kafka_enabled(false).mail_from("Shop <shop@example.com>");
    let producer = with_relay(settings, &smtp).build().expect("no broker is needed");
    producer.ready().await.expect("nothing to connect to");
    let receipt = producer.send(mail("one")).await.expect("sent");
    assert!(is_by_smtp(receipt.way()) && !receipt.twice_possible(), "{receipt:?}");
    let event = r#"{"message": {"id": "two", "to": "bob@example.com", "template": "plain", "subject": "Two", "data": {"body": "x"}}}"#;
    let second = producer.send_event(event).await.expect("sent");
    producer.close().await;
    let ledger = smtp.ledger();
    for receipt in [&receipt, &second] {
        assert_eq!(ledger.copies(receipt.message_id().expect("the sender is known")), 1);
    }
    assert_eq!((ledger.accepted().len(), ledger.opened()), (2, 1));
    assert!(ledger.sessions().all(|session| session.end == Some(End::Quit)));
    let stats = producer.stats();
    assert_eq!((stats.sent_by_smtp, stats.published, stats.twice_possible), (2, 0, 0));
    assert!(matches!(producer.send(mail("three")).await, Err(SendError::Closed)));
}

#[tokio::test]
async fn what_the_relay_refuses_is_said_with_its_reply() {
    let refused = Action::reply(550, "5.1.1", "<ann@example.com> is nobody");
    let smtp =
        SmtpServer::builder().rule(on(Command::Rcpt).once(refused)).rule(on(Command::Dot).once(Action::TakeAndHangUp));
    let smtp = smtp.start().await;
    let settings = Producer::builder().kafka_enabled(false).mail_from("Shop <shop@example.com>");
    let producer = with_relay(settings, &smtp).build().expect("settings");
    let error = producer.send(mail("refused")).await.expect_err("refused");
    assert!(matches!(error, SendError::Smtp { .. }) && !error.may_go_out() && !error.is_retriable(), "{error:?}");
    assert_eq!(error.to_string(), "the relay refused the mail: 550 5.1.1 <***@example.com> is nobody");
    assert!(!format!("{error:?}").contains("ann@"), "{error:?}");
    let error = producer.send(mail("unknown")).await.expect_err("no answer");
    assert!(error.may_go_out() && error.is_retriable(), "{error:?}");
    assert_eq!(producer.stats().failed_by_smtp, 2);
}

#[tokio::test]
async fn a_dead_kafka_costs_a_few_callers_their_time_and_no_mail() {
    let smtp = SmtpServer::builder().start().await;
    let producer = with_relay(nowhere(), &smtp).build().expect("settings");
    let mut slow = 0;
    for number in 0..20 {
        let begun = Instant::now();
        let receipt = producer.send(mail(&number.to_string())).await.expect("by SMTP");
        assert!(is_by_smtp(receipt.way()) && !receipt.twice_possible(), "{receipt:?}");
        slow += usize::from(begun.elapsed() >= TIMEOUT);
    }
    assert_eq!(slow, 3, "then nobody waits for Kafka");
    let stats = producer.stats();
    assert_eq!((stats.sent_by_smtp, stats.withdrawn, stats.unknown_outcome), (20, 20, 0));
    assert_eq!((stats.circuit, stats.twice_possible), (Circuit::Open, 0));
    producer.close().await;
    assert_eq!((smtp.ledger().accepted().len(), smtp.ledger().duplicates().len()), (20, 0));
}

#[tokio::test]
async fn without_a_fallback_a_dead_kafka_is_told_at_once() {
    let producer = nowhere().build().expect("settings");
    for _ in 0..3 {
        let error = producer.send(mail("slow")).await.expect_err("nobody listens");
        assert!(matches!(error, SendError::NotPublished { .. }), "{error:?}");
    }
    let begun = Instant::now();
    for error in join_all((0..100).map(|number| producer.send(mail(&number.to_string())))).await {
        let error = error.expect_err("nobody listens");
        assert!(!error.may_go_out() && error.is_retriable(), "{error:?}");
        assert!(error.to_string().contains("Kafka has taken no mail for "), "{error}");
    }
    assert!(begun.elapsed() < TIMEOUT, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn where_neither_takes_it_the_error_says_both() {
    let mut smtp = SmtpServer::builder().start().await;
    smtp.stop().await;
    let producer = with_relay(nowhere(), &smtp).build().expect("settings");
    let error = producer.send(mail("one")).await.expect_err("both are dead");
    assert!(matches!(error, SendError::BothWays { .. }) && !error.may_go_out() && error.is_retriable(), "{error:?}");
    let text = error.to_string();
    for part in ["the mail was not sent, the relay is down", "before that Kafka did not take it (not written in time"] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
    assert!(!text.contains("ann@"), "{text}");
}

#[tokio::test]
async fn a_mail_that_expires_while_kafka_is_waited_for_is_not_sent() {
    let smtp = SmtpServer::builder().start().await;
    let producer = with_relay(nowhere(), &smtp).build().expect("settings");
    let error = producer.send(mail("late").expires_in(TIMEOUT / 4)).await.expect_err("too late");
    assert!(!error.may_go_out() && !error.is_retriable(), "{error:?}");
    assert!(error.to_string().contains("message.expires_at has passed"), "{error}");
    assert_eq!(smtp.ledger().count(Command::Mail), 0);
}

#[tokio::test]
async fn what_kafka_has_answered_for_does_not_go_by_smtp() {
    let cluster = kafka::shared().await.expect("a broker");
    let base = lanes(cluster, 1, &[("max.message.bytes", "2000")]).await;
    let smtp = SmtpServer::builder().start().await;
    let producer = with_relay(builder(cluster, &base), &smtp).build().expect("settings");
    let large = mail("large").data(serde_json::json!({ "Name": "x".repeat(5000) }));
    let error = producer.send(large).await.expect_err("too large for the topic");
    assert!(matches!(error, SendError::Refused { .. }), "{error:?}");
    producer.send(mail("small")).await.expect("by Kafka");
    assert_eq!(smtp.ledger().accepted().len(), 0);
    assert_eq!(producer.stats().circuit, Circuit::Closed);
}

#[tokio::test]
async fn a_topic_that_is_missing_opens_its_own_circuit_alone() {
    let cluster = kafka::shared().await.expect("a broker");
    let base = kafka::unique("producer-partly");
    cluster.create_topic(&format!("{base}-high"), 1, &[]).await.expect("a topic");
    let producer = builder(cluster, &base).build().expect("settings");
    let low = |number| mail(&format!("low-{number}")).priority(Priority::Low);
    for number in 0..5 {
        let error = producer.send(low(number)).await.expect_err("no topic");
        assert!(matches!(error, SendError::Setup { .. }), "{error:?}");
        producer.send(mail(&format!("high-{number}")).priority(Priority::High)).await.expect("by Kafka");
    }
    assert_eq!(producer.stats().circuit, Circuit::Open);
    cluster.create_topic(&format!("{base}-low"), 1, &[]).await.expect("a topic");
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = producer.send(low(9)).await {
        assert!(Instant::now() < deadline, "{error}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(producer.stats().circuit, Circuit::Closed);
}

#[tokio::test]
async fn a_kafka_that_hangs_may_have_the_mail_as_well_and_is_found_again() {
    let cluster = Cluster::builder().start().await.expect("a broker");
    let base = lanes(&cluster, 1, &[]).await;
    let smtp = SmtpServer::builder().start().await;
    let producer = with_relay(builder(&cluster, &base).timeout(TIMEOUT), &smtp).build().expect("settings");
    producer.ready().await.expect("connected");
    producer.send(mail("first")).await.expect("by Kafka");

    cluster.pause().await.expect("it hangs");
    let receipt = producer.send(mail("doubt")).await.expect("by SMTP");
    assert!(is_by_smtp(receipt.way()) && receipt.twice_possible(), "{receipt:?}");
    for number in 0..10 {
        let receipt = producer.send(mail(&format!("while-{number}"))).await.expect("by SMTP");
        assert!(is_by_smtp(receipt.way()), "{receipt:?}");
    }
    let stats = producer.stats();
    assert_eq!((stats.circuit, stats.sent_by_smtp), (Circuit::Open, 11));
    assert!(stats.unknown_outcome >= 1 && stats.twice_possible == stats.unknown_outcome, "{stats:?}");

    cluster.resume().expect("it goes on");
    let deadline = Instant::now() + PATIENCE;
    let mut number = 0;
    while !matches!(producer.send(mail(&format!("back-{number}"))).await.expect("sent").way(), Way::Kafka { .. }) {
        assert!(Instant::now() < deadline, "{:?}", producer.stats());
        tokio::time::sleep(Duration::from_millis(20)).await;
        number += 1;
    }
    assert_eq!(producer.stats().circuit, Circuit::Closed);
    producer.send(mail("last")).await.expect("by Kafka");
    producer.close().await;

    // the copy in the topic has the id, and so the Message-ID, of the one that went by SMTP
    let keys = keys(&cluster, &base).await;
    let ledger = smtp.ledger();
    let doubt = ledger.find(receipt.message_id().expect("a sender")).expect("it arrived");
    assert_eq!(doubt.message_id(), Some(postlane::compose::message_id("doubt", "example.com").as_str()));
    for (key, count) in &keys {
        let copies = ledger.copies(&postlane::compose::message_id(key, "example.com"));
        assert!(*count == 1 && (copies == 0 || *key == "doubt"), "{key}: {count} records, {copies} mails");
    }
    assert_eq!(keys.get("doubt"), Some(&1), "Kafka had it after all");
}
