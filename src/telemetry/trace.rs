//! The spans of one mail, made of what the pipeline says of it.
//!
//! Off, a [`Trace`] is a null pointer, and every call on it returns at once. No address, no content and no reply's text
//! gets into a span: an event's id is masked as in the log.

use std::{
    borrow::Cow,
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use opentelemetry::{
    Context, KeyValue, Value,
    trace::{Span as _, SpanBuilder, SpanKind, Status, TraceContextExt as _, TraceId, Tracer as _},
};
use opentelemetry_sdk::trace::{SdkTracer, Span};

use super::{context, queue::Dropped};
use crate::{
    config::Config,
    event::{Message, Priority},
    kafka::{Record, dead_letter::Failure},
    mask,
    retry::{Attempts, Decision},
    smtp::{Class, Reply},
};

/// Longest text of an attribute that comes from an event, in characters.
const TEXT_LIMIT: usize = 200;

/// Makes the spans of mails; off by default, and then it makes none. Cheap to clone.
#[derive(Clone, Default)]
pub struct Traces(Option<Arc<Maker>>);

struct Maker {
    tracer: SdkTracer,
    dropped: Dropped,
    group: Arc<str>,
    dead_letters: Arc<str>,
    relay: Arc<str>,
    port: i64,
}

impl fmt::Debug for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Traces(on)" } else { "Traces(off)" })
    }
}

/// When a part of a mail's way began; nothing where there is no trace.
#[derive(Debug, Clone, Copy, Default)]
pub struct Begun(Option<SystemTime>);

impl Traces {
    pub(super) fn new(tracer: SdkTracer, dropped: Dropped, config: &Config) -> Self {
        Self(Some(Arc::new(Maker {
            tracer,
            dropped,
            group: config.kafka.group_id.as_str().into(),
            dead_letters: config.kafka.topic_dead_letters.as_str().into(),
            relay: config.smtp.host.as_str().into(),
            port: config.smtp.port.into(),
        })))
    }

    /// Spans that no collector has got since the start.
    pub fn dropped(&self) -> u64 {
        self.0.as_ref().map_or(0, |maker| maker.dropped.count())
    }

    /// Now, for [`Traces::of`].
    pub fn begin(&self) -> Begun {
        Begun(self.0.as_ref().map(|_| SystemTime::now()))
    }

    /// The trace of a record that came at `begun` and goes into its lane now. It continues the producer's, where the
    /// record names one.
    pub fn of(&self, record: &Record, begun: Begun) -> Trace {
        let (Some(maker), Some(start)) = (&self.0, begun.0) else { return Trace::default() };
        let parent = context::of(record).map(|parent| Context::new().with_remote_span_context(parent));
        let mut attributes = maker.messaging(record, "process", "process");
        if record.value.is_none() {
            attributes.push(KeyValue::new("messaging.kafka.message.tombstone", true));
        }
        let builder = SpanBuilder::from_name(format!("process {}", record.topic))
            .with_kind(SpanKind::Consumer)
            .with_start_time(start)
            .with_attributes(attributes);
        let span = maker.tracer.build_with_context(builder, &parent.unwrap_or_default());
        if !span.is_recording() {
            return Trace::default();
        }
        let context = Context::new().with_remote_span_context(span.span_context().clone());
        let live = Live { maker: Arc::clone(maker), span, context, last: None, composed: false, outcome: "unsettled" };
        let attributes = maker.messaging(record, "receive", "receive");
        live.child(format!("receive {}", record.topic), SpanKind::Client, start, attributes, None);
        Trace(Some(Box::new(live)))
    }
}

impl Maker {
    /// What the conventions want to know of a record.
    fn messaging(&self, record: &Record, name: &'static str, kind: &'static str) -> Vec<KeyValue> {
        vec![
            KeyValue::new("messaging.system", "kafka"),
            KeyValue::new("messaging.operation.name", name),
            KeyValue::new("messaging.operation.type", kind),
            KeyValue::new("messaging.destination.name", Arc::clone(&record.topic)),
            KeyValue::new("messaging.destination.partition.id", record.partition.to_string()),
            KeyValue::new("messaging.kafka.offset", record.offset),
            KeyValue::new("messaging.consumer.group.name", Arc::clone(&self.group)),
        ]
    }
}

