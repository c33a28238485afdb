//! The relay: its name, each phase of a session up to AUTH, what it offers, and if asked our sender.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::{Instant, timeout_at};

use super::{LIMIT, Options, Row, count, kafka::resolve};
use crate::{
    config::{self, Config, Encryption},
    smtp::{Certificate, Connector, OpenError, OpenPhase, Session},
};

/// Longest time for one phase: long enough for servers that make strangers wait, short enough for a person.
const PHASE: Duration = Duration::from_secs(8);
/// Days before its end from which on a certificate is worth a word.
const EXPIRES_SOON: i64 = 14;

/// The settings with deadlines for a person who waits for the result.
pub(super) fn impatient(smtp: &config::Smtp) -> config::Smtp {
    let mut smtp = smtp.clone();
    let timeouts = &mut smtp.timeouts;
    for limit in [
        &mut timeouts.connect,
        &mut timeouts.tls,
        &mut timeouts.greeting,
        &mut timeouts.auth,
        &mut timeouts.command,
        &mut timeouts.quit,
    ] {
        *limit = (*limit).min(PHASE);
    }
    smtp
}

/// The phases of a session that have a row of their own, in the order in which they are passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Connect,
    Greeting,
    Tls,
    Login,
}

impl Step {
    fn of(phase: OpenPhase) -> Self {
        match phase {
            OpenPhase::Connect => Self::Connect,
            OpenPhase::Banner | OpenPhase::Ehlo => Self::Greeting,
            OpenPhase::StartTls | OpenPhase::Tls => Self::Tls,
            OpenPhase::Auth => Self::Login,
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Connect => "relay connection",
            Self::Greeting => "relay EHLO",
            Self::Tls => "relay TLS",
            Self::Login => "relay login",
        }
    }

    fn all(smtp: &config::Smtp) -> Vec<Self> {
        let mut steps = match smtp.encryption {
            Encryption::None => vec![Self::Connect, Self::Greeting],
            Encryption::StartTls => vec![Self::Connect, Self::Greeting, Self::Tls],
            Encryption::Tls => vec![Self::Connect, Self::Tls, Self::Greeting],
        };
        if smtp.credentials.is_some() {
            steps.push(Self::Login);
        }
        steps
    }
}

pub(super) async fn check(connector: &Connector, config: &Config, options: Options) -> Vec<Row> {
    let smtp = &config.smtp;
    let host = if smtp.host.contains(':') { format!("[{}]", smtp.host) } else { smtp.host.clone() };
    let address = format!("{host}:{}", smtp.port);
    let steps = Step::all(smtp);
    let start = Instant::now();
    let end = start + LIMIT;
    if let Err(error) = resolve(&address).await {
        let mut rows = vec![Row::fail(Step::Connect.label(), error, "correct SMTP_HOST, or the name server")];
        rows.extend(steps.iter().skip(1).map(|step| not_tried(*step)));
        return rows;
    }
    match timeout_at(end, connector.open()).await {
        Ok(Ok(mut session)) => {
            let took = start.elapsed();
            let mut rows: Vec<Row> = steps.iter().map(|step| passed(*step, &session, config, &address, took)).collect();
            rows.push(timeout_at(end, sender(&mut session, config, options)).await.unwrap_or_else(|_| {
                Row::fail(
                    "relay session",
                    format!("no end of the answers within {LIMIT:?}"),
                    "ask the relay's operator",
                )
            }));
            session.quit().await;
            rows
        }
        Ok(Err(error)) => failed(&steps, &error, config, &address),
        Err(_) => vec![Row::fail("relay", format!("no session with {address} within {LIMIT:?}"), "ask its operator")],
    }
}

fn not_tried(step: Step) -> Row {
    Row::skip(step.label(), "not tried")
}

fn failed(steps: &[Step], error: &OpenError, config: &Config, address: &str) -> Vec<Row> {
    let at = Step::of(error.phase());
    let position = steps.iter().position(|step| *step == at).unwrap_or_default();
    let row = |(index, step): (usize, &Step)| match index {
        index if index < position => Row::ok(step.label(), if *step == Step::Connect { address } else { "passed" }),
        index if index == position => Row::fail(step.label(), error.to_string(), advice(error, &config.smtp)),
        _ => not_tried(*step),
    };
    steps.iter().enumerate().map(row).collect()
}

