//! An [`Email`], or an event from elsewhere, to what goes to a broker or a relay; whatever is wrong is found here.

use std::{collections::BTreeMap, fmt};

use chrono::{DateTime, Datelike, SubsecRound, TimeDelta, Utc};
use lettre::{Address, message::Mailbox};
use serde_json::{Map, Value};

use super::{Email, Expiry, InvalidEmail, Mailboxes, id, invalid::Problems, raw, trace};
use crate::{
    compose,
    event::{self, MAX_EVENT_SIZE, Message, Priority, is_template_name, is_zero_time, kind_of, time},
    mask,
};

/// Attempts that an application may ask for at the most: the largest `RETRY_MAX_ATTEMPTS_LIMIT`.
pub const MAX_ATTEMPTS: u32 = 1000;

/// Largest event in bytes, key and headers included, unless said otherwise: what brokers take by default, less the frame
/// around it.
pub const MAX_SIZE: usize = 1_000_000;

/// What the producer's settings say about every mail.
#[derive(Debug, Clone)]
pub(crate) struct Defaults {
    /// Sender of mails that name none (`MAIL_FROM`); it is put into their events.
    pub(crate) from: Option<Mailbox>,
    /// Whether a sender must be known here: the mail may go to a relay without seeing the service.
    pub(crate) from_needed: bool,
    /// Largest event in bytes, key and headers included.
    pub(crate) max_size: usize,
}

impl Default for Defaults {
    fn default() -> Self {
        Self { from: None, from_needed: false, max_size: MAX_SIZE }
    }
}

/// A mail that may be sent: as an event to a topic, or as a message by SMTP, and either way the same one.
#[derive(Clone)]
pub(crate) struct Prepared {
    /// Identity of the mail and key of its record.
    pub(crate) id: String,
    /// Its lane.
    pub(crate) priority: Priority,
    /// The message as the service reads it from `value`.
    pub(crate) message: Message,
    /// The event.
    pub(crate) value: Vec<u8>,
    /// Headers of the record.
    pub(crate) headers: BTreeMap<String, Vec<u8>>,
    /// When it was handed over, in whole milliseconds: the record's timestamp.
    pub(crate) timestamp: DateTime<Utc>,
}

impl Email {
    /// Checks it and makes its event.
    pub(crate) fn prepare(self, defaults: &Defaults) -> Result<Prepared, InvalidEmail> {
        self.prepare_at(defaults, Utc::now())
    }

    pub(super) fn prepare_at(self, defaults: &Defaults, now: DateTime<Utc>) -> Result<Prepared, InvalidEmail> {
        let now = now.trunc_subsecs(3);
        let given = self.trace_parent.clone().map(|parent| (parent, self.trace_state.clone()));
        let mut problems = Problems::default();
        let message = self.into_message(defaults, now, &mut problems);
        for problem in compose::problems(&message, defaults.from.as_ref(), defaults.from_needed) {
            problems.add_compose(&problem);
        }
        problems.end()?;
        let value = event::encode(&message);
        let mut prepared = Prepared::read(value, defaults, now).map_err(InvalidEmail::of_data)?;
        trace::add(&mut prepared.headers, given);
        Ok(prepared)
    }

    /// What the event is to say; stand-ins where it cannot be said, with a problem for each.
    pub(super) fn into_message(self, defaults: &Defaults, now: DateTime<Utc>, problems: &mut Problems) -> Message {
        let from = self.from.map(|from| sender(&from, problems)).or_else(|| defaults.from.clone());
        let mut all = |field: &str, mailboxes: &Mailboxes| recipients(field, mailboxes, problems);
        let to = all("message.to", &self.to);
        let (cc, bcc) = (all("message.cc", &self.cc), all("message.bcc", &self.bcc));
        let reply_to = all("message.reply_to", &self.reply_to);
        if to.is_empty() {
            problems.add("message.to", "is absent: a mail needs a recipient");
        }
        if self.subject.as_ref().is_some_and(|subject| subject.trim().is_empty()) {
            problems.add("message.subject", "is blank: leave it out for the template's own");
        }
        if self.id.as_ref().is_some_and(String::is_empty) {
            problems.add("message.id", "is empty");
        }
        if self.kind.as_ref().is_some_and(String::is_empty) {
            problems.add("type", "is empty");
        }
        if self.max_attempts.is_some_and(|attempts| !(1..=MAX_ATTEMPTS).contains(&attempts)) {
            problems.add("message.max_retries", format!("expected 1 to {MAX_ATTEMPTS} attempts"));
        }
        let template = self.template.unwrap_or_default();
        check_template(&template, problems);
        let timestamp = self.timestamp.unwrap_or(now);
        if !is_sayable(timestamp) {
            problems.add("message.timestamp", "expected a time from year 2 to 9999");
        }
        Message {
            kind: self.kind.unwrap_or_else(|| "notification".to_owned()),
            id: self.id.unwrap_or_else(id::random),
            from,
            to,
            cc,
            bcc,
            reply_to,
            subject: self.subject,
            template,
            data: data(self.data, problems),
            headers: self.headers,
            priority: self.priority,
            timestamp,
            expires_at: expiry(self.expires, now, problems),
            retry_count: 0,
            max_retries: self.max_attempts,
            only_recipients: None,
        }
    }
}

impl Prepared {
    /// Checks an event in the wire format. Its bytes stay as they are, but for an absent id and, where there is a
    /// default for it, an absent sender, which are put in.
    pub(crate) fn from_event(event: impl Into<Vec<u8>>, defaults: &Defaults) -> Result<Self, InvalidEmail> {
        Self::from_event_at(event.into(), defaults, Utc::now())
    }

