//! `/readyz` and `/livez`: what is gone is named within ten seconds, and so is its return.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    time::Duration,
};

use devkit::{
    process::Signal,
    smtp::{Command, SmtpServer},
};
use postlane::event::Priority;

use crate::{
    bed::{Bed, SOON, end, event},
    operator::{Operator, PROMISED, healthcheck, healthcheck_with},
    watch::{fragile_cluster, mails},
};

#[tokio::test]
async fn a_relay_that_is_gone_and_comes_back_is_seen() {
    let mut bed = Bed::new().await;
    bed.set("RETRY_MAX_DELAY", "2s");
    let mut service = bed.start();
    let operator = Operator::of(&mut service).await;
    operator.wait_until_ready().await;
    assert_eq!(operator.healthcheck().await, (Some(0), "ready\n".to_owned()));
    bed.smtp.stop().await;
    bed.publish(Priority::Normal, [event("m", "m@example.com")]).await;
    let (reason, took) = operator.wait_for_reason("relay: down since ").await;
    assert!(reason.contains("connecting failed") && took < PROMISED, "{reason} after {took:?}");
    let (code, said) = operator.healthcheck().await;
    assert_eq!(code, Some(1));
    assert!(said.starts_with("not ready: relay: down since ") && said.lines().count() == 1, "{said}");
    operator.assert_live().await;
    bed.smtp.start_again().await.expect("the same port");
    assert!(operator.wait_until_ready().await < PROMISED);
    bed.smtp.wait_for_mails(1, SOON).await.expect("the mail");
    end(service).await;
}

#[tokio::test]
async fn a_broker_that_is_gone_hangs_or_comes_back_is_seen_without_any_traffic() {
    let cluster = fragile_cluster().await;
    let bed = Bed::on(*cluster, SmtpServer::builder(), 2).await;
    let mut service = bed.start();
    let operator = Operator::of(&mut service).await;
    operator.wait_until_ready().await;
    cluster.kill().await.expect("killed");
    let (reason, took) = operator.wait_for_reason("broker: ").await;
    assert!(took < PROMISED, "{reason} after {took:?}");
    operator.assert_live().await;
    cluster.restart().await.expect("started");
    assert!(operator.wait_until_ready().await < PROMISED);
    cluster.pause().await.expect("frozen");
    let (reason, took) = operator.wait_for_reason("broker: ").await;
    assert!(took < PROMISED, "{reason} after {took:?}");
    assert!(reason.contains("no answer") || reason.contains("away"), "{reason}");
    operator.assert_live().await;
    cluster.resume().expect("thawed");
    assert!(operator.wait_until_ready().await < PROMISED);
    end(service).await;
}

#[tokio::test]
async fn a_broker_that_is_away_at_the_start_is_named_at_once() {
    let cluster = fragile_cluster().await;
    let bed = Bed::on(*cluster, SmtpServer::builder(), 1).await;
    cluster.stop().await.expect("stopped");
    let mut service = bed.start();
    let operator = Operator::of(&mut service).await;
    let reasons = operator.reasons().await;
    assert!(reasons[0].starts_with("broker: "), "{reasons:?}");
    operator.assert_live().await;
    cluster.restart().await.expect("started");
    assert!(operator.wait_until_ready().await < PROMISED);
    end(service).await;
}

#[tokio::test]
async fn missing_topics_are_named_until_they_are_there() {
    let cluster = devkit::kafka::shared().await.expect("a broker");
    let bed = Bed::bare(cluster, SmtpServer::builder()).await;
    cluster.create_topic(&bed.names.high, 1, &[]).await.expect("a topic");
    cluster.create_topic(&bed.names.low, 1, &[]).await.expect("a topic");
    let mut service = bed.start();
    let operator = Operator::of(&mut service).await;
    let missing =
        |lane: &str, topic: &str| format!("{lane}: topic {topic} does not exist, or this user may not describe it");
    let wanted = [missing("lane_normal", &bed.names.normal), missing("dead_letters", &bed.names.dead_letters)];
    operator.wait_for("both missing topics", |reasons| reasons == wanted).await;
    let metrics = operator.metrics().await;
    assert_eq!((metrics.value("postlane_ready"), metrics.value("postlane_dead_letters_writable")), (0.0, 0.0));
    cluster.create_topic(&bed.names.normal, 1, &[]).await.expect("a topic");
    let (_, took) = operator.wait_for("one missing topic", |reasons| reasons == &wanted[1..]).await;
    assert!(took < PROMISED, "{took:?}");
    // a letter waits for its topic as well
    bed.publish_records(Priority::Low, [devkit::kafka::Record::new("rubbish")]).await;
    operator.wait_for_metrics("a letter waits", |metrics| metrics.value("postlane_dead_letters_pending") > 0.0).await;
    cluster.create_topic(&bed.names.dead_letters, 1, &[]).await.expect("a topic");
    assert!(operator.wait_until_ready().await < PROMISED);
    assert_eq!(bed.dead_letters(1).await.len(), 1);
    end(service).await;
}

