//! The settings of the service, and how the environment becomes them.
//!
//! Raw texts end here: what a [`Config`] holds is valid.

#[cfg_attr(not(feature = "service"), allow(dead_code, reason = "who only publishes reads a part of the settings"))]
mod env;
#[cfg_attr(not(feature = "service"), allow(dead_code, reason = "who only publishes reads a part of the settings"))]
mod reader;
mod secret;
mod security;
#[cfg(feature = "service")]
mod show;
#[cfg(all(test, feature = "service"))]
mod tests;
#[cfg_attr(not(feature = "service"), allow(dead_code, reason = "who only publishes reads a part of the settings"))]
mod values;

use std::{collections::BTreeSet, net::SocketAddr, path::PathBuf, time::Duration};

use lettre::{Address, message::Mailbox};

#[cfg(feature = "smtp")]
pub use env::mail_from_variables;
#[cfg(feature = "service")]
pub use env::{from_variables, http_addr};
pub use env::{kafka_from_variables, producer_from_variables};
pub(crate) use reader::shown;
pub use reader::{ConfigError, Problem};
pub use secret::{Secret, SecretError, SecretSource};
pub use security::{Login, PasswordMechanism, Security, TokenEndpoint, TokenSource};
pub(crate) use values::duration_text;
pub use values::parse_duration;

use crate::mask;

/// What is logged where `RUST_LOG` says nothing: rskafka tells every connection at INFO.
#[cfg(feature = "service")]
const DEFAULT_LOG_FILTER: &str = "info,rskafka=error";

/// All settings of the service.
#[derive(Debug, Clone)]
pub struct Config {
    /// Brokers, topics, the group, buffers.
    pub kafka: Kafka,
    /// The relay and the sessions to it.
    pub smtp: Smtp,
    /// What goes into every mail.
    pub mail: Mail,
    /// Attempts and their delays.
    pub retry: Retry,
    /// How applications publish.
    pub publish: Publish,
    /// Traces of mails.
    pub telemetry: Telemetry,
    /// Shares of the high, normal and low lane; each 1..=1000.
    pub weights: [u32; 3],
    /// Time from the first signal to the exit.
    pub shutdown_timeout: Duration,
    /// Where the endpoints for operators listen; `None` where they are switched off.
    pub http_addr: Option<SocketAddr>,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Filter in `tracing_subscriber::EnvFilter` syntax (`RUST_LOG`).
    pub log_filter: String,
}

/// The settings of an application that publishes mails.
#[derive(Debug, Clone)]
pub struct Producer {
    /// Ways, limits, checks.
    pub publish: Publish,
    /// Brokers and topics; no brokers where mails do not go through Kafka.
    pub kafka: Kafka,
    /// The relay, where mails can go straight to it.
    pub smtp: Option<Smtp>,
    /// What goes into every mail.
    pub mail: Mail,
}

/// How applications publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Publish {
    /// Whether mails go through Kafka; otherwise they go straight by SMTP.
    pub kafka_enabled: bool,
    /// What becomes of a mail that Kafka does not take in time.
    pub fallback: Fallback,
    /// Time that Kafka has for a mail.
    pub timeout: Duration,
    /// Time for a mail that goes straight by SMTP.
    pub smtp_timeout: Duration,
    /// Longest time for which further mails are waited for, so that more of them go in one request; 0 is none.
    pub linger: Duration,
    /// Mails that wait for the brokers' answer.
    pub buffer_records: usize,
    /// Their bytes.
    pub buffer_bytes: usize,
    /// What becomes of a mail that finds no room.
    pub when_full: WhenFull,
    /// Whether mails are rendered before they leave.
    pub check_templates: bool,
}

/// What becomes of a mail that Kafka does not take in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fallback {
    /// The application is told.
    None,
    /// It goes straight by SMTP.
    Smtp,
}

/// What becomes of a mail that finds no room in the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// It waits for its time.
    Wait,
    /// It is refused at once.
    Error,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One line of text for each event.
    Text,
    /// One JSON object for each event.
    Json,
}

/// Brokers, topics, the group, buffers.
#[derive(Debug, Clone)]
pub struct Kafka {
    /// Bootstrap addresses, `host:port`.
    pub brokers: Vec<String>,
    /// How they are reached.
    pub security: Security,
    /// Topic of the high lane.
    pub topic_high: String,
    /// Topic of the normal lane.
    pub topic_normal: String,
    /// Topic of the low lane.
    pub topic_low: String,
    /// Topic of the dead letters.
    pub topic_dead_letters: String,
    /// Consumer group whose offsets are committed.
    pub group_id: String,
    /// Where a topic starts for which the group has no commit at all.
    pub auto_offset_reset: OffsetReset,
    /// Time between two commits.
    pub commit_interval: Duration,
    /// Time between two looks for new topics and partitions.
    pub discovery_interval: Duration,
    /// Bytes asked for in one fetch of one partition.
    pub fetch_max_bytes: usize,
    /// Time a broker may hold a fetch that has nothing to return.
    pub fetch_max_wait: Duration,
    /// Records that wait for their first attempt, for each source topic.
    pub buffer_records: usize,
    /// Bytes that wait for their first attempt, for each source topic.
    pub buffer_bytes: usize,
    /// How missing topics are made, and whether.
    pub topics: Topics,
    /// Unsettled records of one partition.
    pub window_records: usize,
    /// Bytes of unsettled records of one partition.
    pub window_bytes: usize,
}

