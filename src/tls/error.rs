//! What can be wrong with TLS: the files before a connection, and the handshake.

use std::io;

use rustls::{AlertDescription, CertificateError, pki_types::pem};

use super::PemFile;

/// Why no TLS configuration could be made; each names the setting at fault.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read or is not PEM.
    #[error("{}: cannot read {what} from {}", file.variable, file.path.display())]
    Read {
        /// The file.
        file: PemFile,
        /// What it should hold.
        what: &'static str,
        /// What was wrong with it.
        source: pem::Error,
    },
    /// There is no certificate in the file.
    #[error("{}: no certificate in {}", .0.variable, .0.path.display())]
    Empty(PemFile),
    /// A certificate in the file cannot serve as an authority.
    #[error("{}: certificate {number} in {} cannot serve as an authority", file.variable, file.path.display())]
    Authority {
        /// The file.
        file: PemFile,
        /// Place in the file, from 1.
        number: usize,
        /// What was wrong with it.
        source: rustls::Error,
    },
    /// Our certificate and its key cannot be used, or do not belong together.
    #[error("{}: the certificate in {} cannot be used with its key", certificates.variable, certificates.path.display())]
    Identity {
        /// The certificate's file.
        certificates: PemFile,
        /// What was wrong.
        source: rustls::Error,
    },
    /// The host can be neither a DNS name nor an address.
    #[error("{variable}: {host:?} is not a name that a certificate could be for")]
    Host {
        /// Name of the variable.
        variable: &'static str,
        /// The host.
        host: String,
        /// What was wrong with it.
        source: rustls::pki_types::InvalidDnsNameError,
    },
    /// The TLS library refused its own defaults.
    #[error("TLS cannot be set up")]
    Setup(#[source] rustls::Error),
}

/// A failed handshake as one plain clause; `authorities` is the variable for further trusted authorities.
pub fn explain(error: &io::Error, authorities: &str) -> String {
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
        return match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                "the connection was closed during the TLS handshake: is it a TLS port?".to_owned()
            }
            _ => error.to_string(),
        };
    };
    match tls {
        rustls::Error::InvalidCertificate(reason) => certificate(reason, authorities),
        rustls::Error::InvalidMessage(_) => "it does not answer in TLS: is it a plain-text port?".to_owned(),
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired | AlertDescription::HandshakeFailure) => {
            format!("it refuses the TLS handshake ({tls}): does it ask for a client certificate?")
        }
        rustls::Error::AlertReceived(
            AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::AccessDenied,
        ) => format!("it refuses our client certificate ({tls})"),
        other => other.to_string(),
    }
}

/// The library gives names as `DnsName("relay.example.com")`.
fn plain(name: &str) -> &str {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
    inner.trim_matches('"')
}

fn certificate(reason: &CertificateError, authorities: &str) -> String {
    match reason {
        CertificateError::UnknownIssuer => {
            format!("its certificate is of an authority that is not trusted: add that to {authorities}")
        }
        CertificateError::NotValidForNameContext { expected, presented } => {
            let presented = presented.iter().map(|name| plain(name)).collect::<Vec<_>>().join(", ");
            format!("its certificate is not for {}, but for {presented}", expected.to_str())
        }
        CertificateError::NotValidForName => "its certificate is for another name".to_owned(),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "its certificate has expired".to_owned(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet: is the clock right?".to_owned()
        }
        // webpki's own error has no place in rustls
        CertificateError::Other(other) if format!("{other:?}").contains("CaUsedAsEndEntity") => {
            "its certificate is an authority's own certificate: give it one that the authority has issued \
             (basicConstraints CA:FALSE)"
                .to_owned()
        }
        other => format!("its certificate cannot be accepted: {other}"),
    }
}
