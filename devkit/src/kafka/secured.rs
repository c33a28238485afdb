//! A broker with listeners for TLS and SASL beside the plain one, and all that a client needs to get in, or not.
//!
//! Owns the certificates, the listeners' properties and the users. Everything else of the cluster goes over its plain
//! listener as ever.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use data_encoding::BASE64URL_NOPAD;
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

use super::cluster::Cluster;

/// The user that every listener with a login knows.
pub const USER: &str = "mailer";
/// Its password.
pub const PASSWORD: &str = "mailer, \"secret\" =1";
/// Time after which a session on [`Listener::ShortSessions`] has to log in again.
pub const SHORT_SESSION: Duration = Duration::from_secs(3);

const CONFIG_COMMAND: &str = "kafka.admin.ConfigCommand";
const ALL_MECHANISMS: [&str; 4] = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"];

/// A listener of a secured cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listener {
    /// TLS.
    Ssl,
    /// TLS that demands a certificate of the client.
    MutualTls,
    /// TLS with a certificate for `kafka.example.com`, which is not the broker's name.
    WrongName,
    /// TLS and a login with PLAIN, SCRAM or OAUTHBEARER (unsecured tokens).
    SaslSsl,
    /// A login without TLS.
    SaslPlaintext,
    /// TLS and a login without PLAIN, to be repeated after [`SHORT_SESSION`].
    ShortSessions,
}

impl Listener {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Ssl, Self::MutualTls, Self::WrongName, Self::SaslSsl, Self::SaslPlaintext, Self::ShortSessions];

    fn name(self) -> &'static str {
        match self {
            Self::Ssl => "SSL",
            Self::MutualTls => "MUTUAL",
            Self::WrongName => "WRONGNAME",
            Self::SaslSsl => "SASL_SSL",
            Self::SaslPlaintext => "SASL_PLAINTEXT",
            Self::ShortSessions => "SHORT",
        }
    }

    fn protocol(self) -> &'static str {
        match self {
            Self::Ssl | Self::MutualTls | Self::WrongName => "SSL",
            Self::SaslSsl | Self::ShortSessions => "SASL_SSL",
            Self::SaslPlaintext => "SASL_PLAINTEXT",
        }
    }

    fn mechanisms(self) -> &'static [&'static str] {
        match self {
            Self::Ssl | Self::MutualTls | Self::WrongName => &[],
            Self::SaslSsl | Self::SaslPlaintext => &ALL_MECHANISMS,
            Self::ShortSessions => &["SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"],
        }
    }
}

/// The files and ports of a secured broker.
#[derive(Debug, Clone)]
pub struct Secured {
    folder: PathBuf,
    ports: Vec<u16>,
}

impl Secured {
    /// Writes the certificates into `folder`, which is made.
    pub(crate) fn new(folder: PathBuf, ports: Vec<u16>) -> Result<Self> {
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let secured = Self { folder, ports };
        let ours = Authority::new("devkit test authority")?;
        let other = Authority::new("another test authority")?;
        secured.write("ca.pem", &ours.pem)?;
        secured.write("other-ca.pem", &other.pem)?;
        for (name, authority, names) in [
            ("broker", &ours, ["localhost", "127.0.0.1"]),
            ("wrong", &ours, ["kafka.example.com", "kafka-1.example.com"]),
            ("client", &ours, ["mailer.example.com", "mailer"]),
            ("stranger", &other, ["stranger.example.com", "stranger"]),
        ] {
            let (certificate, key) = authority.issue(&names)?;
            secured.write(&format!("{name}.pem"), &certificate)?;
            secured.write(&format!("{name}.key"), &key)?;
            secured.write(&format!("{name}-both.pem"), &format!("{key}{certificate}"))?;
        }
        Ok(secured)
    }

    fn write(&self, name: &str, content: &str) -> Result<()> {
        let file = self.file(name);
        fs::write(&file, content).with_context(|| format!("cannot write {}", file.display()))
    }

    /// A file of this name: `ca.pem`, `other-ca.pem`, and `client` and `stranger` with `.pem` and `.key`, the latter of
    /// the other authority.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The address for clients by the name `localhost`.
    #[must_use]
    pub fn bootstrap(&self, listener: Listener) -> String {
        let place = Listener::ALL.iter().position(|other| *other == listener).expect("ALL has all of them");
        format!("localhost:{}", self.ports[place])
    }

    /// The listeners as `listeners` and `advertised.listeners` want them.
    pub(crate) fn addresses(&self) -> String {
        let address = |listener: &Listener| format!(",{}://{}", listener.name(), self.bootstrap(*listener));
        Listener::ALL.iter().map(address).collect()
    }

