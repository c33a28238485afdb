//! How long the brokers remember, and what else may write where it is remembered.

use std::{sync::Arc, time::Duration};

use devkit::kafka::Cluster;
use postlane::kafka::{
    client::Connector,
    coordinator::{Commit, Coordinator},
};
use tokio::time::sleep;

use crate::letters::{bury, dlq, in_lane, letter, mail, quiet, redrive, sent};

fn coordinator(cluster: &Cluster, group: &str) -> Coordinator {
    Coordinator::new(Connector::plaintext(cluster.bootstrap().split(',').map(str::to_owned).collect()), group)
}

#[tokio::test]
async fn what_somebody_else_has_committed_there_is_no_reason_to_send_all_again() {
    let bed = quiet().await;
    bury(&bed, (0..5).map(|number| letter(&bed, number, &mail(1))).collect()).await;
    let mut group = coordinator(bed.cluster, &format!("{}-redrive", bed.names.group));
    let topic: Arc<str> = bed.names.dead_letters.as_str().into();
    let commit =
        |offset, metadata: &str| [Commit { topic: topic.clone(), partition: 0, offset, metadata: metadata.to_owned() }];
    let settled = group.commit(&commit(2, "somebody's note")).await.expect("committed");
    assert!(settled.iter().all(|it| it.result.is_ok()));
    let (_, said) = dlq(&bed, &["redrive", "--all", "--yes"], 1).await;
    assert!(said.contains("docs/dead-letters.md"), "{said}");
    assert_eq!(in_lane(&bed).await.1.len(), 0);
    // an offset alone is how an operator says up to where letters are done with
    let settled = group.commit(&commit(2, "")).await.expect("committed");
    assert!(settled.iter().all(|it| it.result.is_ok()));
    assert_eq!(sent(&redrive(&bed, &["--all"], 0).await), (3, 3));
}

#[tokio::test]
async fn under_another_groups_name_nothing_goes_a_second_time_without_a_word() {
    let mut bed = quiet().await;
    let own = bed.names.group.clone();
    let of_group = |offset| letter(&bed, offset, &mail(1)).header("kafka_dlt-original-consumer-group", &*own);
    bury(&bed, (0..3).map(of_group).collect()).await;
    assert_eq!(sent(&redrive(&bed, &["0:0"], 0).await), (1, 1));

    let other = format!("{own}-other");
    bed.set("KAFKA_GROUP_ID", &other);
    let names_both = |said: &str| said.contains(&format!("group {own},")) && said.contains(&format!("is {other}."));
    let (out, said) = dlq(&bed, &["list", "--json"], 0).await;
    assert!(out.lines().all(|line| line.contains(r#""sent_back":null"#)) && names_both(&said), "{out} {said}");
    let (page, _) = dlq(&bed, &["show", "0:0"], 0).await;
    assert!(page.contains("not known") && page.contains("--any-group"), "{page}");
    let (_, said) = dlq(&bed, &["redrive", "--all", "--yes"], 1).await;
    assert!(said.contains("3 letters were given up") && names_both(&said) && said.contains("--any-group"), "{said}");
    assert_eq!(in_lane(&bed).await.1.len(), 1, "nothing went");
    // a service whose group was renamed
    assert_eq!(sent(&redrive(&bed, &["--all", "--any-group"], 0).await), (3, 3));
    assert_eq!(sent(&redrive(&bed, &["--all", "--any-group"], 0).await), (0, 0));
}

/// Offsets of a group without members expire after `offsets.retention.minutes`; ours do not.
#[tokio::test]
#[ignore = "takes three minutes"]
async fn the_memory_outlives_the_brokers_own_retention() {
    let cluster = Cluster::builder()
        .property("offsets.retention.minutes", "1")
        .property("offsets.retention.check.interval.ms", "2000")
        .start()
        .await
        .expect("a broker");
    cluster.create_topic("t", 1, &[]).await.expect("a topic");
    let topic: Arc<str> = "t".into();
    let commit = [Commit { topic: topic.clone(), partition: 0, offset: 7, metadata: "m".to_owned() }];
    let (mut usual, mut kept) = (coordinator(&cluster, "usual"), coordinator(&cluster, "kept"));
    usual.commit(&commit).await.expect("committed").into_iter().for_each(|it| it.result.expect("stored"));
    let year = Duration::from_secs(365 * 24 * 3600);
    kept.commit_for(&commit, year).await.expect("committed").into_iter().for_each(|it| it.result.expect("stored"));
    let asked = [(topic, vec![0])];
    let mut waited = 0;
    while usual.committed(&asked).await.expect("an answer")[0].offset.is_some() {
        assert!(waited < 180, "the usual commit does not expire: the test shows nothing");
        sleep(Duration::from_secs(1)).await;
        waited += 1;
    }
    sleep(Duration::from_secs(10)).await;
    let still = kept.committed(&asked).await.expect("an answer");
    assert_eq!((still[0].offset, still[0].metadata.as_str()), (Some(7), "m"));
}
