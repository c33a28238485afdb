//! The environment to a [`Config`]: every wrong variable is found before any is reported.

mod kafka;
mod login;
mod smtp;
mod telemetry;

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use lettre::{Address, message::Mailbox};
use serde::Deserialize;

use self::{kafka::kafka, smtp::smtp};
use super::{Config, ConfigError, Kafka, LogFormat, Mail, Retry, reader::Reader, security::security, values};
use crate::{event::parse_mailbox, smtp::Outgoing};

/// Declares one flat struct of optional texts for a prefix, as `envy` reads it.
macro_rules! variables {
    ($name:ident: $($field:ident),+ $(,)?) => {
        #[derive(Deserialize)]
        pub(super) struct $name { $(pub(super) $field: Option<String>),+ }

        #[cfg(test)]
        impl $name {
            const FIELDS: &'static [&'static str] = &[$(stringify!($field)),+];
        }
    };
}

variables!(KafkaVariables: brokers, topic, topic_high, topic_normal, topic_low, dlq_topic, group_id, auto_offset_reset,
    create_topics, topic_partitions, topic_replication_factor, dlq_retention, discovery_interval, fetch_max_bytes,
    fetch_max_wait, buffer_records, buffer_bytes, window_records, window_bytes);
variables!(SecurityVariables: security_protocol, sasl_mechanism, sasl_username, sasl_password, sasl_password_file,
    sasl_oauthbearer_token_file, sasl_oauthbearer_token_endpoint_url, sasl_oauthbearer_client_id,
    sasl_oauthbearer_client_secret, sasl_oauthbearer_client_secret_file, sasl_oauthbearer_scope,
    sasl_oauthbearer_extensions, https_ca_file, ssl_ca_file, ssl_certificate_file, ssl_key_file,
    ssl_endpoint_identification_algorithm);
variables!(SmtpVariables: host, port, user, username, password, password_file, token_file, auth, encryption,
    allow_insecure_auth, ca_file, certificate_file, key_file, rate_limit, hello_name, sessions, sessions_reserved,
    max_messages_per_session, idle_timeout, throttle_replies, connect_timeout, tls_timeout, greeting_timeout,
    auth_timeout, command_timeout, data_timeout, body_timeout, final_dot_timeout, quit_timeout);
variables!(MailVariables: from, envelope_from, redirect_to, max_size, subject_templates);
variables!(RetryVariables: max_attempts, max_attempts_limit, initial_delay, multiplier, jitter, max_delay);
variables!(OtherVariables: priority_weights, templates_dir, shutdown_timeout, commit_interval, http_addr, log_format,
    rust_log, email_worker_count);
variables!(OtelVariables: sdk_disabled, traces_exporter, exporter_otlp_endpoint, exporter_otlp_traces_endpoint,
    exporter_otlp_protocol, exporter_otlp_headers, exporter_otlp_certificate, exporter_otlp_timeout, service_name,
    resource_attributes, traces_sampler, traces_sampler_arg);

/// Every variable that is read, for the tests that hold the documents against it.
#[cfg(test)]
pub(super) fn names() -> Vec<String> {
    let structs = [
        ("KAFKA_", KafkaVariables::FIELDS),
        ("KAFKA_", SecurityVariables::FIELDS),
        ("SMTP_", SmtpVariables::FIELDS),
        ("MAIL_", MailVariables::FIELDS),
        ("RETRY_", RetryVariables::FIELDS),
        ("OTEL_", OtelVariables::FIELDS),
        ("", OtherVariables::FIELDS),
    ];
    let name = |prefix: &str, field: &&str| format!("{prefix}{field}").to_ascii_uppercase();
    structs.iter().flat_map(|(prefix, fields)| fields.iter().map(move |field| name(prefix, field))).collect()
}

