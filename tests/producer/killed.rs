//! Kafka killed, or hanging, while an application publishes a thousand mails a second: every call is answered in its time, every mail
//! arrives, and whatever arrives twice was said to be able to.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use devkit::{
    kafka::Cluster,
    service::{Builder, Names},
    smtp::{Retention, SmtpServer},
};
use postlane::{
    Email, Producer, Receipt, SendError, compose,
    producer::{Circuit, Way},
};
use serde_json::json;
use tokio::{
    sync::{Mutex, mpsc},
    time::{Instant, MissedTickBehavior, interval},
};

use super::fallback::with_relay;

/// Mails a second.
const RATE: u32 = 1000;
/// `PUBLISH_TIMEOUT`.
const TIMEOUT: Duration = Duration::from_secs(2);
/// `PUBLISH_SMTP_TIMEOUT`.
const SMTP_TIMEOUT: Duration = Duration::from_secs(30);
/// How long it is published before Kafka is killed, while it is dead, and after mails go to it again.
const PHASES: [Duration; 3] = [Duration::from_secs(2), Duration::from_secs(5), Duration::from_secs(3)];
/// How long the service has for what is left.
const PATIENCE: Duration = Duration::from_secs(120);

/// One call: its number, how long it took, what it said.
type Call = (usize, Duration, Result<Receipt, SendError>);

fn publish(producer: &Producer, number: usize, calls: &mpsc::UnboundedSender<Call>) {
    let (producer, calls) = (producer.clone(), calls.clone());
    tokio::spawn(async move {
        let body = json!({ "body": format!("Mail {number}") });
        let email = Email::to("ann@example.com").subject("Hello").template("plain").data(body).id(id(number));
        let begun = Instant::now();
        let outcome = producer.send(email).await;
        calls.send((number, begun.elapsed(), outcome)).expect("the test waits");
    });
}

fn id(number: usize) -> String {
    format!("killed-{number}")
}

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

/// Publishes while Kafka fails and comes back, and accounts for every mail; how many arrived twice.
async fn fails(failure: Failure) -> usize {
    let cluster = Arc::new(Cluster::builder().start().await.expect("a broker"));
    let names = Names::unique();
    for topic in names.lanes().into_iter().chain([names.dead_letters.as_str()]) {
        cluster.create_topic(topic, 3, &[]).await.expect("a topic");
    }
    let smtp = SmtpServer::builder().retention(Retention::Ids).start().await;
    let mut service = Builder::new(env!("CARGO_BIN_EXE_postlane"))
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

    let (tell, mut told) = mpsc::unbounded_channel();
    let begun = Instant::now();
    let [before, dead, after] = PHASES;
    let outage = {
        let cluster = Arc::clone(&cluster);
        tokio::spawn(async move {
            tokio::time::sleep_until(begun + before).await;
            failure.begin(&cluster).await;
            tokio::time::sleep_until(begun + before + dead).await;
            failure.end(&cluster).await;
        })
    };
    let mut ticks = interval(Duration::from_secs(1) / RATE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (mut sent, mut back) = (0, None);
    while back.is_none_or(|back: Instant| back.elapsed() < after) {
        ticks.tick().await;
        publish(&producer, sent, &tell);
        sent += 1;
        if back.is_none() && outage.is_finished() && producer.stats().circuit == Circuit::Closed {
            back = Some(Instant::now());
        }
        assert!(begun.elapsed() < PATIENCE, "it has not found Kafka again: {:?}", producer.stats());
    }
    let published_for = begun.elapsed();
    outage.await.expect("no panic");
    drop(tell);
    let mut calls: Vec<Call> = Vec::with_capacity(sent);
    while let Some(call) = told.recv().await {
        calls.push(call);
    }
    let stats = producer.stats();
    producer.close().await;

    // every call was answered, with a receipt, in its time
    assert_eq!(calls.len(), sent);
    let mut times: Vec<Duration> = calls.iter().map(|(_, took, _)| *took).collect();
    times.sort_unstable();
    let quantile = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    let mut receipts: BTreeMap<String, Receipt> = BTreeMap::new();
    for (number, _, outcome) in calls {
        let receipt = outcome.unwrap_or_else(|error| panic!("mail {number}: {error}"));
        receipts.insert(receipt.id().to_owned(), receipt);
    }
    assert!(*times.last().expect("calls") < TIMEOUT + SMTP_TIMEOUT);

    // the service delivers the rest; nothing is missing
    let message_ids: BTreeMap<String, String> =
        (0..sent).map(|number| (compose::message_id(&id(number), "example.com"), id(number))).collect();
    let deadline = Instant::now() + PATIENCE;
    let missing = loop {
        let ledger = smtp.ledger();
        let arrived: std::collections::HashSet<&str> =
            ledger.accepted().iter().filter_map(|mail| mail.message_id()).collect();
        let missing = message_ids.keys().filter(|message_id| !arrived.contains(message_id.as_str())).count();
        if missing == 0 || Instant::now() >= deadline {
            break missing;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    assert_eq!(missing, 0, "of {sent}:\n{}", service.tail());
    // and goes on to the end of what is in the topics, doubtful copies included
    let lag = async {
        loop {
            let lag = cluster.group_lag(&names.group).await.unwrap_or_default();
            if !lag.is_empty() && lag.iter().all(|partition| partition.lag == Some(0)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    tokio::time::timeout(PATIENCE, lag).await.expect("the service reads to the end");

    // what arrived twice may have, by its receipt
    let ledger = smtp.ledger();
    let duplicates = ledger.duplicates();
    let doubtful = receipts.values().filter(|receipt| receipt.twice_possible()).count();
    let by_smtp = receipts.values().filter(|receipt| matches!(receipt.way(), Way::Smtp { .. })).count();
    for (message_id, copies) in &duplicates {
        let receipt = &receipts[&message_ids[*message_id]];
        assert!(receipt.twice_possible(), "{copies} copies of {receipt:?}");
    }
    println!(
        "{failure:?}: {sent} publishes in {published_for:.1?} ({:.0}/s): {} by Kafka, {by_smtp} by SMTP; answered after p50 {:.1?}, p99 {:.1?}, at the \
         latest {:.1?}; {doubtful} could come twice, {} did; {stats:?}",
        sent as f64 / published_for.as_secs_f64(),
        sent - by_smtp,
        quantile(0.5),
        quantile(0.99),
        quantile(1.0),
        duplicates.len(),
    );
    assert!(by_smtp > 0 && by_smtp < sent, "both ways were used");
    let ended = service.terminate(Duration::from_secs(30)).await.expect("it ends");
    assert!(ended.success(), "{ended}:\n{}", service.tail());
    duplicates.len()
}
