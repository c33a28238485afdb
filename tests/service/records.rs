//! Records of every compression and every size that the broker takes.

use devkit::{
    kafka::{Compression, Record},
    smtp::SmtpServer,
};
use postlane::event::Priority;
use serde_json::json;

use crate::{
    bed::{Bed, end, event, event_with},
    watch::{each_once, mails, until},
};

#[tokio::test]
async fn every_compression_arrives() {
    let bed = Bed::new().await;
    let codecs =
        [Compression::NoCompression, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
    for (number, codec) in (0..).zip(codecs) {
        let records = mails("n", number * 10..number * 10 + 10).into_iter().map(|it| Record::new(it.to_string()));
        bed.cluster.produce_compressed(&bed.names.normal, 0, records.collect(), codec).await.expect("published");
    }
    let mut service = bed.start();
    each_once(&bed.smtp, "n", 0..50).await;
    bed.wait_for_no_lag(&mut service).await;
    end(service).await;
}

#[tokio::test]
async fn records_up_to_the_limit_of_broker_and_topic_arrive() {
    let shared = devkit::kafka::shared().await.expect("a broker");
    let bed = Bed::bare(shared, SmtpServer::builder()).await;
    for topic in [&bed.names.high, &bed.names.low, &bed.names.dead_letters] {
        shared.create_topic(topic, 1, &[]).await.expect("a topic");
    }
    shared.create_topic(&bed.names.normal, 1, &[("max.message.bytes", "5000000")]).await.expect("a topic");
    let long = "A line of the mail.\n".repeat(1_040_000 / 21);
    let fields = json!({"data": {"body": long}});
    bed.publish(Priority::High, [event_with("long", "long@example.com", &fields)]).await;
    let fields = json!({"data": {"body": "short", "unused": "x".repeat(4_900_000)}});
    bed.publish(Priority::Normal, [event("first", "first@example.com")]).await;
    bed.publish(Priority::Normal, [event_with("large", "large@example.com", &fields)]).await;
    bed.publish(Priority::Normal, [event("last", "last@example.com")]).await;
    let mut service = bed.start();
    bed.wait_for_no_lag(&mut service).await;
    assert!(bed.dead_letters_now().await.is_empty(), "{}", service.tail());
    let arrived = until("four mails", async || {
        let ledger = bed.smtp.ledger();
        (ledger.accepted().len() == 4).then_some(ledger)
    })
    .await;
    for recipient in ["long@example.com", "first@example.com", "large@example.com", "last@example.com"] {
        assert_eq!(arrived.deliveries(recipient), 1, "{recipient}");
    }
    let mail = arrived.accepted().iter().find(|mail| mail.recipients == ["long@example.com"]).expect("the long one");
    let text = mail.decoded().and_then(|decoded| decoded.text).expect("text").replace("\r\n", "\n");
    assert_eq!(text.matches("A line of the mail.").count(), 1_040_000 / 21, "it is whole");
    end(service).await;
}
