//! The lanes' shares of what is sent, the sessions that only the high lane takes, and what both mean for those who wait.

use std::time::Duration;

use devkit::smtp::{Action, Command, Key, Ledger, Retention, SmtpServer, on};
use postlane::event::Priority;
use serde_json::json;

use crate::bed::{Bed, SOON, event, event_with};

/// The contract's window, and how far a share may be off, in sends.
const WINDOW: usize = 1000;
const TOLERANCE: usize = 20;

/// Time for a run of some thousand mails: ample, a machine on its own takes a tenth of it.
const RUN: Duration = Duration::from_secs(180);

fn lane_of(recipient: &str) -> Priority {
    match recipient.split('-').next() {
        Some("high") => Priority::High,
        Some("normal") => Priority::Normal,
        Some("low") => Priority::Low,
        _ => panic!("{recipient} is in no lane"),
    }
}

fn address(lane: Priority, number: usize) -> String {
    format!("{lane}-{number}@example.com")
}

/// The lanes in the order in which the server decided on their mails, deferrals included.
fn attempts(ledger: &Ledger) -> Vec<Priority> {
    let mut mails: Vec<_> = ledger.accepted().iter().chain(ledger.refused()).collect();
    mails.sort_unstable_by_key(|mail| mail.sequence);
    mails.iter().map(|mail| lane_of(&mail.recipients[0])).collect()
}

/// The part in which all of `lanes` had work: from where each was heard of to the last mail of the first to run dry,
/// less those that the sessions had in hand then.
fn while_all_full<'a>(order: &'a [Priority], lanes: &[Priority]) -> &'a [Priority] {
    let heard = |lane: &Priority| order.iter().position(|other| other == lane).expect("each lane has mails");
    let dry = |lane: &Priority| order.iter().rposition(|other| other == lane).expect("each lane has mails");
    let from = lanes.iter().map(heard).max().expect("a lane");
    let to = lanes.iter().map(dry).min().expect("a lane");
    &order[from..to.saturating_sub(16)]
}

/// Every window of 1,000 sends has the shares, within two points.
fn assert_shares(order: &[Priority], shares: &[(Priority, usize)], at_least: usize) {
    assert!(order.len() >= at_least, "only {} sends were made while all lanes were full", order.len());
    let total: usize = shares.iter().map(|(_, weight)| weight).sum();
    for &(lane, weight) in shares {
        let due = (weight * WINDOW + total / 2) / total;
        let counts = order.windows(WINDOW).map(|window| window.iter().filter(|other| **other == lane).count());
        let (least, most) = counts.fold((usize::MAX, 0), |(least, most), count| (least.min(count), most.max(count)));
        assert!(
            least + TOLERANCE >= due && most <= due + TOLERANCE,
            "{lane}: {least} to {most} of {WINDOW} sends, where {due} are due"
        );
    }
}

async fn publish(bed: &Bed, lane: Priority, count: usize) {
    let events = (0..count).map(|number| event(&format!("{lane}-{number}"), &address(lane, number)));
    bed.publish(lane, events).await;
}

/// Fills all lanes so that they run dry at about the same time, and returns the order of the mails.
async fn run_full_lanes(weights: [usize; 3], sends: usize) -> Vec<Priority> {
    let mut bed = Bed::with(SmtpServer::builder().retention(Retention::Headers), 2).await;
    let [high, normal, low] = weights;
    bed.set("PRIORITY_WEIGHTS", format!("{high}:{normal}:{low}"));
    let total: usize = weights.iter().sum();
    let mut mails = 0;
    for (lane, weight) in Priority::ALL.into_iter().zip(weights) {
        let count = sends * weight / total;
        publish(&bed, lane, count).await;
        mails += count;
    }
    let service = bed.start();
    if let Err(error) = bed.smtp.wait_for_mails(mails, RUN).await {
        panic!("{error}\n{}", service.tail());
    }
    attempts(&bed.smtp.ledger())
}

#[tokio::test]
async fn full_lanes_share_by_the_default_weights() {
    let order = run_full_lanes([6, 3, 1], 6000).await;
    let shares = [(Priority::High, 6), (Priority::Normal, 3), (Priority::Low, 1)];
    assert_shares(while_all_full(&order, &Priority::ALL), &shares, 4500);
}

#[tokio::test]
async fn full_lanes_share_by_other_weights() {
    let order = run_full_lanes([2, 2, 1], 6000).await;
    let shares = [(Priority::High, 2), (Priority::Normal, 2), (Priority::Low, 1)];
    assert_shares(while_all_full(&order, &Priority::ALL), &shares, 4500);
}