/// How missing topics are made, and whether.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Topics {
    /// Whether the service makes them at its start.
    pub create: bool,
    /// Partitions of each, 1..=10,000.
    pub partitions: i32,
    /// Replicas of each partition, 1 and up; -1 leaves it to the brokers.
    pub replication: i16,
    /// Time for which dead letters are kept.
    pub dead_letter_retention: Duration,
}

/// Where a topic starts for which the group has no commit at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetReset {
    /// At the log's start: a mail queued before the first start is a mail.
    Earliest,
    /// At the log's end.
    Latest,
}

/// The relay and the sessions to it.
#[derive(Debug, Clone)]
pub struct Smtp {
    /// Name or address of the relay.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the session is protected.
    pub encryption: Encryption,
    /// Who we are at AUTH.
    pub credentials: Option<Credentials>,
    /// How this is said.
    pub auth: AuthMethod,
    /// Lets a password cross an unencrypted connection to another host.
    pub allow_insecure_auth: bool,
    /// PEM file with further trusted certificate authorities.
    pub ca_file: Option<PathBuf>,
    /// PEM files with the certificate that we show, and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Name in EHLO.
    pub hello_name: String,
    /// Sessions at the most, 1..=1000.
    pub sessions: usize,
    /// Of these only for the high lane.
    pub sessions_reserved: usize,
    /// Mails after which a session ends.
    pub max_messages_per_session: u32,
    /// Time without a mail after which a session ends.
    pub idle_timeout: Duration,
    /// A deadline for each phase.
    pub timeouts: Timeouts,
    /// Replies that mean "slower" beside those that always do.
    pub throttle_replies: BTreeSet<ReplyPattern>,
    /// The most mails in any span, over all sessions.
    pub rate_limit: Option<RateLimit>,
}

/// The most mails in any span of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// Mails, `1..=1_000_000`.
    pub count: u32,
    /// The span: a second, a minute or an hour.
    pub per: Duration,
}

impl RateLimit {
    /// Reads `14/s`, `600/min` or `50000/h`; `None` for any other text.
    pub fn parse(text: &str) -> Option<Self> {
        values::rate_limit(text)
    }

    /// Mails a second, taken over the whole span.
    pub fn per_second(&self) -> f64 {
        f64::from(self.count) / self.per.as_secs_f64()
    }
}

/// How the session is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encryption {
    /// Plain text.
    None,
    /// STARTTLS, required.
    StartTls,
    /// TLS from the first byte.
    Tls,
}

/// Who we are at AUTH: a user with a password, an access token, or both.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// User name.
    pub user: String,
    /// Password, or its file.
    pub password: Option<SecretSource>,
    /// File of an OAuth 2.0 access token.
    pub token: Option<SecretSource>,
}

/// Which SASL mechanism is used at AUTH (RFC 4954).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthMethod {
    /// The best that the server offers and that there are credentials for.
    Auto,
    /// PLAIN (RFC 4616).
    Plain,
    /// LOGIN, which has no standard.
    Login,
    /// XOAUTH2, as Google and Microsoft describe it.
    Xoauth2,
    /// OAUTHBEARER (RFC 7628).
    OauthBearer,
}

/// A deadline for each phase of a session (RFC 5321 4.5.3.2).
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// TCP connect, name lookup included.
    pub connect: Duration,
    /// TLS handshake.
    pub tls: Duration,
    /// Banner, and each EHLO and STARTTLS.
    pub greeting: Duration,
    /// The whole AUTH exchange.
    pub auth: Duration,
    /// Replies to MAIL and RCPT, each; also RSET.
    pub command: Duration,
    /// Reply to DATA.
    pub data: Duration,
    /// Body: this much for each started 64 KiB.
    pub body: Duration,
    /// Reply to the final dot.
    pub final_dot: Duration,
    /// Reply to QUIT.
    pub quit: Duration,
}

impl Timeouts {
    /// All deadlines of opening a session together.
    pub fn opening(&self) -> Duration {
        // banner, EHLO, STARTTLS, EHLO again
        let greetings = self.greeting.saturating_mul(4);
        [self.connect, self.tls, greetings, self.auth].into_iter().fold(Duration::ZERO, Duration::saturating_add)
    }

