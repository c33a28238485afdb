//! The variables of the service as a whole.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use super::{OtherVariables, RetryVariables, exact, kafka::kafka, mail, publish::publish, read, smtp::smtp, telemetry};
use crate::config::{Config, ConfigError, LogFormat, Retry, reader::Reader, security::security, values};

/// Reads the settings from variables given as name and value.
///
/// # Errors
///
/// [`ConfigError`] with every variable that is wrong or missing.
pub fn from_variables(variables: impl IntoIterator<Item = (String, String)>) -> Result<Config, ConfigError> {
    let variables = exact(variables);
    let mut reader = Reader::default();
    let other: OtherVariables = read("", &variables);
    let security = security(&mut reader, &read("KAFKA_", &variables));
    let kafka = kafka(&mut reader, &read("KAFKA_", &variables), &other, security, true);
    let smtp = smtp(&mut reader, &read("SMTP_", &variables), &other);
    let mail = mail(&mut reader, &read("MAIL_", &variables), &other);
    let retry = retry(&mut reader, &read("RETRY_", &variables));
    let publish = publish(&mut reader, &read("KAFKA_", &variables), &read("PUBLISH_", &variables), &other);
    if !publish.kafka_enabled {
        let expected = "true or nothing: the service takes its mails from Kafka (applications can send without it)";
        reader.problem("KAFKA_ENABLED", Some("false"), expected);
    }
    let telemetry = telemetry::telemetry(&mut reader, &read("OTEL_", &variables));
    let config = Config {
        kafka,
        smtp,
        mail,
        retry,
        publish,
        telemetry,
        weights: reader.value(
            "PRIORITY_WEIGHTS",
            other.priority_weights.as_ref(),
            [6, 3, 1],
            "three weights from 1 to 1000 for the high, normal and low lane such as 6:3:1",
            values::weights,
        ),
        shutdown_timeout: reader.duration("SHUTDOWN_TIMEOUT", other.shutdown_timeout.as_ref(), Duration::from_secs(25)),
        http_addr: read_http_addr(&mut reader, &other),
        log_format: reader.value("LOG_FORMAT", other.log_format.as_ref(), LogFormat::Text, "text or json", |text| {
            match text.to_ascii_lowercase().as_str() {
                "text" => Some(LogFormat::Text),
                "json" => Some(LogFormat::Json),
                _ => None,
            }
        }),
        log_filter: reader.value(
            "RUST_LOG",
            other.rust_log.as_ref(),
            crate::config::DEFAULT_LOG_FILTER.to_owned(),
            "a log filter such as info or postlane=debug,warn",
            |text| tracing_subscriber::EnvFilter::try_new(text).is_ok().then(|| text.to_owned()),
        ),
    };
    if reader.problems.is_empty() { Ok(config) } else { Err(ConfigError(reader.problems)) }
}

/// Reads `HTTP_ADDR` alone, for a program that asks a running service; `None` where it is `off`.
///
/// # Errors
///
/// [`ConfigError`] where it is neither an address nor `off`.
pub fn http_addr(variables: impl IntoIterator<Item = (String, String)>) -> Result<Option<SocketAddr>, ConfigError> {
    let mut reader = Reader::default();
    let address = read_http_addr(&mut reader, &read("", &exact(variables)));
    if reader.problems.is_empty() { Ok(address) } else { Err(ConfigError(reader.problems)) }
}

fn read_http_addr(reader: &mut Reader, other: &OtherVariables) -> Option<SocketAddr> {
    let expected = "an IP address and port such as 0.0.0.0:8081, 127.0.0.1:8081 or [::]:8081, or off";
    let default = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8081));
    reader.value("HTTP_ADDR", other.http_addr.as_ref(), Some(default), expected, |text| {
        if text.eq_ignore_ascii_case("off") { Some(None) } else { text.parse().ok().map(Some) }
    })
}

fn retry(reader: &mut Reader, raw: &RetryVariables) -> Retry {
    let limit = reader.number("RETRY_MAX_ATTEMPTS_LIMIT", raw.max_attempts_limit.as_ref(), 10, 1, 1000);
    let attempts = reader.number("RETRY_MAX_ATTEMPTS", raw.max_attempts.as_ref(), 3.min(limit), 1, limit);
    let attempts_of = |number: usize| u32::try_from(number).expect("the range is that of u32");
    let initial_delay = reader.duration("RETRY_INITIAL_DELAY", raw.initial_delay.as_ref(), Duration::from_secs(60));
    let max_delay = reader.duration("RETRY_MAX_DELAY", raw.max_delay.as_ref(), Duration::from_secs(900));
    if max_delay < initial_delay {
        let held = values::duration_text(max_delay);
        let expected = format!("at least RETRY_INITIAL_DELAY ({})", values::duration_text(initial_delay));
        reader.problem("RETRY_MAX_DELAY", Some(&held), expected);
    }
    Retry {
        max_attempts: attempts_of(attempts),
        max_attempts_limit: attempts_of(limit),
        initial_delay,
        multiplier: reader.value("RETRY_MULTIPLIER", raw.multiplier.as_ref(), 5.0, "a number from 1 to 100", |text| {
            text.parse().ok().filter(|number| (1.0..=100.0).contains(number))
        }),
        jitter: reader.value("RETRY_JITTER", raw.jitter.as_ref(), 0.2, "a share from 0 to 0.9", |text| {
            text.parse().ok().filter(|number| (0.0..=0.9).contains(number))
        }),
        max_delay,
    }
}
