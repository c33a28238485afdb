//! A small connection of its own to one broker: Kafka frames by `kafka-protocol`.
//!
//! Owns framing, and finding the broker that a request must go to. Speaks fixed old versions that brokers from 2.4 to 4.x
//! know. Does not retry.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::{BufMut as _, BytesMut};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    FindCoordinatorRequest, MetadataRequest, MetadataResponse, RequestHeader, ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable as _, Encodable as _, HeaderVersion as _, Request, StrBytes};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// No answer takes longer than this on a broker that works.
const PATIENCE: Duration = Duration::from_secs(30);
/// More than any answer to what is asked here.
const FRAME_LIMIT: usize = 100 << 20;
const METADATA_VERSION: i16 = 5;
const FIND_COORDINATOR_VERSION: i16 = 2;

/// What kind of coordinator is looked for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Coordinator {
    Group = 0,
    Transaction = 1,
}

/// A connection to one broker, one request at a time.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    correlation: i32,
}

impl Connection {
    /// Connects to one of the brokers in `bootstrap`, or to the one that it names.
    pub(crate) async fn open(bootstrap: &str) -> Result<Self> {
        let mut reason = None;
        for address in bootstrap.split(',') {
            match timeout(PATIENCE, TcpStream::connect(address.trim())).await {
                Ok(Ok(stream)) => {
                    stream.set_nodelay(true)?;
                    return Ok(Self { stream, correlation: 0 });
                }
                Ok(Err(error)) => reason = Some(error.to_string()),
                Err(_) => reason = Some("no answer".to_owned()),
            }
        }
        bail!("cannot connect to {bootstrap}: {}", reason.unwrap_or_else(|| "no address".to_owned()))
    }

    /// Connects to the broker that leads a partition.
    pub(crate) async fn to_leader(bootstrap: &str, topic: &str, partition: i32) -> Result<Self> {
        let metadata = Self::open(bootstrap).await?.metadata(Some(&[topic])).await?;
        let found = metadata.topics.first().context("metadata names the topic asked for")?;
        check(found.error_code).with_context(|| format!("topic {topic}"))?;
        let leader = found
            .partitions
            .iter()
            .find(|p| p.partition_index == partition)
            .with_context(|| format!("topic {topic} has no partition {partition}"))?
            .leader_id;
        let broker = metadata
            .brokers
            .iter()
            .find(|broker| broker.node_id == leader)
            .with_context(|| format!("partition {partition} of {topic} has no leader"))?;
        Self::open(&format!("{}:{}", broker.host, broker.port)).await
    }

    /// Connects to the broker that coordinates a group or a transactional id.
    pub(crate) async fn to_coordinator(bootstrap: &str, kind: Coordinator, key: &str) -> Result<Self> {
        let request =
            FindCoordinatorRequest::default().with_key(StrBytes::from_string(key.to_owned())).with_key_type(kind as i8);
        let answer = Self::open(bootstrap).await?.request(&request, FIND_COORDINATOR_VERSION).await?;
        check(answer.error_code).with_context(|| format!("no coordinator for {key}"))?;
        Self::open(&format!("{}:{}", answer.host, answer.port)).await
    }

    /// The brokers, and the given topics or all of them. Never creates a topic.
    pub(crate) async fn metadata(&mut self, topics: Option<&[&str]>) -> Result<MetadataResponse> {
        let wanted = topics.map(|names| {
            names.iter().map(|name| MetadataRequestTopic::default().with_name(Some(topic_name(name)))).collect()
        });
        let request = MetadataRequest::default().with_topics(wanted).with_allow_auto_topic_creation(false);
        self.request(&request, METADATA_VERSION).await
    }

    /// Sends one request and waits for its answer.
    pub(crate) async fn request<R: Request>(&mut self, request: &R, version: i16) -> Result<R::Response> {
        timeout(PATIENCE, self.exchange(request, version)).await.context("the broker did not answer")?
    }

    async fn exchange<R: Request>(&mut self, request: &R, version: i16) -> Result<R::Response> {
        self.correlation += 1;
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation)
            .with_client_id(Some(StrBytes::from_static_str("postlane-devkit")));
        let mut frame = BytesMut::new();
        frame.put_i32(0);
        header.encode(&mut frame, R::header_version(version))?;
        request.encode(&mut frame, version)?;
        let length = i32::try_from(frame.len() - 4).context("a request fits into a frame")?;
        frame[..4].copy_from_slice(&length.to_be_bytes());
        self.stream.write_all(&frame).await.context("the broker closed the connection")?;

        let length = self.stream.read_i32().await.context("the broker closed the connection")?;
        let length = usize::try_from(length).ok().filter(|length| *length <= FRAME_LIMIT).context("a broken frame")?;
        let mut answer = vec![0; length];
        self.stream.read_exact(&mut answer).await.context("the broker closed the connection")?;
        let mut answer = bytes::Bytes::from(answer);
        let header = ResponseHeader::decode(&mut answer, R::Response::header_version(version))?;
        if header.correlation_id != self.correlation {
            bail!("the answer belongs to another request");
        }
        R::Response::decode(&mut answer, version)
    }
}

/// An error code of the protocol as an error.
pub(crate) fn check(code: i16) -> Result<()> {
    match ResponseError::try_from_code(code) {
        None => Ok(()),
        Some(error) => Err(error.into()),
    }
}

/// A topic name as the protocol has it.
pub(crate) fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}
