//! Whom a session trusts: the public certificate authorities and those of `SMTP_CA_FILE`.
//!
//! Uses the ring provider explicitly, so it does not matter whether the process has a default one.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{
        CertificateDer,
        pem::{self, PemObject as _},
    },
};

/// Why no TLS configuration could be made; each names the setting at fault.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read or is not PEM.
    #[error("SMTP_CA_FILE: cannot read certificates from {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What was wrong with it.
        source: pem::Error,
    },
    /// There is no certificate in the file.
    #[error("SMTP_CA_FILE: no certificate in {}", .0.display())]
    Empty(PathBuf),
    /// A certificate in the file cannot serve as an authority.
    #[error("SMTP_CA_FILE: certificate {number} in {} cannot serve as an authority", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Place in the file, from 1.
        number: usize,
        /// What was wrong with it.
        source: rustls::Error,
    },
    /// The host can be neither a DNS name nor an address.
    #[error("SMTP_HOST: {host:?} is not a name that a certificate could be for")]
    Host {
        /// The setting's value.
        host: String,
        /// What was wrong with it.
        source: rustls::pki_types::InvalidDnsNameError,
    },
    /// The TLS library refused its own defaults.
    #[error("TLS cannot be set up")]
    Setup(#[source] rustls::Error),
}

/// Trusts the public authorities and, if given, those in the PEM file `ca_file`.
///
/// # Errors
///
/// When the file cannot be read, holds no certificate, or one that cannot be used.
pub fn client_config(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, Error> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(path) = ca_file {
        add_file(&mut roots, path)?;
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(Error::Setup)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

fn add_file(roots: &mut RootCertStore, path: &Path) -> Result<(), Error> {
    let read = |source| Error::Read { path: path.to_owned(), source };
    let mut number = 0;
    for certificate in CertificateDer::pem_file_iter(path).map_err(read)? {
        number += 1;
        roots.add(certificate.map_err(read)?).map_err(|source| Error::Certificate {
            path: path.to_owned(),
            number,
            source,
        })?;
    }
    if number == 0 { Err(Error::Empty(path.to_owned())) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, content: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("postlane-tls-{}-{name}", std::process::id()));
        std::fs::write(&path, content).expect("a temporary file");
        path
    }

    #[test]
    fn the_public_authorities_are_trusted_without_a_file() {
        assert!(client_config(None).is_ok());
    }

    #[test]
    fn a_bad_ca_file_is_refused_and_the_setting_named() {
        let missing = std::env::temp_dir().join("postlane-tls-no-such-file");
        let empty = file("empty", "nothing here\n");
        let broken = file("broken", "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n");
        let wrong = file("wrong", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
        for (path, expected) in [
            (&missing, "cannot read certificates"),
            (&empty, "no certificate in"),
            (&broken, "cannot read certificates"),
            (&wrong, "certificate 1 in"),
        ] {
            let text = client_config(Some(path)).expect_err("a bad file").to_string();
            assert!(text.starts_with("SMTP_CA_FILE: ") && text.contains(expected), "{text}");
        }
        for path in [empty, broken, wrong] {
            std::fs::remove_file(path).expect("the file that was made above");
        }
    }
}
