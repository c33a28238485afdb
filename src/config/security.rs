//! How brokers are reached: the protocol, the login and the certificates, under the names of librdkafka and Java.
//!
//! A setting that the others make useless is an error: whoever sets a password wants it to be used.

use std::{net::IpAddr, path::PathBuf};

use super::{SecretSource, env::SecurityVariables, reader::Reader};
use crate::tls::{self, PemFile};

const TLS_PROTOCOLS: &str = "no value unless KAFKA_SECURITY_PROTOCOL is SSL or SASL_SSL";
const SASL_PROTOCOLS: &str = "no value unless KAFKA_SECURITY_PROTOCOL is SASL_SSL or SASL_PLAINTEXT";
const PASSWORD_MECHANISMS: &str = "no value unless KAFKA_SASL_MECHANISM is PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512";
const TOKEN_MECHANISM: &str = "no value unless KAFKA_SASL_MECHANISM is OAUTHBEARER";

/// How brokers are reached (`security.protocol`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Security {
    /// TLS, where the protocol has it.
    pub tls: Option<tls::Settings>,
    /// SASL, where the protocol has it.
    pub login: Option<Login>,
}

impl Security {
    /// The value of `KAFKA_SECURITY_PROTOCOL`.
    pub fn protocol(&self) -> &'static str {
        match (&self.tls, &self.login) {
            (None, None) => "PLAINTEXT",
            (Some(_), None) => "SSL",
            (None, Some(_)) => "SASL_PLAINTEXT",
            (Some(_), Some(_)) => "SASL_SSL",
        }
    }

    /// What an operator should know of these settings although they work.
    pub fn warnings(&self) -> Vec<&'static str> {
        let login = match (&self.tls, &self.login) {
            (None, Some(Login::Password { mechanism: PasswordMechanism::Plain, .. })) => Some(
                "KAFKA_SECURITY_PROTOCOL=SASL_PLAINTEXT with KAFKA_SASL_MECHANISM=PLAIN: the password crosses the \
                 network in the clear",
            ),
            (None, Some(Login::OauthBearer { .. })) => Some(
                "KAFKA_SECURITY_PROTOCOL=SASL_PLAINTEXT with KAFKA_SASL_MECHANISM=OAUTHBEARER: the token crosses the \
                 network in the clear",
            ),
            (None, Some(Login::Password { .. })) => Some(
                "KAFKA_SECURITY_PROTOCOL=SASL_PLAINTEXT: mails cross the network in the clear, and who listens can \
                 try passwords on what is heard",
            ),
            _ => None,
        };
        let name = match &self.tls {
            Some(tls) if !tls.check_name && tls.public_authorities => Some(
                "KAFKA_SSL_ENDPOINT_IDENTIFICATION_ALGORITHM=none without KAFKA_SSL_CA_FILE: whoever has a certificate \
                 for any name at all, which costs nothing, can pose as a broker",
            ),
            Some(tls) if !tls.check_name => Some(
                "KAFKA_SSL_ENDPOINT_IDENTIFICATION_ALGORITHM=none: whoever has a certificate of a trusted authority \
                 can pose as a broker",
            ),
            _ => None,
        };
        let endpoint = match &self.login {
            Some(Login::OauthBearer { token: TokenSource::Endpoint(endpoint), .. })
                if !endpoint.url.to_ascii_lowercase().starts_with("https:") =>
            {
                Some(
                    "KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL is not https: the client secret goes unencrypted to a \
                     program on this host",
                )
            }
            _ => None,
        };
        [login, name, endpoint].into_iter().flatten().collect()
    }
}

/// Who we are to a broker (`sasl.mechanism`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Login {
    /// User and password.
    Password {
        /// How the password is proved.
        mechanism: PasswordMechanism,
        /// User name.
        username: String,
        /// Password, or its file.
        password: SecretSource,
    },
    /// A bearer token (KIP-255, RFC 7628).
    OauthBearer {
        /// Where it comes from.
        token: TokenSource,
        /// SASL extensions as names and values (KIP-342).
        extensions: Vec<(String, String)>,
    },
}

impl Login {
    /// The value of `KAFKA_SASL_MECHANISM`.
    pub fn mechanism(&self) -> &'static str {
        match self {
            Self::Password { mechanism, .. } => mechanism.name(),
            Self::OauthBearer { .. } => "OAUTHBEARER",
        }
    }
}

