//! A mail server, a mailer for it, and messages.

use std::time::Duration;

use devkit::smtp::{self, SmtpServer};
use postlane::{
    config::{Config, from_variables},
    event::{self, Message},
    kafka::Record,
    mailer::{Delivered, Error, Mailer},
    template::Templates,
};
use serde_json::{Value, json};
use tokio::time::Instant;

/// How long a test waits for what must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Bed {
    pub(crate) smtp: SmtpServer,
    pub(crate) mailer: Mailer,
}

impl Bed {
    /// A server that accepts everything, and a mailer with these variables beside the usual ones.
    pub(crate) async fn new(variables: &[(&str, &str)]) -> Self {
        Self::with(SmtpServer::builder(), variables).await
    }

    pub(crate) async fn with(smtp: smtp::Builder, variables: &[(&str, &str)]) -> Self {
        let smtp = smtp.start().await;
        let mailer = mailer(smtp.port(), variables);
        Self { smtp, mailer }
    }

    pub(crate) async fn send(&self, message: &Message) -> Result<Delivered, Error> {
        self.send_within(message, PATIENCE).await
    }

    pub(crate) async fn send_within(&self, message: &Message, time: Duration) -> Result<Delivered, Error> {
        self.mailer.send(message, Instant::now() + time).await
    }
}

fn settings(port: u16, variables: &[(&str, &str)]) -> Config {
    let port = port.to_string();
    let usual = [
        ("KAFKA_BROKERS", "127.0.0.1:1"),
        ("SMTP_HOST", "127.0.0.1"),
        ("SMTP_PORT", port.as_str()),
        ("SMTP_ENCRYPTION", "none"),
        ("MAIL_FROM", "Shop <shop@example.com>"),
    ];
    let all = usual.iter().chain(variables);
    from_variables(all.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))).expect("settings")
}

pub(crate) fn mailer(port: u16, variables: &[(&str, &str)]) -> Mailer {
    let config = settings(port, variables);
    Mailer::new(&config.smtp, &config.mail, Templates::load(None).expect("templates")).expect("no TLS is asked for")
}

/// A mail to one recipient.
pub(crate) fn message(id: &str) -> Message {
    message_with(id, &json!({}))
}

/// The same with more fields of `message`.
pub(crate) fn message_with(id: &str, fields: &Value) -> Message {
    let mut event = json!({"message": {
        "id": id, "to": "user@example.com", "subject": format!("Subject {id}"), "template": "plain", "data": {"body": format!("Body {id}")},
    }});
    let message = event["message"].as_object_mut().expect("an object");
    for (name, value) in fields.as_object().expect("an object") {
        message.insert(name.clone(), value.clone());
    }
    let record = Record {
        topic: "email-queue".into(),
        partition: 0,
        offset: 0,
        timestamp: chrono::Utc::now(),
        arrived: chrono::Utc::now(),
        key: None,
        value: Some(event.to_string().into_bytes()),
        headers: std::collections::BTreeMap::new(),
    };
    event::decode(&record).expect("an event")
}

/// The numbers of the mails in the order in which the server accepted them.
pub(crate) fn order(smtp: &SmtpServer) -> Vec<String> {
    let ledger = smtp.ledger();
    let subjects = ledger.accepted().iter().filter_map(|mail| mail.header("Subject"));
    subjects.map(|subject| subject.trim_start_matches("Subject ").to_owned()).collect()
}
