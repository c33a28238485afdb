//! TLS towards brokers, relays and token endpoints: whom we trust, who we are, and what a failed handshake means.
//!
//! Owns certificates and sentences, and opens no connection. Uses the ring provider explicitly, so it does not matter
//! whether the process has a default one.

mod error;
mod names;
#[cfg(test)]
mod tests;

use std::{io, path::PathBuf, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject as _},
    },
};

pub use self::error::{Error, explain};
use self::names::AnyName;
use crate::file;

/// Longest PEM file in bytes: the bundles of all public authorities have a quarter of it.
const MAX_FILE: usize = 1024 * 1024;

/// A PEM file and the variable that names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PemFile {
    /// Name of the variable, for errors.
    pub variable: &'static str,
    /// The file.
    pub path: PathBuf,
}

/// What we show to a server that wants to know who we are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Our certificate, and those that lead to its authority.
    pub certificates: PemFile,
    /// Its private key (PKCS#8, PKCS#1 or SEC1, not encrypted).
    pub key: PemFile,
}

/// How TLS is spoken. Files are read anew by each [`Settings::client_config`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Whether the public authorities are trusted.
    pub public_authorities: bool,
    /// Authorities that are trusted as well.
    pub authorities: Option<PemFile>,
    /// Our certificate.
    pub identity: Option<Identity>,
    /// Whether the server's certificate must be for the name under which it was reached.
    pub check_name: bool,
}

impl Default for Settings {
    /// Trusts the public authorities, checks names, has no certificate.
    fn default() -> Self {
        Self { public_authorities: true, authorities: None, identity: None, check_name: true }
    }
}

impl Settings {
    /// Reads the files. Waits for the file system, however long: for the start of the program.
    ///
    /// # Errors
    ///
    /// When a file cannot be read, holds nothing of what it should, or something that cannot be used.
    pub fn client_config(&self) -> Result<Arc<ClientConfig>, Error> {
        let roots = Arc::new(self.roots()?);
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(Error::Setup)?;
        let builder = if self.check_name {
            builder.with_root_certificates(roots)
        } else {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyName::new(roots)))
        };
        let config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => builder
                .with_client_auth_cert(certificates(&identity.certificates)?, key(&identity.key)?)
                .map_err(|source| Error::Identity { certificates: identity.certificates.clone(), source })?,
        };
        Ok(Arc::new(config))
    }

    /// The same while the service runs: a file system that hangs holds nobody up for longer than a few seconds.
    ///
    /// # Errors
    ///
    /// Those of [`Self::client_config`], and where no answer comes in time.
    pub async fn load(&self) -> Result<Arc<ClientConfig>, Error> {
        let Some(file) = self.authorities.as_ref().or(self.identity.as_ref().map(|own| &own.certificates)) else {
            return self.client_config();
        };
        let own = self.clone();
        let read = |source| Error::Read { file: file.clone(), what: "certificates", source: pem::Error::Io(source) };
        file::apart(&file.path, move || own.client_config()).await.map_err(read)?
    }

    fn roots(&self) -> Result<RootCertStore, Error> {
        let mut roots = RootCertStore::empty();
        if self.public_authorities {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        if let Some(file) = &self.authorities {
            for (index, certificate) in certificates(file)?.into_iter().enumerate() {
                roots.add(certificate).map_err(|source| Error::Authority {
                    file: file.clone(),
                    number: index + 1,
                    source,
                })?;
            }
        }
        Ok(roots)
    }
}

fn certificates(file: &PemFile) -> Result<Vec<CertificateDer<'static>>, Error> {
    let read = |source| Error::Read { file: file.clone(), what: "certificates", source };
    let content = content(file).map_err(|source| read(pem::Error::Io(source)))?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(&content).collect::<Result<_, _>>().map_err(read)?;
    if found.is_empty() { Err(Error::Empty(file.clone())) } else { Ok(found) }
}

fn key(file: &PemFile) -> Result<PrivateKeyDer<'static>, Error> {
    let content = content(file).map_err(pem::Error::Io);
    content.and_then(|content| PrivateKeyDer::from_pem_slice(&content)).map_err(|source| Error::Read {
        file: file.clone(),
        what: "a private key that is not encrypted",
        source,
    })
}

fn content(file: &PemFile) -> io::Result<Vec<u8>> {
    file::read(&file.path, MAX_FILE)
}
