//! Signals: what is being sent is finished, what waits stays unsettled, and the end comes in time.

use std::time::{Duration, Instant};

use devkit::{
    kafka::Record,
    process::Signal,
    service::Service,
    smtp::{Action, Command, SmtpServer, on},
};
use postlane::event::Priority;
use tokio::net::TcpListener;

use crate::{
    bed::{Bed, SOON, end, event},
    watch::{each_once, fragile_cluster, line, mails, until},
};

#[tokio::test]
async fn waiting_retries_stay_unsettled_and_are_sent_after_a_restart() {
    let deferred = on(Command::Rcpt).recipient("later@example.com").reply(451, "4.7.1", "greylisted");
    let mut bed = Bed::with(SmtpServer::builder().rule(deferred), 1).await;
    bed.set("RETRY_INITIAL_DELAY", "1h");
    bed.set("RETRY_MAX_DELAY", "1h");
    bed.set("COMMIT_INTERVAL", "1h");
    bed.publish(Priority::Low, mails("l", 0..3).into_iter().chain([event("later", "later@example.com")])).await;
    bed.publish(Priority::Low, mails("l", 4..10)).await;
    let mut service = bed.start();
    each_once(&bed.smtp, "l", 4..10).await;
    line(&mut service, &["\"outcome\":\"deferred\""]).await;
    end(service).await;
    let progress = bed.progress_of(Priority::Low, 0).await.expect("a commit");
    assert_eq!(progress.offset, 3);
    assert!((4..10).all(|offset| progress.has_settled(offset)));

    bed.smtp.clear();
    let mut service = bed.start();
    bed.smtp.wait_for_mails(10, SOON).await.expect("the deferred one");
    end_at_lag_zero(&bed, &mut service).await;
    assert_eq!(bed.smtp.ledger().accepted().len(), 10, "nothing came twice");
    assert_eq!(bed.smtp.ledger().deliveries("later@example.com"), 1);
}

async fn end_at_lag_zero(bed: &Bed, service: &mut Service) {
    assert!(service.terminate(SOON).await.expect("it ends").success(), "{}", service.tail());
    assert_eq!(bed.lag().await, 0);
}

#[tokio::test]
async fn what_is_being_sent_is_finished_at_sigterm_and_sigint_alike() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut bed = Bed::new().await;
        bed.set("SHUTDOWN_TIMEOUT", "60s");
        bed.smtp.hold(Command::Dot);
        bed.publish(Priority::Normal, mails("n", 0..3)).await;
        let mut service = bed.start();
        bed.smtp.wait_until(|ledger| ledger.held() == 3, SOON).await.expect("three mails at their dot");
        service.signal(signal).expect("a signal");
        line(&mut service, &["shutting down"]).await;
        bed.publish(Priority::Normal, mails("n", 3..6)).await;
        bed.smtp.release(Command::Dot);
        let status = service.wait(Duration::from_secs(30)).await.expect("it ends long before its time is up");
        assert!(status.success(), "{status}: {}", service.tail());
        assert_eq!(bed.smtp.ledger().accepted().len(), 3, "nothing new is begun");
        assert_eq!(bed.progress_of(Priority::Normal, 0).await.expect("a commit").offset, 3);
    }
}

#[tokio::test]
async fn sessions_before_their_dot_are_cut_first() {
    let silent = on(Command::Rcpt).recipient("stuck@example.com").act(Action::silence());
    let bed = Bed::with(SmtpServer::builder().rule(silent), 1).await;
    bed.smtp.hold(Command::Dot);
    bed.publish(Priority::Normal, [event("stuck", "stuck@example.com"), event("dot", "dot@example.com")]).await;
    let mut service = bed.start();
    let both = |ledger: &devkit::smtp::Ledger| ledger.held() == 1 && ledger.count(Command::Rcpt) == 2;
    bed.smtp.wait_until(both, SOON).await.expect("one is stuck, one at its dot");
    service.signal(Signal::TERM).expect("a signal");
    bed.smtp.wait_until(|ledger| ledger.open() == 1, SOON).await.expect("the stuck session is cut");
    assert_eq!(bed.smtp.ledger().held(), 1, "the one at its dot is still waited for");
    bed.smtp.release(Command::Dot);
    let status = service.wait(SOON).await.expect("it ends");
    assert!(status.success(), "{status}: {}", service.tail());
    assert_eq!(bed.smtp.ledger().deliveries("dot@example.com"), 1);
    let progress = bed.progress_of(Priority::Normal, 0).await.expect("a commit");
    assert_eq!((progress.offset, progress.has_settled(1)), (0, true), "{}", service.tail());
}

