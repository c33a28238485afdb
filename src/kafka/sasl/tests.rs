use std::net::SocketAddr;

use bytes::Bytes;
use kafka_protocol::messages::{
    ApiKey, ApiVersionsResponse, RequestKind, ResponseKind, SaslAuthenticateResponse, SaslHandshakeResponse,
    api_versions_response::ApiVersion,
};

use super::{
    super::{
        access::Keys,
        testing::{Action, Broker, Seen},
    },
    *,
};

const PATIENCE: Duration = Duration::from_secs(5);

fn password(mechanism: PasswordMechanism) -> Credentials {
    let (username, password) = ("me".to_owned(), Secret::new("hunter2"));
    Credentials::Password { mechanism, username, password, variables: "USER and PASSWORD" }
}

fn token() -> Credentials {
    let extensions = vec![("logicalCluster".to_owned(), "lkc-1".to_owned())];
    Credentials::Token { token: Secret::new("t0ken"), extensions, variables: "THE_TOKEN" }
}

/// Agrees to every mechanism and plays `script` for the messages of the exchange, numbered from 0.
async fn broker(mut script: impl FnMut(usize, &[u8]) -> SaslAuthenticateResponse + Send + 'static) -> Broker {
    let mut number = 0;
    Broker::start(move |seen: &Seen, _: &SocketAddr| {
        Action::Answer(match &seen.request {
            RequestKind::ApiVersions(_) => {
                let keys = [(ApiKey::SaslHandshake, 1), (ApiKey::SaslAuthenticate, 2), (ApiKey::Metadata, 12)];
                let keys = keys.map(|(api, max)| ApiVersion::default().with_api_key(api as i16).with_max_version(max));
                ResponseKind::ApiVersions(ApiVersionsResponse::default().with_api_keys(keys.into()))
            }
            RequestKind::SaslHandshake(_) => ResponseKind::SaslHandshake(SaslHandshakeResponse::default()),
            RequestKind::SaslAuthenticate(request) => {
                let answer = script(number, &request.auth_bytes);
                number += 1;
                ResponseKind::SaslAuthenticate(answer)
            }
            other => panic!("{other:?} is not for a login"),
        })
    })
    .await
}

async fn log_in(broker: &Broker, credentials: Credentials) -> Result<Connection, Error> {
    let stream = tokio::net::TcpStream::connect(&broker.address).await.expect("it listens");
    let mut connection = Connection::over(Box::new(stream), "b:1", PATIENCE, &Keys::default()).await?;
    connection.log_in(&credentials).await.map(|()| connection)
}

fn bytes(text: impl Into<String>) -> SaslAuthenticateResponse {
    SaslAuthenticateResponse::default().with_auth_bytes(Bytes::from(text.into()))
}

/// The messages that the broker saw.
fn messages(broker: &Broker) -> Vec<String> {
    let message = |seen: Seen| match seen.request {
        RequestKind::SaslAuthenticate(request) => Some(String::from_utf8_lossy(&request.auth_bytes).into_owned()),
        _ => None,
    };
    broker.seen().into_iter().filter_map(message).collect()
}

#[tokio::test]
async fn plain_and_bearer_are_one_message_each() {
    let admit = broker(|_, _| SaslAuthenticateResponse::default()).await;
    log_in(&admit, password(PasswordMechanism::Plain)).await.expect("admitted");
    log_in(&admit, token()).await.expect("admitted");
    let expected = ["\0me\0hunter2", "n,,\u{1}logicalCluster=lkc-1\u{1}auth=Bearer t0ken\u{1}\u{1}"];
    assert_eq!(messages(&admit), expected);
}

#[tokio::test]
async fn a_broker_that_does_not_know_the_password_is_not_trusted() {
    for mechanism in [PasswordMechanism::ScramSha256, PasswordMechanism::ScramSha512] {
        let poser = broker(|number, message| {
            let message = String::from_utf8(message.to_vec()).expect("text");
            match number {
                0 => {
                    let (_, nonce) = message.split_once(",r=").expect("a nonce");
                    bytes(format!("r={nonce}more,s=c2FsdHNhbHQ=,i=4096"))
                }
                // it lets everybody in, to hear what they say
                _ => bytes(format!("v={}", data_encoding::BASE64.encode(&[7; 32]))),
            }
        })
        .await;
        let error = log_in(&poser, password(mechanism)).await.err().expect("refused by us");
        let expected = format!("broker b:1 refuses the login: the {} exchange failed: ", mechanism.name());
        assert!(error.to_string().starts_with(&expected) && !error.is_retriable(), "{error}");
        assert!(!messages(&poser).concat().contains("hunter2"));
    }
}