    /// All deadlines of an attempt at a mail together: further transactions where the relay takes fewer recipients at a
    /// time, and a new session for each of them, included.
    pub fn attempt(&self, recipients: usize, bytes: usize) -> Duration {
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        // RSET, MAIL, each RCPT, a lone dot
        let commands = self.command.saturating_mul(count(recipients).saturating_add(3));
        // each started 64 KiB of the body, once to hand it over and once to flush it
        let body = self.body.saturating_mul(count(bytes / (64 * 1024) + 1).saturating_mul(2));
        let transaction = [self.opening(), commands, self.data, body, self.final_dot]
            .into_iter()
            .fold(Duration::ZERO, Duration::saturating_add);
        transaction.saturating_mul(count(recipients).saturating_add(1))
    }
}

/// A reply code such as `452` or an enhanced status code such as `5.4.5` (RFC 3463).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReplyPattern {
    /// Basic code.
    Code(u16),
    /// Enhanced status code.
    Enhanced(u8, u16, u16),
}

/// What goes into every mail.
#[derive(Debug, Clone)]
pub struct Mail {
    /// Sender of events that name none.
    pub from: Option<Mailbox>,
    /// Envelope sender of all mails; otherwise the address of From.
    pub envelope_from: Option<Address>,
    /// The one mailbox that every mail goes to in place of its recipients.
    pub redirect_to: Option<Mailbox>,
    /// Largest mail in bytes.
    pub max_size: usize,
    /// Whether `message.subject` may hold template expressions.
    pub subject_templates: bool,
    /// Folder whose templates override the built-in ones.
    pub templates_dir: Option<PathBuf>,
}

impl Mail {
    /// What an operator should know of these settings although they are allowed.
    pub fn warning(&self) -> Option<String> {
        let mailbox = self.redirect_to.as_ref()?;
        let address = mask::address(&mailbox.email);
        Some(format!("MAIL_REDIRECT_TO is set: every mail goes to {address} alone, and none to its recipients"))
    }
}

/// Attempts and their delays.
#[derive(Debug, Clone)]
pub struct Retry {
    /// Attempts for a mail that does not say, 1..=`max_attempts_limit`.
    pub max_attempts: u32,
    /// Largest `message.max_retries`.
    pub max_attempts_limit: u32,
    /// Delay after the first attempt.
    pub initial_delay: Duration,
    /// Growth of the delay from one attempt to the next.
    pub multiplier: f64,
    /// Share of a delay by which it is varied up and down, 0..1.
    pub jitter: f64,
    /// Longest delay.
    pub max_delay: Duration,
}

/// Traces of mails, by OpenTelemetry's own variables.
#[derive(Debug, Clone)]
pub struct Telemetry {
    /// Nothing is made and nothing is connected, whatever else is set (`OTEL_SDK_DISABLED`).
    pub disabled: bool,
    /// Whether spans go to a collector at all (`OTEL_TRACES_EXPORTER`).
    pub exporter: TracesExporter,
    /// Base URL of a collector; `/v1/traces` is put behind it.
    pub endpoint: Option<String>,
    /// URL for traces, taken as it is; goes before `endpoint`.
    pub traces_endpoint: Option<String>,
    /// Header fields of every request to the collector.
    pub headers: Vec<(String, Secret)>,
    /// PEM file with certificate authorities that are trusted beside the public ones.
    pub ca_file: Option<PathBuf>,
    /// Longest time for one request to the collector.
    pub timeout: Duration,
    /// `service.name` of the resource.
    pub service_name: String,
    /// Further attributes of the resource.
    pub resource_attributes: Vec<(String, String)>,
    /// Which mails get a trace.
    pub sampler: Sampler,
    /// Share of the traces that a sampler by ratio takes, 0..=1.
    pub sampler_ratio: f64,
}

impl Telemetry {
    /// Where spans go; `None` where traces are off.
    pub fn collector(&self) -> Option<String> {
        if self.disabled || self.exporter == TracesExporter::None {
            return None;
        }
        let by_base = || self.endpoint.as_ref().map(|base| format!("{}/v1/traces", base.trim_end_matches('/')));
        self.traces_endpoint.clone().or_else(by_base)
    }
}

/// Where spans go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TracesExporter {
    /// To a collector, by OTLP.
    Otlp,
    /// Nowhere.
    None,
}

/// Which mails get a trace. By parent: as the record's `traceparent` says, and where it has none by the second part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sampler {
    /// All.
    AlwaysOn,
    /// None.
    AlwaysOff,
    /// A share, by the trace's id.
    Ratio,
    /// By parent, else all.
    ParentAlwaysOn,
    /// By parent, else none.
    ParentAlwaysOff,
    /// By parent, else a share.
    ParentRatio,
}