/// The trace of one mail; nothing where traces are off or this one is not sampled. Its span ends when it is dropped.
#[derive(Default)]
pub struct Trace(Option<Box<Live>>);

struct Live {
    maker: Arc<Maker>,
    span: Span,
    /// The span as a parent.
    context: Context,
    /// What the last attempt has met.
    last: Option<Met>,
    composed: bool,
    outcome: &'static str,
}

/// What an attempt has met, in one word for machines, and the reply's codes.
struct Met {
    word: &'static str,
    codes: Vec<KeyValue>,
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.id() {
            Some(id) => write!(f, "Trace({id})"),
            None => f.write_str("Trace"),
        }
    }
}

impl Trace {
    /// Its id, for log lines.
    pub fn id(&self) -> Option<TraceId> {
        self.0.as_ref().map(|live| live.span.span_context().trace_id())
    }

    /// Now, for the calls that tell of something that has begun.
    pub fn begin(&self) -> Begun {
        Begun(self.0.as_ref().map(|_| SystemTime::now()))
    }

    /// The record is an event.
    pub fn decoded(&mut self, message: &Message, lane: Priority) {
        let Some(live) = &mut self.0 else { return };
        live.set("messaging.message.id", short(&mask::text(&message.id)));
        live.set("postlane.template", short(&message.template));
        live.set("postlane.lane", lane.to_string());
    }

    /// The mail was rendered and composed, or that failed.
    pub fn rendered(&mut self, begun: Begun, made: Result<&str, &Failure>) {
        let (Some(live), Some(start)) = (&mut self.0, begun.0) else { return };
        live.child("render", SpanKind::Internal, start, Vec::new(), made.err().map(|failure| failure.reason.as_str()));
        if let Ok(message_id) = made
            && !live.composed
        {
            live.composed = true;
            live.set("postlane.message_id", short(message_id));
        }
    }

    /// An attempt has ended; `classes` are those of its recipients, `None` where the shutdown cut it.
    pub fn attempted(&mut self, begun: Begun, attempt: u32, recipients: usize, classes: Option<&[(usize, Class)]>) {
        let (Some(live), Some(start)) = (&mut self.0, begun.0) else { return };
        let met = match classes {
            None => Some(Met { word: "cut", codes: Vec::new() }),
            Some([]) => Some(Met { word: "no_session", codes: Vec::new() }),
            Some(classes) => classes.iter().find_map(|(_, class)| met(class)),
        };
        let mut attributes = vec![
            KeyValue::new("server.address", Arc::clone(&live.maker.relay)),
            KeyValue::new("server.port", live.maker.port),
            KeyValue::new("network.protocol.name", "smtp"),
            KeyValue::new("postlane.attempt", i64::from(attempt)),
            KeyValue::new("postlane.recipients", i64::try_from(recipients).unwrap_or(i64::MAX)),
        ];
        let accepted = || classes.unwrap_or_default().iter().find_map(|(_, class)| accepted(class));
        attributes.extend(met.as_ref().map(|met| met.codes.clone()).or_else(accepted).unwrap_or_default());
        live.child("send", SpanKind::Client, start, attributes, met.as_ref().map(|met| met.word));
        live.last = met;
    }

    /// What follows for the mail: an event for everything that does not end it.
    pub fn decided(&mut self, decision: &Decision, attempts: Option<&Attempts>) {
        let Some(live) = &mut self.0 else { return };
        let used = i64::from(attempts.map_or(0, Attempts::used));
        let throttled = live.last.as_ref().is_some_and(|met| met.word == "throttled");
        let (name, delay) = match decision {
            Decision::Sent => {
                live.set("postlane.attempts", used);
                live.outcome = "sent";
                return;
            }
            Decision::DeadLetter(_) => return,
            Decision::Wait(delay) if throttled => ("throttled", Some(*delay)),
            Decision::Wait(delay) => ("deferred", Some(*delay)),
            Decision::Suspect => ("undecided", None),
            Decision::RelayDown => ("relay down", None),
            Decision::AtOnce => ("interrupted", None),
        };
        let mut attributes = vec![KeyValue::new("postlane.attempts", used)];
        if let Some(met) = live.last.take() {
            attributes.push(KeyValue::new("postlane.class", met.word));
            attributes.extend(met.codes);
        }
        attributes.extend(delay.map(|delay: Duration| KeyValue::new("postlane.retry_in", delay.as_secs_f64())));
        live.span.add_event(name, attributes);
    }

