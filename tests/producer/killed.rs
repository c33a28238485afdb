//! Kafka killed, or hanging, while an application publishes a thousand mails a second: every call is answered in its time, every mail
//! arrives, and whatever arrives twice was said to be able to.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use devkit::{
    kafka::Cluster,
    service::{Builder, Names, Service},
    smtp::{Retention, SmtpServer},
};
use postlane::{
    Email, Producer, Receipt, SendError,
    producer::{Circuit, Way},
};
use serde_json::json;
use tokio::{
    sync::{Mutex, mpsc},
    time::{Instant, MissedTickBehavior, interval, timeout},
};

use super::fallback::with_relay;

/// Mails a second.
const RATE: u32 = 1000;
/// `PUBLISH_TIMEOUT`.
const TIMEOUT: Duration = Duration::from_secs(2);
/// `PUBLISH_SMTP_TIMEOUT`: enough for a machine that is slower than the rate.
const SMTP_TIMEOUT: Duration = Duration::from_secs(120);
/// How long it is published before Kafka is killed, while it is dead, and after mails go to it again.
const PHASES: [Duration; 3] = [Duration::from_secs(2), Duration::from_secs(5), Duration::from_secs(3)];
/// How long Kafka has to be found again, and the service for what is left.
const PATIENCE: Duration = Duration::from_secs(180);

/// What one call said, and how long it took.
type Call = (Duration, Result<Receipt, SendError>);

/// How Kafka fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failure {
    /// It is killed: what is on the wire is lost with its connection.
    Killed,
    /// It hangs: what is on the wire is stored when it goes on.
    Hanging,
}

impl Failure {
    async fn begin(self, cluster: &Cluster) {
        match self {
            Self::Killed => cluster.kill().await.expect("killed"),
            Self::Hanging => cluster.pause().await.expect("paused"),
        }
    }

    async fn end(self, cluster: &Cluster) {
        match self {
            Self::Killed => cluster.restart().await.expect("started again"),
            Self::Hanging => cluster.resume().expect("it goes on"),
        }
    }
}