fn advice(error: &OpenError, smtp: &config::Smtp) -> &'static str {
    let text = error.to_string();
    if error.is_about_our_certificate() {
        // in TLS 1.3 this is said after the handshake, in place of the first words
        return if smtp.identity.is_some() {
            "the relay does not trust the certificate of SMTP_CERTIFICATE_FILE: ask its operator for one that it does"
        } else {
            "set SMTP_CERTIFICATE_FILE and SMTP_KEY_FILE to a certificate that the relay trusts"
        };
    }
    match error.phase() {
        OpenPhase::Connect => "are SMTP_HOST and SMTP_PORT right, and does a firewall let it through?",
        OpenPhase::Banner | OpenPhase::Ehlo if error.reply().is_some() => {
            "the relay turns us away: ask its operator whether it knows this host"
        }
        OpenPhase::Banner if smtp.encryption != Encryption::Tls => {
            "is it an SMTP port? Where TLS starts with the first byte (465), set SMTP_ENCRYPTION=tls"
        }
        OpenPhase::Banner | OpenPhase::Ehlo => "is it an SMTP port?",
        OpenPhase::StartTls if error.reply().is_some() => "the relay cannot start TLS now: ask its operator",
        OpenPhase::StartTls => {
            "use the relay's port for STARTTLS (587), or SMTP_ENCRYPTION=tls (465); none only on a network that you trust"
        }
        OpenPhase::Tls if text.contains("UnknownIssuer") || text.contains("not trusted") => {
            "set SMTP_CA_FILE to the certificate of the authority that signed the relay's"
        }
        OpenPhase::Tls if ["NotValidForName", "not valid for", "is not for"].iter().any(|part| text.contains(part)) => {
            "set SMTP_HOST to a name that stands in the relay's certificate"
        }
        OpenPhase::Tls if text.contains("xpired") => "the relay needs a new certificate",
        OpenPhase::Tls if smtp.encryption == Encryption::StartTls => {
            "the relay offers STARTTLS and cannot do it: ask its operator, or whoever runs what lies between"
        }
        OpenPhase::Tls => "does the port start with TLS? Otherwise set SMTP_ENCRYPTION=starttls",
        OpenPhase::Auth if error.reply().is_some_and(|reply| !reply.is_transient()) => {
            "correct the user or the secret; a file is read again by serve without a restart"
        }
        OpenPhase::Auth if error.reply().is_some() => {
            "the relay cannot tell now whether it is right: try again later; if that stays so, ask its operator"
        }
        OpenPhase::Auth if error.is_about_secret() => "put the file right; serve reads it again without a restart",
        OpenPhase::Auth => "ask the relay's operator how to log in; without a login leave SMTP_USER empty",
    }
}

fn passed(step: Step, session: &Session, config: &Config, address: &str, took: Duration) -> Row {
    let label = step.label();
    match step {
        Step::Connect => Row::ok(label, format!("{address}, a session after {} ms", took.as_millis())),
        Step::Greeting => greeting(session, config),
        Step::Tls => certificate(session.certificate(), Utc::now()),
        Step::Login => {
            let user = config.smtp.credentials.as_ref().map_or("", |credentials| credentials.user.as_str());
            match config.smtp.warning() {
                Some(warning) => Row::warn(
                    label,
                    format!("accepted for {user}, but {warning}"),
                    "set SMTP_ENCRYPTION=starttls or tls where the relay offers it",
                ),
                None => Row::ok(label, format!("accepted for {user}")),
            }
        }
    }
}

fn greeting(session: &Session, config: &Config) -> Row {
    let label = Step::Greeting.label();
    let offers = session.offers();
    let most = u64::try_from(config.mail.max_size).unwrap_or(u64::MAX);
    let mut words: Vec<String> = Vec::new();
    if offers.pipelining {
        words.push("PIPELINING".to_owned());
    }
    if offers.eight_bit_mime {
        words.push("8BITMIME".to_owned());
    }
    words.extend(offers.size_limit.map(|limit| format!("SIZE {limit}")));
    let text = if words.is_empty() { "offers no extension".to_owned() } else { format!("offers {}", words.join(", ")) };
    match offers.size_limit {
        Some(limit) if limit < most => Row::warn(
            label,
            format!("{text}, but MAIL_MAX_SIZE is {most}"),
            "mails between the two become dead letters: lower MAIL_MAX_SIZE, or have the limit raised",
        ),
        _ if !offers.pipelining => {
            Row::ok(label, format!("{text}; without PIPELINING each mail takes more round trips"))
        }
        _ => Row::ok(label, text),
    }
}

fn certificate(found: Option<Certificate>, now: DateTime<Utc>) -> Row {
    let label = Step::Tls.label();
    let Some(Certificate { subject, not_after }) = found else {
        return Row::ok(label, "encrypted, the certificate is trusted");
    };
    let days = (not_after - now).num_days();
    let whose =
        subject.map_or_else(|| "a trusted certificate".to_owned(), |name| format!("trusted certificate of {name}"));
    let left = count(usize::try_from(days).unwrap_or_default(), "day");
    let text = format!("{whose}, valid for {left}");
    if days < EXPIRES_SOON {
        Row::warn(label, text, "renew it: when it has expired nothing is sent any more")
    } else {
        Row::ok(label, text)
    }
}

/// A command after the login: some relays accept a session and nothing on it.
async fn sender(session: &mut Session, config: &Config, options: Options) -> Row {
    let mail = &config.mail;
    let from = mail.envelope_from.as_ref().or(mail.from.as_ref().map(|mailbox| &mailbox.email));
    let label = "relay sender";
    match (options.mail_from, from) {
        (true, Some(from)) => match session.probe(Some(from)).await {
            Ok(()) => Row::ok(label, format!("{from} is accepted")),
            Err(error) => Row::fail(label, error.to_string(), "correct MAIL_FROM, or have the relay allow this sender"),
        },
        (true, None) => Row::skip(label, "not tried: neither MAIL_FROM nor MAIL_ENVELOPE_FROM is set"),
        (false, _) => match session.probe(None).await {
            Ok(()) => Row::ok("relay session", "ready for mails; --mail-from also tries the sender"),
            Err(error) => Row::fail("relay session", error.to_string(), "ask the relay's operator"),
        },
    }
}
