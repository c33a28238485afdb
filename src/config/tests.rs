#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeMap;

use super::*;

fn read(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    from_variables(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
}

fn with(more: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let mut variables = vec![("KAFKA_BROKERS", "kafka:9092"), ("SMTP_HOST", "relay.example.com")];
    variables.extend_from_slice(more);
    read(&variables)
}

fn wrong(result: Result<Config, ConfigError>) -> Vec<String> {
    result.unwrap_err().0.into_iter().map(|problem| problem.variable).collect()
}

#[test]
fn two_variables_are_enough() {
    let config = with(&[]).unwrap();
    assert_eq!(config.kafka.topic_high, "email-queue-high");
    assert_eq!(config.kafka.topic_normal, "email-queue");
    assert_eq!(config.kafka.topic_low, "email-queue-low");
    assert_eq!(config.kafka.topic_dead_letters, "email-dlq");
    assert_eq!(config.kafka.group_id, "messaging-service-group");
    assert_eq!(config.kafka.auto_offset_reset, OffsetReset::Earliest);
    assert_eq!(config.weights, [6, 3, 1]);
    assert_eq!((config.smtp.sessions, config.smtp.sessions_reserved), (16, 2));
    assert_eq!(config.smtp.encryption, Encryption::StartTls);
    assert_eq!(config.retry.max_attempts, 3);
    assert_eq!(config.retry.initial_delay, Duration::from_secs(60));
    assert_eq!(config.shutdown_timeout, Duration::from_secs(25));
}

#[test]
fn every_wrong_variable_is_named_at_once() {
    let error = read(&[
        ("SMTP_PORT", "smtp"),
        ("PRIORITY_WEIGHTS", "6:3"),
        ("RETRY_INITIAL_DELAY", "soon"),
        ("SMTP_SESSIONS", "0"),
        ("LOG_FORMAT", "xml"),
        ("RUST_LOG", "a=b=c"),
    ])
    .unwrap_err();
    let text = error.to_string();
    for variable in [
        "KAFKA_BROKERS is not set",
        "SMTP_HOST is not set",
        "SMTP_PORT=\"smtp\"",
        "PRIORITY_WEIGHTS=\"6:3\"",
        "RETRY_INITIAL_DELAY=\"soon\"",
        "SMTP_SESSIONS=\"0\"",
        "LOG_FORMAT=\"xml\"",
        "RUST_LOG=\"a=b=c\"",
    ] {
        assert!(text.contains(variable), "{variable} not in:\n{text}");
    }
    assert_eq!(error.0.len(), 8);
}

#[test]
fn the_base_names_the_lanes() {
    let config = with(&[("KAFKA_TOPIC", "mail"), ("KAFKA_TOPIC_LOW", "bulk")]).unwrap();
    assert_eq!(config.kafka.topic_high, "mail-high");
    assert_eq!(config.kafka.topic_normal, "mail");
    assert_eq!(config.kafka.topic_low, "bulk");
    assert_eq!(wrong(with(&[("KAFKA_DLQ_TOPIC", "email-queue")])), ["KAFKA_DLQ_TOPIC"]);
}

#[test]
fn encryption_follows_the_port() {
    for (port, encryption) in [
        ("465", Encryption::Tls),
        ("25", Encryption::None),
        ("1025", Encryption::None),
        ("2525", Encryption::None),
        ("587", Encryption::StartTls),
        ("2587", Encryption::StartTls),
    ] {
        assert_eq!(with(&[("SMTP_PORT", port)]).unwrap().smtp.encryption, encryption, "{port}");
    }
    assert_eq!(
        with(&[("SMTP_PORT", "25"), ("SMTP_ENCRYPTION", "STARTTLS")]).unwrap().smtp.encryption,
        Encryption::StartTls
    );
}

#[test]
fn a_password_does_not_cross_the_network_in_the_clear() {
    let login = [("SMTP_PORT", "25"), ("SMTP_USER", "me"), ("SMTP_PASSWORD", "hunter2")];
    let error = with(&login).unwrap_err();
    assert_eq!(error.0[0].variable, "SMTP_ENCRYPTION");
    assert!(!error.to_string().contains("hunter2"));
    let mut local = login.to_vec();
    local.push(("SMTP_HOST", "127.0.0.1"));
    assert!(with(&local).unwrap().smtp.credentials.is_some());
    let mut allowed = login.to_vec();
    allowed.push(("SMTP_ALLOW_INSECURE_AUTH", "true"));
    let smtp = with(&allowed).unwrap().smtp;
    assert!(smtp.credentials.is_some());
    assert!(smtp.warning().is_some_and(|warning| warning.contains("the password crosses")));
    for (name, value) in [("SMTP_HOST", "127.0.0.1"), ("SMTP_ENCRYPTION", "starttls")] {
        let harmless = [allowed.as_slice(), &[(name, value)]].concat();
        assert_eq!(with(&harmless).unwrap().smtp.warning(), None, "{name}");
    }
}

#[test]
fn a_host_with_a_password_before_it_is_refused_and_not_shown() {
    let error = with(&[("SMTP_HOST", "smtp://me:hunter2@relay.example.com")]).unwrap_err();
    assert_eq!(error.0[0].variable, "SMTP_HOST");
    assert!(!error.to_string().contains("hunter2"), "{error}");
}

#[test]
fn a_secret_is_never_shown() {
    let config = with(&[("SMTP_USERNAME", "me"), ("SMTP_PASSWORD", "hunter2")]).unwrap();
    assert_eq!(
        config.smtp.credentials.as_ref().unwrap().password.as_ref().unwrap().read().unwrap().reveal(),
        "hunter2"
    );
    assert!(!format!("{config:?} {:?}", config.effective()).contains("hunter2"));
    assert!(config.effective().contains(&("SMTP_PASSWORD", "***".to_owned())));
    let error = with(&[("SMTP_PASSWORD", "hun\0ter2")]).unwrap_err();
    assert!(!error.to_string().contains("ter2"));
}

#[test]
fn a_password_file_is_read_without_its_line_end() {
    let file = std::env::temp_dir().join(format!("postlane-password-{}", std::process::id()));
    std::fs::write(&file, "hunter2\n").unwrap();
    let path = file.to_str().unwrap();
    let config = with(&[("SMTP_USER", "me"), ("SMTP_PASSWORD_FILE", path)]).unwrap();
    assert_eq!(config.smtp.credentials.unwrap().password.unwrap().read().unwrap().reveal(), "hunter2");
    let both = with(&[("SMTP_USER", "me"), ("SMTP_PASSWORD_FILE", path), ("SMTP_PASSWORD", "x")]);
    assert!(wrong(both).contains(&"SMTP_PASSWORD_FILE".to_owned()));
    std::fs::remove_file(&file).unwrap();
    assert_eq!(wrong(with(&[("SMTP_USER", "me"), ("SMTP_PASSWORD_FILE", path)]))[0], "SMTP_PASSWORD_FILE");
}

#[test]
fn a_mechanism_needs_its_secret() {
    let file = std::env::temp_dir().join(format!("postlane-token-{}", std::process::id()));
    std::fs::write(&file, "ya29.token\n").unwrap();
    let token = ("SMTP_TOKEN_FILE", file.to_str().unwrap());
    let (user, password) = (("SMTP_USER", "me"), ("SMTP_PASSWORD", "hunter2"));
    let auth = |method| ("SMTP_AUTH", method);
    for good in [
        &[user, token][..],
        &[user, token, password],
        &[user, token, auth("XOAUTH2")],
        &[user, token, auth("oauthbearer")],
        &[user, password, auth("login")],
        &[auth("auto")],
    ] {
        let config = with(good).unwrap();
        assert_eq!(config.smtp.credentials.is_some(), good.contains(&user), "{good:?}");
    }
    for (bad, variable) in [
        (&[user][..], "SMTP_PASSWORD"),
        (&[user, token, auth("plain")], "SMTP_PASSWORD"),
        (&[user, password, auth("xoauth2")], "SMTP_TOKEN_FILE"),
        (&[token], "SMTP_USER"),
        (&[auth("login")], "SMTP_USER"),
        (&[user, password, auth("cram-md5")], "SMTP_AUTH"),
        (&[user, token, ("SMTP_PORT", "25")], "SMTP_ENCRYPTION"),
        (&[("SMTP_KEY_FILE", "key.pem")], "SMTP_CERTIFICATE_FILE"),
        (&[("SMTP_CERTIFICATE_FILE", "certificate.pem")], "SMTP_KEY_FILE"),
        (&[("SMTP_RATE_LIMIT", "14")], "SMTP_RATE_LIMIT"),
    ] {
        assert_eq!(wrong(with(bad)), [variable], "{bad:?}");
    }
    std::fs::remove_file(&file).unwrap();
    assert_eq!(wrong(with(&[user, token]))[0], "SMTP_TOKEN_FILE");
}

#[test]
fn a_sender_is_one_mailbox() {
    assert!(with(&[("MAIL_FROM", "Shop, the <shop@example.com>")]).is_ok());
    for text in ["\"a b\"@example.com", "a@example.com, b@example.com", "b@exa\u{e9}mple.com"] {
        assert_eq!(wrong(with(&[("MAIL_ENVELOPE_FROM", text)])), ["MAIL_ENVELOPE_FROM"], "{text}");
    }
    assert_eq!(wrong(with(&[("SMTP_IDLE_TIMEOUT", "721h")])), ["SMTP_IDLE_TIMEOUT"]);
    for text in
        ["shop", "\"a b\"@example.com", "a@example.com, b@example.com", "Shop shop@example.com", "\u{e9}@example.com"]
    {
        assert_eq!(wrong(with(&[("MAIL_FROM", text)])), ["MAIL_FROM"], "{text}");
        assert_eq!(wrong(with(&[("MAIL_REDIRECT_TO", text)])), ["MAIL_REDIRECT_TO"], "{text}");
    }
}

#[test]
fn a_redirection_is_said() {
    assert_eq!(with(&[]).unwrap().mail.warning(), None);
    let config = with(&[("MAIL_REDIRECT_TO", "Staging <staging@example.com>")]).unwrap();
    assert!(config.mail.warning().is_some_and(|text| text.contains("s***@example.com alone")));
    assert!(config.effective().contains(&("MAIL_REDIRECT_TO", "Staging <staging@example.com>".to_owned())));
}

#[test]
fn older_names_still_count() {
    assert_eq!(with(&[("EMAIL_WORKER_COUNT", "5")]).unwrap().smtp.sessions, 5);
    assert_eq!(with(&[("EMAIL_WORKER_COUNT", "5")]).unwrap().smtp.sessions_reserved, 0);
    assert_eq!(wrong(with(&[("EMAIL_WORKER_COUNT", "5"), ("SMTP_SESSIONS", "6")])), ["EMAIL_WORKER_COUNT"]);
    assert_eq!(wrong(with(&[("EMAIL_WORKER_COUNT", "none")])), ["EMAIL_WORKER_COUNT"]);
}

#[test]
fn reserved_sessions_leave_one_for_the_others() {
    assert_eq!(with(&[("SMTP_SESSIONS", "8")]).unwrap().smtp.sessions_reserved, 1);
    assert_eq!(with(&[("SMTP_SESSIONS", "7")]).unwrap().smtp.sessions_reserved, 0);
    assert_eq!(wrong(with(&[("SMTP_SESSIONS", "8"), ("SMTP_SESSIONS_RESERVED", "8")])), ["SMTP_SESSIONS_RESERVED"]);
}

#[test]
fn the_effective_configuration_reads_back() {
    let config = with(&[("MAIL_FROM", "Shop <shop@example.com>"), ("RETRY_INITIAL_DELAY", "250ms")]).unwrap();
    let variables = config.effective().into_iter().map(|(name, value)| (name.to_owned(), value));
    assert_eq!(from_variables(variables).unwrap().effective(), config.effective());
}

fn producer(variables: &[(&str, &str)]) -> Result<Producer, ConfigError> {
    producer_from_variables(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
}

#[test]
fn an_application_needs_only_what_its_mails_go_through() {
    let brokers = ("KAFKA_BROKERS", "kafka:9092");
    let relay = ("SMTP_HOST", "relay.example.com");
    let settings = producer(&[brokers]).unwrap();
    assert!(settings.smtp.is_none());
    assert_eq!(settings.publish.timeout, Duration::from_secs(2));
    assert_eq!(settings.publish.when_full, WhenFull::Wait);
    assert!(producer(&[brokers, relay, ("FALLBACK", "smtp")]).unwrap().smtp.is_some());
    assert!(producer(&[relay, ("KAFKA_ENABLED", "false")]).unwrap().smtp.is_some());
    let wrong = |variables: &[(&str, &str)]| -> Vec<String> {
        producer(variables).unwrap_err().0.into_iter().map(|problem| problem.variable).collect()
    };
    assert_eq!(wrong(&[]), ["KAFKA_BROKERS"]);
    assert_eq!(wrong(&[brokers, ("FALLBACK", "smtp")]), ["SMTP_HOST"]);
    assert_eq!(wrong(&[("KAFKA_ENABLED", "false")]), ["SMTP_HOST"]);
    for (variable, value) in [
        ("KAFKA_ENABLED", "perhaps"),
        ("FALLBACK", "fax"),
        ("PUBLISH_TIMEOUT", "0s"),
        ("PUBLISH_TIMEOUT", "11m"),
        ("PUBLISH_LINGER", "2s"),
        ("PUBLISH_BUFFER_RECORDS", "0"),
        ("PUBLISH_BUFFER_BYTES", "1"),
        ("PUBLISH_WHEN_FULL", "drop"),
        ("PUBLISH_CHECK_TEMPLATES", "maybe"),
    ] {
        assert_eq!(wrong(&[brokers, (variable, value)]), [variable], "{value}");
    }
    assert_eq!(wrong(&[brokers, ("PUBLISH_TIMEOUT", "10ms"), ("PUBLISH_LINGER", "10ms")]), ["PUBLISH_LINGER"]);
    assert_eq!(producer(&[brokers, ("PUBLISH_LINGER", "0")]).unwrap().publish.linger, Duration::ZERO);
}

#[test]
fn the_service_takes_its_mails_from_kafka() {
    let error = with(&[("KAFKA_ENABLED", "false")]).unwrap_err().to_string();
    assert!(error.contains("the service takes its mails from Kafka"), "{error}");
}

/// Every variable with the default that documents give for it: empty where it has none.
fn documented_defaults() -> BTreeMap<String, String> {
    let effective: BTreeMap<&str, String> = with(&[]).unwrap().effective().into_iter().collect();
    // some have no default, and that of SMTP_HELLO_NAME is the host's name
    let none = [
        "KAFKA_BROKERS",
        "KAFKA_SASL_PASSWORD_FILE",
        "KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET_FILE",
        "SMTP_HOST",
        "SMTP_HELLO_NAME",
        "SMTP_USERNAME",
        "SMTP_PASSWORD_FILE",
        "EMAIL_WORKER_COUNT",
    ];
    let default = |name: &str| match name {
        "KAFKA_TOPIC" => effective["KAFKA_TOPIC_NORMAL"].clone(),
        name if none.contains(&name) => String::new(),
        name => effective[name].clone(),
    };
    env::names().into_iter().map(|name| (name.clone(), default(&name))).collect()
}

#[test]
fn the_effective_configuration_shows_every_setting_once() {
    let older_or_other = [
        "KAFKA_TOPIC",
        "KAFKA_SASL_PASSWORD_FILE",
        "KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET_FILE",
        "SMTP_USERNAME",
        "SMTP_PASSWORD_FILE",
        "EMAIL_WORKER_COUNT",
    ];
    let shown: Vec<&str> = with(&[]).unwrap().effective().into_iter().map(|(name, _)| name).collect();
    let mut expected = env::names();
    expected.retain(|name| !older_or_other.contains(&name.as_str()));
    assert_eq!(shown.len(), expected.len());
    for name in &expected {
        assert!(shown.contains(&name.as_str()), "{name}");
    }
}

#[test]
fn the_example_file_has_every_setting_with_its_default() {
    let example = include_str!("../../.env.example");
    let lines: BTreeMap<&str, &str> =
        example.lines().filter_map(|line| line.strip_prefix("# ").unwrap_or(line).split_once('=')).collect();
    for (name, default) in documented_defaults() {
        match lines.get(name.as_str()) {
            Some(_) if matches!(name.as_str(), "KAFKA_BROKERS" | "SMTP_HOST") => {}
            Some(value) => assert_eq!(*value, default, "{name}"),
            None => assert!(example.contains(&format!("(also {name})")), "{name}"),
        }
    }
    for name in lines.keys().filter(|name| !name.contains(' ')) {
        assert!(env::names().iter().any(|known| known == name), "{name} is no setting");
    }
}

#[test]
fn the_readme_has_every_setting_with_its_default() {
    let readme = include_str!("../../README.md");
    let (_, settings) = readme.split_once("\n## Settings\n").unwrap();
    let (settings, _) = settings.split_once("\n## ").unwrap();
    let rows = settings.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.split(" | ");
        Some((cells.next()?.trim_end_matches('`').to_owned(), cells.next()?.to_owned()))
    });
    let in_words = |default: &str| if default.is_empty() { "none".to_owned() } else { format!("`{default}`") };
    let expected = documented_defaults().into_iter().map(|(name, default)| {
        let words = match name.as_str() {
            "KAFKA_BROKERS" | "SMTP_HOST" => "**required**".to_owned(),
            "SMTP_HELLO_NAME" => "the host's name".to_owned(),
            _ => in_words(&default),
        };
        (name, words)
    });
    assert_eq!(rows.collect::<BTreeMap<_, _>>(), expected.collect::<BTreeMap<_, _>>());
}

#[test]
fn the_endpoints_are_read_alone_and_can_be_switched_off() {
    let alone = |text: &str| http_addr([("HTTP_ADDR".to_owned(), text.to_owned())]);
    let default = Some("0.0.0.0:8081".parse().unwrap());
    assert_eq!(http_addr([]).unwrap(), default);
    assert_eq!(alone(" ").unwrap(), default);
    assert_eq!(alone("[::1]:9").unwrap(), Some("[::1]:9".parse().unwrap()));
    assert_eq!(alone("OFF").unwrap(), None);
    assert_eq!(with(&[("HTTP_ADDR", "off")]).unwrap().http_addr, None);
    for text in ["8081", ":8081", "localhost:8081", "0.0.0.0", "0.0.0.0:99999", "no"] {
        assert_eq!(alone(text).unwrap_err().0[0].variable, "HTTP_ADDR", "{text}");
        assert_eq!(wrong(with(&[("HTTP_ADDR", text)])), ["HTTP_ADDR"]);
    }
}
