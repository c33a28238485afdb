//! `postlane check`: green on what works, a row and an exit status for each thing that does not.

use std::{fs, net::TcpListener};

use devkit::{
    kafka::GroupProtocol,
    smtp::{Action, Command, SmtpServer, on},
};
use postlane::event::Priority;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    bed::{Bed, event},
    watch::odd_cluster,
};

/// What a check found.
pub(crate) struct Checked {
    pub(crate) status: Option<i32>,
    pub(crate) report: Value,
}

impl Checked {
    /// The row with this name, or one that starts so, and with this result; all of its texts in one.
    fn row(&self, name: &str, result: &str) -> String {
        let rows = self.report["checks"].as_array().expect("rows");
        let exact = rows.iter().any(|row| row["check"] == name);
        let of_name = |row: &&Value| {
            let found = row["check"].as_str().expect("a name");
            if exact { found == name } else { found.starts_with(name) }
        };
        let found = rows.iter().filter(of_name).find(|row| row["result"] == result);
        found.unwrap_or_else(|| panic!("no row {name:?} with {result:?} in {:#}", self.report)).to_string()
    }

    pub(crate) fn assert_row(&self, name: &str, result: &str, parts: &[&str]) {
        let row = self.row(name, result);
        for part in parts {
            assert!(row.contains(part), "{part:?} is not in {row}");
        }
    }

    fn failures(&self) -> usize {
        let rows = self.report["checks"].as_array().expect("rows");
        rows.iter().filter(|row| row["result"] == "fail").count()
    }
}

impl Bed {
    pub(crate) async fn check(&self, more: &[&str]) -> Checked {
        let arguments: Vec<&str> = ["check", "--json"].into_iter().chain(more.iter().copied()).collect();
        let (status, stdout, stderr) = self.run(&arguments).await;
        let report = serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}\n{stderr}"));
        Checked { status, report }
    }
}

/// A port on which nobody listens.
fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port()
}

#[tokio::test]
async fn all_is_green_where_all_works_and_no_mail_is_sent() {
    let folder = TempDir::new().expect("a folder");
    let smtp = SmtpServer::builder().starttls().login("mailer", "hunter2").require_auth();
    let mut bed = Bed::with(smtp, 2).await;
    let ca = folder.path().join("ca.pem");
    bed.smtp.write_ca(&ca).expect("written");
    for (name, value) in [
        ("SMTP_HOST", "localhost"),
        ("SMTP_ENCRYPTION", "starttls"),
        ("SMTP_USER", "mailer"),
        ("SMTP_PASSWORD", "hunter2"),
        ("SMTP_CA_FILE", ca.to_str().expect("UTF-8")),
    ] {
        bed.set(name, value);
    }
    bed.publish(Priority::Low, (0..3).map(|number| event(&format!("{number}"), "a@example.com"))).await;
    let checked = bed.check(&["--mail-from"]).await;
    assert_eq!((checked.status, checked.failures()), (Some(0), 0), "{:#}", checked.report);
    checked.assert_row("configuration", "ok", &[]);
    checked.assert_row("templates", "ok", &["password-reset"]);
    checked.assert_row("broker", "ok", &[]);
    for topic in bed.names.lanes() {
        checked.assert_row(&format!("topic {topic}"), "ok", &["2 partitions, 1 replica, readable"]);
    }
    checked.assert_row(&format!("topic {}", bed.names.dead_letters), "ok", &["writable"]);
    checked.assert_row("group", "ok", &["free"]);
    checked.assert_row("lag", "ok", &["3 records to work on: 0 high, 0 normal, 3 low"]);
    checked.assert_row("relay connection", "ok", &["localhost:"]);
    checked.assert_row("relay EHLO", "ok", &["PIPELINING", "8BITMIME", "SIZE 10240000"]);
    checked.assert_row("relay TLS", "ok", &["valid for"]);
    checked.assert_row("relay login", "ok", &["mailer"]);
    checked.assert_row("relay sender", "ok", &["shop@example.com is accepted"]);
    assert!(!checked.report.to_string().contains("hunter2"), "a secret is printed");
    assert!(bed.smtp.ledger().accepted().is_empty());
    assert!(bed.dead_letters_now().await.is_empty());
    assert!(bed.progress().await.is_empty(), "nothing is committed");

    let (status, table, _) = bed.run(&["check"]).await;
    assert_eq!(status, Some(0), "{table}");
    assert!(table.lines().any(|line| line.starts_with("ok    relay login")), "{table}");
    assert!(!table.contains('\x1b'), "no colours for a program");
}

