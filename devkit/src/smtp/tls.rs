//! A certificate authority that lives as long as the server, and one certificate from it.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, date_time_ymd};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, crypto};

use super::StartError;

/// When the connection becomes encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Mode {
    #[default]
    Never,
    StartTls,
    Implicit,
}

pub(crate) struct Tls {
    pub(crate) ca_pem: String,
    /// Certificate and key of a client, from the same authority.
    pub(super) client_pem: (String, String),
    pub(crate) acceptor: TlsAcceptor,
}

/// What the certificate is like, and whether clients need one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Certificate {
    pub(crate) names: Vec<String>,
    pub(crate) expired: bool,
    pub(crate) from_clients: bool,
}

impl Tls {
    /// An authority of its own and a certificate for these names, which may be addresses.
    pub(crate) fn new(wanted: &Certificate) -> Result<Self, StartError> {
        let ca_key = KeyPair::generate()?;
        let mut ca = CertificateParams::new(Vec::new())?;
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        ca.distinguished_name.push(DnType::CommonName, "devkit test authority");
        let authority = ca.self_signed(&ca_key)?;
        let issuer = Issuer::new(ca, ca_key);

        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(wanted.names.as_slice())?;
        if wanted.expired {
            params.not_after = date_time_ymd(2020, 1, 1);
        }
        let certificate = params.signed_by(&key, &issuer)?;
        let client_key = KeyPair::generate()?;
        let client = CertificateParams::new(vec!["client.example".to_owned()])?.signed_by(&client_key, &issuer)?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(crypto::ring::default_provider());
        let config =
            ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
        let config = if wanted.from_clients {
            let mut roots = RootCertStore::empty();
            roots.add(authority.der().clone())?;
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            config.with_client_cert_verifier(verifier.expect("one authority and no revocation lists"))
        } else {
            config.with_no_client_auth()
        };
        let config = config.with_single_cert(vec![certificate.der().clone()], key)?;
        let client_pem = (client.pem(), client_key.serialize_pem());
        Ok(Self { ca_pem: authority.pem(), client_pem, acceptor: TlsAcceptor::from(Arc::new(config)) })
    }
}
