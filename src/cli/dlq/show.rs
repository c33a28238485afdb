//! `postlane dlq show`: letters whole.

mod mail;
mod text;

use clap::Args;
use postlane::{
    config::Kafka,
    dead_letters::{self, Desk, Error, Found, Letter, Marks, Place},
};
use serde_json::{Value, json};

use self::mail::Kitchen;
use super::{
    marks,
    out::{Closed, Out},
    view::View,
};
use crate::cli::{exit::Exit, terminal::complain};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  postlane dlq show 0:1742
  # the mail as it would go out now, in a mail reader
  postlane dlq show 0:1742 --eml > mail.eml
  postlane dlq show 0:1742 --raw | jq .message.data")]
pub(in crate::cli) struct Arguments {
    /// The letters, by partition and offset in the dead letter topic
    #[arg(value_name = "PARTITION:OFFSET", required = true)]
    places: Vec<Place>,
    /// Print one JSON object for each
    #[arg(long, conflicts_with_all = ["raw", "eml"])]
    json: bool,
    /// Print the value's bytes alone
    #[arg(long, conflicts_with = "eml")]
    raw: bool,
    /// Print the mail alone, as it would go out now
    #[arg(long)]
    eml: bool,
}

pub(super) async fn run(arguments: &Arguments, kafka: &Kafka) -> Result<Exit, Error> {
    if (arguments.raw || arguments.eml) && arguments.places.len() > 1 {
        complain("--raw and --eml take one letter at a time");
        return Ok(Exit::Usage);
    }
    let desk = Desk::open(kafka).await?;
    let marks = if arguments.raw || arguments.eml { None } else { marks(&desk).await };
    let kitchen = Kitchen::new();
    let mut out = Out::new();
    let mut exit = Exit::Done;
    for (index, place) in arguments.places.iter().enumerate() {
        let Some(letter) = find(&desk, *place).await? else {
            complain(format_args!("there is no letter at {place} in {}{}", desk.topic(), whereabouts(&desk, *place)));
            exit = Exit::Failed;
            continue;
        };
        let shown = if arguments.raw {
            raw(&letter, &mut out)
        } else if arguments.eml {
            eml(&letter, &kitchen, &mut out)
        } else if arguments.json {
            let object = object(&letter, &desk, marks.as_ref(), &kitchen);
            out.put(&format!("{object}\n")).map(|()| Exit::Done)
        } else {
            let gap = if index > 0 { "\n" } else { "" };
            let text = text::letter(&letter, &desk, marks.as_ref(), &kitchen);
            out.put(&format!("{gap}{text}")).map(|()| Exit::Done)
        };
        match shown {
            Ok(Exit::Done) => {}
            Ok(other) => exit = other,
            Err(Closed(exit)) => return Ok(exit),
        }
    }
    Ok(out.end().err().map_or(exit, |Closed(exit)| exit))
}

async fn find(desk: &Desk, place: Place) -> Result<Option<Letter>, Error> {
    let filter = dead_letters::Filter { places: [place].into(), ..Default::default() };
    let mut scan = desk.scan_for(&filter).await?;
    while let Some(found) = scan.next().await? {
        match found {
            Found::Letter(letter) if letter.place() == place => return Ok(Some(*letter)),
            Found::Letter(_) => {}
            Found::Undecodable { why, .. } => complain(format_args!("{place} cannot be read: {why}")),
        }
    }
    Ok(None)
}

fn whereabouts(desk: &Desk, place: Place) -> String {
    match desk.ends().get(&place.partition) {
        None => format!(": it has {} partitions, from 0", desk.ends().len()),
        Some((start, end)) if start == end => ": that partition is empty".to_owned(),
        Some((start, end)) => format!(": that partition holds the offsets from {start} to {}", end - 1),
    }
}

fn raw(letter: &Letter, out: &mut Out) -> Result<Exit, Closed> {
    if let Some(value) = &letter.record.value {
        return out.put_bytes(value).map(|()| Exit::Done);
    }
    complain(format_args!("{} has no value", letter.place()));
    Ok(Exit::Failed)
}

fn eml(letter: &Letter, kitchen: &Kitchen, out: &mut Out) -> Result<Exit, Closed> {
    match kitchen.make(letter) {
        Ok((_, mail)) => out.put_bytes(&mail.bytes).map(|()| Exit::Done),
        Err(why) => {
            complain(format_args!("there is no mail: {why}"));
            Ok(Exit::Failed)
        }
    }
}

/// The letter for programs: all that `list --json` has, and the rest.
fn object(letter: &Letter, desk: &Desk, marks: Option<&Marks>, kitchen: &Kitchen) -> Value {
    let mut object = View { marks, lanes: desk.lanes(), show_addresses: true }.json(letter);
    let exported = dead_letters::exported(letter);
    for part in ["key", "value", "headers"] {
        object[part] = exported[part].clone();
    }
    if let Some(event) = letter.record.value.as_deref().and_then(|value| serde_json::from_slice(value).ok()) {
        object["event"] = event;
    }
    object["mail"] = match kitchen.make(letter) {
        Ok((rendered, mail)) => json!({
            "message_id": mail.message_id,
            "envelope_from": mail.envelope_from.to_string(),
            "envelope_to": mail.recipients.iter().map(|it| it.address.to_string()).collect::<Vec<_>>(),
            "subject": rendered.subject,
            "text": rendered.text,
            "html": rendered.html,
            "size": mail.bytes.len(),
        }),
        Err(why) => json!({ "error": why }),
    };
    object["redrive"] = match dead_letters::judge(letter, desk.lanes(), chrono::Utc::now()) {
        Ok(target) => json!({ "topic": &*target.topic }),
        Err(skip) => json!({ "skip": skip.word(), "why": skip.to_string() }),
    };
    object
}
