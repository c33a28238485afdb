//! The service: builds every part, runs them, and brings them to an end.

mod endpoints;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use prometheus_client::registry::Registry;
use tokio::{
    sync::Notify,
    task::{JoinError, JoinSet},
};
use tokio_util::{
    sync::CancellationToken,
    task::{AbortOnDropHandle, TaskTracker},
};
use tracing::{error, info, warn};

use crate::{
    config::{self, Config},
    event::Priority,
    health::{self, Health},
    http,
    kafka::{
        SharedClient,
        assignment::{self, Assignment, Partitions, Progress},
        client,
        coordinator::Coordinator,
        dead_letter::{self, DeadLetters},
        fetch::{Limits, PartitionLoop, RskafkaReader, Timing},
        offsets::{Position, Tracker},
        topics::{Newborn, Wanted, Watch},
    },
    metrics::{Exposition, Metrics, State},
    pipeline::{Partition, Pipeline, Room, Worker},
    schedule::Scheduler,
    shutdown::{self, Schedule, Shutdown, Signals},
    smtp::{self, relay::Relay},
    telemetry::Telemetry,
    template::{self, Templates},
    tls,
};

/// Time for the last commit where a second signal cuts.
const CUT_COMMIT: Duration = Duration::from_millis(500);

/// Time for the last spans, beside the last commit.
const LAST_SPANS: Duration = Duration::from_secs(2);

