use std::net::SocketAddr;

use kafka_protocol::messages::{
    ApiVersionsResponse, FindCoordinatorRequest, FindCoordinatorResponse, OffsetCommitRequest, ResponseKind,
    api_versions_response::ApiVersion,
};

use super::{
    super::testing::{Action, Broker, Seen},
    *,
};

const CLOSE: Action = Action::Cut(Bytes::new());
const PATIENCE: Duration = Duration::from_secs(5);
const OURS: VersionRange = VersionRange { min: 1, max: 4 };

fn range(api: ApiKey, min: i16, max: i16) -> ApiVersion {
    ApiVersion::default().with_api_key(api as i16).with_min_version(min).with_max_version(max)
}

/// Knows `FindCoordinator` 0 to 2 and plays `script` for it.
async fn broker(mut script: impl FnMut(&Seen) -> Action + Send + 'static) -> Broker {
    Broker::start(move |seen: &Seen, _: &SocketAddr| match seen.api {
        ApiKey::ApiVersions => {
            let keys = vec![range(ApiKey::FindCoordinator, 0, 2), range(ApiKey::OffsetCommit, 10, 12)];
            Action::Answer(ResponseKind::ApiVersions(ApiVersionsResponse::default().with_api_keys(keys)))
        }
        _ => script(seen),
    })
    .await
}

fn found(host: &'static str) -> ResponseKind {
    ResponseKind::FindCoordinator(FindCoordinatorResponse::default().with_host(StrBytes::from_static_str(host)))
}

async fn open(broker: &Broker, timeout: Duration) -> Connection {
    let connector = Connector::plaintext(vec![broker.address.clone()]);
    Connection::open(&connector, &broker.address, timeout).await.expect("the versions are told")
}

async fn ask(connection: &mut Connection) -> Result<String, Error> {
    let response = connection.call(2, &FindCoordinatorRequest::default()).await?;
    Ok(response.host.to_string())
}

#[tokio::test]
async fn the_highest_common_version_is_chosen() {
    let broker = broker(|_| CLOSE).await;
    let connection = open(&broker, PATIENCE).await;

    assert_eq!(connection.version::<FindCoordinatorRequest>(OURS).expect("common versions"), 2);
    assert_eq!(connection.version::<FindCoordinatorRequest>(VersionRange { min: 0, max: 1 }).expect("common"), 1);
    assert!(connection.knows(ApiKey::OffsetCommit) && !connection.knows(ApiKey::Fetch));

    let beyond = connection.version::<OffsetCommitRequest>(VersionRange { min: 2, max: 9 }).expect_err("none common");
    assert!(beyond.to_string().ends_with("knows OffsetCommit in versions 10..12, postlane 2..9"), "{beyond}");
    let unknown = connection.version::<kafka_protocol::messages::FetchRequest>(OURS).expect_err("not known");
    assert!(unknown.to_string().ends_with("knows Fetch not at all, postlane 1..4"), "{unknown}");
    assert!(!unknown.is_retriable());
}

#[tokio::test]
async fn a_broker_that_does_not_know_our_way_to_ask_for_versions_is_asked_in_the_oldest() {
    let broker = Broker::start(|seen, _| {
        let response = ApiVersionsResponse::default();
        let keys = vec![range(ApiKey::FindCoordinator, 0, 2)];
        match (seen.api, seen.version) {
            (ApiKey::ApiVersions, 0) => Action::Answer(ResponseKind::ApiVersions(response.with_api_keys(keys))),
            (ApiKey::ApiVersions, _) => {
                let unsupported = response.with_error_code(ResponseError::UnsupportedVersion.code());
                Action::AnswerAs(0, ResponseKind::ApiVersions(unsupported))
            }
            _ => Action::Answer(found("a")),
        }
    })
    .await;
    let mut connection = open(&broker, PATIENCE).await;

    assert_eq!(connection.version::<FindCoordinatorRequest>(OURS).expect("common versions"), 2);
    assert_eq!(ask(&mut connection).await.expect("an answer"), "a");
}

#[tokio::test]
async fn an_answer_of_impossible_length_is_refused_before_it_is_read() {
    for length in [i32::MIN, -1, 0, 3, i32::try_from(MAX_FRAME).expect("fits") + 1, i32::from_be_bytes(*b"HTTP")] {
        let broker = broker(move |_| Action::Raw(Bytes::copy_from_slice(&length.to_be_bytes()))).await;
        let mut connection = open(&broker, PATIENCE).await;

        let error = ask(&mut connection).await.expect_err("no such frame");
        assert!(matches!(error, Error::Frame { length: found, .. } if found == length), "{error:?}");
        assert!(!connection.is_usable());
    }
}