    pub(super) fn from_event_at(event: Vec<u8>, defaults: &Defaults, now: DateTime<Utc>) -> Result<Self, InvalidEmail> {
        let now = now.trunc_subsecs(3);
        let mut prepared = Self::read(event, defaults, now)?;
        let mut problems = Problems::default();
        let mut absent = Vec::new();
        if prepared.id.is_empty() {
            absent.push(("id", id::random()));
        }
        if let (None, Some(from)) = (&prepared.message.from, &defaults.from) {
            absent.push(("from", event::mailbox_text(from)));
        }
        if !absent.is_empty() {
            let filled = raw::set(&prepared.value, &absent).expect("what was read is an event");
            prepared = Self::read(filled, defaults, now)?;
        }
        check_template(&prepared.message.template, &mut problems);
        if prepared.message.expires_at.is_some_and(|at| at <= now) {
            problems.add("message.expires_at", PAST);
        }
        for problem in compose::problems(&prepared.message, defaults.from.as_ref(), defaults.from_needed) {
            problems.add_compose(&problem);
        }
        problems.end()?;
        trace::add(&mut prepared.headers, None);
        Ok(prepared)
    }

    /// Reads an event as the service does. An id that is absent is empty.
    fn read(value: Vec<u8>, defaults: &Defaults, now: DateTime<Utc>) -> Result<Self, InvalidEmail> {
        let mut problems = Problems::default();
        let limit = defaults.max_size.min(MAX_EVENT_SIZE);
        if value.len() > limit {
            problems.add("message", too_large(value.len(), limit));
        } else {
            match event::decode_value(&value, now) {
                Ok(message) => {
                    let prepared = Self {
                        id: message.id.clone(),
                        priority: message.priority,
                        headers: headers(&message),
                        message,
                        value,
                        timestamp: now,
                    };
                    let size = prepared.size();
                    if size <= limit {
                        return Ok(prepared);
                    }
                    problems.add("message", too_large(size, limit));
                }
                Err(error) => problems.add_decode(error),
            }
        }
        Err(problems.into_error())
    }

    /// Bytes of its record: key, value and headers.
    pub(crate) fn size(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.id.len() + self.value.len() + headers
    }
}

/// Shows nothing of people and content.
impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared")
            .field("id", &mask::text(&self.id))
            .field("priority", &self.priority)
            .finish_non_exhaustive()
    }
}

fn headers(message: &Message) -> BTreeMap<String, Vec<u8>> {
    [("type", message.kind.clone()), ("priority", message.priority.to_string()), ("timestamp", time(message.timestamp))]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.into_bytes()))
        .collect()
}

fn too_large(size: usize, limit: usize) -> String {
    format!("the event has {size} bytes, at most {limit} are published")
}

const NO_TEMPLATE: &str = "expected a template's name: letters, digits, '-', '_' and '.', at most 64";
const PAST: &str = "has passed already";

fn check_template(name: &str, problems: &mut Problems) {
    if name.is_empty() {
        problems.add("message.template", "is absent");
    } else if !is_template_name(name) {
        problems.add("message.template", NO_TEMPLATE);
    }
}

fn sender(from: &Mailboxes, problems: &mut Problems) -> Mailbox {
    let mut parsed = from.parsed();
    match (parsed.next(), parsed.next()) {
        (Some(Ok(mailbox)), None) => return mailbox,
        (Some(Err(problem)), None) => problems.add("message.from", problem),
        _ => problems.add("message.from", "expected one mailbox"),
    }
    stand_in()
}

fn recipients(field: &str, mailboxes: &Mailboxes, problems: &mut Problems) -> Vec<Mailbox> {
    let parsed = mailboxes.parsed().enumerate().map(|(at, mailbox)| {
        mailbox.unwrap_or_else(|problem| {
            problems.add(format!("{field}[{at}]"), problem);
            stand_in()
        })
    });
    parsed.collect()
}

/// Keeps the place of a mailbox that is none, so that the checks name the others by theirs.
fn stand_in() -> Mailbox {
    Mailbox { name: None, email: Address::new_dangerous("stand-in", "invalid") }
}

fn data(data: Result<Value, ()>, problems: &mut Problems) -> Map<String, Value> {
    let problem = match data {
        Ok(Value::Object(data)) => return data,
        Ok(Value::Null) => return Map::new(),
        Ok(other) => format!("expected an object, found {}", kind_of(&other)),
        Err(()) => "cannot be written as JSON, whose keys are texts".to_owned(),
    };
    problems.add("message.data", problem);
    Map::new()
}

fn expiry(expires: Expiry, now: DateTime<Utc>, problems: &mut Problems) -> Option<DateTime<Utc>> {
    let at = match expires {
        Expiry::Never => return None,
        Expiry::At(at) => Some(at),
        Expiry::In(after) => TimeDelta::from_std(after).ok().and_then(|after| now.checked_add_signed(after)),
    };
    match at.filter(|at| at.year() <= LAST_YEAR) {
        None => problems.add("message.expires_at", "expected a time before the year 10000"),
        Some(at) if at <= now => problems.add("message.expires_at", PAST),
        Some(_) => {}
    }
    at
}

/// Last year that RFC 3339 can say.
const LAST_YEAR: i32 = 9999;

/// Whether an event can hold that time: the first years count as absent.
fn is_sayable(time: DateTime<Utc>) -> bool {
    !is_zero_time(time) && time.year() <= LAST_YEAR
}