#[tokio::test]
async fn topics_that_are_deleted_are_no_outage_of_the_brokers() {
    let bed = Bed::new().await;
    let mut service = bed.start();
    let operator = Operator::of(&mut service).await;
    operator.wait_until_ready().await;
    let topics = [&bed.names.high, &bed.names.normal, &bed.names.low];
    for topic in topics {
        bed.cluster.delete_topic(topic).await.expect("deleted");
    }
    // long before the next look for topics
    let lanes = |reasons: &[String]| {
        let named = |lane: &str| reasons.iter().any(|reason| reason.starts_with(lane) && reason.contains("not list"));
        reasons.len() == 3 && ["lane_high", "lane_normal", "lane_low"].into_iter().all(named)
    };
    let (_, took) = operator.wait_for("three lanes without topics", lanes).await;
    assert!(took < PROMISED, "{took:?}");
    assert!((operator.metrics().await.value("postlane_broker_up") - 1.0).abs() < f64::EPSILON);
    end(service).await;
}

#[tokio::test]
async fn a_dead_letter_topic_that_is_deleted_is_seen_with_the_next_letter() {
    let bed = Bed::new().await;
    let mut service = bed.start();
    let operator = Operator::of(&mut service).await;
    operator.wait_until_ready().await;
    bed.publish_records(Priority::Low, [devkit::kafka::Record::new("rubbish")]).await;
    bed.wait_for_no_lag(&mut service).await;
    bed.cluster.delete_topic(&bed.names.dead_letters).await.expect("deleted");
    bed.publish_records(Priority::Low, [devkit::kafka::Record::new("more rubbish")]).await;
    let (reason, took) = operator.wait_for_reason("dead_letters: ").await;
    assert!(took < PROMISED && reason.contains(&bed.names.dead_letters), "{reason} after {took:?}");
    bed.cluster.create_topic(&bed.names.dead_letters, 1, &[]).await.expect("a topic");
    assert!(operator.wait_until_ready().await < PROMISED);
    end(service).await;
}

#[tokio::test]
async fn a_shutdown_says_so_while_the_last_mail_is_being_sent() {
    let bed = Bed::new().await;
    bed.smtp.hold(Command::Dot);
    bed.publish(Priority::High, mails("h", 0..1)).await;
    let mut service = bed.start();
    let operator = Operator::of(&mut service).await;
    bed.smtp.wait_until(|ledger| ledger.held() == 1, SOON).await.expect("it waits for its answer");
    // a mail that takes its time is neither a problem nor a standstill
    operator.wait_until_ready().await;
    operator.assert_live().await;
    service.signal(Signal::TERM).expect("a signal");
    let (reasons, took) = operator.wait_for("shutting down", |reasons| !reasons.is_empty()).await;
    assert_eq!(reasons, ["shutting down"]);
    assert!(took < PROMISED);
    operator.assert_live().await;
    bed.smtp.release(Command::Dot);
    let status = service.wait(Duration::from_secs(20)).await.expect("it ends");
    assert!(status.success(), "{status}");
    assert!(TcpStream::connect(operator.0).is_err(), "nobody listens any more");
}

#[tokio::test]
async fn clients_that_hang_hold_nothing_up() {
    let bed = Bed::new().await;
    let mut service = bed.start();
    let operator = Operator::of(&mut service).await;
    let hanging: Vec<TcpStream> = (0..300)
        .map(|_| {
            let mut stream = TcpStream::connect(operator.0).expect("a connection");
            stream.write_all(b"GET /readyz HTTP/1.1\r\nhost:").expect("written");
            stream
        })
        .collect();
    operator.wait_until_ready().await;
    assert_eq!(operator.healthcheck().await.0, Some(0));
    let (one, other) = tokio::join!(operator.get("/metrics"), operator.get("/metrics"));
    assert_eq!((one.0, other.0), (200, 200));
    bed.publish(Priority::Normal, mails("n", 0..3)).await;
    bed.smtp.wait_for_mails(3, SOON).await.expect("mails");
    end(service).await;
    drop(hanging);
}

