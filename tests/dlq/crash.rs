//! A redrive that is ended in the middle: by Ctrl-C nothing is repeated, by kill -9 one portion at the most.

use std::{process::Stdio, time::Duration};

use tokio::{process::Child, time::timeout};

use crate::{
    bed::{Bed, SOON},
    letters::{bury, in_lane, letter, mail, quiet, redrive, sent},
};

const LETTERS: usize = 2000;

async fn buried(count: usize) -> Bed {
    fill(quiet().await, count).await
}

async fn fill(bed: Bed, count: usize) -> Bed {
    let letters = (0..count).map(|number| letter(&bed, i64::try_from(number).unwrap_or(0), &mail(number)));
    for chunk in letters.collect::<Vec<_>>().chunks(500) {
        bury(&bed, chunk.to_vec()).await;
    }
    bed
}

/// A redrive of which so many letters have gone.
async fn under_way(bed: &Bed, rate: &str, gone: usize) -> Child {
    let mut command = bed.command(&["dlq", "redrive", "--all", "--yes", "--rate", rate]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    bed.cluster.read_until(&bed.names.normal, gone, SOON).await.expect("letters that have gone");
    child
}

fn signal(child: &Child, name: &str) {
    let id = child.id().expect("it runs").to_string();
    let sent = std::process::Command::new("kill").args([name, &id]).status().expect("kill");
    assert!(sent.success());
}

#[tokio::test]
async fn ctrl_c_finishes_what_is_on_its_way_and_says_how_much() {
    let bed = buried(300).await;
    let child = under_way(&bed, "20/s", 20).await;
    signal(&child, "-INT");
    let output = timeout(Duration::from_secs(20), child.wait_with_output()).await.expect("in time").expect("output");
    assert_eq!(output.status.code(), Some(130));
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    let (_, gone) = in_lane(&bed).await;
    assert!(said.contains(&format!("sent back {} of 300", gone.len())), "{} have gone: {said}", gone.len());
    assert!(gone.len() < 200, "it went on");
    assert_eq!(sent(&redrive(&bed, &["--all"], 0).await).1, u64::try_from(300 - gone.len()).unwrap_or(0));
    let (copies, _) = in_lane(&bed).await;
    assert!(copies.len() == 300 && copies.values().all(|count| *count == 1), "{copies:?}");
}

#[tokio::test]
async fn kill_9_repeats_one_portion_at_the_most_and_loses_nothing() {
    let bed = buried(LETTERS).await;
    let mut child = under_way(&bed, "1000/s", 300).await;
    signal(&child, "-KILL");
    child.wait().await.expect("it ends");
    let (_, gone) = in_lane(&bed).await;
    assert!(gone.len() < LETTERS, "it was too fast");
    redrive(&bed, &["--all"], 0).await;
    let (copies, all) = in_lane(&bed).await;
    assert_eq!(copies.len(), LETTERS);
    assert!(all.len() <= LETTERS + postlane::dead_letters::PORTION, "{} of {LETTERS}", all.len());
    assert_eq!(sent(&redrive(&bed, &["--all"], 0).await).1, 0);
}

#[tokio::test]
async fn brokers_that_go_and_come_back_lose_nothing_and_repeat_one_portion_at_the_most() {
    let cluster = Box::leak(Box::new(devkit::kafka::Cluster::builder().start().await.expect("a cluster of its own")));
    let bed = fill(Bed::on(cluster, devkit::smtp::SmtpServer::builder(), 1).await, LETTERS).await;
    let child = under_way(&bed, "500/s", 300).await;
    cluster.kill().await.expect("killed");
    cluster.restart().await.expect("started");
    let output = timeout(SOON * 2, child.wait_with_output()).await.expect("in time").expect("output");
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    // the group may be away for longer than a commit is tried: then it says so, and the next one goes on
    if !output.status.success() {
        assert!(matches!(output.status.code(), Some(75 | 76)), "{said}");
        redrive(&bed, &["--all"], 0).await;
    }
    let (copies, all) = in_lane(&bed).await;
    assert_eq!(copies.len(), LETTERS, "{said}");
    assert!(all.len() <= LETTERS + postlane::dead_letters::PORTION, "{} of {LETTERS}: {said}", all.len());
    println!("{} copies too many; {said}", all.len() - LETTERS);
    assert_eq!(sent(&redrive(&bed, &["--all"], 0).await).1, 0);
}
