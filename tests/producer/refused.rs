//! What brokers do not take, and how it is said.

use devkit::kafka::{self, Cluster};
use postlane::{Email, SendError};
use serde_json::json;

use super::common::{builder, keys, lanes, mail, place};

#[tokio::test]
async fn a_mail_that_is_too_large_for_the_topic_is_refused_alone() {
    let cluster = kafka::shared().await.expect("a broker");
    let base = lanes(cluster, 1, &[("max.message.bytes", "2000")]).await;
    let producer = builder(cluster, &base).build().expect("settings");
    let large = || Email::to("ann@example.com").template("welcome").data(json!({ "Name": "x".repeat(3000) }));
    let sends = (0..100).map(|index| {
        let producer = producer.clone();
        let mail = if index % 10 == 0 { large().id(format!("large-{index}")) } else { mail(&format!("small-{index}")) };
        tokio::spawn(async move { producer.send(mail).await })
    });
    for (index, sent) in futures::future::join_all(sends).await.into_iter().enumerate() {
        match sent.expect("no panic") {
            Ok(receipt) => assert_eq!(place(&receipt).0, base),
            Err(error) => {
                assert!(matches!(error, SendError::Refused { .. }), "{error:?}");
                assert_eq!(index % 10, 0, "{error}");
                assert!(!error.is_retriable());
            }
        }
    }
    let keys = keys(cluster, &base).await;
    assert_eq!(keys.len(), 90);
    assert!(keys.iter().all(|(key, times)| key.starts_with("small") && *times == 1), "{keys:?}");
}

#[tokio::test]
async fn a_topic_is_never_made_even_where_brokers_would() {
    let cluster = Cluster::builder().auto_create_topics(true).start().await.expect("a broker of its own");
    let base = kafka::unique("producer-missing");
    let producer = builder(&cluster, &base).build().expect("settings");
    let error = producer.send(mail("a")).await.expect_err("no topic");
    assert!(matches!(error, SendError::Setup { .. }), "{error:?}");
    let error = producer.ready().await.expect_err("no topic");
    assert!(error.to_string().contains(&format!("the brokers list no topic {base}")), "{error}");
    let topics = cluster.tool("org.apache.kafka.tools.TopicCommand", &["--list"]).await.expect("the list");
    assert!(!format!("{topics:?}").contains(&base), "{topics:?}");
}

#[tokio::test]
async fn a_wrong_mail_never_leaves() {
    let cluster = kafka::shared().await.expect("a broker");
    let base = lanes(cluster, 1, &[]).await;
    let producer = builder(cluster, &base).check_templates(true).build().expect("settings");
    for (email, field) in [
        (mail("a").and_to("nobody"), "message.to[1]"),
        (mail("b").header("Subject", "x"), "message.headers"),
        (Email::to("ann@example.com").template("nowhere"), "message.template"),
        (Email::to("ann@example.com").template("password-reset"), "message.data"),
    ] {
        let error = producer.send(email).await.expect_err("wrong");
        let SendError::Invalid(invalid) = &error else { panic!("invalid, and not {error:?}") };
        assert!(invalid.problems().iter().any(|problem| problem.field.starts_with(field)), "{field}: {invalid}");
    }
    let event = br#"{"type":"welcome","message":{"to":"ann@example.com","template":"welcome","data":{"Name":"Ann"}}}"#;
    let receipt = producer.send_event(&event[..]).await.expect("sent");
    let records = cluster.read_all(&base).await.expect("records");
    let [record] = &records[..] else { panic!("one record, and not {records:?}") };
    assert!(record.text().contains(receipt.id()), "an id was put in");
    assert_eq!(producer.stats().refused, 4);
}