/// Each low mail is deferred once, so half of the low lane's attempts are retries. Were those sent as soon as they are
/// due, the low lane would get twice its share.
#[tokio::test]
async fn retries_that_are_due_compete_in_their_lane() {
    let smtp = SmtpServer::builder().retention(Retention::Headers).rule(
        on(Command::Dot)
            .recipient_contains("low-")
            .per(Key::Recipient)
            .times(1, Action::reply(451, "4.3.0", "not now")),
    );
    let bed = Bed::with(smtp, 1).await;
    for (lane, count) in [(Priority::High, 3000), (Priority::Normal, 1500), (Priority::Low, 250)] {
        publish(&bed, lane, count).await;
    }
    let service = bed.start();
    if let Err(error) = bed.smtp.wait_for_mails(4750, RUN).await {
        panic!("{error}\n{}", service.tail());
    }
    let ledger = bed.smtp.ledger();
    assert_eq!(ledger.refused().len(), 250);
    let order = attempts(&ledger);
    let shares = [(Priority::High, 6), (Priority::Normal, 3), (Priority::Low, 1)];
    // the last retries wait for their time while the low lane has nothing else to send
    let full = while_all_full(&order, &Priority::ALL);
    assert_shares(&full[..3000.min(full.len())], &shares, 3000);
}

/// An old producer knows the normal topic alone. Against a full low lane its high mails get 6 of 7 sends; as normal ones
/// they would get 3 of 4.
#[tokio::test]
async fn a_high_mail_in_the_normal_topic_goes_in_the_high_lane() {
    let bed = Bed::with(SmtpServer::builder().retention(Retention::Headers), 1).await;
    let events = (0..2400).map(|number| {
        event_with(&format!("high-{number}"), &address(Priority::High, number), &json!({"priority": "High"}))
    });
    bed.publish(Priority::Normal, events).await;
    publish(&bed, Priority::Low, 400).await;
    let service = bed.start();
    if let Err(error) = bed.smtp.wait_for_mails(2800, RUN).await {
        panic!("{error}\n{}", service.tail());
    }
    let order = attempts(&bed.smtp.ledger());
    let lanes = [Priority::High, Priority::Low];
    assert_shares(while_all_full(&order, &lanes), &[(Priority::High, 6), (Priority::Low, 1)], 2000);
    assert_eq!(service.lines_with(&["\"outcome\":\"sent\"", "\"lane\":\"high\""]).len(), 2400);
}

/// The relay never answers the dot of a low mail: those that got a session keep it.
#[tokio::test]
async fn a_high_mail_never_waits_behind_low_ones_that_take_long() {
    let smtp = SmtpServer::builder().rule(on(Command::Dot).recipient_contains("low-").act(Action::silence()));
    let bed = Bed::with(smtp, 1).await;
    publish(&bed, Priority::Low, 100).await;
    let mut service = bed.start();
    let stuck = |ledger: &Ledger| ledger.count(Command::Dot) >= 14;
    bed.smtp.wait_until(stuck, SOON).await.expect("the low lane takes all sessions that are not reserved");

    for number in 0..20 {
        let mail = event(&format!("high-{number}"), &address(Priority::High, number));
        let published = tokio::time::Instant::now();
        bed.publish(Priority::High, [mail]).await;
        bed.smtp.wait_for_mails(number + 1, SOON).await.expect("a high mail gets through");
        // a second is a hundred times what it takes; the low ones would take for ever
        let waited = published.elapsed();
        assert!(waited < Duration::from_secs(1), "high mail {number} took {waited:?}:\n{}", service.tail());
    }
    assert!(service.exit_status().expect("a state").is_none());
    let ledger = bed.smtp.ledger();
    assert_eq!(ledger.count(Command::Dot), 14 + 20, "14 sessions for the low lane, no more and no fewer");
    assert!(ledger.accepted().iter().all(|mail| lane_of(&mail.recipients[0]) == Priority::High));
    assert!(ledger.peak() <= 16);
}

#[tokio::test]
async fn the_high_lane_alone_takes_all_sessions() {
    let bed = Bed::new().await;
    bed.smtp.hold(Command::Dot);
    publish(&bed, Priority::High, 40).await;
    let service = bed.start();
    bed.smtp.wait_until(|ledger| ledger.held() == 16, SOON).await.expect("16 sessions");
    bed.smtp.release(Command::Dot);
    bed.smtp.wait_for_mails(40, SOON).await.expect("all of them");
    assert_eq!(bed.smtp.ledger().peak(), 16);
    crate::bed::end(service).await;
}