/// How a password is proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PasswordMechanism {
    /// It is sent (RFC 4616).
    Plain,
    /// It is proved by both sides (RFC 7677).
    ScramSha256,
    /// The same with SHA-512.
    ScramSha512,
}

impl PasswordMechanism {
    /// The mechanism's registered name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

/// Where a bearer token comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenSource {
    /// A file that somebody else renews; read anew for each connection.
    File(SecretSource),
    /// A token endpoint (OAuth 2.0 client credentials, RFC 6749 4.4; KIP-768).
    Endpoint(TokenEndpoint),
}

/// A token endpoint, and who we are to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenEndpoint {
    /// Its address, `https://`, or `http://` on this host.
    pub url: String,
    /// Client id.
    pub client_id: String,
    /// Client secret, or its file.
    pub client_secret: SecretSource,
    /// What the token is asked for, if that is to be said.
    pub scope: Option<String>,
    /// Where it is given, it alone is trusted for the endpoint's certificate.
    pub authorities: Option<PemFile>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mechanism {
    Password(PasswordMechanism),
    OauthBearer,
}

/// Reads the settings; all that is wrong with them goes to `reader`.
pub(super) fn security(reader: &mut Reader, raw: &SecurityVariables) -> Security {
    let expected = "PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL";
    let protocol =
        reader.value("KAFKA_SECURITY_PROTOCOL", raw.security_protocol.as_ref(), (false, false), expected, |text| {
            match text.to_ascii_uppercase().as_str() {
                "PLAINTEXT" => Some((false, false)),
                "SSL" => Some((true, false)),
                "SASL_PLAINTEXT" => Some((false, true)),
                "SASL_SSL" => Some((true, true)),
                _ => None,
            }
        });
    let tls = tls(reader, raw, protocol.0);
    let login = login(reader, raw, protocol.1);
    Security { tls, login }
}

fn set(text: Option<&String>) -> Option<&str> {
    text.map(|text| text.trim()).filter(|text| !text.is_empty())
}

