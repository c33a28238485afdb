use super::*;
use crate::config::{Config, ConfigError, from_variables};

const CA: &str = "/etc/kafka/ca.pem";

fn with(more: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let all = [("KAFKA_BROKERS", "kafka:9093"), ("SMTP_HOST", "relay.example.com")];
    let all = all.iter().chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    from_variables(all)
}

fn good(more: &[(&str, &str)]) -> Security {
    with(more).expect("valid settings").kafka.security
}

/// Each wrong variable and what is said of it.
fn wrong(more: &[(&str, &str)]) -> Vec<String> {
    with(more).expect_err("wrong settings").0.iter().map(ToString::to_string).collect()
}

fn password(protocol: &'static str, mechanism: &'static str) -> Vec<(&'static str, &'static str)> {
    vec![
        ("KAFKA_SECURITY_PROTOCOL", protocol),
        ("KAFKA_SASL_MECHANISM", mechanism),
        ("KAFKA_SASL_USERNAME", "$ConnectionString"),
        ("KAFKA_SASL_PASSWORD", "hunter2"),
    ]
}

fn endpoint() -> Vec<(&'static str, &'static str)> {
    vec![
        ("KAFKA_SECURITY_PROTOCOL", "SASL_SSL"),
        ("KAFKA_SASL_MECHANISM", "oauthbearer"),
        ("KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL", "https://idp.example.com/token"),
        ("KAFKA_SASL_OAUTHBEARER_CLIENT_ID", "postlane"),
        ("KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET", "hunter2"),
    ]
}

#[test]
fn each_protocol_and_mechanism_is_known_in_any_case() {
    assert_eq!(good(&[]), Security::default());
    let ssl = good(&[("KAFKA_SECURITY_PROTOCOL", "ssl")]);
    assert_eq!((ssl.protocol(), ssl.tls), ("SSL", Some(tls::Settings::default())));
    for protocol in ["sasl_plaintext", "SASL_PLAINTEXT", "sasl_ssl", "SASL_SSL"] {
        for mechanism in ["PLAIN", "plain", "SCRAM-SHA-256", "scram-sha-256", "SCRAM-SHA-512", "scram-sha-512"] {
            let security = good(&password(protocol, mechanism));
            assert_eq!(security.protocol(), protocol.to_ascii_uppercase());
            let login = security.login.expect("a login");
            assert_eq!(login.mechanism(), mechanism.to_ascii_uppercase());
        }
    }
    let Some(Login::OauthBearer { token: TokenSource::Endpoint(endpoint), .. }) = good(&endpoint()).login else {
        panic!("a token endpoint");
    };
    assert_eq!((endpoint.client_id.as_str(), endpoint.scope), ("postlane", None));
}

#[test]
fn a_ca_file_alone_is_trusted() {
    let security = good(&[("KAFKA_SECURITY_PROTOCOL", "SSL"), ("KAFKA_SSL_CA_FILE", CA)]);
    let tls = security.tls.expect("TLS");
    assert!(!tls.public_authorities && tls.check_name);
    assert_eq!(tls.authorities.expect("a file").path, PathBuf::from(CA));
    let none = [("KAFKA_SECURITY_PROTOCOL", "SSL"), ("KAFKA_SSL_ENDPOINT_IDENTIFICATION_ALGORITHM", "None")];
    let tls = good(&none).tls.expect("TLS");
    assert!(tls.public_authorities && !tls.check_name);
}

