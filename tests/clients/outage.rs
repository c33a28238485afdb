//! What the programs say when Kafka is away: nothing is called published that was not, and nobody waits without end.

use devkit::kafka::{Cluster, unique};
use futures::future::join_all;

use crate::programs::{self, Ended, Program};

#[tokio::test]
async fn brokers_that_are_away_are_told() {
    let programs = programs::all().await;
    // Nobody listens there: the port is below those that are given out.
    let ended = join_all(programs.iter().map(|program| program.publish("127.0.0.1:1", "mail", "a@example.com"))).await;
    for (program, ended) in programs.iter().zip(ended) {
        is_told(program, &ended);
    }
}

#[tokio::test]
async fn a_lost_replica_and_brokers_that_hang_are_told() {
    let programs = programs::all().await;
    let cluster = Cluster::builder().brokers(2).start().await.expect("brokers");
    let base = unique("mail");
    cluster.create_topic(&format!("{base}-high"), 1, &[("min.insync.replicas", "2")]).await.expect("a topic");
    let publish =
        || join_all(programs.iter().map(|program| program.publish(cluster.bootstrap(), &base, "a@example.com")));
    for (program, ended) in programs.iter().zip(publish().await) {
        assert!(ended.succeeded, "{}: {ended:?}", program.name);
    }

    // From now on only a program that does not wait for all in-sync replicas would be content.
    cluster.node(2).expect("the second broker").kill().await.expect("killed");
    let ended = publish().await;
    for (program, ended) in programs.iter().zip(ended) {
        is_told(program, &ended);
    }

    cluster.node(1).expect("the first broker").pause().await.expect("paused");
    let ended = publish().await;
    for (program, ended) in programs.iter().zip(ended) {
        is_told(program, &ended);
    }
}

fn is_told(program: &Program, ended: &Ended) {
    assert!(!ended.succeeded && ended.stdout.is_empty(), "{}: {ended:?}", program.name);
    let told = ended
        .stderr
        .lines()
        .any(|line| line.starts_with("password-reset-") && line.contains(" is not published, as far as we know: "));
    assert!(told, "{}: {ended:?}", program.name);
}