    /// The mail ends as a dead letter, which is about to be written.
    pub fn failed(&mut self, failure: &Failure) {
        let Some(live) = &mut self.0 else { return };
        let reason = failure.reason.as_str();
        let mut attributes =
            vec![KeyValue::new("postlane.stage", failure.stage.as_str()), KeyValue::new("postlane.reason", reason)];
        attributes.extend(failure.smtp_code.map(code));
        attributes.extend(failure.smtp_enhanced.map(enhanced));
        live.span.add_event("dead letter", attributes);
        live.set("postlane.attempts", i64::from(failure.attempts));
        live.fail(reason);
    }

    /// Its dead letter is written.
    pub fn buried(&mut self, begun: Begun) {
        let (Some(live), Some(start)) = (&mut self.0, begun.0) else { return };
        let topic = Arc::clone(&live.maker.dead_letters);
        let name = format!("send {topic}");
        let attributes = vec![
            KeyValue::new("messaging.system", "kafka"),
            KeyValue::new("messaging.operation.name", "send"),
            KeyValue::new("messaging.operation.type", "send"),
            KeyValue::new("messaging.destination.name", topic),
        ];
        live.child(name, SpanKind::Client, start, attributes, None);
        live.outcome = "dead letter";
    }
}

impl Live {
    fn set(&mut self, name: &'static str, value: impl Into<Value>) {
        self.span.set_attribute(KeyValue::new(name, value));
    }

    fn fail(&mut self, word: &'static str) {
        self.set("error.type", word);
        self.span.set_status(Status::error(word));
    }

    /// A span from `start` until now.
    fn child(
        &self,
        name: impl Into<Cow<'static, str>>,
        kind: SpanKind,
        start: SystemTime,
        mut attributes: Vec<KeyValue>,
        error: Option<&'static str>,
    ) {
        attributes.extend(error.map(|word| KeyValue::new("error.type", word)));
        let builder = SpanBuilder::from_name(name).with_kind(kind).with_start_time(start).with_attributes(attributes);
        let mut span = self.maker.tracer.build_with_context(builder, &self.context);
        if let Some(word) = error {
            span.set_status(Status::error(word));
        }
        span.end();
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.set("postlane.outcome", self.outcome);
    }
}

/// What is not a success, in one word.
fn met(class: &Class) -> Option<Met> {
    let (word, reply) = match class {
        Class::Sent(_) => return None,
        Class::RelayDown(reply) => ("relay_down", Some(reply)),
        Class::Stale { reply, .. } | Class::BrokenOff { reply, .. } => ("session_lost", reply.as_ref()),
        Class::OutcomeUnknown { .. } => ("outcome_unknown", None),
        Class::Deferred(reply) => ("deferred", Some(reply)),
        Class::Throttled(reply) => ("throttled", Some(reply)),
        Class::Split(reply) => ("split", Some(reply)),
        Class::Refused { reply, .. } => ("refused", Some(reply)),
        Class::TooLarge { .. } => ("too_large", None),
    };
    Some(Met { word, codes: reply.map(codes).unwrap_or_default() })
}

/// What the relay said to a mail that it took.
fn accepted(class: &Class) -> Option<Vec<KeyValue>> {
    if let Class::Sent(reply) = class { Some(codes(reply)) } else { None }
}

fn codes(reply: &Reply) -> Vec<KeyValue> {
    [code(reply.code)].into_iter().chain(reply.enhanced.map(enhanced)).collect()
}

fn code(code: u16) -> KeyValue {
    KeyValue::new("postlane.smtp.code", i64::from(code))
}

fn enhanced((class, subject, detail): (u8, u16, u16)) -> KeyValue {
    KeyValue::new("postlane.smtp.enhanced_code", format!("{class}.{subject}.{detail}"))
}

fn short(text: &str) -> String {
    text.chars().take(TEXT_LIMIT).collect()
}