#[test]
fn settings_without_their_protocol_are_named() {
    assert_eq!(
        wrong(&[("KAFKA_SASL_USERNAME", "me"), ("KAFKA_SASL_PASSWORD", "hunter2"), ("KAFKA_SSL_CA_FILE", CA)]),
        [
            "KAFKA_SSL_CA_FILE=\"/etc/kafka/ca.pem\": expected no value unless KAFKA_SECURITY_PROTOCOL is SSL or SASL_SSL",
            "KAFKA_SASL_USERNAME=\"me\": expected no value unless KAFKA_SECURITY_PROTOCOL is SASL_SSL or SASL_PLAINTEXT",
            "KAFKA_SASL_PASSWORD=\"***\": expected no value unless KAFKA_SECURITY_PROTOCOL is SASL_SSL or SASL_PLAINTEXT",
        ]
    );
    let mut both = password("SASL_SSL", "PLAIN");
    both.push(("KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET", "hunter2"));
    assert_eq!(
        wrong(&both),
        ["KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET=\"***\": expected no value unless KAFKA_SASL_MECHANISM is OAUTHBEARER"]
    );
    let mut both = endpoint();
    both.push(("KAFKA_SASL_USERNAME", "me"));
    assert!(
        wrong(&both)[0].starts_with("KAFKA_SASL_USERNAME=\"me\": expected no value unless KAFKA_SASL_MECHANISM is")
    );
}

#[test]
fn what_is_missing_is_named() {
    let starts = |problems: Vec<String>, expected: &[&str]| {
        assert_eq!(problems.len(), expected.len(), "{problems:?}");
        for (problem, expected) in problems.iter().zip(expected) {
            assert!(problem.starts_with(expected), "{problem}");
        }
    };
    starts(
        wrong(&[("KAFKA_SECURITY_PROTOCOL", "SASL_SSL")]),
        &["KAFKA_SASL_MECHANISM is not set: expected PLAIN, SCRAM"],
    );
    starts(
        wrong(&[("KAFKA_SECURITY_PROTOCOL", "SASL_SSL"), ("KAFKA_SASL_MECHANISM", "PLAIN")]),
        &["KAFKA_SASL_USERNAME is not set", "KAFKA_SASL_PASSWORD is not set"],
    );
    starts(
        wrong(&[("KAFKA_SECURITY_PROTOCOL", "SASL_SSL"), ("KAFKA_SASL_MECHANISM", "OAUTHBEARER")]),
        &[
            "KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL is not set",
            "KAFKA_SASL_OAUTHBEARER_CLIENT_ID is not set",
            "KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET is not set",
        ],
    );
    starts(wrong(&password("SASL_SSL", "GSSAPI")), &["KAFKA_SASL_MECHANISM=\"GSSAPI\": expected PLAIN, SCRAM"]);
    starts(wrong(&[("KAFKA_SECURITY_PROTOCOL", "TLS")]), &["KAFKA_SECURITY_PROTOCOL=\"TLS\": expected PLAINTEXT, SSL"]);
    let ssl = ("KAFKA_SECURITY_PROTOCOL", "SSL");
    starts(wrong(&[ssl, ("KAFKA_SSL_CERTIFICATE_FILE", CA)]), &["KAFKA_SSL_KEY_FILE is not set"]);
    starts(wrong(&[ssl, ("KAFKA_SSL_KEY_FILE", CA)]), &["KAFKA_SSL_CERTIFICATE_FILE is not set"]);
    starts(wrong(&[ssl, ("KAFKA_BROKERS", "[::1]:9093")]), &["KAFKA_BROKERS=\"[::1]:9093\": expected a host name"]);
}