    pub(crate) fn properties(&self) -> Vec<(String, String)> {
        let mut all = vec![];
        let protocols: Vec<String> = [("PLAINTEXT", "PLAINTEXT"), ("CONTROLLER", "PLAINTEXT")]
            .into_iter()
            .chain(Listener::ALL.map(|listener| (listener.name(), listener.protocol())))
            .map(|(name, protocol)| format!("{name}:{protocol}"))
            .collect();
        all.push(("listener.security.protocol.map".to_owned(), protocols.join(",")));
        for listener in Listener::ALL {
            let prefix = format!("listener.name.{}", listener.name().to_ascii_lowercase());
            let mut set = |name: &str, value: String| all.push((format!("{prefix}.{name}"), value));
            if listener.protocol().ends_with("SSL") {
                let pair = if listener == Listener::WrongName { "wrong-both.pem" } else { "broker-both.pem" };
                set("ssl.keystore.type", "PEM".to_owned());
                set("ssl.keystore.location", path(&self.file(pair)));
            }
            if listener == Listener::MutualTls {
                set("ssl.client.auth", "required".to_owned());
                set("ssl.truststore.type", "PEM".to_owned());
                set("ssl.truststore.location", path(&self.file("ca.pem")));
            }
            if listener.mechanisms().is_empty() {
                continue;
            }
            set("sasl.enabled.mechanisms", listener.mechanisms().join(","));
            for mechanism in listener.mechanisms() {
                let lower = mechanism.to_ascii_lowercase();
                set(&format!("{lower}.sasl.jaas.config"), login_module(mechanism));
                if listener == Listener::ShortSessions {
                    let millis = SHORT_SESSION.as_millis().to_string();
                    set(&format!("{lower}.connections.max.reauth.ms"), millis);
                }
            }
        }
        all
    }

    /// What the storage tool is told beside the rest: the SCRAM users.
    pub(crate) fn format_arguments() -> Vec<String> {
        let user = |mechanism| format!("{mechanism}=[name=\"{USER}\",password=\"{SCRAM_PASSWORD}\"]");
        ["SCRAM-SHA-256", "SCRAM-SHA-512"].into_iter().flat_map(|name| ["--add-scram".to_owned(), user(name)]).collect()
    }
}

/// The password of [`USER`] with SCRAM; quotes and commas cannot be said to the storage tool.
pub const SCRAM_PASSWORD: &str = "mailer-scram-secret";

fn login_module(mechanism: &str) -> String {
    let quoted = PASSWORD.replace('"', "\\\"");
    let package = "org.apache.kafka.common.security";
    match mechanism {
        "PLAIN" => format!("{package}.plain.PlainLoginModule required user_{USER}=\"{quoted}\";"),
        "OAUTHBEARER" => {
            let claim = "unsecuredLoginStringClaim_sub=\"broker\"";
            format!("{package}.oauthbearer.OAuthBearerLoginModule required {claim};")
        }
        _ => format!("{package}.scram.ScramLoginModule required;"),
    }
}

fn path(file: &Path) -> String {
    file.display().to_string()
}

struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let pem = params.self_signed(&key)?.pem();
        Ok(Self { pem, issuer: Issuer::new(params, key) })
    }

    /// A certificate for these names and its key, in PEM.
    fn issue(&self, names: &[&str]) -> Result<(String, String)> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())?;
        params.distinguished_name.push(DnType::CommonName, names[0]);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        Ok((params.signed_by(&key, &self.issuer)?.pem(), key.serialize_pem()))
    }
}

/// An unsecured JSON web token (`alg` none), which the secured listeners accept, for so long from now on.
#[must_use]
pub fn unsecured_token(subject: &str, life: Duration) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let claims = format!(
        "{{\"sub\":\"{subject}\",\"iat\":{:.3},\"exp\":{:.3}}}",
        now.as_secs_f64() - 1.0,
        (now + life).as_secs_f64()
    );
    format!("{}.{}.", BASE64URL_NOPAD.encode(b"{\"alg\":\"none\"}"), BASE64URL_NOPAD.encode(claims.as_bytes()))
}

impl Cluster {
    /// The listeners of a cluster that was built with [`super::Builder::secured`].
    ///
    /// # Errors
    /// When it was not.
    pub fn secured(&self) -> Result<&Secured> {
        self.secured.as_ref().context("the cluster has no secured listeners")
    }

    /// Sets the password of a user for one SCRAM mechanism; the user is made where it does not exist. Sessions that are
    /// open stay open.
    ///
    /// # Errors
    /// When Kafka's tool fails.
    pub async fn set_scram_password(&self, mechanism: &str, user: &str, password: &str) -> Result<()> {
        let config = format!("{mechanism}=[password={password}]");
        let arguments = ["--alter", "--add-config", &config, "--entity-type", "users", "--entity-name", user];
        self.tool(CONFIG_COMMAND, &arguments).await.map(drop)
    }
}