fn read<T: for<'de> Deserialize<'de>>(prefix: &str, variables: &BTreeMap<String, String>) -> T {
    envy::prefixed(prefix).from_iter(variables.clone()).expect("a struct of optional texts takes every environment")
}

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
    let kafka = kafka(&mut reader, &read("KAFKA_", &variables), &other, security);
    let smtp = smtp(&mut reader, &read("SMTP_", &variables), &other);
    let mail = mail(&mut reader, &read("MAIL_", &variables), &other);
    let retry = retry(&mut reader, &read("RETRY_", &variables));
    let telemetry = telemetry::telemetry(&mut reader, &read("OTEL_", &variables));
    let config = Config {
        kafka,
        smtp,
        mail,
        retry,
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
            super::DEFAULT_LOG_FILTER.to_owned(),
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

/// envy folds case, and a name that comes twice would be its error and not ours.
fn exact(variables: impl IntoIterator<Item = (String, String)>) -> BTreeMap<String, String> {
    variables.into_iter().filter(|(name, _)| *name == name.to_ascii_uppercase()).collect()
}

fn read_http_addr(reader: &mut Reader, other: &OtherVariables) -> Option<SocketAddr> {
    let expected = "an IP address and port such as 0.0.0.0:8081, 127.0.0.1:8081 or [::]:8081, or off";
    let default = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8081));
    reader.value("HTTP_ADDR", other.http_addr.as_ref(), Some(default), expected, |text| {
        if text.eq_ignore_ascii_case("off") { Some(None) } else { text.parse().ok().map(Some) }
    })
}

/// Reads the settings of Kafka alone, for programs that send no mail.
///
/// # Errors
///
/// [`ConfigError`] with every variable of these that is wrong or missing.
pub fn kafka_from_variables(variables: impl IntoIterator<Item = (String, String)>) -> Result<Kafka, ConfigError> {
    let variables = exact(variables);
    let mut reader = Reader::default();
    let security = security(&mut reader, &read("KAFKA_", &variables));
    let kafka = kafka(&mut reader, &read("KAFKA_", &variables), &read("", &variables), security);
    if reader.problems.is_empty() { Ok(kafka) } else { Err(ConfigError(reader.problems)) }
}

fn mail(reader: &mut Reader, raw: &MailVariables, other: &OtherVariables) -> Mail {
    Mail {
        from: reader.optional("MAIL_FROM", raw.from.as_ref(), "a mailbox such as Shop <shop@example.com>", one_mailbox),
        envelope_from: reader.optional(
            "MAIL_ENVELOPE_FROM",
            raw.envelope_from.as_ref(),
            "an address such as bounces@example.com",
            |text| text.parse::<Address>().ok().filter(is_envelope_address),
        ),
        redirect_to: reader.optional(
            "MAIL_REDIRECT_TO",
            raw.redirect_to.as_ref(),
            "one mailbox such as staging@example.com",
            one_mailbox,
        ),
        max_size: reader.size("MAIL_MAX_SIZE", raw.max_size.as_ref(), 10_000_000, 1024, 1 << 28),
        subject_templates: reader.value(
            "MAIL_SUBJECT_TEMPLATES",
            raw.subject_templates.as_ref(),
            false,
            "true or false",
            values::boolean,
        ),
        templates_dir: reader.optional(
            "TEMPLATES_DIR",
            other.templates_dir.as_ref(),
            "a folder that can be read",
            |text| PathBuf::from(text).is_dir().then(|| PathBuf::from(text)),
        ),
    }
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

/// A mailbox whose address a session takes.
fn one_mailbox(text: &str) -> Option<Mailbox> {
    // the domain may be beyond ASCII, since it becomes an A-label
    parse_mailbox(text).ok().filter(|mailbox| {
        Address::new(mailbox.email.user(), "example.com").is_ok_and(|address| is_envelope_address(&address))
    })
}

/// Whether a session takes it as a sender.
fn is_envelope_address(address: &Address) -> bool {
    Outgoing::new(Some(address), std::slice::from_ref(address), b"").is_ok()
}
