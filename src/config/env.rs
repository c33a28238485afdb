//! The environment to a [`Config`]: every wrong variable is found before any is reported.

mod telemetry;

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use lettre::Address;
use serde::Deserialize;

use super::{
    Config, ConfigError, Credentials, Encryption, Kafka, LogFormat, Mail, OffsetReset, Retry, Smtp, Timeouts, Topics,
    reader::Reader, values,
};
use crate::{event::parse_mailbox, smtp::Outgoing};

/// Declares one flat struct of optional texts for a prefix, as `envy` reads it.
macro_rules! variables {
    ($name:ident: $($field:ident),+ $(,)?) => {
        #[derive(Deserialize)]
        struct $name { $($field: Option<String>),+ }

        #[cfg(test)]
        impl $name {
            const FIELDS: &'static [&'static str] = &[$(stringify!($field)),+];
        }
    };
}

variables!(KafkaVariables: brokers, topic, topic_high, topic_normal, topic_low, dlq_topic, group_id, auto_offset_reset,
    create_topics, topic_partitions, topic_replication_factor, dlq_retention, discovery_interval, fetch_max_bytes, fetch_max_wait, buffer_records, buffer_bytes, window_records, window_bytes);
variables!(SmtpVariables: host, port, user, username, password, password_file, encryption, allow_insecure_auth, ca_file,
    hello_name, sessions, sessions_reserved, max_messages_per_session, idle_timeout, throttle_replies, connect_timeout,
    tls_timeout, greeting_timeout, auth_timeout, command_timeout, data_timeout, body_timeout, final_dot_timeout,
    quit_timeout);
variables!(MailVariables: from, envelope_from, max_size, subject_templates);
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
    let kafka = kafka(&mut reader, &read("KAFKA_", &variables), &other);
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
    let kafka = kafka(&mut reader, &read("KAFKA_", &variables), &read("", &variables));
    if reader.problems.is_empty() { Ok(kafka) } else { Err(ConfigError(reader.problems)) }
}

