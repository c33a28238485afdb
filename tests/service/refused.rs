//! Sent and refused: what the relay says for good.

use devkit::smtp::{Action, Command, Key, SmtpServer, on};
use postlane::event::Priority;
use serde_json::json;

use crate::{
    bed::{Bed, SOON, event, event_with},
    found::Found,
};

#[tokio::test]
async fn a_mail_to_several_is_one_transaction_and_its_line_has_the_queue_id() {
    let server = SmtpServer::builder().rule(on(Command::Dot).reply(250, "2.0.0", "Ok: queued as 4Bx7QZ"));
    let bed = Bed::with(server, 1).await;
    let more = json!({"to": ["a@example.org", "b@example.org"], "cc": "c@example.org", "bcc": ["d@example.org"]});
    bed.publish(Priority::High, [event_with("four", "", &more)]).await;
    let found = Found::at_the_end(&bed, bed.start()).await;

    found.assert_no_letters();
    let [mail] = found.ledger.accepted() else { panic!("not one mail: {:?}", found.ledger.accepted()) };
    assert_eq!(mail.recipients, ["a@example.org", "b@example.org", "c@example.org", "d@example.org"]);
    assert_eq!(found.ledger.count(Command::Mail), 1);
    found.assert_sent("four", 1, 0);
    let line = &found.outcomes("four")[0];
    assert_eq!(line["message_id"].as_str(), mail.message_id());
    assert_eq!((line["lane"].as_str(), line["template"].as_str()), (Some("high"), Some("plain")));
    assert_eq!(line["to"], "a***@example.org,b***@example.org,c***@example.org and 1 more");
    assert!(line["reply"].as_str().expect("a reply").contains("queued as 4Bx7QZ"), "{line}");
}

#[tokio::test]
async fn every_2xx_counts_and_bytes_beyond_ascii_in_replies_do_no_harm() {
    let server = SmtpServer::builder()
        .rule(on(Command::Rcpt).recipient("forwarded@example.org").reply(251, "2.1.5", "forwarded"))
        .rule(on(Command::Rcpt).recipient("unverified@example.org").reply(252, "2.1.5", "cannot verify"))
        .rule(on(Command::Rcpt).recipient("refused@example.org").act(Action::raw(b"550 5.1.1 l\xf6schen\r\n".to_vec())))
        .rule(
            on(Command::Dot).recipient("latin@example.org").act(Action::raw(b"250 2.0.0 gr\xfc\xdfe X17\r\n".to_vec())),
        )
        .rule(on(Command::Dot).recipient("lines@example.org").reply(250, "2.0.0", "taken\nas Q18"));
    let bed = Bed::with(server, 1).await;
    let names = ["forwarded", "unverified", "refused", "latin", "lines"];
    bed.publish(Priority::Normal, names.map(|name| event(name, &format!("{name}@example.org")))).await;
    let found = Found::at_the_end(&bed, bed.start()).await;

    for name in ["forwarded", "unverified", "latin", "lines"] {
        found.assert_sent(name, 1, 0);
        found.assert_served_once([format!("{name}@example.org").as_str()]);
    }
    assert!(found.outcomes("latin")[0]["reply"].as_str().expect("a reply").contains("X17"));
    assert!(found.outcomes("lines")[0]["reply"].as_str().expect("a reply").contains("Q18"));
    let letter = found.letter("refused");
    letter.assert_cause("send", "rejected", 1);
    letter.assert_reply("550", "5.1.1");
}

