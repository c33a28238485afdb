//! What rows make of a report. That each broken thing has its row is tested on the whole program in `tests/service`.

use std::time::Instant;

use kafka_protocol::{
    ResponseError,
    messages::{
        ApiKey, ApiVersionsResponse, BrokerId, MetadataResponse, ResponseKind, SaslAuthenticateResponse,
        SaslHandshakeResponse, api_versions_response::ApiVersion, metadata_response::MetadataResponseBroker,
    },
    protocol::StrBytes,
};

use super::*;
use crate::{
    config::from_variables,
    kafka::testing::{Action, Broker},
};

fn config(broker: &str, relay_port: u16) -> Config {
    config_with(broker, relay_port, &[])
}

fn config_with(broker: &str, relay_port: u16, more: &[(&str, &str)]) -> Config {
    let port = relay_port.to_string();
    let variables =
        [("KAFKA_BROKERS", broker), ("SMTP_HOST", "127.0.0.1"), ("SMTP_PORT", &port), ("SMTP_ENCRYPTION", "none")];
    let all = variables.iter().chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    from_variables(all).expect("settings")
}

#[test]
fn the_worst_outcome_is_the_result() {
    let (ok, skip) = (Row::ok("a", ""), Row::skip("b", ""));
    let (warn, fail) = (Row::warn("c", "", ""), Row::fail("d", "", ""));
    assert_eq!(Report::new(vec![ok.clone(), skip.clone()]).result, Outcome::Ok);
    assert_eq!(Report::new(vec![ok.clone(), warn.clone()]).result, Outcome::Warn);
    assert_eq!(Report::new(vec![fail, ok, warn, skip]).result, Outcome::Fail);
}

#[test]
fn each_wrong_variable_has_a_row() {
    let error = from_variables([("SMTP_PORT".to_owned(), "smtp".to_owned())]).expect_err("wrong");
    let report = misconfigured(&error);
    let names: Vec<&str> = report.checks.iter().map(|row| row.check.as_str()).collect();
    assert_eq!(names, ["KAFKA_BROKERS", "SMTP_HOST", "SMTP_PORT", "everything else"]);
    assert_eq!(report.checks[2].detail, "holds \"smtp\"");
    assert!(report.misconfigured && report.result == Outcome::Fail);
}

#[tokio::test]
async fn what_swallows_everything_is_told_within_half_a_minute() {
    // accepted by the system, and never answered
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = silent.local_addr().expect("an address");
    tokio::time::pause();
    let (started, virtually) = (Instant::now(), tokio::time::Instant::now());
    let report = run(&config(&address.to_string(), address.port()), Options::default()).await;
    assert!(virtually.elapsed() <= Duration::from_secs(30), "{:?}", virtually.elapsed());
    assert!(started.elapsed() < Duration::from_secs(20));
    let row = |name: &str| report.checks.iter().find(|row| row.check.starts_with(name)).expect(name);
    assert_eq!(row("broker").outcome, Outcome::Fail, "{:?}", report.checks);
    assert!(row("broker").detail.contains("did not answer"), "{:?}", report.checks);
    assert_eq!(row("topics").outcome, Outcome::Skip);
    assert_eq!(row("relay EHLO").outcome, Outcome::Fail);
    assert_eq!(row("relay connection").outcome, Outcome::Ok);
}

fn versions(keys: &[ApiKey]) -> Action {
    let keys = keys.iter().map(|key| ApiVersion::default().with_api_key(*key as i16).with_max_version(4));
    Action::Answer(ResponseKind::ApiVersions(ApiVersionsResponse::default().with_api_keys(keys.collect())))
}

const NEEDED: [ApiKey; 8] = [
    ApiKey::Fetch,
    ApiKey::Produce,
    ApiKey::ListOffsets,
    ApiKey::Metadata,
    ApiKey::FindCoordinator,
    ApiKey::OffsetFetch,
    ApiKey::OffsetCommit,
    ApiKey::DescribeGroups,
];

