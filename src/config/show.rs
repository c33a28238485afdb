//! The effective configuration as names and values, secrets masked.

use std::path::Path;

use super::{
    AuthMethod, Config, Encryption, Fallback, Kafka, LogFormat, Login, OffsetReset, Publish, SecretSource, Smtp,
    Telemetry, TokenSource, TracesExporter, WhenFull, shown, values,
};
use crate::tls::PemFile;

impl Config {
    /// Every setting under the name of its variable, in the order of the documentation.
    pub fn effective(&self) -> Vec<(&'static str, String)> {
        let (duration, size) = (values::duration_text, values::size_text);
        let (kafka, mail, retry) = (&self.kafka, &self.mail, &self.retry);
        let text = |value: Option<String>| value.unwrap_or_default();
        let mut settings = vec![("KAFKA_BROKERS", kafka.brokers.join(","))];
        settings.extend(security(kafka));
        settings.extend([
            ("KAFKA_TOPIC_HIGH", kafka.topic_high.clone()),
            ("KAFKA_TOPIC_NORMAL", kafka.topic_normal.clone()),
            ("KAFKA_TOPIC_LOW", kafka.topic_low.clone()),
            ("KAFKA_DLQ_TOPIC", kafka.topic_dead_letters.clone()),
            ("KAFKA_GROUP_ID", kafka.group_id.clone()),
            (
                "KAFKA_AUTO_OFFSET_RESET",
                match kafka.auto_offset_reset {
                    OffsetReset::Earliest => "earliest",
                    OffsetReset::Latest => "latest",
                }
                .to_owned(),
            ),
            ("KAFKA_CREATE_TOPICS", kafka.topics.create.to_string()),
            ("KAFKA_TOPIC_PARTITIONS", kafka.topics.partitions.to_string()),
            ("KAFKA_TOPIC_REPLICATION_FACTOR", kafka.topics.replication.to_string()),
            ("KAFKA_DLQ_RETENTION", values::retention_text(kafka.topics.dead_letter_retention)),
            ("KAFKA_DISCOVERY_INTERVAL", duration(kafka.discovery_interval)),
            ("KAFKA_FETCH_MAX_BYTES", size(kafka.fetch_max_bytes)),
            ("KAFKA_FETCH_MAX_WAIT", duration(kafka.fetch_max_wait)),
            ("KAFKA_BUFFER_RECORDS", kafka.buffer_records.to_string()),
            ("KAFKA_BUFFER_BYTES", size(kafka.buffer_bytes)),
            ("KAFKA_WINDOW_RECORDS", kafka.window_records.to_string()),
            ("KAFKA_WINDOW_BYTES", size(kafka.window_bytes)),
            ("COMMIT_INTERVAL", duration(kafka.commit_interval)),
            ("PRIORITY_WEIGHTS", self.weights.map(|weight| weight.to_string()).join(":")),
        ]);
        settings.extend(self.smtp.effective());
        settings.extend([
            ("MAIL_FROM", text(mail.from.as_ref().map(ToString::to_string))),
            ("MAIL_ENVELOPE_FROM", text(mail.envelope_from.as_ref().map(ToString::to_string))),
            ("MAIL_REDIRECT_TO", text(mail.redirect_to.as_ref().map(ToString::to_string))),
            ("MAIL_MAX_SIZE", size(mail.max_size)),
            ("MAIL_SUBJECT_TEMPLATES", mail.subject_templates.to_string()),
            ("TEMPLATES_DIR", text(mail.templates_dir.as_ref().map(|folder| folder.display().to_string()))),
            ("RETRY_MAX_ATTEMPTS", retry.max_attempts.to_string()),
            ("RETRY_MAX_ATTEMPTS_LIMIT", retry.max_attempts_limit.to_string()),
            ("RETRY_INITIAL_DELAY", duration(retry.initial_delay)),
            ("RETRY_MULTIPLIER", retry.multiplier.to_string()),
            ("RETRY_JITTER", retry.jitter.to_string()),
            ("RETRY_MAX_DELAY", duration(retry.max_delay)),
        ]);
        settings.extend(self.publish.effective());
        settings.extend([
            ("SHUTDOWN_TIMEOUT", duration(self.shutdown_timeout)),
            ("HTTP_ADDR", self.http_addr.map_or_else(|| "off".to_owned(), |address| address.to_string())),
            (
                "LOG_FORMAT",
                match self.log_format {
                    LogFormat::Text => "text",
                    LogFormat::Json => "json",
                }
                .to_owned(),
            ),
            ("RUST_LOG", self.log_filter.clone()),
        ]);
        settings.extend(telemetry(&self.telemetry));
        settings
    }
}

