//! Refused for now: what is tried again, for whom, and what that costs.

use std::time::Duration;

use devkit::smtp::{Action, Command, End, Key, SmtpServer, on};
use postlane::event::Priority;
use serde_json::json;

use crate::{
    bed::{Bed, event, event_with},
    found::Found,
};

#[tokio::test]
async fn what_was_deferred_is_tried_again_for_those_alone() {
    let later = || Action::reply(451, "4.3.0", "not now");
    let server = SmtpServer::builder()
        .rule(on(Command::Rcpt).recipient("second@example.org").once(later()))
        .rule(on(Command::Data).recipient("data@example.org").once(later()))
        .rule(on(Command::Dot).recipient("dot@example.org").times(2, later()))
        .rule(on(Command::Dot).recipient("dot421@example.org").once(Action::reply(421, "4.3.2", "going down")));
    let bed = Bed::with(server, 1).await;
    let three = json!({"to": ["first@example.org", "second@example.org", "third@example.org"]});
    bed.publish(Priority::Normal, [event_with("three", "", &three)]).await;
    bed.publish(Priority::Normal, ["data", "dot", "dot421"].map(|name| event(name, &format!("{name}@example.org"))))
        .await;
    let found = Found::at_the_end(&bed, bed.start()).await;

    found.assert_no_letters();
    found.assert_served_once(
        ["first", "second", "third", "data", "dot", "dot421"]
            .map(|n| format!("{n}@example.org"))
            .iter()
            .map(String::as_str),
    );
    found.assert_sent("three", 2, 1);
    assert_eq!(found.ledger.count(Command::Rcpt), 3 + 1 + 2 + 3 + 2);
    let retried: Vec<_> = found.mails_to("second@example.org").collect();
    assert_eq!(retried[0].recipients, ["second@example.org"]);
    let first: Vec<_> = found.mails_to("first@example.org").collect();
    assert_eq!(first[0].message_id(), retried[0].message_id());
    found.assert_sent("data", 2, 1);
    found.assert_sent("dot", 3, 2);
    found.assert_sent("dot421", 2, 1);
    assert!(found.ledger.sessions().any(|session| session.end == Some(End::Server)), "a 421 ends the session");
    assert_eq!(found.count_lines("the relay is down"), 0);
}

#[tokio::test]
async fn a_recipient_that_is_never_served_is_the_only_one_in_the_dead_letter() {
    let server = SmtpServer::builder()
        .rule(on(Command::Rcpt).recipient("never@example.org").reply(450, "4.2.1", "mailbox busy"))
        .rule(on(Command::Dot).recipient("alone@example.org").reply(451, "4.3.0", "try later"));
    let bed = Bed::with(server, 1).await;
    let three = json!({"to": ["a@example.org", "b@example.org"], "cc": "never@example.org"});
    bed.publish(Priority::Low, [event_with("three", "", &three), event("alone", "alone@example.org")]).await;
    let found = Found::at_the_end(&bed, bed.start()).await;

    found.assert_served_once(["a@example.org", "b@example.org"]);
    let letter = found.letter("three");
    letter.assert_cause("send", "retries-exhausted", 3);
    letter.assert_reply("450", "4.2.1");
    assert_eq!(letter.recipients().as_deref(), Some("2"));
    let codes = ["postlane-smtp-code", "postlane-smtp-enhanced-code", "postlane-message-id"];
    letter.assert_headers(&[&codes[..], &["postlane-recipients"]].concat());
    let letter = found.letter("alone");
    letter.assert_cause("send", "retries-exhausted", 3);
    letter.assert_reply("451", "4.3.0");
    letter.assert_headers(&codes);
    assert_eq!(found.ledger.refused().len(), 3);
}

