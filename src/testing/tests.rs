use serde_json::json;

use super::*;
use crate::{Email, Priority, SendError, producer::Way};

fn reset(address: &str) -> Email {
    Email::to(address).template("password-reset").data(json!({ "Link": "https://example.com/reset?a=1&b=2" }))
}

#[tokio::test]
async fn what_was_sent_is_there_from_all_sides() {
    let (producer, outbox) = builder().mail_from("Shop <shop@example.com>").build();
    assert!(outbox.is_empty() && outbox.last().is_none());
    let email = reset("Ann <Ann@example.com>").bcc("audit@example.com").id("reset-1").priority(Priority::High);
    let receipt = producer.send(email).await.expect("sent");
    assert_eq!((receipt.id(), receipt.way(), receipt.twice_possible()), ("reset-1", &Way::Memory, false));
    producer.send(reset("bob@example.com").subject("Other")).await.expect("sent");
    let event = br#"{"message":{"id":"7","to":"eve@example.com","template":"welcome"}}"#;
    producer.send_event(event.as_slice()).await.expect("sent");

    assert_eq!(outbox.len(), 3);
    assert_eq!(outbox.last().expect("a mail").id(), "7");
    assert_eq!(outbox.to("bob@example.com").len(), 1);
    assert_eq!(outbox.to("AUDIT@example.com").len(), 1, "a blind copy counts");
    assert!(outbox.to("example.com").is_empty());
    let [mail] = outbox.to("ann@example.com").try_into().expect("one mail");
    assert_eq!(mail.recipients(), ["Ann@example.com", "audit@example.com"]);
    assert_eq!((mail.template(), mail.message().priority), ("password-reset", Priority::High));
    assert_eq!(mail.data()["Link"], "https://example.com/reset?a=1&b=2");
    assert!(mail.links().contains(&"https://example.com/reset?a=1&b=2".to_owned()), "{:?}", mail.links());
    assert!(mail.text().expect("a text").contains("https://example.com/reset?a=1&b=2"));
    assert!(mail.html().expect("HTML").contains("https://example.com/reset?a=1&amp;b=2"));
    assert!(!mail.subject().is_empty());
    assert_eq!(outbox.to("bob@example.com")[0].subject(), "Other");
    let id = receipt.message_id().expect("the sender is known");
    let eml = mail.eml();
    assert!(
        eml.contains(&format!("\r\nMessage-ID: {id}\r\n")) && eml.contains("From: Shop <shop@example.com>"),
        "{eml}"
    );
    assert_eq!(mail.record_headers()["priority"], b"high");
    assert_eq!(serde_json::from_slice::<serde_json::Value>(mail.event()).expect("JSON")["message"]["id"], "reset-1");
    assert_eq!(producer.stats().published, 3);

    outbox.clear();
    assert!(outbox.is_empty());
}

#[tokio::test]
async fn a_wrong_mail_is_refused_as_always() {
    let (producer, outbox) = producer();
    let error = producer.send(reset("nobody")).await.expect_err("wrong");
    assert!(matches!(&error, SendError::Invalid(invalid) if invalid.problems()[0].field == "message.to[0]"), "{error}");
    assert!(outbox.is_empty());
    producer.close().await;
    assert!(matches!(producer.send(reset("ann@example.com")).await, Err(SendError::Closed)));
}

#[tokio::test]
async fn mails_are_rendered_when_they_are_sent_where_there_are_templates() {
    let without = Email::to("ann@example.com").template("password-reset");
    let (producer, outbox) = producer();
    producer.send(without.clone()).await.expect("nobody knows the service's templates");
    let error = outbox.emails()[0].render().expect_err("the link is missing");
    assert!(error.to_string().contains("Link"), "{error}");

    let (producer, outbox) = builder().templates(Templates::load(None).expect("sound")).build();
    let error = producer.send(without).await.expect_err("the link is missing");
    assert!(matches!(&error, SendError::Invalid(invalid) if invalid.problems()[0].field == "message.data"), "{error}");
    assert!(outbox.is_empty());
    producer.send(reset("ann@example.com")).await.expect("sent");
}

#[tokio::test]
async fn sends_fail_as_a_test_wants_it() {
    let (producer, outbox) = producer();
    let send = || producer.send(reset("ann@example.com").id("x"));
    outbox.fail_next(Failure::Full);
    assert!(matches!(send().await, Err(SendError::Full)));
    assert!(send().await.is_ok());
    outbox.clear();

    outbox.fail_always(Failure::NotPublished);
    for _ in 0..3 {
        assert!(matches!(send().await, Err(SendError::NotPublished { id, .. }) if id == "x"));
    }
    outbox.fail_next(Failure::Refused);
    assert!(matches!(send().await, Err(SendError::Refused { .. })));
    outbox.fail_always(Failure::Setup);
    assert!(matches!(send().await, Err(SendError::Setup { .. })));
    assert!(outbox.is_empty());
    outbox.recover();
    assert!(send().await.is_ok());

    outbox.fail_next(Failure::OutcomeUnknown);
    assert!(send().await.expect_err("unknown").may_go_out());
    assert_eq!(outbox.len(), 2, "it may have gone out");
}

#[tokio::test(start_paused = true)]
async fn a_mail_from_the_background_can_be_waited_for() {
    let (producer, outbox) = producer();
    let sending = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(1)).await;
        producer.send(reset("ann@example.com")).await.map(drop)
    });
    assert_eq!(outbox.wait_for(1, Duration::from_secs(2)).await.len(), 1);
    sending.await.expect("no panic").expect("sent");
    let waiting = tokio::spawn({
        let outbox = outbox.clone();
        async move { outbox.wait_for(2, Duration::from_secs(1)).await.len() }
    });
    let error = waiting.await.expect_err("there is only one").into_panic();
    assert_eq!(error.downcast_ref::<String>().expect("a text"), "1 mails after 1s, 2 were expected");
}
