//! Commits: when, how far, and what Kafka's own tool makes of them.

use devkit::smtp::{Action, Command, SmtpServer, on};
use postlane::event::Priority;

use crate::{
    bed::{Bed, SOON, end, event},
    watch::{each_once, mails, until},
};

#[tokio::test]
async fn kafkas_tool_describes_the_group_while_it_works_and_its_empty_topics_too() {
    let bed = Bed::with(SmtpServer::builder(), 2).await;
    bed.publish(Priority::High, mails("h", 0..10)).await;
    bed.publish(Priority::Normal, mails("n", 0..10)).await;
    let mut service = bed.start();
    each_once(&bed.smtp, "h", 0..10).await;
    each_once(&bed.smtp, "n", 0..10).await;
    bed.wait_for_no_lag(&mut service).await;
    let described = bed.cluster.group_lag(&bed.names.group).await.expect("the tool");
    assert!(service.exit_status().expect("a state").is_none());
    assert_eq!(described.len(), 6, "the low topic has its start committed: {described:?}");
    for row in &described {
        let expected = if row.topic == bed.names.low { 0 } else { 5 };
        assert_eq!((row.current_offset, row.lag, &row.member_id), (Some(expected), Some(0), &None), "{row:?}");
    }
    end(service).await;
}

#[tokio::test]
async fn commits_come_at_their_interval_and_at_the_end() {
    let mut bed = Bed::new().await;
    bed.set("COMMIT_INTERVAL", "1h");
    bed.publish(Priority::Normal, mails("n", 0..10)).await;
    let mut service = bed.start();
    each_once(&bed.smtp, "n", 0..10).await;
    until("ten outcomes", async || (service.lines_with(&["\"outcome\":\"sent\""]).len() == 10).then_some(())).await;
    assert_eq!(bed.progress_of(Priority::Normal, 0).await.expect("the start").offset, 0);
    service.terminate(SOON).await.expect("it ends");
    assert_eq!(bed.progress_of(Priority::Normal, 0).await.expect("the end").offset, 10);
}

#[tokio::test]
async fn a_commit_never_passes_an_unsettled_record_and_remembers_what_is_settled_beyond() {
    let silent = on(Command::Dot).recipient("held@example.com").act(Action::silence());
    let bed = Bed::with(SmtpServer::builder().rule(silent), 1).await;
    let events = mails("n", 0..5).into_iter().chain([event("held", "held@example.com")]).chain(mails("n", 6..20));
    bed.publish(Priority::Normal, events).await;
    let mut service = bed.start();
    each_once(&bed.smtp, "n", 6..20).await;
    let progress = until("all but one are in the commit", async || {
        let progress = bed.progress_of(Priority::Normal, 0).await?;
        (progress.offset == 5 && (6..20).all(|offset| progress.has_settled(offset))).then_some(progress)
    })
    .await;
    assert!(!progress.metadata.is_empty() && !progress.has_settled(5));
    service.kill().await.expect("killed");

    bed.smtp.clear();
    let mut service = bed.start();
    bed.wait_for_no_lag(&mut service).await;
    assert_eq!(bed.smtp.ledger().deliveries("held@example.com"), 1);
    each_once(&bed.smtp, "n", 0..5).await;
    each_once(&bed.smtp, "n", 6..20).await;
    let progress = bed.progress_of(Priority::Normal, 0).await.expect("a commit");
    assert_eq!((progress.offset, progress.metadata.as_str()), (20, ""));
    end(service).await;
}