#[tokio::test]
async fn nothing_can_be_reached() {
    let mut bed = Bed::bare(devkit::kafka::shared().await.expect("a broker"), SmtpServer::builder()).await;
    let port = closed_port();
    bed.set("KAFKA_BROKERS", format!("127.0.0.1:{port},broker.invalid:9092"));
    bed.set("SMTP_PORT", port);
    let checked = bed.check(&[]).await;
    assert_eq!((checked.status, checked.failures()), (Some(1), 3), "{:#}", checked.report);
    checked.assert_row("broker 127.0.0.1", "fail", &["cannot connect", "refused", "firewall"]);
    checked.assert_row("broker broker.invalid", "fail", &["broker.invalid does not resolve", "KAFKA_BROKERS"]);
    checked.assert_row("topics", "skip", &[]);
    checked.assert_row("relay connection", "fail", &["refused", "SMTP_PORT"]);
    checked.assert_row("relay EHLO", "skip", &[]);

    bed.set("SMTP_HOST", "relay.invalid");
    bed.set("KAFKA_BROKERS", format!("127.0.0.1:{port},{}", bed.cluster.bootstrap()));
    let checked = bed.check(&[]).await;
    checked.assert_row("relay connection", "fail", &["relay.invalid does not resolve", "SMTP_HOST"]);
    checked.assert_row("cluster", "ok", &[]);
    // one broker of two is enough for the rest, and still a failure
    assert_eq!(checked.status, Some(1));
}

#[tokio::test]
async fn a_port_that_speaks_something_else() {
    let mut bed = Bed::new().await;
    bed.set("KAFKA_BROKERS", format!("127.0.0.1:{}", bed.smtp.port()));
    let checked = bed.check(&[]).await;
    assert_eq!(checked.status, Some(1));
    checked.assert_row("broker", "fail", &["is it a Kafka listener"]);
}

#[tokio::test]
async fn topics_that_are_missing_and_topics_that_lose_mails() {
    let cluster = odd_cluster().await;
    let mut bed = Bed::bare(cluster, SmtpServer::builder()).await;
    let compacted = [("cleanup.policy", "compact,delete"), ("retention.ms", "604800000")];
    cluster.create_topic(&bed.names.high, 1, &compacted).await.expect("a topic");
    let small = [("retention.bytes", "1000000"), ("retention.ms", "3600000"), ("max.message.bytes", "1000")];
    cluster.create_topic(&bed.names.dead_letters, 1, &small).await.expect("a topic");
    let checked = bed.check(&[]).await;
    assert_eq!((checked.status, checked.failures()), (Some(1), 2), "{:#}", checked.report);
    let missing = ["does not exist", "postlane topics create", "KAFKA_CREATE_TOPICS"];
    checked.assert_row(&format!("topic {}", bed.names.low), "fail", &missing);
    checked.assert_row(&format!("topic {}", bed.names.high), "warn", &["is compacted", "cleanup.policy=delete"]);
    for sentence in ["retention.bytes", "for 1h (retention.ms)", "max.message.bytes"] {
        assert!(checked.report.to_string().contains(sentence), "{sentence}: {:#}", checked.report);
    }
    checked.assert_row("offsets", "warn", &["64 bytes", "offset.metadata.max.bytes"]);

    bed.set("KAFKA_CREATE_TOPICS", true);
    let checked = bed.check(&[]).await;
    assert_eq!(checked.status, Some(0), "{:#}", checked.report);
    checked.assert_row(&format!("topic {}", bed.names.low), "ok", &["serve will make it"]);
    bed.set("KAFKA_TOPIC_REPLICATION_FACTOR", 3);
    let checked = bed.check(&[]).await;
    assert_eq!(checked.status, Some(1));
    let refused = ["KAFKA_TOPIC_REPLICATION_FACTOR=3", "the cluster has 1 broker"];
    checked.assert_row(&format!("topic {}", bed.names.low), "fail", &refused);
    for topic in [&bed.names.low, &bed.names.normal] {
        assert!(cluster.partitions(topic).await.expect("an answer").is_empty(), "{topic} was created");
    }
}

#[tokio::test]
async fn a_group_that_another_program_uses() {
    let bed = Bed::new().await;
    for protocol in [GroupProtocol::Classic, GroupProtocol::Consumer] {
        let group = &bed.names.group;
        let foreign = bed.cluster.foreign_consumer(group, &bed.names.dead_letters, protocol).await.expect("a member");
        let checked = bed.check(&[]).await;
        assert_eq!((checked.status, checked.failures()), (Some(1), 1), "{:#}", checked.report);
        checked.assert_row("group", "fail", &["in use by another program", &foreign.client_id, "KAFKA_GROUP_ID"]);
        foreign.leave().await.expect("it leaves");
    }
}

