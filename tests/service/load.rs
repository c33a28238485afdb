//! Ten thousand mixed events: every one of them ends once, and in the one way that its script says.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use devkit::{
    kafka::{Record, StoredRecord},
    smtp::{Action, Command, Key, Ledger, Retention, SmtpServer, on},
};
use postlane::event::Priority;
use serde_json::json;

use crate::bed::{Bed, end, event_with};

const EVENTS: usize = 10_000;
const PARTITIONS: i32 = 4;
/// Ample: a machine on its own takes a tenth of it.
const WITHIN: Duration = Duration::from_secs(180);

/// What is to become of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Sent,
    /// Sent after so many deferrals at RCPT.
    Deferred(u64),
    RefusedAtRcpt,
    RefusedAtDot,
    /// A dead letter for this reason before anything is sent.
    Malformed(&'static str),
}

impl Fate {
    /// Of a hundred events five are deferred once, five twice, two refused and one malformed.
    fn of(number: usize) -> Self {
        const BROKEN: [&str; 5] = ["malformed", "malformed", "malformed", "bad-address", "unknown-template"];
        match number % 100 {
            7 | 27 | 47 | 67 | 87 => Self::Deferred(1),
            13 | 33 | 53 | 73 | 93 => Self::Deferred(2),
            21 => Self::RefusedAtRcpt,
            61 => Self::RefusedAtDot,
            99 => Self::Malformed(BROKEN[number / 100 % BROKEN.len()]),
            _ => Self::Sent,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Sent => "fine",
            Self::Deferred(1) => "once",
            Self::Deferred(_) => "twice",
            Self::RefusedAtRcpt => "unknown",
            Self::RefusedAtDot => "unwanted",
            Self::Malformed(_) => "broken",
        }
    }

    /// The reason of its dead letter, where it is to have one.
    fn reason(self) -> Option<&'static str> {
        match self {
            Self::Sent | Self::Deferred(_) => None,
            Self::RefusedAtRcpt | Self::RefusedAtDot => Some("rejected"),
            Self::Malformed(reason) => Some(reason),
        }
    }
}

fn id(number: usize) -> String {
    format!("load-{number}")
}

/// Each event has recipients of its own, one or, every tenth, two.
fn recipients(number: usize) -> Vec<String> {
    let first = format!("{}-{number}@example.com", Fate::of(number).word());
    let second = (number % 10 == 4).then(|| format!("copy-{number}@example.com"));
    [first].into_iter().chain(second).collect()
}

fn lane(number: usize) -> Priority {
    Priority::ALL[number % 3]
}

fn record(number: usize) -> Record {
    let (id, to) = (id(number), recipients(number));
    let value = match Fate::of(number) {
        Fate::Malformed("bad-address") => {
            event_with(&id, "no address", &json!({"to": ["fine@example.com", "no address"]})).to_string().into_bytes()
        }
        Fate::Malformed("unknown-template") => {
            event_with(&id, &to[0], &json!({"template": "none-such"})).to_string().into_bytes()
        }
        Fate::Malformed(_) => match number / 100 % 3 {
            0 => b"{\"type\": \"notification\", \"mess".to_vec(),
            1 => vec![0xff, 0xfe, b'{', b'}'],
            _ => return Record::null().key(id),
        },
        _ if number % 5 == 2 => {
            let fields = json!({
                "to": to, "template": "password-reset", "subject": "Password Reset Request",
                "data": {"Link": format!("https://example.com/reset?token={number}")},
            });
            event_with(&id, &to[0], &fields).to_string().into_bytes()
        }
        _ => event_with(&id, &to[0], &json!({"to": to})).to_string().into_bytes(),
    };
    Record::new(value).key(id)
}

#[tokio::test]
async fn ten_thousand_mixed_events_end_once_each() {
    let defer = |word: &str, times| {
        on(Command::Rcpt)
            .recipient_contains(word)
            .per(Key::Recipient)
            .times(times, Action::reply(451, "4.7.1", "greylisted"))
    };
    let smtp = SmtpServer::builder()
        .retention(Retention::Headers)
        .rule(defer("once-", 1))
        .rule(defer("twice-", 2))
        .rule(on(Command::Rcpt).recipient_contains("unknown-").reply(550, "5.1.1", "no such user"))
        .rule(on(Command::Dot).recipient_contains("unwanted-").reply(554, "5.7.1", "unwanted"));
    let bed = Bed::with(smtp, PARTITIONS).await;
    for priority in Priority::ALL {
        let records = (0..EVENTS).filter(|&number| lane(number) == priority).map(record);
        bed.publish_records(priority, records).await;
    }

    let mut service = bed.start();
    let mails = (0..EVENTS).filter(|&number| Fate::of(number).reason().is_none()).count();
    if let Err(error) = bed.smtp.wait_for_mails(mails, WITHIN).await {
        panic!("{mails} mails are missing: {error}\n{}", service.tail());
    }
    bed.wait_for_no_lag(&mut service).await;
    assert_eq!(bed.lag_by_kafkas_tool().await, 0);
    let log = end(service).await;

    let ledger = bed.smtp.ledger();
    each_mail_was_accepted_once(&ledger, mails);
    no_attempt_was_wasted(&ledger);
    let failures = (0..EVENTS).filter(|&number| Fate::of(number).reason().is_some()).count();
    each_failure_is_one_dead_letter(&bed.dead_letters(failures).await);
    assert_eq!(log.matches("\"outcome\":\"sent\"").count(), mails);
    assert_eq!(ledger.violations(), [""; 0]);
}

fn each_mail_was_accepted_once(ledger: &Ledger, mails: usize) {
    assert_eq!(ledger.duplicates(), BTreeMap::new());
    assert_eq!(ledger.accepted().len(), mails);
    let mut served: Vec<&str> =
        ledger.accepted().iter().flat_map(|mail| &mail.recipients).map(String::as_str).collect();
    served.sort_unstable();
    let mut expected: Vec<String> =
        (0..EVENTS).filter(|&number| Fate::of(number).reason().is_none()).flat_map(recipients).collect();
    expected.sort_unstable();
    assert_eq!(served, expected);
}

/// As many RCPT as the script makes necessary, and a dot for each mail that gets so far.
fn no_attempt_was_wasted(ledger: &Ledger) {
    let (mut asked, mut dots) = (0, 0);
    for number in 0..EVENTS {
        let (deferrals, dot) = match Fate::of(number) {
            Fate::Sent | Fate::RefusedAtDot => (0, 1),
            Fate::Deferred(times) => (times, 1),
            Fate::RefusedAtRcpt => (0, 0),
            Fate::Malformed(_) => continue,
        };
        asked += recipients(number).len() as u64 + deferrals;
        dots += dot;
    }
    assert_eq!((ledger.count(Command::Rcpt), ledger.count(Command::Dot)), (asked, dots));
    assert_eq!(ledger.taken().len(), 0);
}

fn each_failure_is_one_dead_letter(letters: &[StoredRecord]) {
    let found: Vec<(String, String)> = letters
        .iter()
        .map(|letter| {
            let key = String::from_utf8(letter.key.clone().expect("the record's key")).expect("an id");
            (key, letter.header_text("postlane-reason").expect("a reason"))
        })
        .collect();
    let expected: BTreeSet<(String, String)> = (0..EVENTS)
        .filter_map(|number| Fate::of(number).reason().map(|reason| (id(number), reason.to_owned())))
        .collect();
    assert_eq!(found.len(), expected.len(), "a dead letter twice, or one too few");
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), expected);
}