#[test]
fn a_token_endpoint_is_an_address_without_a_password() {
    for url in [
        "idp.example.com/token",
        "ftp://idp.example.com",
        "https://me:hunter2@idp.example.com/token",
        "http://idp.example.com/token?code=hunter2",
        "http://localhost.example.com/",
    ] {
        let mut variables = endpoint();
        variables.retain(|(name, _)| !name.ends_with("_URL"));
        variables.push(("KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL", url));
        let said = wrong(&variables).join("\n");
        assert!(said.starts_with("KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL="), "{said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
    for (text, expected) in [
        ("logicalCluster=lkc-1, identityPoolId=pool=1", Some(2)),
        ("logicalCluster", None),
        ("auth=x", None),
        ("a1=x", None),
        ("a=\u{1}", None),
    ] {
        let mut variables = endpoint();
        variables.push(("KAFKA_SASL_OAUTHBEARER_EXTENSIONS", text));
        let found = with(&variables).ok().and_then(|config| match config.kafka.security.login {
            Some(Login::OauthBearer { extensions, .. }) => Some(extensions.len()),
            _ => None,
        });
        assert_eq!(found, expected, "{text}");
    }
}

#[test]
fn a_secret_is_never_shown() {
    for variables in [password("SASL_SSL", "PLAIN"), endpoint()] {
        let config = with(&variables).expect("valid");
        let shown = format!("{config:?} {:?}", config.effective());
        assert!(!shown.contains("hunter2") && shown.contains("***"), "{shown}");
    }
}

#[test]
fn the_settings_in_force_read_back() {
    let mut all = password("sasl_ssl", "scram-sha-512");
    all.push(("KAFKA_SSL_CA_FILE", CA));
    all.push(("KAFKA_SSL_ENDPOINT_IDENTIFICATION_ALGORITHM", "NONE"));
    for variables in [all, endpoint()] {
        let config = with(&variables).expect("valid");
        let shown = config.effective().into_iter().map(|(name, value)| (name.to_owned(), value));
        assert_eq!(from_variables(shown).expect("valid").effective(), config.effective());
    }
}

/// The token endpoint at another address.
fn endpoint_at(url: &'static str) -> Vec<(&'static str, &'static str)> {
    let mut variables = endpoint();
    variables.retain(|(name, _)| !name.ends_with("_URL"));
    variables.push(("KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL", url));
    variables
}

#[test]
fn a_login_without_tls_is_warned_of() {
    for (mechanism, part) in [("PLAIN", "the password crosses"), ("SCRAM-SHA-256", "can try passwords")] {
        let warnings = good(&password("SASL_PLAINTEXT", mechanism)).warnings();
        assert!(warnings.len() == 1 && warnings[0].contains(part), "{warnings:?}");
        assert!(good(&password("SASL_SSL", mechanism)).warnings().is_empty());
    }
    assert!(good(&[]).warnings().is_empty());
    assert!(good(&endpoint()).warnings().is_empty());
}

#[test]
fn every_warning_is_told() {
    let none = ("KAFKA_SSL_ENDPOINT_IDENTIFICATION_ALGORITHM", "none");
    let mut variables = endpoint_at("http://127.0.0.1:8080/token");
    variables.push(none);
    let warnings = good(&variables).warnings();
    assert!(warnings.len() == 2 && warnings[0].contains("for any name at all"), "{warnings:?}");
    assert!(warnings[1].contains("is not https"), "{warnings:?}");
    let own = good(&[("KAFKA_SECURITY_PROTOCOL", "SSL"), ("KAFKA_SSL_CA_FILE", CA), none]).warnings();
    assert!(own.len() == 1 && own[0].contains("of a trusted authority"), "{own:?}");
    for url in ["http://localhost/t", "http://LOCALHOST:1/t", "http://[::1]:1/t", "http://127.1.2.3/t"] {
        assert_eq!(good(&endpoint_at(url)).warnings().len(), 1, "{url}");
    }
}

#[test]
fn a_name_check_is_not_switched_off_where_there_is_none() {
    let problems = wrong(&[("KAFKA_SSL_ENDPOINT_IDENTIFICATION_ALGORITHM", "none")]);
    let expected = "KAFKA_SSL_ENDPOINT_IDENTIFICATION_ALGORITHM=\"none\": expected no value unless \
                    KAFKA_SECURITY_PROTOCOL is SSL or SASL_SSL";
    assert_eq!(problems, [expected]);
}

#[test]
fn no_address_is_shown_with_its_password_or_query() {
    let problems = with(&[("KAFKA_BROKERS", "me:hunter2@kafka:9092")]).expect_err("wrong").to_string();
    assert!(problems.contains("***@kafka:9092") && !problems.contains("hunter2"), "{problems}");
    let config = with(&endpoint_at("https://idp.example.com/token?code=hunter3")).expect("valid");
    let shown = format!("{:?}", config.effective());
    assert!(shown.contains("https://idp.example.com/token?***") && !shown.contains("hunter3"), "{shown}");
}
