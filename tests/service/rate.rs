//! `SMTP_RATE_LIMIT`, as the relay's own clock sees it.

use std::time::Duration;

use devkit::{
    process::Signal,
    smtp::{Command, Ledger, SmtpServer, on},
};
use postlane::event::Priority;

use crate::{
    bed::{Bed, SOON, event},
    found::Found,
};

/// When the server decided on each mail, in order.
fn arrivals(ledger: &Ledger) -> Vec<tokio::time::Instant> {
    let mut times: Vec<_> = ledger.accepted().iter().map(|mail| mail.at).collect();
    times.sort();
    times
}

/// The shortest time in which one mail more than the limit arrived.
fn shortest(ledger: &Ledger, limit: usize) -> Duration {
    let times = arrivals(ledger);
    times.windows(limit + 1).map(|window| window[limit] - window[0]).min().expect("more mails than the limit")
}

fn mails(prefix: &str, count: usize) -> Vec<serde_json::Value> {
    (0..count).map(|number| event(&format!("{prefix}{number}"), &format!("{prefix}{number}@example.org"))).collect()
}

#[tokio::test]
async fn no_second_sees_more_than_the_limit_over_all_sessions_and_lanes() {
    const LIMIT: usize = 20;
    let mut bed = Bed::with(SmtpServer::builder().latency(Command::Dot, Duration::from_millis(3)), 1).await;
    bed.set("SMTP_RATE_LIMIT", format!("{LIMIT}/s"));
    bed.publish(Priority::Low, mails("low", 60)).await;
    bed.publish(Priority::Normal, mails("normal", 60)).await;
    let service = bed.start();
    bed.smtp.wait_for_mails(30, SOON).await.expect("some of them");
    let before = bed.smtp.ledger().accepted().len();
    bed.publish(Priority::High, mails("high", 3)).await;
    bed.smtp.wait_for_mails(123, SOON).await.unwrap_or_else(|error| panic!("{error}:\n{}", service.tail()));
    let found = Found::at_the_end(&bed, service).await;
    found.assert_no_letters();
    assert!(found.ledger.duplicates().is_empty());

    let shortest = shortest(&found.ledger, LIMIT);
    assert!(shortest >= Duration::from_secs(1), "{} within {shortest:?}", LIMIT + 1);
    let times = arrivals(&found.ledger);
    let took = times[122] - times[0];
    assert!(took < Duration::from_secs(9), "123 mails of 20 a second in {took:?}");

    // three behind a hundred others: fetched within half a second, and then before nearly all of them
    let mut order: Vec<_> = found.ledger.accepted().iter().collect();
    order.sort_by_key(|mail| mail.at);
    let last = order.iter().rposition(|mail| mail.recipients[0].starts_with("high")).expect("the high lane's");
    assert!(last < before + 35, "the last of the high lane is mail {last}, published after {before}");
}

#[tokio::test]
async fn further_transactions_of_a_mail_count_as_well() {
    const LIMIT: usize = 10;
    // one recipient at a time: a mail of four takes four transactions
    let later = on(Command::Rcpt).recipient_contains("r").when(|context| !context.recipients.is_empty()).reply(
        452,
        "4.5.3",
        "too many recipients",
    );
    let mut bed = Bed::with(SmtpServer::builder().rule(later), 1).await;
    bed.set("SMTP_RATE_LIMIT", format!("{LIMIT}/s"));
    let to: Vec<String> = (0..4).map(|number| format!("r{number}@example.org")).collect();
    let events = (0..6).map(|number| {
        let mut event = event(&format!("m{number}"), "");
        event["message"]["to"] = serde_json::json!(to);
        event
    });
    bed.publish(Priority::Normal, events).await;
    let service = bed.start();
    bed.smtp.wait_for_mails(24, SOON).await.unwrap_or_else(|error| panic!("{error}:\n{}", service.tail()));
    let found = Found::at_the_end(&bed, service).await;
    let shortest = shortest(&found.ledger, LIMIT);
    assert!(shortest >= Duration::from_secs(1), "{} within {shortest:?}", LIMIT + 1);
}