#[tokio::test]
async fn too_many_recipients_are_split_within_one_attempt() {
    let server = SmtpServer::builder()
        .rule(
            on(Command::Rcpt)
                .when(|context| context.sender == Some("old@example.net") && context.recipients.len() >= 3)
                .reply(552, "5.5.3", "too many recipients"),
        )
        .rule(
            on(Command::Rcpt)
                .when(|context| context.sender != Some("old@example.net") && context.recipients.len() >= 2)
                .reply(452, "4.5.3", "too many recipients"),
        );
    let mut bed = Bed::with(server, 1).await;
    bed.set("RETRY_MAX_ATTEMPTS", 1);
    let list = |name: &str, count: usize| -> Vec<String> {
        (0..count).map(|number| format!("{name}{number}@example.org")).collect()
    };
    let (new, old) = (list("new", 5), list("old", 7));
    bed.publish(Priority::Normal, [event_with("new", "", &json!({"to": new}))]).await;
    bed.publish(Priority::Normal, [event_with("old", "", &json!({"to": old, "from": "old@example.net"}))]).await;
    let found = Found::at_the_end(&bed, bed.start()).await;

    found.assert_no_letters();
    found.assert_served_once(new.iter().chain(&old).map(String::as_str));
    found.assert_sent("new", 1, 0);
    found.assert_sent("old", 1, 0);
    let transactions =
        |name: &str| found.ledger.accepted().iter().filter(|mail| mail.recipients[0].starts_with(name)).count();
    assert_eq!((transactions("new"), transactions("old")), (3, 3));
}

#[tokio::test]
async fn a_relay_that_throttles_is_sent_to_more_slowly_and_no_attempt_is_used() {
    let once = |command, name: &str, code, enhanced: &str| {
        on(command).recipient(&format!("{name}@example.org")).per(Key::Recipient).once(Action::reply(
            code,
            enhanced,
            "slow down",
        ))
    };
    let server = SmtpServer::builder()
        .rule(on(Command::Mail).sender("mail@example.net").once(Action::reply(450, "4.7.1", "slow down")))
        .rule(once(Command::Rcpt, "full", 452, "4.3.1"))
        .rule(once(Command::Rcpt, "auth", 454, "4.7.0"))
        .rule(once(Command::Data, "transition", 432, "4.7.12"))
        .rule(once(Command::Dot, "daily", 550, "5.4.5"));
    let mut bed = Bed::with(server, 1).await;
    bed.set("RETRY_MAX_ATTEMPTS", 1);
    let names = ["mail", "full", "auth", "transition", "daily"];
    let mail =
        |name: &str| event_with(name, &format!("{name}@example.org"), &json!({"from": format!("{name}@example.net")}));
    bed.publish(Priority::Normal, names.map(mail)).await;
    let found = Found::at_the_end(&bed, bed.start()).await;

    found.assert_no_letters();
    for name in names {
        found.assert_sent(name, 1, 1);
        found.assert_served_once([format!("{name}@example.org").as_str()]);
    }
    assert!(found.count_lines("the relay throttles: the rate is halved") >= 1);
    let (first, last) = (&found.ledger.accepted()[0], &found.ledger.accepted()[4]);
    let span = last.at.duration_since(first.at);
    assert!(span >= Duration::from_millis(3500), "five mails in {span:?}: not slower:\n{}", found.log);
    assert_eq!(found.count_lines("the relay is down"), 0);
}

#[tokio::test]
async fn the_replies_that_throttle_can_be_configured() {
    let server = SmtpServer::builder()
        .rule(on(Command::Rcpt).recipient("named@example.org").once(Action::reply(551, "5.7.28", "slow down")))
        .rule(on(Command::Dot).recipient("code@example.org").once(Action::reply(447, "", "slow down")))
        .rule(on(Command::Dot).recipient("daily@example.org").once(Action::reply(550, "5.4.5", "limit reached")));
    let mut bed = Bed::with(server, 1).await;
    bed.set("RETRY_MAX_ATTEMPTS", 1);
    bed.set("SMTP_THROTTLE_REPLIES", "447, 5.7.28");
    bed.publish(Priority::Normal, ["named", "code", "daily"].map(|name| event(name, &format!("{name}@example.org"))))
        .await;
    let found = Found::at_the_end(&bed, bed.start()).await;

    found.assert_sent("named", 1, 1);
    found.assert_sent("code", 1, 1);
    found.letter("daily").assert_cause("send", "rejected", 1);
    found.letter("daily").assert_reply("550", "5.4.5");
}