/// Names each of these that has a value.
fn unwanted(reader: &mut Reader, variables: &[(&'static str, Option<&String>)], expected: &str) {
    for (name, text) in variables {
        if let Some(text) = set(*text) {
            let secret = name.ends_with("PASSWORD") || name.ends_with("SECRET");
            reader.problem(name, Some(if secret { "***" } else { text }), expected);
        }
    }
}

fn pem(variable: &'static str, text: Option<&String>) -> Option<PemFile> {
    set(text).map(|path| PemFile { variable, path: PathBuf::from(path) })
}

fn tls(reader: &mut Reader, raw: &SecurityVariables, wanted: bool) -> Option<tls::Settings> {
    let variable = "KAFKA_SSL_ENDPOINT_IDENTIFICATION_ALGORITHM";
    let check_name =
        reader.value(variable, raw.ssl_endpoint_identification_algorithm.as_ref(), true, "https or none", |text| {
            match text.to_ascii_lowercase().as_str() {
                "https" => Some(true),
                "none" => Some(false),
                _ => None,
            }
        });
    if !wanted {
        let variables = [
            ("KAFKA_SSL_CA_FILE", raw.ssl_ca_file.as_ref()),
            ("KAFKA_SSL_CERTIFICATE_FILE", raw.ssl_certificate_file.as_ref()),
            ("KAFKA_SSL_KEY_FILE", raw.ssl_key_file.as_ref()),
        ];
        unwanted(reader, &variables, TLS_PROTOCOLS);
        if !check_name {
            reader.problem(variable, Some("none"), TLS_PROTOCOLS);
        }
        return None;
    }
    let authorities = pem("KAFKA_SSL_CA_FILE", raw.ssl_ca_file.as_ref());
    let certificates = pem("KAFKA_SSL_CERTIFICATE_FILE", raw.ssl_certificate_file.as_ref());
    let key = pem("KAFKA_SSL_KEY_FILE", raw.ssl_key_file.as_ref());
    let identity = match (certificates, key) {
        (Some(certificates), Some(key)) => Some(tls::Identity { certificates, key }),
        (Some(_), None) => {
            reader.problem("KAFKA_SSL_KEY_FILE", None, "the key of KAFKA_SSL_CERTIFICATE_FILE");
            None
        }
        (None, Some(_)) => {
            reader.problem("KAFKA_SSL_CERTIFICATE_FILE", None, "the certificate of KAFKA_SSL_KEY_FILE");
            None
        }
        (None, None) => None,
    };
    Some(tls::Settings { public_authorities: authorities.is_none(), authorities, identity, check_name })
}

fn login(reader: &mut Reader, raw: &SecurityVariables, wanted: bool) -> Option<Login> {
    let password = [
        ("KAFKA_SASL_USERNAME", raw.sasl_username.as_ref()),
        ("KAFKA_SASL_PASSWORD", raw.sasl_password.as_ref()),
        ("KAFKA_SASL_PASSWORD_FILE", raw.sasl_password_file.as_ref()),
    ];
    let token = [
        ("KAFKA_SASL_OAUTHBEARER_TOKEN_FILE", raw.sasl_oauthbearer_token_file.as_ref()),
        ("KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL", raw.sasl_oauthbearer_token_endpoint_url.as_ref()),
        ("KAFKA_SASL_OAUTHBEARER_CLIENT_ID", raw.sasl_oauthbearer_client_id.as_ref()),
        ("KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET", raw.sasl_oauthbearer_client_secret.as_ref()),
        ("KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET_FILE", raw.sasl_oauthbearer_client_secret_file.as_ref()),
        ("KAFKA_SASL_OAUTHBEARER_SCOPE", raw.sasl_oauthbearer_scope.as_ref()),
        ("KAFKA_SASL_OAUTHBEARER_EXTENSIONS", raw.sasl_oauthbearer_extensions.as_ref()),
        ("KAFKA_HTTPS_CA_FILE", raw.https_ca_file.as_ref()),
    ];
    let mechanism = ("KAFKA_SASL_MECHANISM", raw.sasl_mechanism.as_ref());
    if !wanted {
        unwanted(reader, &[mechanism], SASL_PROTOCOLS);
        unwanted(reader, &password, SASL_PROTOCOLS);
        unwanted(reader, &token, SASL_PROTOCOLS);
        return None;
    }
    let expected = "PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER";
    if set(mechanism.1).is_none() {
        reader.problem(mechanism.0, None, format!("{expected}, since KAFKA_SECURITY_PROTOCOL asks for a login"));
        return None;
    }
    let mechanism =
        reader.optional(mechanism.0, mechanism.1, expected, |text| match text.to_ascii_uppercase().as_str() {
            "PLAIN" => Some(Mechanism::Password(PasswordMechanism::Plain)),
            "SCRAM-SHA-256" => Some(Mechanism::Password(PasswordMechanism::ScramSha256)),
            "SCRAM-SHA-512" => Some(Mechanism::Password(PasswordMechanism::ScramSha512)),
            "OAUTHBEARER" => Some(Mechanism::OauthBearer),
            _ => None,
        });
    match mechanism? {
        Mechanism::Password(mechanism) => {
            unwanted(reader, &token, TOKEN_MECHANISM);
            password_login(reader, raw, mechanism)
        }
        Mechanism::OauthBearer => {
            unwanted(reader, &password, PASSWORD_MECHANISMS);
            token_login(reader, raw)
        }
    }
}

fn password_login(reader: &mut Reader, raw: &SecurityVariables, mechanism: PasswordMechanism) -> Option<Login> {
    let expected = "a user name without control characters";
    let given = set(raw.sasl_username.as_ref()).is_some();
    let username = reader.optional("KAFKA_SASL_USERNAME", raw.sasl_username.as_ref(), expected, |text| {
        (!text.chars().any(char::is_control)).then(|| text.to_owned())
    });
    if !given {
        reader.problem("KAFKA_SASL_USERNAME", None, format!("the user of KAFKA_SASL_MECHANISM={}", mechanism.name()));
    }
    let before = reader.problems.len();
    let password = reader.secret(
        ("KAFKA_SASL_PASSWORD", raw.sasl_password.as_ref()),
        ("KAFKA_SASL_PASSWORD_FILE", raw.sasl_password_file.as_ref()),
    );
    if password.is_none() && reader.problems.len() == before {
        let expected = "the password of KAFKA_SASL_USERNAME (or KAFKA_SASL_PASSWORD_FILE)";
        reader.problem("KAFKA_SASL_PASSWORD", None, expected);
    }
    Some(Login::Password { mechanism, username: username?, password: password? })
}

fn token_login(reader: &mut Reader, raw: &SecurityVariables) -> Option<Login> {
    let expected = "names and values such as logicalCluster=lkc-1,identityPoolId=pool-1";
    let extensions = reader.value(
        "KAFKA_SASL_OAUTHBEARER_EXTENSIONS",
        raw.sasl_oauthbearer_extensions.as_ref(),
        Vec::new(),
        expected,
        |text| text.split(',').map(extension).collect(),
    );
    let token = match set(raw.sasl_oauthbearer_token_file.as_ref()) {
        Some(_) => {
            let others = [
                ("KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL", raw.sasl_oauthbearer_token_endpoint_url.as_ref()),
                ("KAFKA_SASL_OAUTHBEARER_CLIENT_ID", raw.sasl_oauthbearer_client_id.as_ref()),
                ("KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET", raw.sasl_oauthbearer_client_secret.as_ref()),
                ("KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET_FILE", raw.sasl_oauthbearer_client_secret_file.as_ref()),
                ("KAFKA_SASL_OAUTHBEARER_SCOPE", raw.sasl_oauthbearer_scope.as_ref()),
                ("KAFKA_HTTPS_CA_FILE", raw.https_ca_file.as_ref()),
            ];
            unwanted(reader, &others, "no value beside KAFKA_SASL_OAUTHBEARER_TOKEN_FILE");
            let file = ("KAFKA_SASL_OAUTHBEARER_TOKEN_FILE", raw.sasl_oauthbearer_token_file.as_ref());
            reader.secret(("KAFKA_SASL_OAUTHBEARER_TOKEN", None), file).map(TokenSource::File)
        }
        None => endpoint(reader, raw).map(TokenSource::Endpoint),
    };
    Some(Login::OauthBearer { token: token?, extensions })
}

/// RFC 7628 3.1: letters for a name, and printable text for its value; `auth` is the token's own.
fn extension(text: &str) -> Option<(String, String)> {
    let (name, value) = text.trim().split_once('=')?;
    let named = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphabetic()) && name != "auth";
    let printable = value.chars().all(|c| c.is_ascii_graphic() || c == ' ');
    (named && printable).then(|| (name.to_owned(), value.to_owned()))
}

fn endpoint(reader: &mut Reader, raw: &SecurityVariables) -> Option<TokenEndpoint> {
    let variable = "KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL";
    if set(raw.sasl_oauthbearer_token_endpoint_url.as_ref()).is_none() {
        let expected = "the token endpoint of KAFKA_SASL_MECHANISM=OAUTHBEARER (or KAFKA_SASL_OAUTHBEARER_TOKEN_FILE)";
        reader.problem(variable, None, expected);
    }
    let expected = "an https:// address without user and password (http:// only for localhost or a loopback address, \
                    since the client secret is sent there)";
    let url = reader.optional(variable, raw.sasl_oauthbearer_token_endpoint_url.as_ref(), expected, |text| {
        let uri: hyper::Uri = text.parse().ok()?;
        let authority = uri.authority()?;
        let plain = !authority.as_str().contains('@') && !authority.host().is_empty();
        let safe = match uri.scheme_str()? {
            "https" => true,
            "http" => is_local(authority.host()),
            _ => false,
        };
        (plain && safe).then(|| text.to_owned())
    });
    let client_id = set(raw.sasl_oauthbearer_client_id.as_ref()).map(str::to_owned);
    if client_id.is_none() {
        reader.problem("KAFKA_SASL_OAUTHBEARER_CLIENT_ID", None, format!("the client id for {variable}"));
    }
    let before = reader.problems.len();
    let client_secret = reader.secret(
        ("KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET", raw.sasl_oauthbearer_client_secret.as_ref()),
        ("KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET_FILE", raw.sasl_oauthbearer_client_secret_file.as_ref()),
    );
    if client_secret.is_none() && reader.problems.len() == before {
        let expected = "the secret of KAFKA_SASL_OAUTHBEARER_CLIENT_ID (or KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET_FILE)";
        reader.problem("KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET", None, expected);
    }
    Some(TokenEndpoint {
        url: url?,
        client_id: client_id?,
        client_secret: client_secret?,
        scope: set(raw.sasl_oauthbearer_scope.as_ref()).map(str::to_owned),
        authorities: pem("KAFKA_HTTPS_CA_FILE", raw.https_ca_file.as_ref()),
    })
}

/// Whether what goes to this host of a URL does not leave ours.
fn is_local(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']).trim_end_matches('.');
    host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(|ip: IpAddr| ip.to_canonical().is_loopback())
}

#[cfg(all(test, feature = "service"))]
mod tests;
