//! The variables of SMTP: the relay, its sessions and their deadlines.

use std::{fs, net::IpAddr, path::PathBuf, time::Duration};

use super::{
    super::{Encryption, ReplyPattern, Smtp, Timeouts},
    OtherVariables, Reader, SmtpVariables, login, values,
};

pub(super) fn smtp(reader: &mut Reader, raw: &SmtpVariables, other: &OtherVariables) -> Smtp {
    let host = host(reader, raw.host.as_ref());
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
    let (credentials, auth) = login::read(
        reader,
        &login::Texts {
            users: [("SMTP_USER", raw.user.as_ref()), ("SMTP_USERNAME", raw.username.as_ref())],
            password: raw.password.as_ref(),
            password_file: raw.password_file.as_ref(),
            token_file: raw.token_file.as_ref(),
            auth: raw.auth.as_ref(),
        },
    );
    if credentials.is_some() && encryption == Encryption::None && !allow_insecure_auth && !is_this_host(&host) {
        let expected = "starttls or tls, since SMTP_USER is set: a secret does not cross an unencrypted connection \
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
        auth,
        allow_insecure_auth,
        ca_file: raw.ca_file.as_ref().filter(|text| !text.is_empty()).map(PathBuf::from),
        identity: login::identity(reader, raw.certificate_file.as_ref(), raw.key_file.as_ref()),
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
            [ReplyPattern::Enhanced(5, 4, 5)].into(),
            "codes such as 452 or 5.4.5, separated by commas",
            |text| text.split(',').map(|part| values::reply_pattern(part.trim())).collect(),
        ),
        rate_limit: reader.optional(
            "SMTP_RATE_LIMIT",
            raw.rate_limit.as_ref(),
            "mails in a second, a minute or an hour such as 14/s, 600/min or 50000/h, up to 1000000",
            values::rate_limit,
        ),
        host,
    }
}

/// Empty where it is absent or wrong.
fn host(reader: &mut Reader, text: Option<&String>) -> String {
    let (variable, expected) = ("SMTP_HOST", "the relay's host name or address");
    match text.map(|text| text.trim()).filter(|text| !text.is_empty()) {
        None => reader.problem(variable, None, expected),
        // a password may stand before it
        Some(text) if text.contains('@') => {
            reader.problem(variable, Some("***"), format!("{expected} alone: the user is SMTP_USER"));
        }
        Some(text) if text.chars().all(|c| c.is_ascii_alphanumeric() || "-._:[]".contains(c)) => {
            return text.trim_matches(['[', ']']).to_owned();
        }
        Some(text) => reader.problem(variable, Some(text), expected),
    }
    String::new()
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

impl Smtp {
    /// What an operator should know of these settings although they are allowed.
    pub fn warning(&self) -> Option<&'static str> {
        let credentials = self.credentials.as_ref().filter(|_| self.encryption == Encryption::None)?;
        (!is_this_host(&self.host)).then_some(if credentials.password.is_some() {
            "SMTP_ALLOW_INSECURE_AUTH=true with SMTP_ENCRYPTION=none: the password crosses the network in the clear"
        } else {
            "SMTP_ALLOW_INSECURE_AUTH=true with SMTP_ENCRYPTION=none: the token crosses the network in the clear"
        })
    }
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
