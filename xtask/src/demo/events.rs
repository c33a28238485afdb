//! What the demo publishes, and what must come of it.

use serde_json::{Value, json};

/// The mail server defers its first mail once, as greylisting does.
pub(super) const GREYLISTED: &str = "zoe@example.net";
/// The mail server does not know it.
pub(super) const UNKNOWN: &str = "nobody@example.org";

/// One record, and its end.
pub(super) struct Event {
    /// Index of its lane, high to low.
    pub(super) lane: usize,
    pub(super) key: &'static str,
    pub(super) value: String,
    /// Attempts after which the server has it; 0 where it never gets it.
    pub(super) attempts: u64,
    /// Why it, or a part of its recipients, is a dead letter.
    pub(super) dead_letter: Option<&'static str>,
}

impl Event {
    /// Whether the server gets it.
    pub(super) fn is_delivered(&self) -> bool {
        self.attempts > 0
    }

    fn delivered(lane: usize, key: &'static str, value: &impl ToString) -> Self {
        Self { lane, key, value: value.to_string(), attempts: 1, dead_letter: None }
    }

    fn dead(lane: usize, key: &'static str, value: &impl ToString, reason: &'static str) -> Self {
        Self { attempts: 0, dead_letter: Some(reason), ..Self::delivered(lane, key, value) }
    }
}

const HIGH: usize = 0;
const NORMAL: usize = 1;
const LOW: usize = 2;

/// All events, in the order of publishing within a lane.
pub(super) fn all() -> Vec<Event> {
    let reset = include_str!("../../../tests/fixtures/events/seed-password-reset.json");
    let plain = include_str!("../../../tests/fixtures/events/seed-go-zero-values.json");
    let order = include_str!("../../../tests/fixtures/events/new-fields.json");
    let truncated = r#"{"type":"welcome","message":{"id":"truncated","to":"user@exam"#;
    vec![
        Event::delivered(HIGH, "550e8400-e29b-41d4-a716-446655440000", &reset),
        Event { attempts: 2, ..Event::delivered(HIGH, "reset-zoe", &reset_for_zoe()) },
        Event::delivered(NORMAL, "7f1b0f7e-6f0c-4f3b-9a54-0e3a2d3f1b11", &plain),
        Event::dead(NORMAL, "truncated", &truncated, "malformed"),
        Event::delivered(NORMAL, "welcome-ada", &welcome()),
        Event { dead_letter: Some("rejected"), ..Event::delivered(NORMAL, "report-7", &report()) },
        Event::delivered(LOW, "order-10042", &order),
        Event::dead(LOW, "survey-1", &survey(), "unknown-template"),
        Event::delivered(LOW, "newsletter-52", &newsletter()),
    ]
}

fn reset_for_zoe() -> Value {
    json!({"type": "password_reset", "message": {
        "id": "reset-zoe", "from": "Usual Store <noreply@usualstore.com>", "to": format!("Zoë <{GREYLISTED}>"),
        "template": "password-reset", "data": {"Link": "https://usualstore.com/reset?token=def456"},
    }})
}

fn welcome() -> Value {
    json!({"type": "welcome", "message": {
        "id": "welcome-ada", "from": "Usual Store <hello@usualstore.com>", "to": "ada@example.com",
        "template": "welcome", "data": {"Name": "Ada", "Link": "https://usualstore.com/account"},
    }})
}

/// Two recipients, one of whom the server does not know: the other one gets the mail.
fn report() -> Value {
    json!({"type": "notification", "message": {
        "id": "report-7", "from": "reports@usualstore.com", "to": ["team@example.com", UNKNOWN],
        "subject": "Weekly report", "template": "plain", "data": {"body": "Orders: 128\nReturns: 3"},
    }})
}

fn survey() -> Value {
    json!({"type": "notification", "message": {
        "id": "survey-1", "from": "survey@usualstore.com", "to": "user@example.com",
        "subject": "How was it?", "template": "survey-2019", "data": {},
    }})
}

fn newsletter() -> Value {
    json!({"type": "notification", "message": {
        "id": "newsletter-52", "from": "news@usualstore.com", "to": "reader@example.com",
        "subject": "What is new in December", "template": "plain", "data": {"body": "Three new colours.\nFree returns."},
    }})
}