#[tokio::test]
async fn a_broker_is_reached_where_it_says_that_it_is() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
    let broker = Broker::start(move |seen, own| match seen.api {
        ApiKey::ApiVersions => versions(&NEEDED),
        ApiKey::Metadata => {
            let ports = [own.port(), gone];
            let brokers = (1..).zip(ports).map(|(id, port)| {
                MetadataResponseBroker::default()
                    .with_node_id(BrokerId(id))
                    .with_host(StrBytes::from_static_str("127.0.0.1"))
                    .with_port(port.into())
            });
            Action::Answer(ResponseKind::Metadata(MetadataResponse::default().with_brokers(brokers.collect())))
        }
        _ => Action::Cut(bytes::Bytes::new()),
    })
    .await;
    let report = run(&config(&broker.address, gone), Options::default()).await;
    let row = report.checks.iter().find(|row| row.check == format!("broker 2 (127.0.0.1:{gone})"));
    let row = row.unwrap_or_else(|| panic!("{:?}", report.checks));
    assert_eq!(row.outcome, Outcome::Fail);
    assert!(row.advice.as_ref().is_some_and(|advice| advice.contains("advertised.listeners")), "{row:?}");
    assert!(!report.checks.iter().any(|row| row.check.starts_with("broker 1 (")), "{:?}", report.checks);
}

#[tokio::test]
async fn a_broker_that_is_too_old_is_named_with_what_it_lacks() {
    let broker = Broker::start(|seen, _| match seen.api {
        ApiKey::ApiVersions => versions(&NEEDED[..5]),
        _ => Action::Cut(bytes::Bytes::new()),
    })
    .await;
    let report = run(&config(&broker.address, 1), Options::default()).await;
    let row = report.checks.iter().find(|row| row.check.starts_with("broker")).expect("a row");
    assert!(row.outcome == Outcome::Fail && row.detail.contains("OffsetFetch not at all"), "{row:?}");
}

#[tokio::test]
async fn a_wrong_password_is_tried_at_one_of_the_brokers() {
    let refusing = || {
        Broker::start(|seen, _| {
            Action::Answer(match seen.api {
                ApiKey::ApiVersions => return versions(&[ApiKey::SaslHandshake, ApiKey::SaslAuthenticate]),
                ApiKey::SaslHandshake => ResponseKind::SaslHandshake(SaslHandshakeResponse::default()),
                _ => {
                    let code = ResponseError::SaslAuthenticationFailed.code();
                    ResponseKind::SaslAuthenticate(SaslAuthenticateResponse::default().with_error_code(code))
                }
            })
        })
    };
    let brokers = [refusing().await, refusing().await, refusing().await];
    let addresses = brokers.each_ref().map(|broker| broker.address.as_str()).join(",");
    let login = [
        ("KAFKA_SECURITY_PROTOCOL", "SASL_PLAINTEXT"),
        ("KAFKA_SASL_MECHANISM", "PLAIN"),
        ("KAFKA_SASL_USERNAME", "me"),
        ("KAFKA_SASL_PASSWORD", "hunter2"),
    ];
    let report = run(&config_with(&addresses, 1, &login), Options::default()).await;
    let tried = |broker: &Broker| broker.seen().iter().filter(|seen| seen.api == ApiKey::SaslAuthenticate).count();
    assert_eq!(brokers.iter().map(tried).sum::<usize>(), 1);
    let refused = report.checks.iter().filter(|row| row.check.starts_with("broker") && row.outcome == Outcome::Fail);
    assert!(refused.clone().all(|row| row.detail.contains("refuses the login")), "{:?}", report.checks);
    assert_eq!(refused.count(), 3);
    let warning = report.checks.iter().find(|row| row.check == "security").expect("a row");
    assert!(warning.outcome == Outcome::Warn && warning.detail.contains("the password crosses"), "{warning:?}");
}
