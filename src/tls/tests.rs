use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{
    CertificateError,
    client::danger::ServerCertVerifier as _,
    pki_types::{ServerName, UnixTime},
};

use super::*;

fn file(name: &str, content: &str) -> PemFile {
    let path = std::env::temp_dir().join(format!("postlane-tls-{}-{name}", std::process::id()));
    std::fs::write(&path, content).expect("a temporary file");
    PemFile { variable: "SMTP_CA_FILE", path }
}

#[test]
fn the_public_authorities_are_trusted_without_a_file() {
    assert!(Settings::default().client_config().is_ok());
}

#[test]
fn a_bad_ca_file_is_refused_and_the_setting_named() {
    let missing = std::env::temp_dir().join("postlane-tls-no-such-file");
    let missing = PemFile { variable: "SMTP_CA_FILE", path: missing };
    let empty = file("empty", "nothing here\n");
    let broken = file("broken", "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n");
    let wrong = file("wrong", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    for (file, expected) in [
        (&missing, "cannot read certificates"),
        (&empty, "no certificate in"),
        (&broken, "cannot read certificates"),
        (&wrong, "certificate 1 in"),
    ] {
        let settings = Settings { authorities: Some(file.clone()), ..Settings::default() };
        let text = settings.client_config().expect_err("a bad file").to_string();
        assert!(text.starts_with("SMTP_CA_FILE: ") && text.contains(expected), "{text}");
    }
    for file in [empty, broken, wrong] {
        std::fs::remove_file(file.path).expect("the file that was made above");
    }
}

/// Verifies, whatever its name, a certificate of an authority, or the authority's own.
fn verified(own: bool, now: UnixTime) -> Result<(), rustls::Error> {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key).expect("signed").der().clone();
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone()).expect("an authority");
    let leaf = CertificateParams::new(vec!["localhost".to_owned()]).expect("names");
    let leaf_key = KeyPair::generate().expect("a key");
    let leaf = leaf.signed_by(&leaf_key, &Issuer::new(params, key)).expect("signed").der().clone();
    let certificate = if own { authority } else { leaf };
    let name = ServerName::try_from("kafka.example.com").expect("a name");
    AnyName::new(Arc::new(roots)).verify_server_cert(&certificate, &[], &name, &[], now).map(drop)
}

#[test]
fn dates_are_checked_where_names_are_not() {
    assert_eq!(verified(false, UnixTime::now()), Ok(()));
    let late = UnixTime::since_unix_epoch(std::time::Duration::from_secs(100_000_000_000));
    let error = verified(false, late).expect_err("expired");
    let expired = matches!(
        &error,
        rustls::Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. })
    );
    assert!(expired, "{error}");
    assert_eq!(explain(&std::io::Error::other(error), "X"), "its certificate has expired");
}

#[test]
fn an_authority_as_a_server_is_explained() {
    let error = verified(true, UnixTime::now()).expect_err("no server's certificate");
    let text = explain(&std::io::Error::other(error), "X");
    assert!(text.starts_with("its certificate is an authority's own certificate: "), "{text}");
}
