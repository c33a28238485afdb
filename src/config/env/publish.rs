//! The variables of an application that publishes mails.

use std::time::Duration;

use super::{
    super::{ConfigError, Fallback, Producer, Publish, WhenFull, security::security},
    KafkaVariables, OtherVariables, PublishVariables, Reader, exact,
    kafka::kafka,
    mail, read, values,
};

/// Longest time for which mails are waited for: above it, waiting costs more than it saves.
const LONGEST_LINGER: Duration = Duration::from_secs(1);

/// Longest time that Kafka has for a mail: the caller waits for it.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(600);

/// Reads the settings of an application that publishes mails.
///
/// The brokers are needed only where mails go through Kafka (`KAFKA_ENABLED`), and the relay only where they can go
/// straight to it (`KAFKA_ENABLED=false` or `FALLBACK=smtp`).
///
/// # Errors
///
/// [`ConfigError`] with every variable that is wrong or missing.
pub fn producer_from_variables(variables: impl IntoIterator<Item = (String, String)>) -> Result<Producer, ConfigError> {
    let variables = exact(variables);
    let mut reader = Reader::default();
    let (kafka_variables, other) = (read("KAFKA_", &variables), read("", &variables));
    let publish = publish(&mut reader, &kafka_variables, &read("PUBLISH_", &variables), &other);
    let security = security(&mut reader, &read("KAFKA_", &variables));
    let kafka = kafka(&mut reader, &kafka_variables, &other, security, publish.kafka_enabled);
    let by_smtp = !publish.kafka_enabled || publish.fallback == Fallback::Smtp;
    #[cfg(feature = "smtp")]
    let smtp = by_smtp.then(|| super::smtp::smtp(&mut reader, &read("SMTP_", &variables), &other));
    #[cfg(not(feature = "smtp"))]
    let smtp = {
        let (variable, held) = if publish.kafka_enabled { ("FALLBACK", "smtp") } else { ("KAFKA_ENABLED", "false") };
        if by_smtp {
            reader.problem(variable, Some(held), "another value, since this program is built without the feature smtp");
        }
        None
    };
    if cfg!(not(feature = "templates")) && publish.check_templates {
        let expected = "false, since this program is built without the feature templates";
        reader.problem("PUBLISH_CHECK_TEMPLATES", Some("true"), expected);
    }
    let mail = mail(&mut reader, &read("MAIL_", &variables), &other);
    let settings = Producer { publish, kafka, smtp, mail };
    if reader.problems.is_empty() { Ok(settings) } else { Err(ConfigError(reader.problems)) }
}

pub(super) fn publish(
    reader: &mut Reader,
    kafka: &KafkaVariables,
    raw: &PublishVariables,
    other: &OtherVariables,
) -> Publish {
    let publish = Publish {
        kafka_enabled: reader.value("KAFKA_ENABLED", kafka.enabled.as_ref(), true, "true or false", values::boolean),
        fallback: reader.value("FALLBACK", other.fallback.as_ref(), Fallback::None, "none or smtp", |text| match text
            .to_ascii_lowercase()
            .as_str()
        {
            "none" => Some(Fallback::None),
            "smtp" => Some(Fallback::Smtp),
            _ => None,
        }),
        timeout: reader.value(
            "PUBLISH_TIMEOUT",
            raw.timeout.as_ref(),
            Duration::from_secs(2),
            "a duration such as 2s, from 10ms to 10m",
            |text| values::duration(text).filter(|it| (Duration::from_millis(10)..=LONGEST_TIMEOUT).contains(it)),
        ),
        smtp_timeout: reader.value(
            "PUBLISH_SMTP_TIMEOUT",
            raw.smtp_timeout.as_ref(),
            Duration::from_secs(30),
            "a duration such as 30s, from 10ms to 10m",
            |text| values::duration(text).filter(|it| (Duration::from_millis(10)..=LONGEST_TIMEOUT).contains(it)),
        ),
        linger: reader.value(
            "PUBLISH_LINGER",
            raw.linger.as_ref(),
            Duration::from_millis(2),
            "a duration such as 2ms, from 0ms to 1s",
            |text| {
                if text == "0" { Some(Duration::ZERO) } else { values::duration(text) }
                    .filter(|it| *it <= LONGEST_LINGER)
            },
        ),
        buffer_records: reader.number("PUBLISH_BUFFER_RECORDS", raw.buffer_records.as_ref(), 10_000, 1, 1_000_000),
        buffer_bytes: reader.size("PUBLISH_BUFFER_BYTES", raw.buffer_bytes.as_ref(), 32 << 20, 1024, 1 << 31),
        when_full: reader.value("PUBLISH_WHEN_FULL", raw.when_full.as_ref(), WhenFull::Wait, "wait or error", |text| {
            match text.to_ascii_lowercase().as_str() {
                "wait" => Some(WhenFull::Wait),
                "error" => Some(WhenFull::Error),
                _ => None,
            }
        }),
        check_templates: reader.value(
            "PUBLISH_CHECK_TEMPLATES",
            raw.check_templates.as_ref(),
            false,
            "true or false",
            values::boolean,
        ),
    };
    if publish.linger >= publish.timeout {
        let held = values::duration_text(publish.linger);
        let expected = format!("less than PUBLISH_TIMEOUT ({})", values::duration_text(publish.timeout));
        reader.problem("PUBLISH_LINGER", Some(&held), expected);
    }
    publish
}