/// Why the service ended with a failure.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The templates do not load.
    #[error(transparent)]
    Templates(#[from] template::LoadError),
    /// The certificates for the relay, the brokers or the collector do not load.
    #[error(transparent)]
    Tls(#[from] tls::Error),
    /// The endpoints for operators have no place to listen.
    #[error(transparent)]
    Http(#[from] http::BindError),
    /// The operating system refuses a signal handler.
    #[error("signals cannot be handled")]
    Signals(#[source] std::io::Error),
    /// Another program uses the group.
    #[error(transparent)]
    Group(#[from] assignment::Error),
    /// A part of the service panicked or ended by itself.
    #[error("{0} ended unexpectedly: a defect, please report it")]
    Crashed(&'static str),
    /// A second signal cut the shutdown short.
    #[error("cut short by a second signal")]
    Cut,
}

impl Error {
    /// Whether the configuration is wrong, and nothing was connected.
    pub fn is_configuration(&self) -> bool {
        matches!(self, Self::Templates(_) | Self::Tls(_) | Self::Http(_))
    }
}

/// Delivers until a signal ends it.
///
/// # Errors
///
/// See [`Error`]. A shutdown by one signal is none, even where it had to cut.
pub async fn serve(config: Config) -> Result<(), Error> {
    let templates = Templates::load(config.mail.templates_dir.as_deref())?;
    let connector = smtp::Connector::new(&config.smtp)?;
    let dial = client::Connector::new(&config.kafka)?;
    for warning in config.kafka.security.warnings().into_iter().chain(config.smtp.warning()) {
        warn!("{warning}");
    }
    if let Some(warning) = config.mail.warning() {
        warn!("{warning}");
    }
    let mut signals = Signals::new().map_err(Error::Signals)?;
    let http = match config.http_addr {
        Some(address) => Some(http::Server::bind(address).await?),
        None => None,
    };
    let telemetry = Telemetry::start(&config)?;
    let service = Service::new(config, dial, templates, telemetry);
    info!(version = env!("CARGO_PKG_VERSION"), relay = service.relay_name(), "postlane starts");
    service.run(connector, http, &mut signals).await
}

struct Service {
    config: Config,
    dial: client::Connector,
    client: SharedClient,
    coordinator: Coordinator,
    pipeline: Arc<Pipeline>,
    registry: Registry,
    telemetry: Telemetry,
}

impl Service {
    fn new(config: Config, dial: client::Connector, templates: Templates, telemetry: Telemetry) -> Self {
        let client = SharedClient::new(dial.clone());
        let coordinator = Coordinator::new(dial.clone(), config.kafka.group_id.as_str());
        let smtp = &config.smtp;
        let relay = Relay::new(smtp.sessions, smtp.sessions_reserved, config.retry.max_delay);
        let relay = Arc::new(relay.limited_to(smtp.rate_limit));
        let mut registry = Registry::default();
        let kafka = &config.kafka;
        let topics = [&kafka.topic_high, &kafka.topic_normal, &kafka.topic_low].map(String::as_str);
        let metrics = Metrics::new(&mut registry, topics, templates.names());
        let pipeline = Pipeline {
            mail: config.mail.clone(),
            retry: config.retry.clone(),
            templates,
            lanes: Arc::new(Scheduler::new(config.weights, relay.others_limit())),
            relay,
            dead_letters: DeadLetters::new(
                client.clone(),
                config.kafka.topic_dead_letters.as_str(),
                config.kafka.group_id.as_str(),
                dead_letter::Timing::default(),
            ),
            traces: telemetry.traces().clone(),
            shutdown: Shutdown::new(),
            tasks: TaskTracker::new(),
            suspects: Mutex::default(),
            crashed: Notify::new(),
            metrics,
            crew: health::Crew::default(),
            tracked: Mutex::default(),
        };
        Self { dial, client, coordinator, pipeline: Arc::new(pipeline), telemetry, config, registry }
    }

    fn relay_name(&self) -> String {
        format!("{}:{}", self.config.smtp.host, self.config.smtp.port)
    }

    async fn run(
        self,
        connector: smtp::Connector,
        http: Option<http::Server>,
        signals: &mut Signals,
    ) -> Result<(), Error> {
        let Self { config, dial, client, coordinator, pipeline, telemetry, registry } = self;
        let shutdown = pipeline.shutdown.clone();
        let schedule = Schedule::within(config.shutdown_timeout);
        let mut workers = JoinSet::new();
        for _ in 0..config.smtp.sessions {
            let worker = Worker::new(Arc::clone(&pipeline), connector.clone(), config.smtp.clone());
            workers.spawn(worker.run());
        }
        let readers = Arc::new(Readers::new(&config.kafka, client.clone(), Arc::clone(&pipeline)));
        let newborn = Newborn::default();
        let settings = assignment::Settings {
            topics: readers.lanes.keys().cloned().collect(),
            dead_letters: config.kafka.topic_dead_letters.as_str().into(),
            newborn: config.kafka.topics.create.then(|| newborn.clone()),
            reset: config.kafka.auto_offset_reset,
            commit_interval: config.kafka.commit_interval,
            discovery_interval: config.kafka.discovery_interval,
        };
        let partitions: Arc<dyn Partitions> = Arc::clone(&readers) as Arc<dyn Partitions>;
        let mut assignment = Assignment::new(coordinator, client, settings, partitions);
        let _http = http.map(|server| {
            let health = Health::of(&config.kafka, Arc::clone(&pipeline), assignment.status());
            info!(address = %server.address(), "listening");
            AbortOnDropHandle::new(tokio::spawn(server.run(endpoints(health, registry))))
        });

        let watch = Watch::new(dial, Wanted::all(&config.kafka), config.kafka.topics.create, newborn);
        let mut watching = tokio::spawn(watch.run(shutdown.drain.clone()));

        let ended = tokio::select! {
            name = signals.next() => {
                info!(signal = name, within = ?config.shutdown_timeout, "shutting down: finishing what is being sent");
                Ok(())
            }
            outcome = assignment.run(&shutdown.drain) => outcome.map_err(Error::Group),
            Some(outcome) = workers.join_next() => Err(crashed("a worker", outcome)),
            outcome = &mut watching => Err(crashed("the look at the topics", outcome)),
            () = pipeline.crashed.notified() => Err(Error::Crashed("a task")),
        };
        if let Err(error) = &ended {
            error!(%error, "shutting down because of a failure");
        }
        let drained = CancellationToken::new();
        let draining = async {
            let cut = shutdown::drain(&shutdown, schedule, signals, async {
                while workers.join_next().await.is_some() {}
                pipeline.tasks.close();
                pipeline.tasks.wait().await;
            });
            let cut = cut.await;
            drained.cancel();
            cut
        };
        let (cut, ()) = tokio::join!(draining, assignment.commit_until(&drained));
        let limit = if cut { CUT_COMMIT } else { schedule.commit };
        let ending = async { tokio::join!(assignment.finish(limit), telemetry.finish(limit.min(LAST_SPANS))) };
        let cut = tokio::select! {
            _ = ending => cut,
            _ = signals.next() => true,
        };
        match ended {
            Ok(()) if cut => Err(Error::Cut),
            ended => ended,
        }
    }
}

fn endpoints(health: Health, mut registry: Registry) -> Arc<dyn http::Endpoints> {
    registry.register_collector(Box::new(State(health.clone())));
    Arc::new(endpoints::Endpoints { health, exposition: Exposition::new(registry) })
}

fn crashed(part: &'static str, outcome: Result<(), JoinError>) -> Error {
    if let Err(error) = outcome {
        error!(%error, part, "crashed");
    }
    Error::Crashed(part)
}

/// Starts a reader for each partition that is found.
struct Readers {
    pipeline: Arc<Pipeline>,
    client: SharedClient,
    limits: Limits,
    window: (usize, usize),
    lanes: BTreeMap<Arc<str>, (Priority, Room)>,
}

impl Readers {
    fn new(kafka: &config::Kafka, client: SharedClient, pipeline: Arc<Pipeline>) -> Self {
        let topics = [
            (&kafka.topic_high, Priority::High),
            (&kafka.topic_normal, Priority::Normal),
            (&kafka.topic_low, Priority::Low),
        ];
        let buffer = || Room::new(kafka.buffer_records, kafka.buffer_bytes);
        Self {
            pipeline,
            client,
            limits: Limits::new(kafka.fetch_max_wait, kafka.fetch_max_bytes),
            window: (kafka.window_records, kafka.window_bytes),
            lanes: topics.into_iter().map(|(topic, lane)| (Arc::from(topic.as_str()), (lane, buffer()))).collect(),
        }
    }
}

impl Partitions for Readers {
    fn start(&self, topic: &Arc<str>, partition: i32, tracker: Tracker) -> Arc<dyn Progress> {
        let (lane, buffer) = self.lanes.get(topic).cloned().expect("only topics of lanes are looked for");
        let start = tracker.position();
        let window = Room::new(self.window.0, self.window.1);
        let tracked = Arc::new(Partition::new(Arc::clone(topic), partition, lane, tracker, window));
        let source = self.pipeline.source(Arc::clone(&tracked), lane, buffer);
        let reader = RskafkaReader::new(self.client.clone(), Arc::clone(topic), partition, self.limits);
        let reading =
            PartitionLoop::new(reader, Arc::clone(topic), partition, start, Arc::new(source), Timing::default());
        let (drain, pipeline) = (self.pipeline.shutdown.drain.clone(), Arc::clone(&self.pipeline));
        tokio::spawn(async move {
            // the loop ends when the shutdown drains; nothing else may end it
            let outcome = tokio::spawn(reading.run(drain.clone())).await;
            if outcome.is_err() || !drain.is_cancelled() {
                pipeline.crashed.notify_one();
            }
        });
        tracked
    }
}

impl Progress for Partition {
    fn position(&self, limit: usize) -> Position {
        self.commit(limit)
    }

    fn stored(&self, offset: i64) {
        self.note_committed(offset);
    }

    fn listed(&self, listed: bool) {
        self.note_listed(listed);
    }
}
