//! The dialog without a script, and what the ledger says of it.

use std::sync::Arc;
use std::time::Duration;

use devkit::smtp::{Command, End, Retention, SmtpServer};
use lettre::message::{MultiPart, header};
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};

use crate::SOON;
use crate::client::Client;

#[tokio::test]
async fn a_pipelined_mail_takes_four_round_trips_and_is_recorded() {
    let server = SmtpServer::builder().transcripts().start().await;
    let mut client = Client::greeted(&server).await;
    assert!(client.mail("one@test", "to@example.org").await.starts_with("250 2.0.0 "));
    assert!(client.ask("QUIT").await.starts_with("221 "));
    assert_eq!(client.rest().await, b"");
    drop(client);
    server.wait_until(|ledger| ledger.open() == 0, SOON).await.expect("closed");

    let ledger = server.ledger();
    assert_eq!(ledger.violations(), &[] as &[String]);
    let [mail] = ledger.accepted() else { panic!("one mail: {:?}", ledger.accepted()) };
    assert_eq!((mail.sequence, mail.connection, mail.code), (1, 1, Some(250)));
    assert_eq!(
        (mail.from.as_str(), mail.recipients.as_slice()),
        ("from@example.org", &["to@example.org".to_owned()][..])
    );
    assert_eq!(mail.message_id(), Some("<one@test>"));
    assert_eq!(mail.header("subject").as_deref(), Some("one@test"));
    assert_eq!(mail.body(), b"Hello.\r\n");
    assert_eq!((mail.group.commands, mail.group.reads), (3, 1));
    assert!(mail.answered());
    // EHLO, the group, the content, QUIT.
    assert_eq!(ledger.round_trips(), 4);
    let session = ledger.session(1).expect("a session");
    assert_eq!((session.round_trips, session.mails, session.end.clone()), (4, 1, Some(End::Quit)));
    assert_eq!(
        session.groups(),
        [
            vec!["EHLO client.test"],
            vec!["MAIL FROM:<from@example.org>", "RCPT TO:<to@example.org>", "DATA"],
            vec!["<53 octets>", "."],
            vec!["QUIT"],
        ]
    );
    assert_eq!(session.verbs(), ["EHLO", "MAIL", "RCPT", "DATA", "<53", ".", "QUIT"]);
    assert_eq!((ledger.count(Command::Rcpt), ledger.count(Command::Noop)), (1, 0));
}

#[tokio::test]
async fn without_pipelining_each_command_is_a_round_trip_and_a_group_is_a_violation() {
    let server = SmtpServer::builder().pipelining(false).start().await;
    let mut client = Client::connect(&server).await;
    client.reply().await;
    assert!(!client.ask("EHLO client.test").await.contains("PIPELINING"));
    for (line, code) in [("MAIL FROM:<a@b.test>", "250"), ("RCPT TO:<c@d.test>", "250"), ("DATA", "354")] {
        assert!(client.ask(line).await.starts_with(code));
    }
    client.content("slow@test").await;
    assert!(client.reply().await.starts_with("250"));
    assert_eq!(server.ledger().accepted()[0].group.commands, 1);
    // EHLO, MAIL, RCPT, DATA, the content.
    assert_eq!(server.ledger().round_trips(), 5);
    assert!(server.ledger().violations().is_empty());

    client.envelope("c@d.test").await;
    assert!(server.ledger().violations()[0].contains("pipelining that was not offered"));
}

#[tokio::test]
async fn commands_out_of_order_are_refused() {
    let server = SmtpServer::builder().start().await;
    let mut client = Client::connect(&server).await;
    client.reply().await;
    assert!(client.ask("MAIL FROM:<a@b.test>").await.starts_with("503 5.5.1"));
    client.ask("HELO client.test").await;
    assert!(client.ask("RCPT TO:<c@d.test>").await.starts_with("503"));
    assert!(client.ask("MAIL FROM:a@b.test").await.starts_with("501"));
    assert!(client.ask("MAIL FROM:<a@b.test>").await.starts_with("250"));
    assert!(client.ask("MAIL FROM:<a@b.test>").await.starts_with("503"));
    assert!(client.ask("DATA").await.starts_with("554 5.5.1"));
    assert!(client.ask("RSET").await.starts_with("250"));
    assert!(client.ask("RCPT TO:<c@d.test>").await.starts_with("503"));
    assert!(client.ask("STARTTLS").await.starts_with("502"));
    assert!(client.ask("AUTH PLAIN AGEAYg==").await.starts_with("502"));
    assert!(client.ask("NONSENSE").await.starts_with("500"));
    assert!(client.ask("NOOP").await.starts_with("250"));
}

#[tokio::test]
async fn dots_are_unstuffed_even_in_pieces() {
    let server = SmtpServer::builder().start().await;
    let mut client = Client::greeted(&server).await;
    client.envelope("to@example.org").await;
    for piece in ["Subject: x\r\n\r\n..", "one\r\n.", ".\r\n...two\r\n\r\n", ".", "\r", "\n"] {
        client.send(piece).await;
    }
    assert!(client.reply().await.starts_with("250"));
    assert_eq!(server.ledger().accepted()[0].body(), b".one\r\n.\r\n..two\r\n\r\n");

    client.envelope("to@example.org").await;
    client.send(".\r\n").await;
    assert!(client.reply().await.starts_with("250"));
    assert_eq!(server.ledger().accepted()[1].size, 0);
}