#[tokio::test]
async fn a_relay_that_throttles_is_sent_to_at_half_the_limit_at_the_most() {
    let throttle = on(Command::Mail).skip(40).once(devkit::smtp::Action::reply(451, "4.7.1", "slower"));
    let mut bed = Bed::with(SmtpServer::builder().rule(throttle), 1).await;
    bed.set("SMTP_RATE_LIMIT", "20/s");
    bed.publish(Priority::Normal, mails("m", 75)).await;
    let mut service = bed.start();
    let line = service.wait_for_line(&["the relay throttles"], SOON).await.expect("said");
    let fields: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    let rate = fields["mails_per_second"].as_f64().expect("a rate");
    assert!((5.0..=10.0).contains(&rate), "{rate}");
    bed.smtp.wait_for_mails(75, SOON).await.unwrap_or_else(|error| panic!("{error}:\n{}", service.tail()));
    let found = Found::at_the_end(&bed, service).await;
    found.assert_no_letters();
    let times = arrivals(&found.ledger);
    let slow = times[74] - times[44];
    assert!(slow >= Duration::from_secs(2), "thirty mails at half the rate in {slow:?}");
}

#[tokio::test]
async fn a_probe_whose_mail_takes_two_transactions_does_not_lock_the_others_out() {
    // one recipient at a time
    let later = on(Command::Rcpt).when(|context| !context.recipients.is_empty()).reply(452, "4.5.3", "too many");
    let mut bed = Bed::with(SmtpServer::builder().rule(later), 1).await;
    bed.smtp.stop().await;
    // fewer than SMTP_SESSIONS
    bed.set("SMTP_RATE_LIMIT", "10/s");
    let events = (0..40).map(|number| {
        let mut event = event(&format!("m{number}"), "");
        event["message"]["to"] =
            serde_json::json!([format!("a{number}@example.org"), format!("b{number}@example.org")]);
        event
    });
    bed.publish(Priority::Normal, events).await;
    let mut service = bed.start();
    service.wait_for_line(&["the relay is down", "ERROR"], SOON).await.expect("said");
    service.wait_for_line(&["the relay is still down"], SOON).await.expect("said");
    bed.smtp.start_again().await.expect("the same port");
    bed.smtp.wait_for_mails(80, SOON).await.unwrap_or_else(|error| panic!("{error}:\n{}", service.tail()));
}

/// One mail to so many recipients, of which the server takes one at a time.
async fn one_mail_to(recipients: usize) -> Bed {
    let later = on(Command::Rcpt).when(|context| !context.recipients.is_empty()).reply(452, "4.5.3", "too many");
    let mut bed = Bed::with(SmtpServer::builder().rule(later), 1).await;
    bed.set("SHUTDOWN_TIMEOUT", "60s");
    let to: Vec<String> = (0..recipients).map(|number| format!("r{number}@example.org")).collect();
    let mut event = event("m", "");
    event["message"]["to"] = serde_json::json!(to);
    bed.publish(Priority::Normal, [event]).await;
    bed
}

#[tokio::test]
async fn a_mail_that_is_partly_sent_at_sigterm_is_finished_where_the_rate_allows_it() {
    let mut bed = one_mail_to(6).await;
    bed.set("SMTP_RATE_LIMIT", "2/s");
    let service = bed.start();
    bed.smtp.wait_for_mails(1, SOON).await.expect("the first recipient");
    let found = Found::at_the_end(&bed, service).await;
    assert_eq!(found.ledger.accepted().len(), 6);
    assert_eq!(bed.lag().await, 0);
}

#[tokio::test]
async fn a_mail_that_is_partly_sent_at_sigterm_does_not_use_up_the_time_for_the_end() {
    let mut bed = one_mail_to(2).await;
    bed.set("SMTP_RATE_LIMIT", "2/h");
    let mut service = bed.start();
    bed.smtp.wait_for_mails(1, SOON).await.expect("the first recipient");
    service.signal(Signal::TERM).expect("a signal");
    service.wait_for_line(&["accepted for some of its recipients before the shutdown"], SOON).await.expect("said");
    let status = service.wait(Duration::from_secs(30)).await.expect("it ends long before its time is up");
    assert!(status.success(), "{status}: {}", service.tail());
    assert_eq!(bed.lag().await, 1, "unsettled");
}
