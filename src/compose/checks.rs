//! What may go into a mail, apart from its body: the same rules before an event is published and before a mail is sent.

use lettre::{Address, message::Mailbox};

use super::{
    ComposeError, MAX_HEADER_SIZE, MAX_RECIPIENTS,
    address::{self, Party},
    date, header,
    header::{Fields, Tokens},
    message_id,
    redirect::Redirected,
};
use crate::event::Message;

/// Everybody who has to do with a mail, checked.
pub(super) struct Parties {
    pub(super) from: Party,
    pub(super) to: Vec<Party>,
    pub(super) cc: Vec<Party>,
    pub(super) bcc: Vec<Party>,
    pub(super) reply_to: Vec<Party>,
}

/// All that [`compose`](super::compose) would refuse in a message, whatever its template gives.
///
/// Without a sender in the message and in `default_from` it is an error only where `from_needed` says so: the sender may
/// be one that somebody else knows. So may the subject.
pub(crate) fn problems(message: &Message, default_from: Option<&Mailbox>, from_needed: bool) -> Vec<ComposeError> {
    let unknown;
    let sender = match default_from {
        None if !from_needed => {
            unknown = longest_sender();
            Some(&unknown)
        }
        known => known,
    };
    let mut found = Vec::new();
    let parties = parties(message, sender, &mut found);
    let own_subject = message.subject.as_deref().filter(|subject| !subject.trim().is_empty());
    let own_subject = own_subject.map(|own| {
        subject(own).unwrap_or_else(|error| {
            found.push(error);
            String::new()
        })
    });
    if let Some(parties) = parties {
        let id = message_id(&message.id, parties.from.address.domain());
        fields(message, &parties, None, (&own_subject.unwrap_or_default(), id), &mut found);
    } else {
        header::extra(&message.headers, &mut Fields::default(), &mut found);
    }
    found
}

/// Nobody's address, as long as one can be: what the header fields may still grow by.
fn longest_sender() -> Mailbox {
    let domain = format!("{}{}", "a23456789.".repeat(25), "a23");
    Mailbox::new(None, Address::new_dangerous("a".repeat(64), domain))
}

/// Checks everybody; `None` if there is no usable sender, or there are too many to look at each.
pub(super) fn parties(
    message: &Message,
    default_from: Option<&Mailbox>,
    found: &mut Vec<ComposeError>,
) -> Option<Parties> {
    let count = message.to.len() + message.cc.len() + message.bcc.len();
    if count > MAX_RECIPIENTS {
        found.push(ComposeError::too_large(format!("{count} recipients, at most {MAX_RECIPIENTS}")));
        return None;
    }
    let mut keep = |result: Result<Party, ComposeError>| result.map_err(|error| found.push(error)).ok();
    let from = keep(sender(message, default_from));
    let mut all = |mailboxes: &[Mailbox], field: &str| -> Vec<Party> {
        let checked =
            mailboxes.iter().enumerate().map(|(at, mailbox)| address::party(mailbox, &format!("{field}[{at}]")));
        checked.filter_map(&mut keep).collect()
    };
    let to = all(&message.to, "message.to");
    let cc = all(&message.cc, "message.cc");
    let bcc = all(&message.bcc, "message.bcc");
    let reply_to = all(&message.reply_to, "message.reply_to");
    Some(Parties { from: from?, to, cc, bcc, reply_to })
}

fn sender(message: &Message, default: Option<&Mailbox>) -> Result<Party, ComposeError> {
    match (&message.from, default) {
        (Some(mailbox), _) => address::party(mailbox, "message.from"),
        (None, Some(mailbox)) => address::party(mailbox, "MAIL_FROM"),
        (None, None) => Err(ComposeError::bad_address("message.from", "is absent and MAIL_FROM is not set")),
    }
}

/// A subject that is not blank, as it goes into the field.
pub(super) fn subject(subject: &str) -> Result<String, ComposeError> {
    if header::has_controls(subject) {
        return Err(ComposeError::bad_header("message.subject", header::CONTROLS));
    }
    Ok(subject.trim_matches(' ').to_owned())
}

/// The header fields, less those that describe the body.
pub(super) fn fields(
    message: &Message,
    parties: &Parties,
    redirected: Option<&Redirected>,
    (subject, message_id): (&str, String),
    found: &mut Vec<ComposeError>,
) -> Vec<u8> {
    let Parties { from, to, cc, reply_to, .. } = parties;
    let (to, cc) = redirected.map_or((to, cc), Redirected::shown);
    let mut fields = Fields::default();
    fields.push("Date", &Tokens::raw(date(message.timestamp)));
    fields.push("From", &Tokens::parties(std::slice::from_ref(from)));
    for (name, parties) in [("Reply-To", reply_to), ("To", to), ("Cc", cc)] {
        if !parties.is_empty() {
            fields.push(name, &Tokens::parties(parties));
        }
    }
    fields.push("Subject", &Tokens::text("Subject", subject));
    fields.push("Message-ID", &Tokens::raw(message_id));
    fields.push("Auto-Submitted", &Tokens::raw("auto-generated".to_owned()));
    if let Some(redirected) = redirected {
        redirected.name_recipients(&mut fields);
    }
    header::extra(&message.headers, &mut fields, found);
    fields.push("MIME-Version", &Tokens::raw("1.0".to_owned()));
    let bytes = fields.into_bytes();
    if bytes.len() > MAX_HEADER_SIZE {
        let size = bytes.len();
        found.push(ComposeError::too_large(format!("header fields of {size} bytes, at most {MAX_HEADER_SIZE}")));
    }
    bytes
}