#[tokio::test]
async fn a_relay_that_refuses_the_login_or_the_sender() {
    let refused = on(Command::Mail).reply(550, "5.7.1", "not your address");
    let smtp = SmtpServer::builder().login("mailer", "right").rule(refused);
    let mut bed = Bed::with(smtp, 1).await;
    bed.set("SMTP_USER", "mailer");
    bed.set("SMTP_PASSWORD", "wrong-4711");
    let checked = bed.check(&[]).await;
    assert_eq!((checked.status, checked.failures()), (Some(1), 1), "{:#}", checked.report);
    checked.assert_row("relay login", "fail", &["AUTH failed", "535", "SMTP_PASSWORD"]);
    checked.assert_row("relay EHLO", "ok", &[]);
    assert!(!checked.report.to_string().contains("4711"), "a secret is printed");

    let advice = ["AUTH failed", "try again later"];
    bed.smtp.add_rule(on(Command::Auth).once(Action::reply(454, "4.7.0", "not now")));
    bed.check(&[]).await.assert_row("relay login", "fail", &advice);

    bed.set("SMTP_PASSWORD", "right");
    assert_eq!(bed.check(&[]).await.status, Some(0));
    let checked = bed.check(&["--mail-from"]).await;
    assert_eq!(checked.status, Some(1));
    checked.assert_row("relay sender", "fail", &["550", "to MAIL", "MAIL_FROM"]);
}

#[tokio::test]
async fn a_relay_without_starttls_and_one_with_an_unknown_authority() {
    let mut bed = Bed::new().await;
    bed.set("SMTP_ENCRYPTION", "starttls");
    let checked = bed.check(&[]).await;
    assert_eq!((checked.status, checked.failures()), (Some(1), 1), "{:#}", checked.report);
    checked.assert_row("relay TLS", "fail", &["does not offer it", "SMTP_ENCRYPTION=tls"]);
    checked.assert_row("relay EHLO", "ok", &[]);

    let other = SmtpServer::builder().implicit_tls().start().await;
    bed.set("SMTP_PORT", other.port());
    bed.set("SMTP_ENCRYPTION", "tls");
    let checked = bed.check(&[]).await;
    assert_eq!((checked.status, checked.failures()), (Some(1), 1), "{:#}", checked.report);
    checked.assert_row("relay TLS", "fail", &["SMTP_CA_FILE", "authority"]);
    checked.assert_row("relay EHLO", "skip", &[]);
}

#[tokio::test]
async fn a_relay_that_wants_a_certificate_of_ours() {
    let folder = TempDir::new().expect("a folder");
    for (server, encryption) in
        [(SmtpServer::builder().starttls(), "starttls"), (SmtpServer::builder().implicit_tls(), "tls")]
    {
        let mut bed = Bed::with(server.require_client_certificate(), 1).await;
        let ca = folder.path().join(encryption);
        bed.smtp.write_ca(&ca).expect("written");
        for (name, value) in
            [("SMTP_HOST", "localhost"), ("SMTP_ENCRYPTION", encryption), ("SMTP_CA_FILE", ca.to_str().expect("UTF-8"))]
        {
            bed.set(name, value);
        }
        bed.check(&[]).await.assert_row("relay EHLO", "fail", &["set SMTP_CERTIFICATE_FILE and SMTP_KEY_FILE"]);
    }
}

#[tokio::test]
async fn a_relay_that_takes_smaller_mails_than_we_make() {
    let bed = Bed::with(SmtpServer::builder().size(Some(1_000_000)).pipelining(false), 1).await;
    let checked = bed.check(&[]).await;
    assert_eq!((checked.status, checked.failures()), (Some(0), 0), "{:#}", checked.report);
    checked.assert_row("relay EHLO", "warn", &["SIZE 1000000", "MAIL_MAX_SIZE is 10000000"]);
}

#[tokio::test]
async fn a_wrong_configuration_is_told_as_rows_with_the_status_of_serve() {
    let mut bed = Bed::new().await;
    let folder = TempDir::new().expect("a folder");
    fs::create_dir(folder.path().join("receipt")).expect("a folder");
    fs::write(folder.path().join("receipt/text.txt.j2"), "you paid {{ amount }.").expect("written");
    bed.set("TEMPLATES_DIR", folder.path().display());
    let checked = bed.check(&[]).await;
    assert_eq!(checked.status, Some(78), "{:#}", checked.report);
    checked.assert_row("templates", "fail", &["receipt/text.txt.j2:1"]);
    // the rest is tried all the same
    checked.assert_row("relay connection", "ok", &[]);

    let nothing = folder.path().join("missing.pem");
    bed.set("SMTP_CA_FILE", nothing.display());
    bed.set("SMTP_ENCRYPTION", "tls");
    let checked = bed.check(&[]).await;
    assert_eq!(checked.status, Some(78));
    checked.assert_row("relay", "fail", &["SMTP_CA_FILE", "missing.pem"]);

    bed.set("SMTP_PORT", "smtp");
    bed.set("PRIORITY_WEIGHTS", "6:3");
    let checked = bed.check(&[]).await;
    assert_eq!((checked.status, checked.failures()), (Some(78), 2), "{:#}", checked.report);
    checked.assert_row("SMTP_PORT", "fail", &["smtp", "a port from 1 to 65535"]);
    checked.assert_row("PRIORITY_WEIGHTS", "fail", &["6:3"]);
}
