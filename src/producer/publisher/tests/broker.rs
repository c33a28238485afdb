//! A broker that stores what it is given, answers as the script says, and sorts out repetitions.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bytes::Bytes;
use kafka_protocol::{
    ResponseError,
    messages::{
        ApiKey, ApiVersionsResponse, BrokerId, InitProducerIdResponse, MetadataResponse, ProduceRequest,
        ProduceResponse, RequestKind, ResponseKind, TopicName,
        api_versions_response::ApiVersion,
        metadata_response::{MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic},
        produce_response::{PartitionProduceResponse, TopicProduceResponse},
    },
    protocol::StrBytes,
    records::{NO_PRODUCER_ID, RecordBatchDecoder},
};
use tokio::{sync::Notify, time::sleep};

use crate::kafka::testing::{Action, Broker};

/// What becomes of a produce request.
#[derive(Debug, Clone, Copy)]
pub(super) enum Play {
    Store,
    /// Stores and answers when the test says so.
    Hold,
    /// Stores and never answers.
    StoreAndSilence,
    /// Stores and closes the connection.
    StoreAndHangUp,
    /// Stores nothing and closes the connection.
    HangUp,
    /// Stores and answers an error.
    StoreAnd(ResponseError),
    /// Stores nothing and answers an error.
    Refuse(ResponseError),
}

pub(super) struct Fake {
    broker: Broker,
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    partitions: i32,
    plays: VecDeque<Play>,
    otherwise: Option<Play>,
    refused_key: Option<(String, ResponseError)>,
    /// Knows nothing of identities.
    old: bool,
    /// Gives none.
    no_identity: Option<ResponseError>,
    identities: i64,
    leader: Option<SocketAddr>,
    produced: usize,
    throttle: i32,
    /// The requests that are held.
    held: Vec<Arc<Notify>>,
    /// Keys by partition, in the order of their offsets.
    log: HashMap<i32, Vec<String>>,
    order: Vec<String>,
    /// Number after the last record of an identity in a partition, and the offset after it.
    next: HashMap<(i64, i32), (i32, i64)>,
}

impl Fake {
    pub(super) async fn start(partitions: i32) -> Self {
        let state = State { partitions, ..State::default() };
        let state = Arc::new(Mutex::new(state));
        let script = Arc::clone(&state);
        let broker = Broker::start(move |seen, own| script.lock().expect("no panic").answer(&seen.request, *own)).await;
        Self { address: broker.address.parse().expect("an address"), broker, state }
    }

    pub(super) fn address(&self) -> String {
        self.address.to_string()
    }

    /// The next requests; those after them are stored.
    pub(super) fn play(&self, plays: impl IntoIterator<Item = Play>) {
        self.state().plays = plays.into_iter().collect();
    }

    /// All further requests.
    pub(super) fn always(&self, play: Play) {
        self.state().otherwise = Some(play);
    }

    pub(super) fn refuse_key(&self, key: &str, code: ResponseError) {
        self.state().refused_key = Some((key.to_owned(), code));
    }

    /// Gives no producer ids, or does not even know of them.
    pub(super) fn refuse_identity(&self, code: Option<ResponseError>) {
        let mut state = self.state();
        state.old = code.is_none();
        state.no_identity = code;
    }

    pub(super) fn lead_to(&self, other: &Self) {
        self.state().leader = Some(other.address);
    }

    /// Says that nothing more is read for so long.
    pub(super) fn throttle(&self, time: Duration) {
        self.state().throttle = i32::try_from(time.as_millis()).expect("short");
    }

    /// Connections over which anything was written.
    pub(super) fn connections(&self) -> usize {
        let seen = self.broker.seen();
        let peers = seen.iter().filter(|it| it.api == ApiKey::Produce).map(|it| it.peer);
        peers.collect::<BTreeSet<_>>().len()
    }

    /// Answers the requests that are held.
    pub(super) fn release(&self) {
        self.state().held.drain(..).for_each(|held| held.notify_one());
    }

    pub(super) fn keys(&self) -> Vec<String> {
        self.state().order.clone()
    }

    pub(super) fn identities(&self) -> i64 {
        self.state().identities
    }

    pub(super) fn produced(&self) -> usize {
        self.state().produced
    }

    pub(super) async fn until_produced(&self, count: usize) {
        while self.produced() < count {
            sleep(Duration::from_millis(1)).await;
        }
    }

    pub(super) async fn hang_up(&self) {
        self.broker.hang_up().await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic")
    }
}

impl State {
    fn answer(&mut self, request: &RequestKind, own: SocketAddr) -> Action {
        Action::Answer(match request {
            RequestKind::ApiVersions(_) => ResponseKind::ApiVersions(self.versions()),
            RequestKind::Metadata(request) => {
                let topics = request.topics.iter().flatten().filter_map(|topic| topic.name.clone());
                ResponseKind::Metadata(self.metadata(topics, self.leader.unwrap_or(own)))
            }
            RequestKind::InitProducerId(_) => ResponseKind::InitProducerId(self.identify()),
            RequestKind::Produce(request) => return self.produce(request),
            other => panic!("not in the script: {other:?}"),
        })
    }