#[tokio::test]
async fn a_broker_that_ends_scram_early_is_not_trusted() {
    let poser = broker(|_, _| SaslAuthenticateResponse::default()).await;
    assert!(log_in(&poser, password(PasswordMechanism::ScramSha256)).await.is_err());
}

#[tokio::test]
async fn a_refusal_has_the_brokers_words_and_the_variables() {
    let code = ResponseError::SaslAuthenticationFailed.code();
    let said = Some(StrBytes::from_static_str("Authentication failed: no"));
    let refusing =
        broker(move |_, _| SaslAuthenticateResponse::default().with_error_code(code).with_error_message(said.clone()))
            .await;
    let error = log_in(&refusing, password(PasswordMechanism::Plain)).await.err().expect("refused");
    let expected = "broker b:1 refuses the login: Authentication failed: no (see USER and PASSWORD)";
    assert_eq!(error.to_string(), expected);

    let refusing = broker(move |number, message| {
        if number == 0 {
            return bytes("{\"status\":\"invalid_token\"}");
        }
        assert_eq!(message, ADMIT_FAILURE);
        SaslAuthenticateResponse::default().with_error_code(code)
    })
    .await;
    let error = log_in(&refusing, token()).await.err().expect("refused");
    assert_eq!(error.to_string(), "broker b:1 refuses the login: the token is refused: invalid_token (see THE_TOKEN)");
}

#[tokio::test]
async fn what_a_broker_says_comes_without_what_it_was_told() {
    let code = ResponseError::SaslAuthenticationFailed.code();
    let echo = broker(move |_, message| {
        let said = format!("bad: {}\u{1b}[31m{}", data_encoding::BASE64.encode(message), "x".repeat(10_000));
        let said = StrBytes::from_string(format!("{} {said}", String::from_utf8_lossy(message).replace('\0', " ")));
        SaslAuthenticateResponse::default().with_error_code(code).with_error_message(Some(said))
    })
    .await;
    for (credentials, expected) in
        [(password(PasswordMechanism::Plain), " me *** bad: ***"), (token(), " auth=Bearer ***")]
    {
        let error = log_in(&echo, credentials).await.err().expect("refused").to_string();
        assert!(error.contains(expected.trim_start()) && error.len() < 500 && !error.contains('\u{1b}'), "{error}");
        assert!(!error.contains("hunter2") && !error.contains("t0ken"), "{error}");
    }
}

#[tokio::test]
async fn a_connection_is_given_up_before_its_session_ends() {
    let short = broker(|_, _| SaslAuthenticateResponse::default().with_session_lifetime_ms(60_000)).await;
    let connection = log_in(&short, password(PasswordMechanism::Plain)).await.expect("admitted");
    assert!(connection.is_usable());
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(50)).await;
    assert!(connection.is_usable());
    tokio::time::advance(Duration::from_secs(2)).await;
    assert!(!connection.is_usable());
}

/// A broker that asks for so many iterations; what it heard, how long the login took, and how it ended.
async fn asks_for(iterations: &'static str) -> (usize, Duration, Error) {
    let poser = broker(move |number, message| {
        let message = String::from_utf8(message.to_vec()).expect("text");
        match number {
            0 => {
                let (_, nonce) = message.split_once(",r=").expect("a nonce");
                bytes(format!("r={nonce}more,s=c2FsdHNhbHQ=,i={iterations}"))
            }
            _ => bytes("e=other-error"),
        }
    })
    .await;
    let start = std::time::Instant::now();
    let error = log_in(&poser, password(PasswordMechanism::ScramSha256)).await.err().expect("refused");
    (messages(&poser).len(), start.elapsed(), error)
}

#[tokio::test]
async fn a_broker_that_asks_for_too_few_iterations_gets_no_proof() {
    let (messages, _, error) = asks_for("1").await;
    assert_eq!(messages, 1, "the proof of one iteration was sent: {error}");
    let expected = "broker b:1 refuses the login: it asks for 1 iterations of SCRAM, and 4096 to 1000000 are done";
    assert_eq!(error.to_string(), expected);
    for wrong in ["4095", "1000001", "4294967296", "-1", "x", "\u{1b}[31m"] {
        let (messages, _, error) = asks_for(wrong).await;
        assert!(messages == 1 && !error.to_string().contains('\u{1b}'), "{wrong}: {error}");
    }
}

#[tokio::test]
async fn a_broker_that_asks_for_too_many_iterations_holds_nobody_up() {
    // a thousandth of what it could ask for
    let (_, took, error) = asks_for("4294967").await;
    assert!(took < PATIENCE, "{took:?}: {error}");
}
