//! `MAIL_REDIRECT_TO`: one mailbox gets everything, and nobody else anything.

use devkit::{
    kafka::Record,
    smtp::{Action, Command, SmtpServer, on},
};
use postlane::event::Priority;
use serde_json::json;

use crate::bed::{Bed, SOON, end, event, event_with};

#[tokio::test]
async fn every_mail_goes_to_one_mailbox_alone() {
    let mut bed = Bed::new().await;
    bed.set("MAIL_REDIRECT_TO", "Staging <staging@example.net>");
    let many = json!({
        "to": ["Ann <ann@example.com>", "bob@example.com"], "cc": "copy@example.com", "bcc": ["audit@example.com"],
    });
    bed.publish(Priority::Normal, [event("one", "user@example.com"), event_with("many", "", &many)]).await;
    let back = Record::new(event_with("back", "", &many).to_string());
    let back = back.header("postlane-stage", "send").header("postlane-recipients", "1,3");
    bed.publish_records(Priority::High, [back]).await;

    let mut service = bed.start();
    service.wait_for_line(&["\"WARN\"", "every mail goes to s***@example.net alone"], SOON).await.expect("a warning");
    bed.smtp.wait_for_mails(3, SOON).await.expect("three mails");
    bed.wait_for_no_lag(&mut service).await;
    end(service).await;
    assert!(bed.dead_letters_now().await.is_empty());

    let ledger = bed.smtp.ledger();
    for mail in ledger.accepted() {
        assert_eq!(mail.recipients, ["staging@example.net"]);
        assert_eq!(mail.header("To").as_deref(), Some("Staging <staging@example.net>"));
        assert_eq!(mail.header("Cc"), None);
    }
    let of = |subject: &str| {
        let mail = ledger.accepted().iter().find(|mail| mail.header("Subject").as_deref() == Some(subject));
        let mail = mail.unwrap_or_else(|| panic!("no mail {subject:?}"));
        ["X-Postlane-To", "X-Postlane-Cc", "X-Postlane-Bcc"].map(|name| mail.header(name).unwrap_or_default())
    };
    assert_eq!(of("Subject one"), ["user@example.com", "", ""]);
    assert_eq!(of("Subject many"), ["Ann <ann@example.com>, bob@example.com", "copy@example.com", "audit@example.com"]);
    assert_eq!(of("Subject back"), ["bob@example.com", "", "audit@example.com"]);
}

#[tokio::test]
async fn a_redirected_mail_that_is_refused_is_a_letter_to_its_recipients_still() {
    let refused = Action::reply(550, "5.1.1", "no such user");
    let server = SmtpServer::builder().rule(on(Command::Rcpt).recipient("staging@example.net").act(refused));
    let mut bed = Bed::with(server, 1).await;
    bed.set("MAIL_REDIRECT_TO", "staging@example.net");
    let many = json!({"to": ["ann@example.com", "bob@example.com", "carl@example.com"]});
    let back = Record::new(event_with("back", "", &many).to_string());
    let back = back.header("postlane-stage", "send").header("postlane-recipients", "0,2");
    bed.publish_records(Priority::High, [back]).await;
    let service = bed.start();
    let letters = bed.dead_letters(1).await;
    end(service).await;
    assert_eq!(letters[0].headers.get("postlane-recipients").map(Vec::as_slice), Some(&b"0,2"[..]));
}

#[tokio::test]
async fn check_and_config_show_it() {
    let mut bed = Bed::new().await;
    bed.set("MAIL_REDIRECT_TO", "staging@example.net");
    let checked = bed.check(&[]).await;
    checked.assert_row("recipients", "warn", &["s***@example.net alone"]);
    assert_eq!(checked.status, Some(0));
    let (_, stdout, _) = bed.run(&["config"]).await;
    assert!(stdout.contains("MAIL_REDIRECT_TO=staging@example.net\n"), "{stdout}");
}
