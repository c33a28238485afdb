//! The environment to a [`Config`]: every wrong variable is found before any is reported.

mod kafka;
#[cfg(feature = "smtp")]
mod login;
mod publish;
#[cfg(feature = "service")]
mod service;
#[cfg(feature = "smtp")]
mod smtp;
#[cfg(feature = "service")]
mod telemetry;

use std::{collections::BTreeMap, path::PathBuf};

use lettre::{Address, message::Mailbox};
use serde::Deserialize;

use self::kafka::kafka;
pub use self::publish::producer_from_variables;
#[cfg(feature = "service")]
pub use self::service::{from_variables, http_addr};
use super::{ConfigError, Kafka, Mail, reader::Reader, security::security, values};
use crate::{compose::is_plain, event::parse_mailbox};

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

variables!(KafkaVariables: enabled, brokers, topic, topic_high, topic_normal, topic_low, dlq_topic, group_id, auto_offset_reset,
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
variables!(PublishVariables: timeout, smtp_timeout, linger, buffer_records, buffer_bytes, when_full, check_templates);
variables!(OtherVariables: fallback, priority_weights, templates_dir, shutdown_timeout, commit_interval, http_addr, log_format,
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
        ("PUBLISH_", PublishVariables::FIELDS),
        ("OTEL_", OtelVariables::FIELDS),
        ("", OtherVariables::FIELDS),
    ];
    let name = |prefix: &str, field: &&str| format!("{prefix}{field}").to_ascii_uppercase();
    structs.iter().flat_map(|(prefix, fields)| fields.iter().map(move |field| name(prefix, field))).collect()
}

fn read<T: for<'de> Deserialize<'de>>(prefix: &str, variables: &BTreeMap<String, String>) -> T {
    envy::prefixed(prefix).from_iter(variables.clone()).expect("a struct of optional texts takes every environment")
}

/// envy folds case, and a name that comes twice would be its error and not ours.
fn exact(variables: impl IntoIterator<Item = (String, String)>) -> BTreeMap<String, String> {
    variables.into_iter().filter(|(name, _)| *name == name.to_ascii_uppercase()).collect()
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
    let kafka = kafka(&mut reader, &read("KAFKA_", &variables), &read("", &variables), security, true);
    if reader.problems.is_empty() { Ok(kafka) } else { Err(ConfigError(reader.problems)) }
}

/// Reads `MAIL_*` and `TEMPLATES_DIR` alone, for programs that render mails and send none.
///
/// # Errors
///
/// [`ConfigError`] with every variable of these that is wrong.
#[cfg(feature = "smtp")]
pub fn mail_from_variables(variables: impl IntoIterator<Item = (String, String)>) -> Result<Mail, ConfigError> {
    let variables = exact(variables);
    let mut reader = Reader::default();
    let mail = mail(&mut reader, &read("MAIL_", &variables), &read("", &variables));
    if reader.problems.is_empty() { Ok(mail) } else { Err(ConfigError(reader.problems)) }
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

/// A mailbox whose address a session takes.
fn one_mailbox(text: &str) -> Option<Mailbox> {
    // the domain may be beyond ASCII, since it becomes an A-label
    parse_mailbox(text).ok().filter(|mailbox| {
        Address::new(mailbox.email.user(), "example.com").is_ok_and(|address| is_envelope_address(&address))
    })
}

/// Whether a session takes it as a sender.
fn is_envelope_address(address: &Address) -> bool {
    is_plain(address)
}
