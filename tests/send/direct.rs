//! `--direct`: one mail to the relay, without Kafka.

use devkit::smtp::{Action, Command, SmtpServer, on};

use crate::bed::{Ended, Program};

async fn direct(server: &SmtpServer, more: &[&str]) -> Ended {
    let mut program = Program::new();
    program.set("SMTP_FINAL_DOT_TIMEOUT", "300ms");
    program.set("SMTP_HOST", "127.0.0.1");
    program.set("SMTP_PORT", server.port());
    program.set("SMTP_ENCRYPTION", "none");
    program.set("MAIL_FROM", "Shop <shop@example.com>");
    let mail = ["send", "--direct", "--to", "ann@example.com", "--template", "welcome", "--data", r#"{"Name":"Ann"}"#];
    program.run(&[&mail, more].concat()).await
}

#[tokio::test]
async fn a_mail_goes_straight_to_the_relay_and_its_reply_is_shown() {
    let server = SmtpServer::builder().start().await;
    let ended = direct(&server, &["--id", "w1"]).await;
    assert!(ended.assert(0).out.starts_with("w1 is with the relay: 250 "), "{}", ended.out);
    let ledger = server.ledger();
    assert_eq!(ledger.accepted().len(), 1);
    assert_eq!(ledger.accepted()[0].decoded().expect("MIME").subject, "Welcome, Ann");
    let object = direct(&server, &["--json"]).await.assert(0).json();
    assert_eq!(object["result"], "sent");
    assert!(object["reply"].as_str().is_some_and(|reply| reply.starts_with("250")), "{object}");
}

#[tokio::test]
async fn the_status_tells_what_the_relay_said() {
    for (action, status) in
        [(Action::reply(550, "5.1.1", "no such user"), 1), (Action::reply(451, "4.2.0", "later"), 75)]
    {
        let server = SmtpServer::builder().rule(on(Command::Rcpt).act(action)).start().await;
        let ended = direct(&server, &[]).await;
        assert_eq!(ended.assert(status).out, "");
        assert!(!ended.err.contains("ann@example.com"), "{}", ended.err);
    }
    // the relay has the mail and says nothing
    let server = SmtpServer::builder().rule(on(Command::Dot).act(Action::silence())).start().await;
    let ended = direct(&server, &["--id", "w7"]).await;
    assert!(ended.assert(76).err.contains("--id w7"), "{}", ended.err);
    assert_eq!(direct(&server, &["--json"]).await.assert(76).json()["result"], "unknown");
    // one of two has it
    let refusal = Action::reply(550, "5.1.1", "no such user");
    let server = SmtpServer::builder().rule(on(Command::Rcpt).recipient("bob@example.com").act(refusal)).start().await;
    let ended = direct(&server, &["--to", "bob@example.com", "--json"]).await;
    assert_eq!(ended.assert(1).json()["result"], "failed");
    assert!(ended.err.contains("1 of 2 recipients have the mail"), "{}", ended.err);

    let mut server = SmtpServer::builder().start().await;
    server.stop().await;
    let ended = direct(&server, &[]).await;
    assert!(ended.assert(75).err.contains("not sent"), "{}", ended.err);
    assert!(!ended.err.contains("tried again"), "nobody tries it again: {}", ended.err);
    let mut program = Program::new();
    program.set("KAFKA_BROKERS", "127.0.0.1:1");
    let ended = program.run(&["send", "--direct", "--to", "a@b.c", "--from", "a@b.c", "--template", "welcome"]).await;
    assert!(ended.assert(78).err.contains("SMTP_HOST is not set"), "{}", ended.err);
}
