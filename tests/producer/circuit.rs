//! A Kafka that comes back is found, whatever has become of those who looked for it.

use std::time::Duration;

use devkit::kafka;
use postlane::{
    Producer,
    producer::{Circuit, Way},
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpSocket, TcpStream},
    runtime::Runtime,
    time::{Instant, sleep},
};

use super::common::{lanes, mail};

const PATIENCE: Duration = Duration::from_secs(30);

/// Lets connections to this listener through to a broker.
async fn forward(listener: TcpListener, to: String) {
    while let Ok((mut client, _)) = listener.accept().await {
        let to = to.clone();
        tokio::spawn(async move {
            if let Ok(mut server) = TcpStream::connect(to).await {
                // how it ends is for the two sides to notice
                let _ = copy_bidirectional(&mut client, &mut server).await;
            }
        });
    }
}

#[test]
fn kafka_is_found_again_after_the_runtime_that_looked_for_it_has_ended() {
    let first = Runtime::new().expect("a runtime");
    let (base, broker) = first.block_on(async {
        let cluster = kafka::shared().await.expect("a broker");
        let broker = cluster.bootstrap().split(',').next().expect("a broker").to_owned();
        (lanes(cluster, 1, &[]).await, broker)
    });
    // a port that is ours, and nobody listens yet
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_reuseaddr(true).expect("an option");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a port");
    let address = socket.local_addr().expect("an address").to_string();
    let producer = Producer::builder()
        .brokers([&address])
        .topic(&base)
        .mail_from("Shop <shop@example.com>")
        .timeout(Duration::from_millis(300))
        .build()
        .expect("settings");
    first.block_on(async {
        for number in 0..4 {
            producer.send(mail(&format!("early-{number}"))).await.expect_err("nobody listens");
        }
    });
    assert_eq!(producer.stats().circuit, Circuit::Open);
    drop(first);

    let second = Runtime::new().expect("a runtime");
    second.block_on(async {
        let listener = socket.listen(16).expect("it listens");
        tokio::spawn(forward(listener, broker));
        let deadline = Instant::now() + PATIENCE;
        let receipt = loop {
            match producer.send(mail("late")).await {
                Ok(receipt) => break receipt,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            sleep(Duration::from_millis(20)).await;
        };
        assert!(matches!(receipt.way(), Way::Kafka { .. }), "{receipt:?}");
        assert_eq!(producer.stats().circuit, Circuit::Closed);
        producer.close().await;
    });
}
