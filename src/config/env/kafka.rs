//! The variables of Kafka: brokers, topics, the group and buffers.

use std::time::Duration;

use super::{
    super::{Kafka, OffsetReset, Security, Topics},
    KafkaVariables, OtherVariables, Reader, values,
};

/// Longest time for which a broker may hold a fetch: a broker that is silent is found out only after that.
const LONGEST_FETCH: Duration = Duration::from_secs(30);

pub(super) fn kafka(
    reader: &mut Reader,
    raw: &KafkaVariables,
    other: &OtherVariables,
    security: Security,
    needed: bool,
) -> Kafka {
    let expected_brokers = "one or more addresses such as kafka-1:9092,kafka-2:9092";
    let brokers = reader.optional("KAFKA_BROKERS", raw.brokers.as_ref(), expected_brokers, |text| {
        text.split(',').map(values::broker).collect::<Option<Vec<String>>>()
    });
    if needed && brokers.is_none() && raw.brokers.as_ref().is_none_or(|text| text.trim().is_empty()) {
        reader.problem("KAFKA_BROKERS", None, expected_brokers);
    }
    if let Some(address) = brokers.iter().flatten().find(|address| address.starts_with('[') && security.tls.is_some()) {
        reader.problem("KAFKA_BROKERS", Some(address), "a host name or an IPv4 address, since it is reached over TLS");
    }
    let expected = "a topic name: letters, digits, '.', '_' and '-', at most 249";
    let base = reader.value("KAFKA_TOPIC", raw.topic.as_ref(), "email-queue".to_owned(), expected, values::topic);
    let mut topic = |variable, text: Option<&String>, default: String| {
        reader.value(variable, text, default, expected, values::topic)
    };
    let topics = [
        ("KAFKA_TOPIC_HIGH", topic("KAFKA_TOPIC_HIGH", raw.topic_high.as_ref(), format!("{base}-high"))),
        ("KAFKA_TOPIC_NORMAL", topic("KAFKA_TOPIC_NORMAL", raw.topic_normal.as_ref(), base.clone())),
        ("KAFKA_TOPIC_LOW", topic("KAFKA_TOPIC_LOW", raw.topic_low.as_ref(), format!("{base}-low"))),
        ("KAFKA_DLQ_TOPIC", topic("KAFKA_DLQ_TOPIC", raw.dlq_topic.as_ref(), "email-dlq".to_owned())),
    ];
    for (index, (variable, name)) in topics.iter().enumerate() {
        if let Some((earlier, _)) = topics[..index].iter().find(|(_, earlier)| earlier == name) {
            reader.problem(variable, Some(name), format!("another topic than that of {earlier}"));
        }
    }
    let [(_, topic_high), (_, topic_normal), (_, topic_low), (_, topic_dead_letters)] = topics;
    Kafka {
        brokers: brokers.unwrap_or_default(),
        security,
        topic_high,
        topic_normal,
        topic_low,
        topic_dead_letters,
        group_id: reader.value(
            "KAFKA_GROUP_ID",
            raw.group_id.as_ref(),
            "messaging-service-group".to_owned(),
            "a group name of at most 249 bytes without control characters",
            |text| (text.len() <= 249 && !text.chars().any(char::is_control)).then(|| text.to_owned()),
        ),
        auto_offset_reset: reader.value(
            "KAFKA_AUTO_OFFSET_RESET",
            raw.auto_offset_reset.as_ref(),
            OffsetReset::Earliest,
            "earliest or latest",
            |text| match text.to_ascii_lowercase().as_str() {
                "earliest" => Some(OffsetReset::Earliest),
                "latest" => Some(OffsetReset::Latest),
                _ => None,
            },
        ),
        topics: topics_to_make(reader, raw),
        commit_interval: reader.duration("COMMIT_INTERVAL", other.commit_interval.as_ref(), Duration::from_secs(1)),
        discovery_interval: reader.duration(
            "KAFKA_DISCOVERY_INTERVAL",
            raw.discovery_interval.as_ref(),
            Duration::from_secs(30),
        ),
        fetch_max_bytes: reader.size("KAFKA_FETCH_MAX_BYTES", raw.fetch_max_bytes.as_ref(), 1 << 20, 1024, 1 << 26),
        fetch_max_wait: reader.value(
            "KAFKA_FETCH_MAX_WAIT",
            raw.fetch_max_wait.as_ref(),
            Duration::from_millis(500),
            "a duration such as 500ms, above zero and at most 30s",
            |text| values::duration(text).filter(|it| !it.is_zero() && *it <= LONGEST_FETCH),
        ),
        buffer_records: reader.number("KAFKA_BUFFER_RECORDS", raw.buffer_records.as_ref(), 2000, 1, 1_000_000),
        buffer_bytes: reader.size("KAFKA_BUFFER_BYTES", raw.buffer_bytes.as_ref(), 32 << 20, 1024, 1 << 31),
        window_records: reader.number("KAFKA_WINDOW_RECORDS", raw.window_records.as_ref(), 10_000, 1, 1_000_000),
        window_bytes: reader.size("KAFKA_WINDOW_BYTES", raw.window_bytes.as_ref(), 32 << 20, 1024, 1 << 31),
    }
}

fn topics_to_make(reader: &mut Reader, raw: &KafkaVariables) -> Topics {
    let partitions = reader.number("KAFKA_TOPIC_PARTITIONS", raw.topic_partitions.as_ref(), 6, 1, 10_000);
    Topics {
        create: reader.value(
            "KAFKA_CREATE_TOPICS",
            raw.create_topics.as_ref(),
            false,
            "true or false",
            values::boolean,
        ),
        partitions: i32::try_from(partitions).expect("the range is that of i32"),
        replication: reader.value(
            "KAFKA_TOPIC_REPLICATION_FACTOR",
            raw.topic_replication_factor.as_ref(),
            -1,
            "a whole number from 1 to 100, or -1 for the brokers' default",
            |text| text.parse().ok().filter(|number| *number == -1 || (1..=100).contains(number)),
        ),
        dead_letter_retention: reader.value(
            "KAFKA_DLQ_RETENTION",
            raw.dlq_retention.as_ref(),
            Duration::from_secs(30 * 24 * 3600),
            "a duration such as 12h or 30d, from 1m to 3650d",
            |text| values::retention(text).filter(|it| (60..=3650 * 24 * 3600).contains(&it.as_secs())),
        ),
    }
}