#[tokio::test]
async fn an_answer_that_ends_early_is_a_broken_connection() {
    let broker = broker(|_| Action::Cut(Bytes::from_static(&[0, 0, 0, 100, 0, 0, 0, 2, 0]))).await;
    let mut connection = open(&broker, PATIENCE).await;

    let error = ask(&mut connection).await.expect_err("no whole answer");
    assert!(matches!(&error, Error::Io { source, .. } if source.kind() == io::ErrorKind::UnexpectedEof), "{error:?}");
    assert!(error.is_retriable());
}

#[tokio::test]
async fn an_answer_to_another_request_ends_the_connection() {
    let broker = broker(|_| Action::Misnumber(found("stale"))).await;
    let mut connection = open(&broker, PATIENCE).await;

    assert!(matches!(ask(&mut connection).await, Err(Error::Correlation { expected: 2, found: 1, .. })));
    assert!(matches!(ask(&mut connection).await, Err(Error::OutOfStep { .. })));
}

#[tokio::test]
async fn bytes_behind_an_answer_are_an_error() {
    // Length and number, the 18 bytes of a version 2 answer with empty texts, and one more.
    let longer = [&[0, 0, 0, 23, 0, 0, 0, 2][..], &[0; 18 + 1]].concat();
    let broker = broker(move |_| Action::Raw(longer.clone().into())).await;
    let mut connection = open(&broker, PATIENCE).await;

    let error = ask(&mut connection).await.expect_err("one byte too many");
    assert!(matches!(error, Error::Codec { api: ApiKey::FindCoordinator, version: 2, .. }), "{error:?}");
}

#[tokio::test]
async fn a_call_that_timed_out_leaves_no_answer_for_the_next_one() {
    let broker = broker(|_| Action::Silence).await;
    let mut connection = open(&broker, PATIENCE).await;
    connection.timeout = Duration::from_millis(50);

    let error = ask(&mut connection).await.expect_err("silence");
    assert!(matches!(error, Error::Timeout { api: ApiKey::FindCoordinator, .. }), "{error:?}");
    assert!(error.is_retriable() && !connection.is_usable());
    assert!(matches!(ask(&mut connection).await, Err(Error::OutOfStep { .. })));
}

#[tokio::test]
async fn a_call_that_was_dropped_leaves_no_answer_for_the_next_one() {
    let broker = broker(|_| Action::Answer(found("first"))).await;
    let mut connection = open(&broker, PATIENCE).await;
    {
        let mut call = std::pin::pin!(ask(&mut connection));
        assert!(futures::poll!(call.as_mut()).is_pending(), "the answer cannot be there yet");
    }

    assert!(!connection.is_usable());
    assert!(matches!(ask(&mut connection).await, Err(Error::OutOfStep { .. })));
}

#[tokio::test]
async fn nobody_at_the_address_is_told_with_the_address() {
    let broker = broker(|_| CLOSE).await;
    let address = broker.address.clone();
    drop(broker);
    let connector = Connector::plaintext(vec![address.clone()]);

    // The listener closes when its task is next polled.
    let error = loop {
        match Connection::open(&connector, &address, PATIENCE).await {
            Err(error @ Error::Connect { .. }) => break error,
            Err(Error::Io { .. }) | Ok(_) => tokio::task::yield_now().await,
            Err(error) => panic!("{error:?}"),
        }
    };
    assert_eq!(error.to_string(), format!("cannot connect to broker {address}"));
}

#[tokio::test]
async fn an_answer_that_announces_a_list_beyond_its_own_length_is_an_error() {
    // correlation 1, no error, a compact list of 2^32 - 2 versions, and nothing behind it
    let answer: &[u8] = &[0, 0, 0, 11, 0, 0, 0, 1, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f];
    let broker = Broker::start(move |_, _| Action::Raw(Bytes::from_static(answer))).await;
    let connector = Connector::plaintext(vec![broker.address.clone()]);
    let error = Connection::open(&connector, &broker.address, PATIENCE).await.err().expect("an error");
    assert!(matches!(error, Error::Codec { .. }), "{error}");
    let list: &[u8] = &[0, 0, 0x7f, 0xff, 0xff, 0xff];
    assert!(early::versions(0, list).is_err());
    assert!(early::check_handshake(list).is_err());
    // one version whose tagged field is longer than the rest
    assert!(early::versions(3, &[0, 0, 2, 0, 18, 0, 0, 0, 3, 1, 0, 9][..]).is_err());
    assert!(early::versions(3, &[0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff][..]).is_err());
}

#[test]
fn versions_are_read_past_what_is_not_known() {
    let range = VersionRange { min: 1, max: 3 };
    let expected = (0, BTreeMap::from([(18, range)]));
    assert_eq!(early::versions(3, &[0, 0, 2, 0, 18, 0, 1, 0, 3, 1, 9, 2, 7, 7, 0xff][..]).expect("read"), expected);
    assert_eq!(early::versions(0, &[0, 0, 0, 0, 0, 1, 0, 18, 0, 1, 0, 3][..]).expect("read"), expected);
    assert!(early::check_handshake(&[0, 0, 0, 0, 0, 1, 0, 1, b'X'][..]).is_ok());
}
