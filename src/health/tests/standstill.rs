//! What counts as a standstill, and what does not: the judge alone, and the real parts with one of them broken.

use async_trait::async_trait;
use tokio::{sync::Notify, time::advance};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::*;
use crate::{
    kafka::{
        Record, SharedClient,
        client::Connector,
        dead_letter::{self, DeadLetters},
        fetch::{Bounds, FetchError, Fetched, PartitionLoop, PartitionReader, Sink, Timing},
        offsets::Tracker,
    },
    metrics::Metrics,
    pipeline::{Partition, Room, Worker},
    schedule::Scheduler,
    shutdown::Shutdown,
    smtp,
    template::Templates,
};

const LIMITS: Limits = Limits { fetch: Duration::from_secs(180), step: Duration::from_secs(601) };

fn waiting() -> Facts {
    Facts { waiting: [0, 3, 0], takeable: true, ..facts() }
}

/// Asks every ten seconds, as a probe does, and tells after how many seconds there is a standstill, if there is.
async fn stands_after(judge: &mut Judge, facts: &Facts, crew: &Crew, within: u64) -> Option<u64> {
    for passed in (0..=within).step_by(10) {
        if !judge.standstills(facts, crew, LIMITS, Instant::now()).is_empty() {
            return Some(passed);
        }
        advance(seconds(10)).await;
    }
    None
}