impl Publish {
    fn effective(&self) -> Vec<(&'static str, String)> {
        let fallback = match self.fallback {
            Fallback::None => "none",
            Fallback::Smtp => "smtp",
        };
        let when_full = match self.when_full {
            WhenFull::Wait => "wait",
            WhenFull::Error => "error",
        };
        vec![
            ("KAFKA_ENABLED", self.kafka_enabled.to_string()),
            ("FALLBACK", fallback.to_owned()),
            ("PUBLISH_TIMEOUT", values::duration_text(self.timeout)),
            ("PUBLISH_SMTP_TIMEOUT", values::duration_text(self.smtp_timeout)),
            ("PUBLISH_LINGER", values::duration_text(self.linger)),
            ("PUBLISH_BUFFER_RECORDS", self.buffer_records.to_string()),
            ("PUBLISH_BUFFER_BYTES", values::size_text(self.buffer_bytes)),
            ("PUBLISH_WHEN_FULL", when_full.to_owned()),
            ("PUBLISH_CHECK_TEMPLATES", self.check_templates.to_string()),
        ]
    }
}

impl Smtp {
    fn effective(&self) -> Vec<(&'static str, String)> {
        let (smtp, duration) = (self, values::duration_text);
        let text = |value: Option<String>| value.unwrap_or_default();
        let path = |file: Option<&Path>| file.map(|file| file.display().to_string()).unwrap_or_default();
        let password = smtp.credentials.as_ref().and_then(|credentials| credentials.password.as_ref());
        let token = smtp.credentials.as_ref().and_then(|credentials| credentials.token.as_ref());
        vec![
            ("SMTP_HOST", smtp.host.clone()),
            ("SMTP_PORT", smtp.port.to_string()),
            (
                "SMTP_ENCRYPTION",
                match smtp.encryption {
                    Encryption::None => "none",
                    Encryption::StartTls => "starttls",
                    Encryption::Tls => "tls",
                }
                .to_owned(),
            ),
            ("SMTP_USER", text(smtp.credentials.as_ref().map(|credentials| credentials.user.clone()))),
            ("SMTP_PASSWORD", text(password.map(|_| "***".to_owned()))),
            ("SMTP_TOKEN_FILE", path(token.and_then(SecretSource::path))),
            (
                "SMTP_AUTH",
                match smtp.auth {
                    AuthMethod::Auto => "auto",
                    AuthMethod::Plain => "plain",
                    AuthMethod::Login => "login",
                    AuthMethod::Xoauth2 => "xoauth2",
                    AuthMethod::OauthBearer => "oauthbearer",
                }
                .to_owned(),
            ),
            ("SMTP_ALLOW_INSECURE_AUTH", smtp.allow_insecure_auth.to_string()),
            ("SMTP_CA_FILE", path(smtp.ca_file.as_deref())),
            ("SMTP_CERTIFICATE_FILE", path(smtp.identity.as_ref().map(|(certificate, _)| certificate.as_path()))),
            ("SMTP_KEY_FILE", path(smtp.identity.as_ref().map(|(_, key)| key.as_path()))),
            ("SMTP_HELLO_NAME", smtp.hello_name.clone()),
            ("SMTP_SESSIONS", smtp.sessions.to_string()),
            ("SMTP_SESSIONS_RESERVED", smtp.sessions_reserved.to_string()),
            ("SMTP_MAX_MESSAGES_PER_SESSION", smtp.max_messages_per_session.to_string()),
            ("SMTP_IDLE_TIMEOUT", duration(smtp.idle_timeout)),
            ("SMTP_CONNECT_TIMEOUT", duration(smtp.timeouts.connect)),
            ("SMTP_TLS_TIMEOUT", duration(smtp.timeouts.tls)),
            ("SMTP_GREETING_TIMEOUT", duration(smtp.timeouts.greeting)),
            ("SMTP_AUTH_TIMEOUT", duration(smtp.timeouts.auth)),
            ("SMTP_COMMAND_TIMEOUT", duration(smtp.timeouts.command)),
            ("SMTP_DATA_TIMEOUT", duration(smtp.timeouts.data)),
            ("SMTP_BODY_TIMEOUT", duration(smtp.timeouts.body)),
            ("SMTP_FINAL_DOT_TIMEOUT", duration(smtp.timeouts.final_dot)),
            ("SMTP_QUIT_TIMEOUT", duration(smtp.timeouts.quit)),
            (
                "SMTP_THROTTLE_REPLIES",
                smtp.throttle_replies
                    .iter()
                    .map(|pattern| values::reply_pattern_text(*pattern))
                    .collect::<Vec<_>>()
                    .join(","),
            ),
            ("SMTP_RATE_LIMIT", text(smtp.rate_limit.map(values::rate_limit_text))),
        ]
    }
}