fn kafka(reader: &mut Reader, raw: &KafkaVariables, other: &OtherVariables) -> Kafka {
    let expected_brokers = "one or more addresses such as kafka-1:9092,kafka-2:9092";
    let brokers = reader.optional("KAFKA_BROKERS", raw.brokers.as_ref(), expected_brokers, |text| {
        text.split(',').map(values::broker).collect::<Option<Vec<String>>>()
    });
    if brokers.is_none() && raw.brokers.as_ref().is_none_or(|text| text.trim().is_empty()) {
        reader.problem("KAFKA_BROKERS", None, expected_brokers);
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
        fetch_max_wait: reader.duration(
            "KAFKA_FETCH_MAX_WAIT",
            raw.fetch_max_wait.as_ref(),
            Duration::from_millis(500),
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

fn smtp(reader: &mut Reader, raw: &SmtpVariables, other: &OtherVariables) -> Smtp {
    let expected_host = "the relay's host name or address";
    let host = reader.optional("SMTP_HOST", raw.host.as_ref(), expected_host, |text| {
        let legal = text.chars().all(|c| c.is_ascii_alphanumeric() || "-._:[]".contains(c));
        legal.then(|| text.trim_matches(['[', ']']).to_owned())
    });
    if host.is_none() && raw.host.as_ref().is_none_or(|text| text.trim().is_empty()) {
        reader.problem("SMTP_HOST", None, expected_host);
    }
    let host = host.unwrap_or_default();
    let port = reader.value("SMTP_PORT", raw.port.as_ref(), 587, "a port from 1 to 65535", |text| {
        text.parse().ok().filter(|port: &u16| *port > 0)
    });
    let by_port = match port {
        465 => Encryption::Tls,
        25 | 1025 | 2525 => Encryption::None,
        _ => Encryption::StartTls,
    };
    let encryption =
        reader.value("SMTP_ENCRYPTION", raw.encryption.as_ref(), by_port, "none, starttls or tls", |text| {
            match text.to_ascii_lowercase().as_str() {
                "none" => Some(Encryption::None),
                "starttls" => Some(Encryption::StartTls),
                "tls" => Some(Encryption::Tls),
                _ => None,
            }
        });
    let allow_insecure_auth = reader.value(
        "SMTP_ALLOW_INSECURE_AUTH",
        raw.allow_insecure_auth.as_ref(),
        false,
        "true or false",
        values::boolean,
    );
    let credentials = credentials(reader, raw);
    if credentials.is_some() && encryption == Encryption::None && !allow_insecure_auth && !is_this_host(&host) {
        let expected = "starttls or tls, since SMTP_USER is set: a password does not cross an unencrypted connection \
                        to another host unless SMTP_ALLOW_INSECURE_AUTH=true";
        reader.problem("SMTP_ENCRYPTION", Some("none"), expected);
    }
    let (sessions_name, sessions_text) = reader
        .either(("SMTP_SESSIONS", raw.sessions.as_ref()), ("EMAIL_WORKER_COUNT", other.email_worker_count.as_ref()));
    let sessions = reader.number(sessions_name, sessions_text, 16, 1, 1000);
    let reserved_default = if sessions < 8 { 0 } else { sessions / 8 };
    Smtp {
        port,
        encryption,
        credentials,
        allow_insecure_auth,
        ca_file: raw.ca_file.as_ref().filter(|text| !text.is_empty()).map(PathBuf::from),
        hello_name: reader.value(
            "SMTP_HELLO_NAME",
            raw.hello_name.as_ref(),
            default_hello_name(),
            "a host name such as mailer.example.com",
            hello_name,
        ),
        sessions,
        sessions_reserved: reader.number(
            "SMTP_SESSIONS_RESERVED",
            raw.sessions_reserved.as_ref(),
            reserved_default,
            0,
            sessions - 1,
        ),
        max_messages_per_session: u32::try_from(reader.number(
            "SMTP_MAX_MESSAGES_PER_SESSION",
            raw.max_messages_per_session.as_ref(),
            100,
            1,
            1_000_000,
        ))
        .expect("the range is that of u32"),
        idle_timeout: reader.duration("SMTP_IDLE_TIMEOUT", raw.idle_timeout.as_ref(), Duration::from_secs(30)),
        timeouts: timeouts(reader, raw),
        throttle_replies: reader.value(
            "SMTP_THROTTLE_REPLIES",
            raw.throttle_replies.as_ref(),
            [super::ReplyPattern::Enhanced(5, 4, 5)].into(),
            "codes such as 452 or 5.4.5, separated by commas",
            |text| text.split(',').map(|part| values::reply_pattern(part.trim())).collect(),
        ),
        host,
    }
}

fn timeouts(reader: &mut Reader, raw: &SmtpVariables) -> Timeouts {
    let seconds = Duration::from_secs;
    Timeouts {
        connect: reader.duration("SMTP_CONNECT_TIMEOUT", raw.connect_timeout.as_ref(), seconds(10)),
        tls: reader.duration("SMTP_TLS_TIMEOUT", raw.tls_timeout.as_ref(), seconds(30)),
        greeting: reader.duration("SMTP_GREETING_TIMEOUT", raw.greeting_timeout.as_ref(), seconds(60)),
        auth: reader.duration("SMTP_AUTH_TIMEOUT", raw.auth_timeout.as_ref(), seconds(60)),
        command: reader.duration("SMTP_COMMAND_TIMEOUT", raw.command_timeout.as_ref(), seconds(300)),
        data: reader.duration("SMTP_DATA_TIMEOUT", raw.data_timeout.as_ref(), seconds(120)),
        body: reader.duration("SMTP_BODY_TIMEOUT", raw.body_timeout.as_ref(), seconds(180)),
        final_dot: reader.duration("SMTP_FINAL_DOT_TIMEOUT", raw.final_dot_timeout.as_ref(), seconds(600)),
        quit: reader.duration("SMTP_QUIT_TIMEOUT", raw.quit_timeout.as_ref(), seconds(2)),
    }
}

fn credentials(reader: &mut Reader, raw: &SmtpVariables) -> Option<Credentials> {
    let (user_name, user) = reader.either(("SMTP_USER", raw.user.as_ref()), ("SMTP_USERNAME", raw.username.as_ref()));
    let user = reader.optional(user_name, user, "a user name without control characters", |text| {
        (!text.chars().any(char::is_control)).then(|| text.to_owned())
    });
    let password =
        reader.secret(("SMTP_PASSWORD", raw.password.as_ref()), ("SMTP_PASSWORD_FILE", raw.password_file.as_ref()));
    match (user, password) {
        (Some(user), Some(password)) => Some(Credentials { user, password }),
        (Some(_), None) => {
            reader.problem("SMTP_PASSWORD", None, "the password of SMTP_USER (or SMTP_PASSWORD_FILE)");
            None
        }
        (None, Some(_)) => {
            reader.problem("SMTP_USER", None, "the user of SMTP_PASSWORD");
            None
        }
        (None, None) => None,
    }
}

fn mail(reader: &mut Reader, raw: &MailVariables, other: &OtherVariables) -> Mail {
    Mail {
        from: reader.optional("MAIL_FROM", raw.from.as_ref(), "a mailbox such as Shop <shop@example.com>", |text| {
            // the domain may be beyond ASCII, since it becomes an A-label
            parse_mailbox(text).ok().filter(|mailbox| {
                Address::new(mailbox.email.user(), "example.com").is_ok_and(|address| is_envelope_address(&address))
            })
        }),
        envelope_from: reader.optional(
            "MAIL_ENVELOPE_FROM",
            raw.envelope_from.as_ref(),
            "an address such as bounces@example.com",
            |text| text.parse::<Address>().ok().filter(is_envelope_address),
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

/// Whether a session takes it as a sender.
fn is_envelope_address(address: &Address) -> bool {
    Outgoing::new(Some(address), std::slice::from_ref(address), b"").is_ok()
}

/// Whether a connection to this host stays on this host.
fn is_this_host(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn hello_name(text: &str) -> Option<String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || "-.".contains(c);
    let literal = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let legal = match literal {
        Some(address) => address.trim_start_matches("IPv6:").parse::<IpAddr>().is_ok(),
        None => !text.is_empty() && text.len() <= 255 && text.chars().all(legal) && !text.starts_with(['-', '.']),
    };
    legal.then(|| text.to_owned())
}

/// The kernel's host name where it can be read and stand in EHLO, else `localhost`.
fn default_hello_name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    hello_name(name.trim()).unwrap_or_else(|| "localhost".to_owned())
}
