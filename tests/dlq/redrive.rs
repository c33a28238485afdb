//! What is sent back goes as it was, once, and by whomever is first.

use std::time::Duration;

use postlane::dead_letters::{Desk, Options, Redrive, Stop};
use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    bed::event_with,
    letters::{bury, counts, dlq, in_lane, letter, mail, of, quiet, redrive, sent, settings},
};

#[tokio::test]
async fn key_value_and_headers_go_byte_for_byte() {
    let bed = quiet().await;
    let mut written = letter(&bed, 7, &mail(1))
        .key(b"k\xff".to_vec())
        .header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
        .header("postlane-message-id", "kept")
        .header("postlane-recipients", "0");
    written.value = Some(format!("  {}", mail(1)).into_bytes());
    bury(&bed, vec![written.clone()]).await;
    redrive(&bed, &["0:0"], 0).await;
    let (_, records) = in_lane(&bed).await;
    let [back] = &records[..] else { panic!("not one record") };
    assert_eq!((&back.key, &back.value), (&written.key, &written.value));
    let headers = written.headers.iter().map(|(name, value)| (name.clone(), value.clone().expect("a value"))).collect();
    assert_eq!(back.headers, headers);
    let age = chrono::Utc::now() - back.timestamp;
    assert!(age.num_minutes() < 5, "retention would delete it: {age}");
}

#[tokio::test]
async fn a_letter_that_was_written_twice_goes_once() {
    let bed = quiet().await;
    bury(&bed, vec![letter(&bed, 1, &mail(1)), letter(&bed, 2, &mail(2)), letter(&bed, 1, &mail(1))]).await;
    let outcome = redrive(&bed, &["--all"], 0).await;
    assert_eq!(sent(&outcome), (2, 2), "{outcome}");
    // another copy comes late, when its first was sent back already
    bury(&bed, vec![letter(&bed, 2, &mail(2)), letter(&bed, 3, &mail(3))]).await;
    let outcome = redrive(&bed, &["--all"], 0).await;
    assert_eq!(sent(&outcome), (1, 1), "{outcome}");
    assert_eq!(outcome["skipped"], counts(&[("sent-back", 4)]));
    let (copies, _) = in_lane(&bed).await;
    assert_eq!(copies.values().copied().collect::<Vec<_>>(), [1, 1, 1]);

    let outcome = redrive(&bed, &["--all", "--again"], 0).await;
    assert_eq!(sent(&outcome), (3, 3), "again, and still each once: {outcome}");
}

#[tokio::test]
async fn the_oldest_go_first_and_a_limit_goes_on_where_it_was() {
    let bed = quiet().await;
    bury(&bed, (0..10).map(|number| letter(&bed, number, &mail(usize::try_from(number).unwrap_or(0)))).collect()).await;
    redrive(&bed, &["0:8"], 0).await;
    for expected in [4, 4, 1, 0] {
        assert_eq!(sent(&redrive(&bed, &["--all", "--limit", "4"], 0).await).1, expected);
    }
    let (copies, records) = in_lane(&bed).await;
    assert!(copies.len() == 10 && copies.values().all(|count| *count == 1), "{copies:?}");
    let order: Vec<&str> =
        records.iter().filter_map(|it| it.key.as_deref()).filter_map(|it| std::str::from_utf8(it).ok()).collect();
    assert_eq!(order[..3], ["key-8", "key-0", "key-1"]);
}

#[tokio::test]
async fn a_topic_that_was_made_anew_is_not_taken_for_the_old_one() {
    let bed = quiet().await;
    bury(&bed, (0..3).map(|number| letter(&bed, number, &mail(1))).collect()).await;
    assert_eq!(sent(&redrive(&bed, &["--all"], 0).await).1, 3);
    bed.cluster.delete_topic(&bed.names.dead_letters).await.expect("deleted");
    bed.cluster.create_topic(&bed.names.dead_letters, 1, &[]).await.expect("made anew");
    bury(&bed, (10..15).map(|number| letter(&bed, number, &mail(2))).collect()).await;
    assert_eq!(sent(&redrive(&bed, &["--all"], 0).await), (5, 5));
}

#[tokio::test]
async fn what_retention_has_deleted_is_forgotten_and_the_rest_is_not() {
    let bed = quiet().await;
    bury(&bed, (0..10).map(|number| letter(&bed, number, &mail(1))).collect()).await;
    redrive(&bed, &["0:2", "0:6"], 0).await;
    bed.cluster.delete_records(&bed.names.dead_letters, 0, 5).await.expect("deleted");
    let outcome = redrive(&bed, &["--all"], 0).await;
    assert_eq!((sent(&outcome), &outcome["skipped"]), ((4, 4), &counts(&[("sent-back", 1)])));
    let lag = bed.cluster.group_lag(&format!("{}-redrive", bed.names.group)).await.expect("Kafka's own tool");
    assert_eq!(lag.iter().map(|it| it.lag.expect("committed")).sum::<i64>(), 0);
}

