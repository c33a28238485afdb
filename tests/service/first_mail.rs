//! The way of a mail from a topic to the relay.

use devkit::kafka::Record;
use postlane::event::Priority;

use crate::bed::{Bed, SOON, end};

#[tokio::test]
async fn the_fixtures_arrive_as_mails() {
    let bed = Bed::new().await;
    let fixtures = [
        (Priority::Normal, include_str!("../fixtures/events/seed-password-reset.json")),
        (Priority::Normal, include_str!("../fixtures/events/seed-go-zero-values.json")),
        (Priority::Low, include_str!("../fixtures/events/new-fields.json")),
    ];
    for (lane, fixture) in fixtures {
        bed.publish_records(lane, [Record::new(fixture)]).await;
    }
    let mut service = bed.start();
    bed.smtp.wait_for_mails(3, SOON).await.expect("three mails");
    bed.wait_for_no_lag(&mut service).await;
    assert_eq!(bed.lag_by_kafkas_tool().await, 0);
    let log = end(service).await;
    assert!(bed.dead_letters_now().await.is_empty());

    let ledger = bed.smtp.ledger();
    let by_subject = |subject: &str| {
        ledger
            .accepted()
            .iter()
            .find(|mail| mail.decoded().is_some_and(|decoded| decoded.subject == subject))
            .unwrap_or_else(|| panic!("no mail with the subject {subject}"))
    };
    let reset = by_subject("Password Reset Request");
    assert_eq!(reset.from, "noreply@usualstore.com");
    assert_eq!(reset.recipients, ["user@example.com"]);
    let decoded = reset.decoded().expect("MIME");
    for part in [decoded.text.expect("text"), decoded.html.expect("HTML")] {
        assert!(part.contains("https://usualstore.com/reset?token=abc123"), "{part}");
    }
    let plain = by_subject("Hello").decoded().expect("MIME");
    assert!(plain.text.expect("text").contains("Line two <b>not bold</b>"));
    assert!(plain.html.expect("HTML").contains("&lt;b&gt;not bold"));
    let order = ledger.accepted().iter().find(|mail| mail.recipients.len() == 3).expect("the order");
    assert_eq!(order.recipients, ["cafe@example.com", "copy@example.com", "audit@example.com"]);
    assert_eq!(order.header("X-Campaign").as_deref(), Some("orders"));
    assert!(!String::from_utf8_lossy(&order.raw).contains("audit@example.com"), "bcc stands in no field");

    for address in ["user@example.com", "kunde@example.com", "audit@example.com"] {
        assert!(!log.contains(address), "{address} is not masked in the log");
    }
    for part in ["550e8400-e29b-41d4-a716-446655440000", "order-10042", "u***@example.com", "\"outcome\":\"sent\""] {
        assert!(log.contains(part), "{part} is not in the log:\n{log}");
    }
}
