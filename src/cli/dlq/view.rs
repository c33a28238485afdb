//! A letter as a row of a table, and as a line of JSON.

use chrono::{DateTime, SecondsFormat, Utc};
use postlane::{
    dead_letters::{Lanes, Letter, Marks},
    mask,
};
use serde_json::{Value, json};

use crate::cli::{
    columns::{Cell, Column},
    table::Tone,
};

/// The columns of a list.
pub(super) const COLUMNS: [Column; 11] = [
    Column::whole("PLACE", 0),
    Column::whole("FAILED AT (UTC)", 0),
    Column::text("REASON", 16, 0),
    Column::text("STAGE", 8, 6),
    Column::text("TEMPLATE", 12, 2),
    Column::text("RECIPIENTS", 12, 3),
    Column::number("TRIES", 7),
    Column::text("SMTP", 9, 5),
    Column::text("BACK", 4, 1),
    Column::text("CAME FROM", 20, 8),
    Column::text("ID", 36, 9),
];

/// How a letter is shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) marks: Option<&'a Marks>,
    pub(super) lanes: &'a Lanes,
    pub(super) show_addresses: bool,
}

impl View<'_> {
    /// Whether it was sent back, where that is known: of another group's letters only that they were.
    pub(super) fn is_back(&self, letter: &Letter) -> Option<bool> {
        let is_back = self.marks?.contains(letter.place());
        (is_back || self.lanes.other_group(letter).is_none()).then_some(is_back)
    }

    pub(super) fn cells(&self, letter: &Letter) -> Vec<Cell> {
        let text = |text: Option<&str>| Cell::new(text.unwrap_or_default());
        let back = self.is_back(letter);
        let reason = match &letter.reason {
            Some(reason) => Cell::new(reason),
            None => Cell::new("not a letter of postlane").toned(Tone::Doubtful),
        };
        let smtp = [letter.smtp_code.as_deref(), letter.smtp_enhanced.as_deref()];
        let mut cells = vec![
            Cell::new(letter.place().to_string()),
            Cell::new(time(letter.died())),
            reason,
            text(letter.stage.as_deref()),
            text(letter.template().as_deref()),
            Cell::new(self.recipients(letter)),
            Cell::new(letter.attempts.map(|attempts| attempts.to_string()).unwrap_or_default()),
            Cell::new(smtp.into_iter().flatten().collect::<Vec<_>>().join(" ")),
            Cell::new(match back {
                Some(true) => "yes",
                Some(false) => "",
                None => "?",
            }),
            Cell::new(letter.original.as_ref().map(ToString::to_string).unwrap_or_default()),
            text(letter.id().as_deref()),
        ];
        if back == Some(true) {
            cells = cells.into_iter().map(|cell| cell.toned(Tone::Quiet)).collect();
        }
        cells
    }

    fn recipients(&self, letter: &Letter) -> String {
        if self.show_addresses {
            return letter.addresses().join(", ");
        }
        let (domains, count) = (letter.domains(), letter.addresses().len());
        let mut text = domains.iter().take(2).map(|domain| format!("@{domain}")).collect::<Vec<_>>().join(" ");
        if domains.len() > 2 {
            text.push_str(" …");
        }
        if count > 1 {
            text = format!("{count}: {text}");
        }
        text
    }

    /// The same for programs. Addresses are there only where they are asked for.
    pub(super) fn json(&self, letter: &Letter) -> Value {
        let mut object = json!({
            "place": letter.place().to_string(),
            "partition": letter.record.partition,
            "offset": letter.record.offset,
            "failed_at": stamp(letter.died()),
            "reason": letter.reason,
            "stage": letter.stage,
            "message": letter.message,
            "template": letter.template(),
            "id": letter.id(),
            "recipients": letter.addresses().len(),
            "domains": letter.domains(),
            "attempts": letter.attempts,
            "smtp_code": letter.smtp_code.as_deref().and_then(|code| code.parse::<u16>().ok()),
            "smtp_enhanced_code": letter.smtp_enhanced,
            "original": letter.original.as_ref().map(|it| json!({
                "topic": it.topic, "partition": it.partition, "offset": it.offset,
                "timestamp": DateTime::from_timestamp_millis(it.timestamp).map(stamp),
                "group": letter.group,
            })),
            "size": letter.record.size(),
            "sent_back": self.is_back(letter),
            "flaws": letter.flaws,
        });
        if self.show_addresses {
            object["addresses"] = json!(letter.addresses());
        }
        object
    }

    /// What a part of the event says, with its addresses only where they are asked for.
    pub(super) fn addresses(&self, letter: &Letter) -> String {
        let mask = |text: &String| if self.show_addresses { text.clone() } else { mask::text(text) };
        letter.addresses().iter().map(mask).collect::<Vec<_>>().join(", ")
    }
}

/// A time for people.
pub(super) fn time(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%d %H:%M:%S").to_string()
}

/// A time for programs.
pub(super) fn stamp(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}