#[tokio::test]
async fn what_a_client_may_not_send_is_noted() {
    let server = SmtpServer::builder().smtputf8(false).start().await;
    let mut client = Client::greeted(&server).await;
    client
        .send(
            "MAIL FROM: <a@b.test> SMTPUTF8\r\nRCPT TO:<c@d.test>\r\nDATA\r\nSubject: early\r\n\r\n\u{fc}\n.\r\n.\r\n",
        )
        .await;
    for code in ["250", "250", "354"] {
        assert!(client.reply().await.starts_with(code));
    }
    client.send("\r\n.\r\n").await;
    assert!(client.reply().await.starts_with("250"));
    client.ask("MAIL FROM:<\u{fc}@b.test>").await;
    let noted = server.ledger().violations().join("\n");
    for part in [
        "SMTPUTF8, which was not offered",
        "space before a path",
        "Data is not the last",
        "a bare LF in the content",
        "an address beyond ASCII without SMTPUTF8",
    ] {
        assert!(noted.contains(part), "{part} in {noted}");
    }
}

#[tokio::test]
async fn sizes_are_refused_as_announced_and_as_found() {
    let server = SmtpServer::builder().size(Some(20)).start().await;
    let mut client = Client::greeted(&server).await;
    assert!(client.ask("MAIL FROM:<a@b.test> SIZE=21").await.starts_with("552 5.3.4"));
    assert!(client.mail("long@test", "to@example.org").await.starts_with("552 5.3.4"));
    assert_eq!(server.ledger().refused().len(), 1);
    assert_eq!(server.ledger().accepted().len(), 0);
}

#[tokio::test]
async fn lettre_delivers_and_the_mail_can_be_read_and_saved() {
    let folder = std::env::temp_dir().join(format!("devkit-smtp-{}", std::process::id()));
    let server = SmtpServer::builder().save_to(&folder).start().await;
    let mailer = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous("127.0.0.1").port(server.port()).build();
    let message = Message::builder()
        .from("Ann <ann@example.org>".parse().expect("a mailbox"))
        .to("bob@example.org".parse().expect("a mailbox"))
        .subject("Gr\u{fc}\u{df}e")
        .header(header::MIME_VERSION_1_0)
        .multipart(MultiPart::alternative_plain_html(
            "f\u{fc}r dich\n".repeat(30),
            "<p>f\u{fc}r <b>dich</b></p>".to_owned(),
        ))
        .expect("a mail");
    mailer.send(message).await.expect("accepted");
    server.wait_for_mails(1, SOON).await.expect("a mail");

    let decoded = server.ledger().accepted()[0].decoded().expect("a mail that parses");
    assert_eq!(decoded.subject, "Gr\u{fc}\u{df}e");
    assert_eq!(decoded.html.as_deref().map(str::trim_end), Some("<p>f\u{fc}r <b>dich</b></p>"));
    assert!(decoded.text.expect("a text part").starts_with("f\u{fc}r dich"));
    let html = std::fs::read_to_string(folder.join("0001.html")).expect("a saved HTML part");
    assert!(html.starts_with("<p>f\u{fc}r"));
    let eml = std::fs::read(folder.join("0001.eml")).expect("a saved mail");
    assert_eq!(eml, server.ledger().accepted()[0].raw);
    std::fs::remove_dir_all(folder).expect("a folder of ours");
    assert!(server.ledger().violations().is_empty());
}

#[tokio::test]
async fn a_text_mail_has_no_html() {
    let server = SmtpServer::builder().start().await;
    let mut client = Client::greeted(&server).await;
    client.mail("text@test", "to@example.org").await;
    let decoded = server.ledger().accepted()[0].decoded().expect("a mail that parses");
    assert_eq!((decoded.text.as_deref().map(str::trim_end), decoded.html), (Some("Hello."), None));
}

#[tokio::test]
async fn ids_alone_can_be_kept() {
    for (retention, raw) in [(Retention::Ids, 0), (Retention::Headers, 45)] {
        let server = SmtpServer::builder().retention(retention).start().await;
        let mut client = Client::greeted(&server).await;
        client.mail("one@test", "to@example.org").await;
        client.mail("one@test", "to@example.org").await;
        let ledger = server.ledger();
        let mail = &ledger.accepted()[1];
        assert_eq!((mail.message_id(), mail.size, mail.raw.len()), (Some("<one@test>"), 53, raw));
        assert_eq!(ledger.copies("<one@test>"), 2);
        assert_eq!(ledger.duplicates().into_iter().collect::<Vec<_>>(), [("<one@test>", 2)]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_connections_at_once_lose_nothing() {
    let server = Arc::new(SmtpServer::builder().retention(Retention::Ids).start().await);
    let clients: Vec<_> = (0..16)
        .map(|number| {
            let server = Arc::clone(&server);
            tokio::spawn(async move {
                let mut client = Client::greeted(&server).await;
                for mail in 0..100 {
                    client.mail(&format!("{number}.{mail}@test"), "to@example.org").await;
                }
            })
        })
        .collect();
    for client in clients {
        client.await.expect("a client that got its answers");
    }
    let ledger = server.ledger();
    assert_eq!(ledger.accepted().len(), 1600);
    assert!(ledger.duplicates().is_empty());
    assert!(ledger.accepted().iter().map(|mail| mail.sequence).eq(1..=1600));
    assert!((1..=16).contains(&ledger.peak()));
}

#[tokio::test]
async fn a_wait_that_comes_to_nothing_says_what_there_was() {
    let server = SmtpServer::builder().start().await;
    let error = server.wait_for_mails(1, Duration::from_millis(10)).await.expect_err("no mail");
    assert!(error.to_string().contains("0 accepted, 0 refused"), "{error}");
}