#[tokio::test(start_paused = true)]
async fn mails_that_nobody_takes_are_a_standstill() {
    let (crew, facts) = (Crew::default(), waiting());
    let station = crew.join();
    assert_eq!(stands_after(&mut Judge::default(), &facts, &crew, 600).await, Some(70));
    assert_eq!(stands_after(&mut Judge::default(), &super::facts(), &crew, 600).await, None, "nothing waits");
    let reserved = Facts { takeable: false, ..waiting() };
    assert_eq!(stands_after(&mut Judge::default(), &reserved, &crew, 600).await, None, "no session is for them");
    let draining = Facts { draining: true, ..waiting() };
    assert_eq!(stands_after(&mut Judge::default(), &draining, &crew, 600).await, None);
    // taking one now and then is progress
    let mut judge = Judge::default();
    for _ in 0..20 {
        assert_eq!(stands_after(&mut judge, &facts, &crew, 40).await, None);
        station.busy();
        station.free();
    }
    assert_eq!(stands_after(&mut judge, &facts, &crew, 600).await, Some(70));
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_is_down_is_no_standstill_but_one_that_nobody_tries_again_is() {
    let crew = Crew::default();
    let shut = |retry_in| {
        let gate = GateReport::Shut { since: seconds(5), why: "gone".to_owned(), retry_in };
        Facts { relay: smtp::relay::Report { gate, ..facts().relay }, ..waiting() }
    };
    assert_eq!(stands_after(&mut Judge::default(), &shut(Some(seconds(900))), &crew, 3600).await, None);
    assert_eq!(stands_after(&mut Judge::default(), &shut(Some(Duration::ZERO)), &crew, 600).await, Some(70));
    assert_eq!(
        stands_after(&mut Judge::default(), &shut(None), &crew, 600).await,
        Some(70),
        "a probe without a prober"
    );
    let prober = crew.join();
    prober.busy();
    assert_eq!(stands_after(&mut Judge::default(), &shut(None), &crew, 3600).await, None);
}

#[tokio::test(start_paused = true)]
async fn to_wait_for_the_rate_is_no_standstill_but_not_to_get_what_it_allows_is_one() {
    let crew = Crew::default();
    let (station, _other) = (crew.join(), crew.join());
    station.waits();
    let paced = |facts: Facts, next_mail| Facts { relay: smtp::relay::Report { next_mail, ..facts.relay }, ..facts };
    assert_eq!(stands_after(&mut Judge::default(), &paced(waiting(), seconds(1800)), &crew, 3600).await, None);
    assert_eq!(stands_after(&mut Judge::default(), &paced(waiting(), seconds(0)), &crew, 600).await, Some(70));
    // it holds the mail
    assert_eq!(stands_after(&mut Judge::default(), &paced(facts(), seconds(0)), &crew, 600).await, Some(70));
}

#[tokio::test(start_paused = true)]
async fn a_slow_relay_has_all_the_time_that_its_deadlines_give_it() {
    let crew = Crew::default();
    let (station, _other) = (crew.join(), crew.join());
    let config = config();
    let deadlines = config.smtp.timeouts.attempt(1, 2000);
    assert!(deadlines > seconds(3 * 600), "{deadlines:?}");
    station.busy_within(deadlines);
    let after = stands_after(&mut Judge::default(), &waiting(), &crew, 100_000).await;
    let bound = deadlines.as_secs() + 60;
    assert!(after.is_some_and(|after| (bound..=bound + 20).contains(&after)), "{after:?}, not {bound}");
    station.free();
    assert_eq!(stands_after(&mut Judge::default(), &facts(), &crew, 600).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_loop_that_stands_is_a_standstill_and_one_that_fails_is_none() {
    let crew = Crew::default();
    let mut facts = facts();
    let found = |facts: &Facts| Judge::default().standstills(facts, &crew, LIMITS, Instant::now());
    facts.partitions[2].vitals.reading = Reading::Asking(seconds(180));
    facts.partitions[3].vitals.halted = Some((Halt::Unavailable, seconds(100_000)));
    facts.assignment.commit_failure = Some("gone".to_owned());
    facts.assignment.turned = seconds(601);
    assert_eq!(found(&facts), [""; 0]);
    facts.partitions[2].vitals.reading = Reading::Asking(seconds(181));
    facts.assignment.turned = seconds(602);
    assert_eq!(
        found(&facts),
        ["the fetch of n-0 has hung for 181s", "commits and the look for partitions have stood still for 602s",]
    );
}

fn config() -> config::Config {
    let variables = [("KAFKA_BROKERS", "127.0.0.1:1"), ("SMTP_HOST", "127.0.0.1"), ("SMTP_PORT", "1")];
    config::from_variables(variables.map(|(name, value)| (name.to_owned(), value.to_owned()))).unwrap()
}

/// The real pipeline without workers and readers.
fn pipeline(config: &config::Config) -> Arc<Pipeline> {
    let templates = Templates::load(None).unwrap();
    let mut registry = prometheus_client::registry::Registry::default();
    let client = SharedClient::new(Connector::plaintext(vec!["127.0.0.1:1".to_owned()]));
    let relay = Arc::new(Relay::new(config.smtp.sessions, config.smtp.sessions_reserved, config.retry.max_delay));
    Arc::new(Pipeline {
        mail: config.mail.clone(),
        retry: config.retry.clone(),
        lanes: Arc::new(Scheduler::new(config.weights, relay.others_limit())),
        relay,
        dead_letters: DeadLetters::new(client, "d", "g", dead_letter::Timing::default()),
        shutdown: Shutdown::new(),
        tasks: TaskTracker::new(),
        suspects: Mutex::default(),
        crashed: Notify::new(),
        traces: crate::telemetry::Traces::default(),
        metrics: Metrics::new(&mut registry, ["h", "n", "l"], templates.names()),
        crew: Crew::default(),
        tracked: Mutex::default(),
        templates,
    })
}

fn health(config: &config::Config, pipeline: &Arc<Pipeline>) -> (Health, Arc<Status>) {
    let status = Arc::new(Status::default());
    (Health::of(&config.kafka, Arc::clone(pipeline), Arc::clone(&status)), status)
}

fn source(pipeline: &Arc<Pipeline>) -> crate::pipeline::Source {
    let (window, buffer) = (Room::new(100, 1 << 20), Room::new(100, 1 << 20));
    let partition = Partition::new(topic("n"), 0, Priority::Normal, Tracker::new(0), window);
    pipeline.source(Arc::new(partition), Priority::Normal, buffer)
}

fn mail(offset: i64) -> Record {
    let event = r#"{"message":{"from":"a@example.com","to":"b@example.com","template":"plain","data":{"body":"x"}}}"#;
    Record {
        topic: topic("n"),
        partition: 0,
        offset,
        timestamp: Utc::now(),
        arrived: Utc::now(),
        key: None,
        value: Some(event.into()),
        headers: std::collections::BTreeMap::new(),
    }
}

/// Answers at once with no records, and never again after so many answers.
struct Sticking(usize);

#[async_trait]
impl PartitionReader for Sticking {
    async fn fetch(&mut self, offset: i64) -> Result<Fetched, FetchError> {
        tokio::time::sleep(Duration::from_millis(500)).await;
        if self.0 == 0 {
            std::future::pending::<()>().await;
        }
        self.0 -= 1;
        Ok(Fetched { records: Vec::new(), next_offset: offset, high_watermark: offset })
    }

    async fn bounds(&mut self) -> Result<Bounds, FetchError> {
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_hangs_for_good_is_found_in_the_real_loop() {
    let config = config();
    let pipeline = pipeline(&config);
    let (health, status) = health(&config, &pipeline);
    let sink = Arc::new(source(&pipeline));
    let reading = PartitionLoop::new(Sticking(2000), topic("n"), 0, 0, sink, Timing::default());
    let reading = tokio::spawn(reading.run(CancellationToken::new()));
    for _ in 0..90 {
        tokio::time::sleep(seconds(10)).await;
        status.turn();
        assert_eq!(health.standstills(), [""; 0]);
    }
    tokio::time::sleep(seconds(280 + 20)).await;
    status.turn();
    let found = health.standstills();
    assert!(found.len() == 1 && found[0].starts_with("the fetch of n-0 has hung for"), "{found:?}");
    reading.abort();
}

#[tokio::test(start_paused = true)]
async fn work_without_workers_is_found_in_the_real_pipeline() {
    let config = config();
    let pipeline = pipeline(&config);
    let (health, status) = health(&config, &pipeline);
    let source = source(&pipeline);
    source.deliver(mail(0)).await;
    // a relay that refuses every connection is no standstill as long as somebody tries it
    let connector = smtp::Connector::new(&config.smtp).unwrap();
    let worker = tokio::spawn(Worker::new(Arc::clone(&pipeline), connector, config.smtp.clone()).run());
    for _ in 0..180 {
        tokio::time::sleep(seconds(10)).await;
        status.turn();
        assert_eq!(health.standstills(), [""; 0]);
    }
    assert!(!pipeline.relay.is_open(), "it was tried");
    worker.abort();
    assert!(worker.await.unwrap_err().is_cancelled());
    let mut found = Vec::new();
    for _ in 0..120 {
        tokio::time::sleep(seconds(10)).await;
        status.turn();
        found = health.standstills();
        if !found.is_empty() {
            break;
        }
    }
    assert_eq!(found, ["1 mails could be sent, and no worker takes one"]);
}

/// Hands out a thousand records at once, and then tells nobody where the log ends.
struct Full;

#[async_trait]
impl PartitionReader for Full {
    async fn fetch(&mut self, offset: i64) -> Result<Fetched, FetchError> {
        let records = (offset..offset + 1000).map(mail).collect();
        Ok(Fetched { records, next_offset: offset + 1000, high_watermark: offset + 5000 })
    }

    async fn bounds(&mut self) -> Result<Bounds, FetchError> {
        Err(FetchError::Unavailable { detail: "gone".to_owned() })
    }
}

#[tokio::test(start_paused = true)]
async fn a_backlog_that_moves_again_after_an_outage_is_no_hanging_fetch() {
    let config = config();
    let pipeline = pipeline(&config);
    let (health, status) = health(&config, &pipeline);
    let station = pipeline.crew.join();
    station.busy();
    let reading = PartitionLoop::new(Full, topic("n"), 0, 0, Arc::new(source(&pipeline)), Timing::default());
    let reading = tokio::spawn(reading.run(CancellationToken::new()));
    // relay and broker are away: the look after 5 s fails, the next one is due after 10 s
    tokio::time::sleep(seconds(7)).await;
    // the relay is back, and takes a mail a second
    for second in 0..400 {
        drop(pipeline.lanes.take().expect("a mail"));
        tokio::time::sleep(seconds(1)).await;
        status.turn();
        assert_eq!(health.standstills(), [""; 0], "after {second}s in which a mail a second was sent");
    }
    reading.abort();
}

/// Has been read to its end when something comes that cannot be decoded, and 95 records more.
struct Poisoned(bool);

#[async_trait]
impl PartitionReader for Poisoned {
    async fn fetch(&mut self, offset: i64) -> Result<Fetched, FetchError> {
        if std::mem::replace(&mut self.0, true) {
            return Err(FetchError::Undecodable { detail: "a marker".to_owned() });
        }
        Ok(Fetched { records: Vec::new(), next_offset: offset, high_watermark: offset })
    }

    async fn bounds(&mut self) -> Result<Bounds, FetchError> {
        Ok(Bounds { log_start: 0, log_end: 95 })
    }
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_cannot_be_decoded_has_a_lag_and_an_age() {
    let config = config();
    let pipeline = pipeline(&config);
    let reading = PartitionLoop::new(Poisoned(false), topic("n"), 0, 0, Arc::new(source(&pipeline)), Timing::default());
    let reading = tokio::spawn(reading.run(CancellationToken::new()));
    tokio::time::sleep(seconds(600)).await;
    let vitals = pipeline.partitions()[0].vitals(Utc::now());
    assert_eq!(vitals.lag, Some(95));
    assert!(vitals.oldest > seconds(500), "{vitals:?}");
    reading.abort();
}

/// Fetches once, slowly to be sent; whether it can tell where the log ends is up to the test.
struct Moody(Arc<std::sync::atomic::AtomicBool>);

#[async_trait]
impl PartitionReader for Moody {
    async fn fetch(&mut self, offset: i64) -> Result<Fetched, FetchError> {
        Full.fetch(offset).await
    }

    async fn bounds(&mut self) -> Result<Bounds, FetchError> {
        if self.0.load(std::sync::atomic::Ordering::Relaxed) {
            return Ok(Bounds { log_start: 0, log_end: 7000 });
        }
        Full.bounds().await
    }
}

#[tokio::test(start_paused = true)]
async fn the_broker_is_asked_while_a_backlog_moves_and_its_return_is_seen() {
    let config = config();
    let pipeline = pipeline(&config);
    let back = Arc::default();
    let reader = Moody(Arc::clone(&back));
    let reading = PartitionLoop::new(reader, topic("n"), 0, 0, Arc::new(source(&pipeline)), Timing::default());
    let reading = tokio::spawn(reading.run(CancellationToken::new()));
    let vitals = || pipeline.partitions()[0].vitals(Utc::now());
    let pass = async |mails: u64| {
        for _ in 0..mails {
            tokio::time::sleep(seconds(1)).await;
            drop(pipeline.lanes.take().expect("a mail"));
        }
    };
    pass(20).await;
    let away = vitals();
    assert!(matches!(away.halted, Some((Halt::Unavailable, since)) if since > seconds(10)), "{away:?}");
    assert_eq!(away.lag, Some(5000));
    back.store(true, std::sync::atomic::Ordering::Relaxed);
    pass(5).await;
    let back = vitals();
    assert_eq!((back.halted, back.lag, back.reading), (None, Some(7000), Reading::Answered));
    reading.abort();
}

#[tokio::test(start_paused = true)]
async fn a_further_transaction_that_hangs_overruns_its_deadlines_too() {
    let config = config();
    let pipeline = pipeline(&config);
    let (health, status) = health(&config, &pipeline);
    let connector = smtp::Connector::new(&config.smtp).unwrap();
    let worker = Worker::new(Arc::clone(&pipeline), connector, config.smtp.clone());
    let _permit = worker.turn(Priority::Low, seconds(100)).await;
    advance(seconds(155)).await;
    status.turn();
    assert_eq!(health.standstills(), [""; 0]);
    advance(seconds(10)).await;
    assert_eq!(health.standstills(), ["1 of 1 workers have overrun all deadlines of their mail"]);
}