/// They take the whole machine, one after the other.
static ALONE: Mutex<()> = Mutex::const_new(());

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_killed_under_a_thousand_publishes_a_second() {
    let _alone = ALONE.lock().await;
    fails(Failure::Killed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_hanging_under_a_thousand_publishes_a_second() {
    let _alone = ALONE.lock().await;
    let twice = fails(Failure::Hanging).await;
    assert!(twice > 0, "what was on the wire went both ways");
}

fn id(number: usize) -> String {
    format!("killed-{number}")
}

/// Everything between an application and the mails.
struct Bed {
    cluster: Arc<Cluster>,
    names: Names,
    smtp: SmtpServer,
    service: Service,
    producer: Producer,
}

impl Bed {
    async fn new() -> Self {
        let cluster = Arc::new(Cluster::builder().start().await.expect("a broker"));
        let names = Names::unique();
        for topic in names.lanes().into_iter().chain([names.dead_letters.as_str()]) {
            cluster.create_topic(topic, 3, &[]).await.expect("a topic");
        }
        let smtp = SmtpServer::builder().retention(Retention::Ids).start().await;
        let service = Builder::new(env!("CARGO_BIN_EXE_postlane"))
            .names(&names)
            .set("KAFKA_BROKERS", cluster.bootstrap())
            .set("SMTP_HOST", "127.0.0.1")
            .set("SMTP_PORT", smtp.port())
            .set("SMTP_ENCRYPTION", "none")
            .set("RUST_LOG", "warn")
            .start()
            .expect("the service starts");
        let producer = Producer::builder()
            .brokers(cluster.bootstrap().split(','))
            .topics(&names.high, &names.normal, &names.low)
            .mail_from("Shop <shop@example.com>")
            .timeout(TIMEOUT)
            .smtp_timeout(SMTP_TIMEOUT);
        let producer = with_relay(producer, &smtp).build().expect("settings");
        producer.ready().await.expect("connected");
        Self { cluster, names, smtp, service, producer }
    }

    /// Publishes at [`RATE`] while Kafka fails and comes back, and until it has been used again for a while.
    async fn publish_through(&self, failure: Failure) -> Vec<Call> {
        let (tell, mut told) = mpsc::unbounded_channel();
        let begun = Instant::now();
        let [before, dead, after] = PHASES;
        let cluster = Arc::clone(&self.cluster);
        let outage = tokio::spawn(async move {
            tokio::time::sleep_until(begun + before).await;
            failure.begin(&cluster).await;
            tokio::time::sleep_until(begun + before + dead).await;
            failure.end(&cluster).await;
        });
        let mut ticks = interval(Duration::from_secs(1) / RATE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let (mut sent, mut back) = (0, None);
        while back.is_none_or(|back: Instant| back.elapsed() < after) {
            ticks.tick().await;
            self.publish(sent, tell.clone());
            sent += 1;
            let stats = self.producer.stats();
            if back.is_none() && outage.is_finished() && stats.circuit == Circuit::Closed {
                back = Some(Instant::now());
            }
            assert!(begun.elapsed() < PATIENCE, "it has not found Kafka again: {stats:?}");
        }
        println!("{failure:?}: {sent} publishes in {:.1?}", begun.elapsed());
        outage.await.expect("no panic");
        drop(tell);
        let mut calls = Vec::with_capacity(sent);
        while let Some(call) = told.recv().await {
            calls.push(call);
        }
        assert_eq!(calls.len(), sent, "every call is answered");
        calls
    }

    fn publish(&self, number: usize, tell: mpsc::UnboundedSender<Call>) {
        let producer = self.producer.clone();
        tokio::spawn(async move {
            let body = json!({ "body": format!("Mail {number}") });
            let email = Email::to("ann@example.com").subject("Hello").template("plain").data(body).id(id(number));
            let begun = Instant::now();
            let outcome = producer.send(email).await;
            tell.send((begun.elapsed(), outcome)).expect("the test waits");
        });
    }

    /// Waits until each of these mails has arrived, and the service has read to the end of its topics.
    async fn wait_for(&self, message_ids: &HashSet<String>) {
        let arrived = async {
            loop {
                let ledger = self.smtp.ledger();
                let arrived: HashSet<&str> = ledger.accepted().iter().filter_map(|mail| mail.message_id()).collect();
                let missing = message_ids.iter().filter(|message_id| !arrived.contains(message_id.as_str())).count();
                if missing == 0 {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        let in_time = timeout(PATIENCE, arrived).await;
        assert!(in_time.is_ok(), "mails are missing:\n{}", self.service.tail());
        let read = async {
            loop {
                let lag = self.cluster.group_lag(&self.names.group).await.unwrap_or_default();
                if !lag.is_empty() && lag.iter().all(|partition| partition.lag == Some(0)) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        };
        timeout(PATIENCE, read).await.expect("the service reads to the end");
    }
}

/// Publishes while Kafka fails and comes back, and accounts for every mail; how many arrived twice.
async fn fails(failure: Failure) -> usize {
    let mut bed = Bed::new().await;
    let calls = bed.publish_through(failure).await;
    let stats = bed.producer.stats();
    bed.producer.close().await;

    let mut times: Vec<Duration> = calls.iter().map(|(took, _)| *took).collect();
    times.sort_unstable();
    let (median, most, last) = (times[times.len() / 2], times[times.len() / 100 * 99], times[times.len() - 1]);
    assert!(last < TIMEOUT + SMTP_TIMEOUT, "{last:?}");
    let mut receipts = BTreeMap::new();
    for (_, outcome) in calls {
        let receipt = outcome.unwrap_or_else(|error| panic!("{error}"));
        receipts.insert(receipt.message_id().expect("the sender is known").to_owned(), receipt);
    }
    assert_eq!(receipts.len(), times.len(), "each has its own Message-ID");

    bed.wait_for(&receipts.keys().cloned().collect()).await;
    let ledger = bed.smtp.ledger();
    let duplicates = ledger.duplicates();
    for (message_id, copies) in &duplicates {
        let receipt = &receipts[*message_id];
        assert!(receipt.twice_possible(), "{copies} copies of {receipt:?}");
    }
    let doubtful = receipts.values().filter(|receipt| receipt.twice_possible()).count();
    let by_smtp = receipts.values().filter(|receipt| matches!(receipt.way(), Way::Smtp { .. })).count();
    println!(
        "{failure:?}: {} by Kafka, {by_smtp} by SMTP; answered after p50 {median:.1?}, p99 {most:.1?}, at the latest {last:.1?}; \
         {doubtful} could come twice, {} did; {stats:?}",
        receipts.len() - by_smtp,
        duplicates.len(),
    );
    assert!(by_smtp > 0 && by_smtp < receipts.len(), "both ways were used");
    let ended = bed.service.terminate(Duration::from_secs(30)).await.expect("it ends");
    assert!(ended.success(), "{ended}:\n{}", bed.service.tail());
    duplicates.len()
}
