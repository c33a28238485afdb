//! What the programs publish becomes a mail.

use std::time::Duration;

use chrono::{DateTime, Utc};
use devkit::{
    kafka::StoredRecord,
    service::{Builder, Names},
    smtp::{Mail, SmtpServer},
};
use futures::future::join_all;
use postlane::compose;
use serde_json::Value;

use crate::programs;

const SOON: Duration = Duration::from_secs(60);
/// More than one, so that a partition has to be chosen.
const PARTITIONS: i32 = 6;

#[tokio::test]
async fn what_each_program_publishes_arrives_as_a_mail() {
    let programs = programs::all().await;
    let cluster = devkit::kafka::shared().await.expect("a broker");
    let names = Names::unique();
    for topic in names.lanes().into_iter().chain([names.dead_letters.as_str()]) {
        cluster.create_topic(topic, PARTITIONS, &[]).await.expect("a topic");
    }
    let smtp = SmtpServer::builder().start().await;
    let mut service = Builder::new(env!("CARGO_BIN_EXE_postlane"))
        .names(&names)
        .set("KAFKA_BROKERS", cluster.bootstrap())
        .set("SMTP_HOST", "127.0.0.1")
        .set("SMTP_PORT", smtp.port())
        .set("SMTP_ENCRYPTION", "none")
        .start()
        .expect("the service starts");

    let recipients: Vec<String> = programs.iter().map(|program| format!("{}@example.net", program.name)).collect();
    let runs = programs.iter().zip(&recipients).map(|(program, to)| {
        // The base of the lanes' topics, as for the service.
        program.publish(cluster.bootstrap(), &names.normal, to)
    });
    let ended = join_all(runs).await;
    for (program, ended) in programs.iter().zip(&ended) {
        assert!(ended.succeeded, "{}: {ended:?}", program.name);
    }
    smtp.wait_for_mails(programs.len(), SOON).await.expect("a mail from each");
    for _ in programs {
        service.wait_for_line(&["\"outcome\":\"sent\""], SOON).await.expect("said");
    }
    let status = service.terminate(SOON).await.expect("it ends");
    assert!(status.success(), "{}", service.tail());
    assert!(cluster.read_all(&names.dead_letters).await.expect("dead letters").is_empty());

    let records = cluster.read_all(&names.high).await.expect("records");
    assert_eq!(records.len(), programs.len(), "each publishes one event, in the high lane");
    let ledger = smtp.ledger();
    for ((program, to), ended) in programs.iter().zip(&recipients).zip(&ended) {
        let record = records.iter().find(|record| record.text().contains(to)).expect("a record");
        let mail = ledger.accepted().iter().find(|mail| mail.recipients == [to.as_str()]).expect("a mail");
        let id = is_what_it_says(record, ended.stdout.trim(), &names.high);
        is_a_reset(record, mail);
        assert_eq!(mail.message_id(), Some(compose::message_id(&id, "example.com").as_str()), "{}", program.name);
        assert_eq!(ledger.copies(mail.message_id().expect("an id")), 1);
        let said = service.lines_with(&["\"outcome\":\"sent\"", &format!("\"id\":\"{id}\"")]);
        assert_eq!(said.len(), 1, "{}: {said:?}", program.name);
        assert!(said[0].contains("\"lane\":\"high\""), "{}: {}", program.name, said[0]);
    }
}

/// The record has a key, no headers that are null, and lies where the Java client would put it; the program has named it.
fn is_what_it_says(record: &StoredRecord, stdout: &str, topic: &str) -> String {
    let key = record.key.clone().expect("a key");
    let id = String::from_utf8(key.clone()).expect("UTF-8");
    let published = format!("published {id} to {topic}");
    let place = format!("{published}, partition {}, offset {}", record.partition, record.offset);
    // kafka-go does not tell a partition.
    assert!(stdout == published || stdout == place, "{stdout:?} is not {place:?}");
    assert_eq!(record.partition, (murmur2(&key) & 0x7fff_ffff).cast_signed() % PARTITIONS, "{stdout}");
    assert!(record.headers.is_empty(), "{:?}", record.headers);
    id
}

/// A valid event that expires, and the mail says what the event does.
fn is_a_reset(record: &StoredRecord, mail: &Mail) {
    let event: Value = serde_json::from_str(&record.text()).expect("JSON");
    let message = &event["message"];
    assert_eq!(event["type"], "password_reset");
    assert_eq!(message["id"].as_str().map(str::as_bytes), record.key.as_deref());
    assert_eq!(message["priority"], "high");
    let time = |name: &str| -> DateTime<Utc> { message[name].as_str().expect("text").parse().expect("RFC 3339") };
    assert_eq!(time("expires_at") - time("timestamp"), chrono::Duration::hours(1));
    assert!((Utc::now() - time("timestamp")).abs() < chrono::Duration::minutes(10), "{message}");

    assert_eq!(mail.from, "shop@example.com");
    assert_eq!(mail.header("From").as_deref(), Some("Example Shop <shop@example.com>"));
    let decoded = mail.decoded().expect("MIME");
    assert_eq!(decoded.subject, "Reset your password");
    let link = message["data"]["Link"].as_str().expect("a link");
    assert!(link.len() > "https://example.com/reset?token=".len() + 20, "{link}");
    for part in [decoded.text.expect("text"), decoded.html.expect("HTML")] {
        assert!(part.contains(link), "{link} is not in {part}");
    }
}

/// The hash of Kafka's default partitioner.
fn murmur2(bytes: &[u8]) -> u32 {
    const MULTIPLIER: u32 = 0x5bd1_e995;
    let length = u32::try_from(bytes.len()).expect("a short key");
    let mut hash = 0x9747_b28c ^ length;
    let mut words = bytes.chunks_exact(4);
    for word in &mut words {
        let word = u32::from_le_bytes(word.try_into().expect("four bytes")).wrapping_mul(MULTIPLIER);
        hash = hash.wrapping_mul(MULTIPLIER) ^ (word ^ (word >> 24)).wrapping_mul(MULTIPLIER);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        for (place, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * place);
        }
        hash = hash.wrapping_mul(MULTIPLIER);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(MULTIPLIER);
    hash ^ (hash >> 15)
}