#[tokio::test]
async fn a_rate_is_kept() {
    let bed = quiet().await;
    bury(&bed, (0..40).map(|number| letter(&bed, number, &mail(1))).collect()).await;
    let begin = Instant::now();
    redrive(&bed, &["--all", "--rate", "10/s"], 0).await;
    assert!(begin.elapsed() >= Duration::from_secs(3), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn of_two_at_once_one_stops_and_sends_nothing() {
    let bed = quiet().await;
    bury(&bed, (0..60).map(|number| letter(&bed, number, &mail(usize::try_from(number).unwrap_or(0)))).collect()).await;
    let all = ["dlq", "redrive", "--all", "--yes", "--rate", "10/s"];
    let (first, second) = tokio::join!(bed.run(&all), async {
        // when some of them are in the lane, the other one is at work
        bed.cluster.read_until(&bed.names.normal, 1, crate::bed::SOON).await.expect("the first is at work");
        dlq(&bed, &["redrive", "--all", "--yes"], 75).await
    });
    assert_eq!(first.0, Some(0), "{}", first.2);
    assert!(second.1.contains("another redrive is at work") && second.1.contains("process"), "{}", second.1);
    let (copies, _) = in_lane(&bed).await;
    assert!(copies.len() == 60 && copies.values().all(|count| *count == 1), "{copies:?}");
}

#[tokio::test]
async fn a_letter_that_its_lane_refuses_is_told_and_holds_up_no_other() {
    let bed = quiet().await;
    bed.cluster.delete_topic(&bed.names.normal).await.expect("deleted");
    bed.cluster.create_topic(&bed.names.normal, 1, &[("max.message.bytes", "3000")]).await.expect("a topic");
    let noise: Vec<u32> = (1..3000_u32).map(|it| it.wrapping_mul(2_654_435_761)).collect();
    let large = event_with("large", "a@b.c", &json!({"data": {"body": noise}}));
    bury(&bed, vec![letter(&bed, 1, &mail(1)), letter(&bed, 2, &large), letter(&bed, 3, &mail(3))]).await;
    let outcome = redrive(&bed, &["--all"], 1).await;
    assert_eq!((sent(&outcome), &outcome["refused"]), ((3, 2), &json!(1)), "{outcome}");
    assert_eq!(outcome["refusals"][0]["place"], "0:1");
    assert_eq!(sent(&redrive(&bed, &["--all"], 1).await), (1, 0), "it still waits");
}

#[tokio::test]
async fn a_lane_whose_topic_is_missing_is_told_at_once_and_holds_up_no_other() {
    let bed = quiet().await;
    bed.cluster.delete_topic(&bed.names.high).await.expect("deleted");
    let high = |offset| of(&bed.names.high, offset, mail(9).to_string());
    bury(&bed, vec![high(1), letter(&bed, 2, &mail(2)), high(3), letter(&bed, 4, &mail(4))]).await;
    let (page, _) = dlq(&bed, &["show", "0:0"], 0).await;
    assert!(page.contains(&format!("topic {} is missing", bed.names.high)), "{page}");
    let begin = Instant::now();
    let (out, said) = dlq(&bed, &["redrive", "--all", "--yes", "--json"], 1).await;
    assert!(begin.elapsed() < Duration::from_secs(30), "a minute is the patience with brokers that are away");
    let outcome = serde_json::from_str(&out).expect("JSON");
    assert_eq!(sent(&outcome), (2, 2), "{outcome}");
    assert!(said.contains("not sent: 2 letters, their lane's topic is missing"), "{said}");
    bed.cluster.create_topic(&bed.names.high, 1, &[]).await.expect("made");
    assert_eq!(sent(&redrive(&bed, &["--all"], 0).await), (2, 2), "they still wait");
}

#[tokio::test]
async fn of_several_that_start_together_at_most_one_sends() {
    let bed = quiet().await;
    bury(&bed, (0..60).map(|number| letter(&bed, number, &mail(usize::try_from(number).unwrap_or(0)))).collect()).await;
    let all = ["dlq", "redrive", "--all", "--yes", "--rate", "30/s"];
    let ended = futures::future::join_all((0..4).map(|_| bed.run(&all))).await;
    for (code, _, said) in &ended {
        assert!(matches!(code, Some(0 | 75)), "{code:?} {said}");
    }
    // where each has seen the others none may have sent
    let outcome = redrive(&bed, &["--all"], 0).await;
    let (copies, _) = in_lane(&bed).await;
    assert!(copies.len() == 60 && copies.values().all(|count| *count == 1), "{outcome} {copies:?} {ended:?}");
}

#[tokio::test]
async fn who_has_counted_before_another_has_sent_sends_nothing_and_changes_nothing() {
    let bed = quiet().await;
    let some = |numbers: std::ops::Range<i64>| -> Vec<devkit::kafka::Record> {
        numbers.map(|number| letter(&bed, number, &mail(usize::try_from(number).unwrap_or(0)))).collect()
    };
    bury(&bed, some(0..4)).await;
    let desk = Desk::open(&settings(&bed)).await.expect("a topic");
    let mut first = Redrive::open(desk, Options::default()).await.expect("readable");
    assert_eq!(first.plan(|_, _| {}).await.expect("readable").chosen, 4);

    bury(&bed, some(4..8)).await;
    assert_eq!(sent(&redrive(&bed, &["--all"], 0).await), (8, 8));
    let (summary, end) = first.send(&CancellationToken::new(), |_| {}).await;
    assert!(matches!(&end, Stop::Error(error) if error.is_passing()), "{end:?}");
    assert_eq!(summary.sent, 0);
    assert_eq!(sent(&redrive(&bed, &["--all"], 0).await), (0, 0), "all is still remembered");
    let (copies, _) = in_lane(&bed).await;
    assert!(copies.len() == 8 && copies.values().all(|count| *count == 1), "{copies:?}");
}