#[tokio::test]
async fn a_second_signal_cuts_at_once() {
    let mut bed = Bed::new().await;
    bed.set("SHUTDOWN_TIMEOUT", "60s");
    bed.smtp.hold(Command::Dot);
    bed.publish(Priority::Normal, mails("n", 0..1)).await;
    let mut service = bed.start();
    bed.smtp.wait_until(|ledger| ledger.held() == 1, SOON).await.expect("a mail at its dot");
    service.signal(Signal::TERM).expect("a signal");
    line(&mut service, &["shutting down"]).await;
    service.signal(Signal::INT).expect("a signal");
    let status = service.wait(Duration::from_secs(5)).await.expect("it ends at once");
    assert_eq!(status.code(), Some(1), "{}", service.tail());
    assert_eq!(bed.progress_of(Priority::Normal, 0).await.expect("the start").offset, 0);
}

/// SIGTERM, and an end with exit status 0 before the time is up.
async fn ends_in_time(service: &mut Service, what: &str) {
    const WITHIN: Duration = Duration::from_secs(3);
    let begun = Instant::now();
    let status = service.terminate(SOON).await.expect("it ends");
    assert!(status.success(), "{what}: {status}\n{}", service.tail());
    assert!(begun.elapsed() < WITHIN + Duration::from_secs(1), "{what}: {:?}\n{}", begun.elapsed(), service.tail());
}

async fn bed() -> Bed {
    let mut bed = Bed::new().await;
    bed.set("SHUTDOWN_TIMEOUT", "3s");
    bed
}

#[tokio::test]
async fn it_ends_in_time_while_the_relay_is_down_or_hangs() {
    let mut down = bed().await;
    down.smtp.stop().await;
    down.publish(Priority::Normal, mails("n", 0..3)).await;
    let mut service = down.start();
    line(&mut service, &["relay", "refused"]).await;
    ends_in_time(&mut service, "a relay that is down").await;

    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    down.set("SMTP_PORT", silent.local_addr().expect("an address").port());
    let mut service = down.start();
    let _connection = silent.accept().await.expect("a session");
    ends_in_time(&mut service, "a relay that never greets").await;
}

#[tokio::test]
async fn it_ends_in_time_while_the_broker_is_away_or_hangs_and_before_anything_exists() {
    let mut away = bed().await;
    let bootstrap = away.cluster.bootstrap().to_owned();
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let closed = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address");
    away.set("KAFKA_BROKERS", closed);
    let mut service = away.start();
    line(&mut service, &["the partitions cannot be determined"]).await;
    ends_in_time(&mut service, "a broker that is away").await;
    away.set("KAFKA_BROKERS", silent.local_addr().expect("an address"));
    let mut service = away.start();
    let _connection = silent.accept().await.expect("a connection");
    ends_in_time(&mut service, "a broker that never answers").await;
    away.set("KAFKA_BROKERS", bootstrap);
    let mut service = away.start();
    line(&mut service, &["postlane starts"]).await;
    ends_in_time(&mut service, "a signal while it starts").await;

    let mut empty = Bed::bare(away.cluster, SmtpServer::builder()).await;
    empty.set("SHUTDOWN_TIMEOUT", "3s");
    let mut service = empty.start();
    line(&mut service, &["does not exist", &empty.names.low]).await;
    ends_in_time(&mut service, "no topic").await;
}

#[tokio::test]
async fn it_ends_in_time_while_dead_letters_cannot_be_written() {
    let bed = bed().await;
    bed.cluster.delete_topic(&bed.names.dead_letters).await.expect("deleted");
    bed.publish_records(Priority::Normal, [Record::new("rubbish")]).await;
    let mut service = bed.start();
    line(&mut service, &["dead letter topic does not exist"]).await;
    ends_in_time(&mut service, "no topic for dead letters").await;
    assert_eq!(bed.progress_of(Priority::Normal, 0).await.expect("the start").offset, 0);
}

#[tokio::test]
async fn it_ends_in_time_while_a_broker_that_worked_hangs() {
    let cluster = fragile_cluster().await;
    let mut bed = Bed::on(*cluster, SmtpServer::builder(), 1).await;
    bed.set("SHUTDOWN_TIMEOUT", "3s");
    bed.publish(Priority::Normal, mails("n", 0..5)).await;
    let mut service = bed.start();
    bed.wait_for_no_lag(&mut service).await;
    bed.smtp.hold(Command::Dot);
    bed.publish(Priority::Normal, mails("n", 5..6)).await;
    bed.smtp.wait_until(|ledger| ledger.held() == 1, SOON).await.expect("a mail at its dot");
    cluster.pause().await.expect("frozen");
    bed.smtp.release(Command::Dot);
    until("the mail is sent", async || (service.lines_with(&["\"outcome\":\"sent\""]).len() == 6).then_some(())).await;
    ends_in_time(&mut service, "a broker that hangs").await;
    line_of_the_lost_commit(&service);
    cluster.resume().expect("thawed");
}

fn line_of_the_lost_commit(service: &Service) {
    assert_eq!(service.lines_with(&["the last commit failed"]).len(), 1, "{}", service.tail());
}