#[tokio::test]
async fn a_refusal_is_a_dead_letter_at_once_with_its_codes() {
    let server = SmtpServer::builder()
        .rule(on(Command::Mail).sender("mail@example.net").reply(553, "5.1.8", "no such sender"))
        .rule(on(Command::Rcpt).recipient("rcpt@example.org").reply(550, "5.1.1", "no such user"))
        .rule(on(Command::Rcpt).recipient("bare@example.org").reply(550, "", "no"))
        .rule(on(Command::Data).recipient("data@example.org").reply(554, "5.7.1", "not you"))
        .rule(on(Command::Dot).recipient("dot@example.org").reply(552, "5.3.4", "too big"))
        // a server that asks for the content although it has refused every recipient
        .rule(on(Command::Rcpt).recipient("empty@example.org").reply(551, "5.1.6", "moved"))
        .rule(on(Command::Data).when(|context| context.sender == Some("empty@example.net")).reply(
            354,
            "",
            "go on all the same",
        ));
    let mut bed = Bed::with(server, 1).await;
    bed.set("RETRY_INITIAL_DELAY", "2s");
    bed.set("RETRY_MAX_DELAY", "2s");
    let names = ["mail", "rcpt", "bare", "data", "dot", "empty"];
    let mail =
        |name: &str| event_with(name, &format!("{name}@example.org"), &json!({"from": format!("{name}@example.net")}));
    bed.publish(Priority::Normal, names.map(mail)).await;
    bed.publish(Priority::Normal, [event("good", "good@example.org")]).await;
    let found = Found::at_the_end(&bed, bed.start()).await;

    assert_eq!(found.letters.len(), names.len());
    for (name, code, enhanced) in [
        ("mail", "553", "5.1.8"),
        ("rcpt", "550", "5.1.1"),
        ("bare", "550", ""),
        ("data", "554", "5.7.1"),
        ("dot", "552", "5.3.4"),
        ("empty", "551", "5.1.6"),
    ] {
        let letter = found.letter(name);
        letter.assert_cause("send", "rejected", 1);
        letter.assert_reply(code, enhanced);
        let mut further = vec!["postlane-smtp-code", "postlane-message-id"];
        if !enhanced.is_empty() {
            further.push("postlane-smtp-enhanced-code");
        }
        letter.assert_headers(&further);
        assert_eq!(letter.header("postlane-message-id").as_deref(), Some(name));
        assert_eq!(letter.header("kafka_dlt-original-topic").as_deref(), Some(bed.topic(Priority::Normal)));
        assert_eq!(letter.header("kafka_dlt-original-consumer-group").as_deref(), Some(bed.names.group.as_str()));
        assert!(letter.header("kafka_dlt-exception-message").expect("a message").contains(code));
    }
    assert_eq!(found.ledger.count(Command::Mail), 7, "no mail is tried twice");
    assert_eq!(found.ledger.accepted().len(), 1);
    found.assert_sent("good", 1, 0);
}

#[tokio::test]
async fn a_partial_refusal_names_the_refused_alone() {
    let server = SmtpServer::builder()
        .rule(on(Command::Rcpt).recipient("no@example.org").reply(550, "5.1.1", "no such user"))
        .rule(on(Command::Rcpt).recipient("later@example.org").per(Key::Recipient).reply(450, "4.2.1", "not now"));
    let bed = Bed::with(server, 1).await;
    let one = json!({"to": ["a@example.org", "no@example.org"], "bcc": "b@example.org"});
    let mixed = json!({"to": ["later@example.org", "c@example.org"], "cc": ["no@example.org"]});
    bed.publish(Priority::Normal, [event_with("one", "", &one), event_with("mixed", "", &mixed)]).await;
    let found = Found::at_the_end(&bed, bed.start()).await;

    found.assert_served_once(["a@example.org", "b@example.org", "c@example.org"]);
    let letter = found.letter("one");
    letter.assert_cause("send", "rejected", 1);
    letter.assert_reply("550", "5.1.1");
    assert_eq!(letter.recipients().as_deref(), Some("1"));
    let letter = found.letter("mixed");
    letter.assert_cause("send", "retries-exhausted", 3);
    letter.assert_reply("450", "4.2.1");
    assert_eq!(letter.recipients().as_deref(), Some("0,2"));
    assert_eq!(found.letters.len(), 2);
    // who asks for the served ones finds the relay's reply
    assert_eq!(found.count_lines("\"served\":\"250 "), 2, "{}", found.log);
}

#[tokio::test]
async fn a_sender_that_the_relay_refuses_for_all_is_the_relays_fault() {
    let server = SmtpServer::builder().rule(on(Command::Mail).reply(550, "5.7.1", "sender rejected: not one of ours"));
    let mut bed = Bed::with(server, 1).await;
    // a suspect waits for the others as long as this
    bed.set("RETRY_INITIAL_DELAY", "30s");
    bed.set("RETRY_MAX_DELAY", "30s");
    let mails: Vec<_> = (0..25).map(|number| event(&format!("m{number}"), &format!("m{number}@example.org"))).collect();
    bed.publish(Priority::Normal, mails).await;
    let mut service = bed.start();
    let line = service.wait_for_line(&["the relay is down"], SOON).await.expect("said");
    assert!(line.contains("20 mails in a row") && line.contains("ERROR"), "{line}");
    service.wait_for_line(&["the relay is still down"], SOON).await.expect("a probe");
    bed.smtp.clear();
    bed.smtp.wait_for_mails(25, SOON).await.expect("all of them");
    let found = Found::at_the_end(&bed, service).await;

    found.assert_no_letters();
    assert!(found.ledger.duplicates().is_empty());
    for number in 0..25 {
        found.assert_sent(&format!("m{number}"), 1, 0);
    }
    assert_eq!(found.count_lines("the relay is down"), 1);
    assert_eq!(found.count_lines("the relay is up again"), 1);
}
