//! Why no session came about, as one sentence that says where to look.

use std::{fmt, io, sync::Arc, time::Duration};

use rustls::{AlertDescription, CertificateError};

use crate::{
    smtp::{Reply, auth, greeting},
    tls,
};

/// How far opening a session got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenPhase {
    /// Name lookup and TCP connect.
    Connect,
    /// The server's first reply.
    Banner,
    /// EHLO, or HELO where the server knows no EHLO.
    Ehlo,
    /// The STARTTLS command.
    StartTls,
    /// The TLS handshake.
    Tls,
    /// The AUTH exchange.
    Auth,
}

impl fmt::Display for OpenPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connecting",
            Self::Banner => "the banner",
            Self::Ehlo => "EHLO",
            Self::StartTls => "STARTTLS",
            Self::Tls => "the TLS handshake",
            Self::Auth => "AUTH",
        })
    }
}

/// Why no session came about; prints as one sentence with host and port and without secrets.
#[derive(Debug, thiserror::Error)]
#[error("no session with {host}:{port}: {phase} failed: {cause}{}", hint.map(|hint| format!("; {hint}")).unwrap_or_default())]
pub struct OpenError {
    host: Arc<str>,
    port: u16,
    phase: OpenPhase,
    cause: Cause,
    hint: Option<&'static str>,
}

impl OpenError {
    /// `encrypted` says whether TLS was spoken by then.
    pub(super) fn new((host, port): (Arc<str>, u16), phase: OpenPhase, cause: Cause, encrypted: bool) -> Self {
        // in TLS 1.3 a server says what it thinks of our certificate in place of its first words
        let (cause, hint) = match cause {
            Cause::Handshake(error) | Cause::Greeting(greeting::Error::Io(error)) if tls_error(&error).is_some() => {
                (Cause::Other(tls::explain(&error, "SMTP_CA_FILE")), tls_error(&error).and_then(of_handshake))
            }
            Cause::Handshake(error) => (Cause::Other(tls::explain(&error, "SMTP_CA_FILE")), Some(PORT)),
            cause => {
                let hint = of_phase(phase, &cause, encrypted);
                (cause, hint)
            }
        };
        Self { host, port, phase, cause, hint }
    }

    /// The phase that failed.
    pub fn phase(&self) -> OpenPhase {
        self.phase
    }

    /// The reply with which the server refused, if it did.
    pub fn reply(&self) -> Option<&Reply> {
        match &self.cause {
            Cause::Greeting(greeting::Error::Refused(reply))
            | Cause::Login { error: auth::Error::Refused { reply, .. }, .. } => Some(reply),
            _ => None,
        }
    }

    /// Where to look, if that is known: names variables.
    pub fn hint(&self) -> Option<&'static str> {
        self.hint
    }

    /// Whether the relay wants a certificate of us, or another one than ours.
    pub fn is_about_our_certificate(&self) -> bool {
        self.hint == Some(OUR_CERTIFICATE)
    }

    /// Whether our user or secret was refused: trying it again and again may lock the account. A refusal for now of a
    /// secret that the server has taken before is its own trouble.
    pub fn is_login_refused(&self) -> bool {
        match &self.cause {
            Cause::Login { error: auth::Error::Refused { reply, .. }, proven, .. } => {
                !(*proven && reply.is_transient())
            }
            _ => false,
        }
    }

    /// Whether another content of a secret's file would help.
    pub fn is_about_secret(&self) -> bool {
        matches!(self.cause, Cause::Login { error: auth::Error::Refused { .. }, .. } | Cause::Secret(_))
    }
}

#[derive(Debug, thiserror::Error)]
pub(super) enum Cause {
    #[error("no answer within {0:?}")]
    Deadline(Duration),
    #[error("{0}")]
    Greeting(greeting::Error),
    #[error("{0}")]
    Handshake(io::Error),
    #[error("{error}")]
    Login {
        error: auth::Error,
        /// Those of who we are.
        variables: &'static str,
        /// Whether the server has taken this secret before, and not refused it for good since.
        proven: bool,
    },
    #[error("{0}")]
    Secret(String),
    #[error("{0}")]
    Offer(String),
    #[error("the {0} would cross an unencrypted connection")]
    InTheClear(&'static str),
    #[error("{0}")]
    Other(String),
}

impl<E: Into<greeting::Error>> From<E> for Cause {
    fn from(error: E) -> Self {
        Self::Greeting(error.into())
    }
}

const OUR_CERTIFICATE: &str = "look at SMTP_CERTIFICATE_FILE";
const PORT: &str = "look at SMTP_PORT and SMTP_ENCRYPTION";

fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

fn of_handshake(error: &rustls::Error) -> Option<&'static str> {
    match error {
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => Some("SMTP_HOST must be a name that it is for"),
        rustls::Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            Some("whoever runs SMTP_HOST must renew it")
        }
        rustls::Error::InvalidMessage(_) => Some(PORT),
        rustls::Error::AlertReceived(
            AlertDescription::CertificateRequired
            | AlertDescription::HandshakeFailure
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::AccessDenied,
        ) => Some(OUR_CERTIFICATE),
        _ => None,
    }
}

fn of_phase(phase: OpenPhase, cause: &Cause, encrypted: bool) -> Option<&'static str> {
    match (phase, cause) {
        (OpenPhase::Connect, _) => Some("look at SMTP_HOST and SMTP_PORT"),
        (OpenPhase::Banner, Cause::Greeting(greeting::Error::Refused(_))) => None,
        (OpenPhase::Banner, _) if !encrypted => {
            Some("if it expects TLS from the first byte, set SMTP_ENCRYPTION=tls, else look at SMTP_PORT")
        }
        (OpenPhase::StartTls, Cause::Greeting(greeting::Error::Protocol(_))) => Some(PORT),
        (_, Cause::Login { error: auth::Error::Refused { .. }, variables, .. }) => Some(variables),
        (_, Cause::Login { .. }) => Some("look at SMTP_AUTH"),
        (_, Cause::Offer(_)) => Some("look at SMTP_AUTH and SMTP_ENCRYPTION"),
        (_, Cause::InTheClear(_)) => Some("look at SMTP_ENCRYPTION"),
        _ => None,
    }
}