    fn identify(&mut self) -> InitProducerIdResponse {
        if let Some(code) = self.no_identity {
            return InitProducerIdResponse::default().with_error_code(code.code());
        }
        self.identities += 1;
        InitProducerIdResponse::default().with_producer_id(self.identities.into()).with_producer_epoch(0)
    }

    fn versions(&self) -> ApiVersionsResponse {
        let mut known = vec![(ApiKey::Metadata, 9), (ApiKey::Produce, 9)];
        if !self.old {
            known.push((ApiKey::InitProducerId, 4));
        }
        let keys = known.into_iter().map(|(api, max)| {
            let min = if api == ApiKey::Produce { 3 } else { 0 };
            ApiVersion::default().with_api_key(api as i16).with_min_version(min).with_max_version(max)
        });
        ApiVersionsResponse::default().with_api_keys(keys.collect())
    }

    fn metadata(&self, topics: impl Iterator<Item = TopicName>, leader: SocketAddr) -> MetadataResponse {
        // each broker has the number of its port
        let id = BrokerId(leader.port().into());
        let broker = MetadataResponseBroker::default()
            .with_node_id(id)
            .with_host(StrBytes::from_string(leader.ip().to_string()))
            .with_port(leader.port().into());
        let partitions: Vec<_> = (0..self.partitions)
            .map(|index| MetadataResponsePartition::default().with_partition_index(index).with_leader_id(id))
            .collect();
        let topics = topics
            .map(|name| MetadataResponseTopic::default().with_name(Some(name)).with_partitions(partitions.clone()));
        MetadataResponse::default().with_brokers(vec![broker]).with_topics(topics.collect())
    }

    fn produce(&mut self, request: &ProduceRequest) -> Action {
        assert_eq!(request.acks, -1, "acknowledged by all in-sync replicas");
        self.produced += 1;
        let play = self.plays.pop_front().or(self.otherwise).unwrap_or(Play::Store);
        let [topic] = &request.topic_data[..] else { panic!("one topic") };
        let answers = topic.partition_data.iter().map(|data| {
            let answer = PartitionProduceResponse::default().with_index(data.index);
            let stores = !matches!(play, Play::HangUp | Play::Refuse(_));
            let outcome = if stores { self.store(data.index, data.records.clone().expect("records")) } else { Ok(-1) };
            let outcome = match play {
                Play::Refuse(code) | Play::StoreAnd(code) => Err(code),
                _ => outcome,
            };
            match outcome {
                Ok(offset) => answer.with_base_offset(offset),
                Err(code) => answer.with_error_code(code.code()).with_base_offset(-1),
            }
        });
        let topic = TopicProduceResponse::default()
            .with_name(topic.name.clone())
            .with_partition_responses(answers.collect::<Vec<_>>());
        let answer = ResponseKind::Produce(
            ProduceResponse::default().with_responses(vec![topic]).with_throttle_time_ms(self.throttle),
        );
        match play {
            Play::StoreAndSilence => Action::Silence,
            Play::HangUp | Play::StoreAndHangUp => Action::Cut(Bytes::new()),
            Play::Hold => {
                let held = Arc::new(Notify::new());
                self.held.push(Arc::clone(&held));
                Action::Later(held, answer)
            }
            Play::Store | Play::StoreAnd(_) | Play::Refuse(_) => Action::Answer(answer),
        }
    }

    /// As a broker does it that knows the last batch of each producer (KIP-98).
    fn store(&mut self, partition: i32, mut batch: Bytes) -> Result<i64, ResponseError> {
        let records = RecordBatchDecoder::decode(&mut batch).expect("a batch").records;
        let keys: Vec<String> = records
            .iter()
            .map(|it| String::from_utf8(it.key.clone().expect("a key").to_vec()).expect("text"))
            .collect();
        if let Some((_, code)) = self.refused_key.as_ref().filter(|(refused, _)| keys.contains(refused)) {
            return Err(*code);
        }
        let (id, first) = (records[0].producer_id, records[0].sequence);
        let log = self.log.entry(partition).or_default();
        let offset = i64::try_from(log.len()).expect("few");
        if id != NO_PRODUCER_ID {
            let count = i32::try_from(records.len()).expect("few");
            let (next, end) = self.next.get(&(id, partition)).copied().unwrap_or((0, 0));
            if first + count == next {
                return Ok(end - i64::from(count));
            }
            if first != next {
                return Err(ResponseError::OutOfOrderSequenceNumber);
            }
            self.next.insert((id, partition), (next + count, offset + i64::from(count)));
        }
        log.extend(keys.iter().cloned());
        self.order.extend(keys);
        Ok(offset)
    }
}