fn security(kafka: &Kafka) -> Vec<(&'static str, String)> {
    let security = &kafka.security;
    let path = |file: Option<&PemFile>| file.map(|file| file.path.display().to_string()).unwrap_or_default();
    let secret = |given: bool| if given { "***" } else { "" }.to_owned();
    let username = match &security.login {
        Some(Login::Password { username, .. }) => Some(username.clone()),
        _ => None,
    };
    let (token, extensions) = match &security.login {
        Some(Login::OauthBearer { token, extensions }) => (Some(token), extensions.as_slice()),
        _ => (None, [].as_slice()),
    };
    let file = match token {
        Some(TokenSource::File(source)) => source.path().map(|path| path.display().to_string()),
        _ => None,
    };
    let endpoint = match token {
        Some(TokenSource::Endpoint(endpoint)) => Some(endpoint),
        _ => None,
    };
    let extensions: Vec<String> = extensions.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let tls = security.tls.as_ref();
    let identity = tls.and_then(|tls| tls.identity.as_ref());
    let check_name = if tls.is_none_or(|tls| tls.check_name) { "https" } else { "none" };
    vec![
        ("KAFKA_SECURITY_PROTOCOL", security.protocol().to_owned()),
        ("KAFKA_SSL_CA_FILE", path(tls.and_then(|tls| tls.authorities.as_ref()))),
        ("KAFKA_SSL_CERTIFICATE_FILE", path(identity.map(|identity| &identity.certificates))),
        ("KAFKA_SSL_KEY_FILE", path(identity.map(|identity| &identity.key))),
        ("KAFKA_SSL_ENDPOINT_IDENTIFICATION_ALGORITHM", check_name.to_owned()),
        ("KAFKA_SASL_MECHANISM", security.login.as_ref().map(Login::mechanism).unwrap_or_default().to_owned()),
        ("KAFKA_SASL_PASSWORD", secret(username.is_some())),
        ("KAFKA_SASL_USERNAME", username.unwrap_or_default()),
        ("KAFKA_SASL_OAUTHBEARER_TOKEN_FILE", file.unwrap_or_default()),
        ("KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL", endpoint.map(|it| shown(&it.url)).unwrap_or_default()),
        ("KAFKA_SASL_OAUTHBEARER_CLIENT_ID", endpoint.map(|it| it.client_id.clone()).unwrap_or_default()),
        ("KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET", secret(endpoint.is_some())),
        ("KAFKA_SASL_OAUTHBEARER_SCOPE", endpoint.and_then(|it| it.scope.clone()).unwrap_or_default()),
        ("KAFKA_SASL_OAUTHBEARER_EXTENSIONS", extensions.join(",")),
        ("KAFKA_HTTPS_CA_FILE", path(endpoint.and_then(|it| it.authorities.as_ref()))),
    ]
}

fn telemetry(telemetry: &Telemetry) -> [(&'static str, String); 12] {
    let list = |pairs: &mut dyn Iterator<Item = String>| pairs.collect::<Vec<_>>().join(",");
    let exporter = match telemetry.exporter {
        TracesExporter::Otlp => "otlp",
        TracesExporter::None => "none",
    };
    let mut headers = telemetry.headers.iter().map(|(name, value)| format!("{name}={value:?}"));
    let mut attributes =
        telemetry.resource_attributes.iter().map(|(name, value)| format!("{name}={}", values::percent_encoded(value)));
    [
        ("OTEL_SDK_DISABLED", telemetry.disabled.to_string()),
        ("OTEL_TRACES_EXPORTER", exporter.to_owned()),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", telemetry.endpoint.as_deref().map(shown).unwrap_or_default()),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", telemetry.traces_endpoint.as_deref().map(shown).unwrap_or_default()),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf".to_owned()),
        ("OTEL_EXPORTER_OTLP_HEADERS", list(&mut headers)),
        (
            "OTEL_EXPORTER_OTLP_CERTIFICATE",
            telemetry.ca_file.as_ref().map(|file| file.display().to_string()).unwrap_or_default(),
        ),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", telemetry.timeout.as_millis().to_string()),
        ("OTEL_SERVICE_NAME", telemetry.service_name.clone()),
        ("OTEL_RESOURCE_ATTRIBUTES", list(&mut attributes)),
        ("OTEL_TRACES_SAMPLER", values::sampler_text(telemetry.sampler).to_owned()),
        ("OTEL_TRACES_SAMPLER_ARG", telemetry.sampler_ratio.to_string()),
    ]
}