#[tokio::test]
async fn the_endpoints_can_be_switched_off() {
    let mut bed = Bed::new().await;
    bed.set("HTTP_ADDR", "off");
    bed.publish(Priority::Normal, mails("n", 0..1)).await;
    let service = bed.start();
    bed.smtp.wait_for_mails(1, SOON).await.expect("a mail");
    let log = end(service).await;
    assert!(!log.contains("listening"), "{log}");
}

#[tokio::test]
async fn an_address_that_cannot_be_had_ends_it_before_anything_is_connected() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    for (value, said) in [
        (address.as_str(), format!("HTTP_ADDR={address}: cannot listen there: Address already in use")),
        ("192.0.2.1:8081", "HTTP_ADDR=192.0.2.1:8081: cannot listen there: ".to_owned()),
        ("localhost", "HTTP_ADDR=\"localhost\": expected an IP address and port".to_owned()),
    ] {
        let mut bed = Bed::bare(devkit::kafka::shared().await.expect("a broker"), SmtpServer::builder()).await;
        bed.set("HTTP_ADDR", value);
        let mut service = bed.start();
        let status = service.wait(SOON).await.expect("it ends");
        assert_eq!(status.code(), Some(78), "{}", service.tail());
        assert!(service.log().contains(&said), "{said} not in {}", service.tail());
        assert_eq!(bed.smtp.ledger().opened(), 0);
    }
}

#[test]
fn a_healthcheck_needs_no_service_to_tell_that_there_is_none() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = silent.local_addr().expect("an address").to_string();
    let since = std::time::Instant::now();
    let (code, said) = healthcheck(&address);
    assert_eq!(code, Some(1));
    assert!(said.starts_with(&format!("no answer from {address}: not within 3s")), "{said}");
    assert!(since.elapsed() < Duration::from_secs(5));
    // somebody else listens there
    let other = std::thread::spawn(move || {
        // the first one is the client from above
        let _gone = silent.accept().expect("a client");
        let (mut client, _) = silent.accept().expect("a client");
        client.read_exact(&mut [0; 16]).expect("a question");
        client.write_all(b"SSH-2.0-OpenSSH\r\n").expect("written");
    });
    let (code, said) = healthcheck(&address);
    assert_eq!(code, Some(1));
    assert!(said.starts_with("not ready: the answer was ") || said.starts_with("no answer from "), "{said}");
    other.join().expect("it answered");
    let (code, said) = healthcheck(&address);
    assert_eq!(code, Some(1));
    assert!(said.starts_with(&format!("no answer from {address}: ")), "{said}");
    for (value, beginning) in [("off", "HTTP_ADDR is off"), ("nonsense", "HTTP_ADDR=\"nonsense\": expected")] {
        let (code, said) = healthcheck(value);
        assert_eq!(code, Some(1));
        assert!(said.starts_with(beginning), "{said}");
    }
}

#[test]
fn a_healthcheck_for_a_restart_asks_whether_it_lives() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    // a service whose relay is away
    let server = std::thread::spawn(move || {
        for _ in 0..2 {
            let (mut client, _) = listener.accept().expect("a client");
            let mut question = [0; 11];
            client.read_exact(&mut question).expect("a question");
            let answer = if question.starts_with(b"GET /livez ") {
                "HTTP/1.1 200 OK\r\n\r\n{}"
            } else {
                "HTTP/1.1 503 x\r\n\r\n{\"reasons\":[\"relay: down\"]}"
            };
            client.write_all(answer.as_bytes()).expect("written");
            // what is left unread would reset the connection
            client.shutdown(std::net::Shutdown::Write).expect("shut down");
            while client.read(&mut [0; 256]).is_ok_and(|count| count > 0) {}
        }
    });
    assert_eq!(healthcheck_with(&["--live"], &address), (Some(0), "live\n".to_owned()));
    assert_eq!(healthcheck(&address), (Some(1), "not ready: relay: down\n".to_owned()));
    server.join().expect("it answered");
}
