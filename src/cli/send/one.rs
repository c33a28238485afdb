//! The library's producer: made from the environment and the options, and used for one mail.

use postlane::{
    Producer, mailer,
    producer::{BuildError, Receipt, SendError, Way},
    shutdown::Signals,
};
use serde_json::{Value, json};

use super::{
    arguments::Arguments,
    mail,
    publish::{NotTaken, Publish, Taken},
};
use crate::cli::{
    exit::Exit,
    misconfigured, runtime,
    terminal::{complain, report},
    variables,
};

/// What holds for a file whatever the environment says: a relay is no place for a million mails at once, and how many are on
/// their way is bounded here already.
const FOR_A_FILE: [(&str, &str); 5] = [
    ("KAFKA_ENABLED", "true"),
    ("FALLBACK", "none"),
    ("PUBLISH_WHEN_FULL", "wait"),
    ("PUBLISH_BUFFER_RECORDS", "10000"),
    ("PUBLISH_BUFFER_BYTES", "64MiB"),
];

/// A producer as the options want it.
pub(super) fn producer(arguments: &Arguments) -> Result<Producer, Exit> {
    let mut builder = Producer::builder().variables(variables());
    if arguments.direct {
        builder = builder.variable("KAFKA_ENABLED", "false");
    }
    if arguments.file.path.is_some() {
        for (name, value) in FOR_A_FILE {
            builder = builder.variable(name, value);
        }
    }
    if std::env::var_os("TEMPLATES_DIR").is_some_and(|folder| !folder.is_empty()) {
        builder = builder.variable("PUBLISH_CHECK_TEMPLATES", "true");
    }
    builder.build().map_err(|error| match error {
        BuildError::Config(error) => misconfigured(&error),
        other => {
            complain(format_args!("{:#}", anyhow::Error::new(other)));
            Exit::Config
        }
    })
}

/// Publishes an event, or sends its mail, and says what became of it.
pub(super) fn send(arguments: &Arguments, event: Vec<u8>) -> Result<Exit, Exit> {
    let producer = producer(arguments)?;
    let id = postlane::email::check_event(event.as_slice()).map(|message| message.id).unwrap_or_default();
    runtime::block_on(async {
        let mut signals = Signals::new().map_err(|error| {
            complain(format_args!("signals cannot be handled: {error}"));
            Exit::Failed
        })?;
        let sent = tokio::select! {
            sent = producer.send_event(event) => sent,
            name = signals.next() => {
                complain(format_args!(
                    "{name} before there was an answer: the mail may go out; sent again with --id {id} it is the same one"
                ));
                return Err(if name == "SIGTERM" { Exit::Terminated } else { Exit::Interrupted });
            }
        };
        match sent {
            Ok(receipt) => {
                // QUIT at the relay; nothing is left to wait for
                producer.close().await;
                let text = match (arguments.json, arguments.quiet) {
                    (true, _) => object(&receipt).to_string() + "\n",
                    (false, true) => String::new(),
                    (false, false) => text(&receipt),
                };
                Ok(report(&text, Exit::Done))
            }
            Err(SendError::Invalid(error)) => Err(mail::invalid(&error, arguments.json)),
            Err(error) => {
                let exit = exit(&error);
                if arguments.json {
                    let result = match exit {
                        Exit::Later => "later",
                        Exit::Unknown => "unknown",
                        _ => "failed",
                    };
                    let object = json!({ "result": result, "id": id, "error": error.to_string() });
                    let _ = report(&(object.to_string() + "\n"), exit);
                }
                complain(format_args!("{:#}", anyhow::Error::new(error)));
                if exit == Exit::Unknown {
                    complain(format_args!("sent again with --id {id} it is the same mail"));
                }
                Err(exit)
            }
        }
    })?
}

fn exit(error: &SendError) -> Exit {
    match error {
        SendError::Invalid(_) => Exit::Usage,
        // some have it: the same mail again would be the second one for them
        SendError::Smtp { error, .. } if matches!(**error, mailer::Error::Partly(_)) => Exit::Failed,
        error if error.may_go_out() => Exit::Unknown,
        error if error.is_retriable() => Exit::Later,
        _ => Exit::Failed,
    }
}

fn text(receipt: &Receipt) -> String {
    let id = receipt.id();
    let mut text = match receipt.way() {
        Way::Kafka { topic, partition, offset, .. } => {
            let offset = offset.map(|offset| format!(", offset {offset}")).unwrap_or_default();
            format!("{id} is in {topic}, partition {partition}{offset}\n")
        }
        Way::Smtp { reply, .. } => format!("{id} is with the relay: {reply}\n"),
        other => format!("{id}: {other:?}\n"),
    };
    if receipt.twice_possible() {
        text.push_str("It may be there twice, under one Message-ID: an earlier try had no answer.\n");
    }
    text
}

fn object(receipt: &Receipt) -> Value {
    let mut object = json!({
        "result": "published",
        "id": receipt.id(),
        "message_id": receipt.message_id(),
        "twice_possible": receipt.twice_possible(),
    });
    match receipt.way() {
        Way::Kafka { topic, partition, offset, .. } => {
            object["topic"] = topic.to_string().into();
            object["partition"] = (*partition).into();
            object["offset"] = (*offset).into();
        }
        Way::Smtp { reply, .. } => {
            object["result"] = "sent".into();
            object["reply"] = reply.as_str().into();
        }
        _ => {}
    }
    object
}

impl Publish for Producer {
    async fn publish(&self, event: Vec<u8>) -> Result<Taken, NotTaken> {
        match self.send_event(event).await {
            Ok(receipt) => Ok(Taken { twice_possible: receipt.twice_possible() }),
            Err(SendError::Invalid(error)) => Err(NotTaken::Event(error.to_string())),
            Err(error @ SendError::Refused { .. }) => Err(NotTaken::Event(error.to_string())),
            Err(SendError::NotPublished { why, .. }) => Err(NotTaken::Away { why, unknown: false }),
            Err(SendError::OutcomeUnknown { why, .. }) => Err(NotTaken::Away { why, unknown: true }),
            Err(error) if error.is_retriable() => {
                Err(NotTaken::Away { unknown: error.may_go_out(), why: error.to_string() })
            }
            Err(error) => Err(NotTaken::Setup(error.to_string())),
        }
    }
}
