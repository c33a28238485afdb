//! The whole way: a mail dies, is found, what killed it is repaired, it is sent back, and it arrives.

use std::fs;

use devkit::smtp::{Action, Command, SmtpServer, on};
use postlane::event::Priority;
use serde_json::json;

use crate::{
    bed::{Bed, SOON, end, event_with},
    letters::{dlq, lines, redrive, sent},
};

#[tokio::test]
async fn a_broken_template_is_found_repaired_and_its_mail_arrives_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let own = folder.path().join("greeting");
    fs::create_dir(&own).expect("a folder");
    fs::write(own.join("subject.txt.j2"), "Hello").expect("written");
    fs::write(own.join("text.txt.j2"), "Dear {{ Nmae }},").expect("written");
    let mut bed = Bed::new().await;
    bed.set("TEMPLATES_DIR", folder.path().display());
    let fields = json!({"template": "greeting", "subject": "", "data": {"Name": "Ada"}});
    let service = bed.start();
    bed.publish(Priority::High, [event_with("m1", "ada@example.com", &fields)]).await;
    bed.dead_letters(1).await;
    end(service).await;

    let found = lines(&bed, &["list", "--json"]).await;
    let [letter] = &found[..] else { panic!("not one letter: {found:?}") };
    assert_eq!(letter["reason"], "render-failed");
    assert_eq!(
        (&letter["template"], &letter["id"], &letter["place"]),
        (&json!("greeting"), &json!("m1"), &json!("0:0"))
    );
    assert_eq!(letter["sent_back"], false);
    assert!(!found[0].to_string().contains("ada@"), "addresses are for who asks");
    let (page, _) = dlq(&bed, &["show", "0:0"], 0).await;
    assert!(page.contains("Nmae") && page.contains("\"Name\": \"Ada\"") && page.contains("none: "), "{page}");

    fs::write(own.join("text.txt.j2"), "Dear {{ Name }},").expect("repaired");
    let (page, _) = dlq(&bed, &["show", "0:0"], 0).await;
    assert!(page.contains("Dear Ada,") && page.contains(&bed.names.high), "{page}");
    let (mail, _) = dlq(&bed, &["show", "0:0", "--eml"], 0).await;
    assert!(mail.contains("Subject: Hello\r\n") && mail.contains("Dear Ada,"), "{mail}");

    let (table, said) = dlq(&bed, &["redrive", "--template", "greeting", "--dry-run"], 0).await;
    assert!(table.contains("high lane"), "{table}");
    assert!(said.contains("would go: 1 letter"), "{said}");
    assert_eq!(sent(&redrive(&bed, &["--template", "greeting"], 0).await), (1, 1));
    let service = bed.start();
    bed.smtp.wait_for_mails(1, SOON).await.expect("the mail");
    assert_eq!(sent(&redrive(&bed, &["--template", "greeting"], 0).await), (0, 0), "twice redrives nothing twice");
    assert_eq!(sent(&redrive(&bed, &["--all"], 0).await), (0, 0));
    assert_eq!(lines(&bed, &["list", "--json"]).await[0]["sent_back"], true);
    assert!(lines(&bed, &["list", "--json", "--waiting"]).await.is_empty());
    end(service).await;
    let ledger = bed.smtp.ledger();
    let [mail] = ledger.accepted() else { panic!("not one mail") };
    assert_eq!(mail.message_id(), Some(postlane::compose::message_id("m1", "example.com").as_str()));
}

#[tokio::test]
async fn only_who_was_not_served_gets_a_letter_that_comes_back_and_it_may_die_anew() {
    let refuse = || Action::reply(550, "5.1.1", "no such user");
    let server = SmtpServer::builder().rule(on(Command::Rcpt).recipient("b@example.org").times(2, refuse()));
    let bed = Bed::with(server, 1).await;
    let mut service = bed.start();
    let list = json!({"to": ["a@example.org", "b@example.org"]});
    bed.publish(Priority::Low, [event_with("m1", "", &list)]).await;
    bed.dead_letters(1).await;
    assert_eq!(lines(&bed, &["list", "--json", "--show-addresses"]).await[0]["addresses"], json!(["b@example.org"]));
    let (events, _) = dlq(&bed, &["export", "--events"], 0).await;
    assert!(events.contains(r#""to":["b@example.org"]"#) && !events.contains("a@example.org"), "{events}");

    assert_eq!(sent(&redrive(&bed, &["0:0"], 0).await), (1, 1));
    bed.dead_letters(2).await;
    assert_eq!(sent(&redrive(&bed, &["0:0"], 0).await), (0, 0));
    assert_eq!(sent(&redrive(&bed, &["--all"], 0).await), (1, 1), "a second death is another letter");
    bed.smtp.wait_for_mails(2, SOON).await.expect("both mails");
    bed.wait_for_no_lag(&mut service).await;
    assert_eq!(sent(&redrive(&bed, &["--all"], 0).await), (0, 0));
    end(service).await;
    let ledger = bed.smtp.ledger();
    assert_eq!((ledger.deliveries("a@example.org"), ledger.deliveries("b@example.org")), (1, 1));
}
