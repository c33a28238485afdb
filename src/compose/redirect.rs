//! `MAIL_REDIRECT_TO`: one mailbox in place of all recipients.
//!
//! Owns what such a mail shows and where it goes. Everything is checked as if it went to its recipients.

use super::{
    ComposeError, Recipient,
    address::{self, Party},
    checks::Parties,
    header::{Fields, Tokens},
};
use crate::config;

/// Fields that name those whom the mail would have reached. Not `X-Original-To`: Postfix writes that when it delivers.
const FIELDS: [&str; 3] = ["X-Postlane-To", "X-Postlane-Cc", "X-Postlane-Bcc"];

/// A mail that goes to one mailbox alone.
pub(super) struct Redirected {
    /// That mailbox.
    to: Vec<Party>,
    /// None.
    cc: Vec<Party>,
    /// Of to, cc and bcc those whom the mail would have reached.
    instead_of: [Vec<Party>; 3],
}

impl Redirected {
    /// Puts the mailbox of the settings, if there is one, in place of the recipients; its index is that of the first.
    pub(super) fn new(
        settings: &config::Mail,
        parties: &Parties,
        only: Option<&[usize]>,
        recipients: &mut Vec<Recipient>,
    ) -> Result<Option<Self>, ComposeError> {
        let Some(mailbox) = &settings.redirect_to else { return Ok(None) };
        let party = address::party(mailbox, "MAIL_REDIRECT_TO")?;
        recipients.truncate(1);
        for recipient in recipients {
            recipient.address = party.address.clone();
        }
        let mut index = 0..;
        let instead_of = [&parties.to, &parties.cc, &parties.bcc].map(|group| {
            let named = group.iter().zip(&mut index).filter(|(_, index)| only.is_none_or(|only| only.contains(index)));
            named.map(|(party, _)| party.clone()).collect()
        });
        Ok(Some(Self { to: vec![party], cc: Vec::new(), instead_of }))
    }

    /// What stands in To and Cc.
    pub(super) fn shown(&self) -> (&Vec<Party>, &Vec<Party>) {
        (&self.to, &self.cc)
    }

    /// Names those whom the mail would have reached, bcc too.
    pub(super) fn name_recipients(&self, fields: &mut Fields) {
        for (name, parties) in FIELDS.into_iter().zip(&self.instead_of) {
            if !parties.is_empty() {
                fields.push(name, &Tokens::parties(parties));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{
        MAX_HEADER_SIZE, Mail, compose,
        tests::{message, rendered, settings},
    };
    use crate::{config, event::Message};

    fn redirected(change: impl FnOnce(&mut Message)) -> Mail {
        let settings = config::Mail {
            redirect_to: Some("Staging <staging@example.net>".parse().expect("a mailbox")),
            ..settings()
        };
        let mut message = message();
        change(&mut message);
        compose(&message, rendered(), &settings).expect("good")
    }

    fn several(message: &mut Message) {
        let parse = |text: &str| text.parse().expect("a mailbox");
        message.to = ["Ann <ann@example.com>", "bob@example.com"].map(parse).into();
        message.cc = ["copy@example.com"].map(parse).into();
        message.bcc = ["audit@example.com"].map(parse).into();
    }

    fn header(mail: &Mail) -> String {
        let text = String::from_utf8(mail.bytes.clone()).expect("ASCII");
        text.split_once("\r\n\r\n").expect("a body").0.to_owned()
    }

    #[test]
    fn one_mailbox_gets_it_and_the_recipients_stand_in_fields() {
        let mail = redirected(several);
        let envelope: Vec<_> = mail.recipients.iter().map(|r| (r.index, r.address.to_string())).collect();
        assert_eq!(envelope, [(0, "staging@example.net".to_owned())]);
        let header = header(&mail);
        let shown: Vec<&str> = header.lines().filter(|line| line.contains('@')).collect();
        assert_eq!(
            shown,
            [
                "From: Usual Store <orders@usualstore.com>",
                "To: Staging <staging@example.net>",
                &format!("Message-ID: {}", mail.message_id),
                "X-Postlane-To: Ann <ann@example.com>, bob@example.com",
                "X-Postlane-Cc: copy@example.com",
                "X-Postlane-Bcc: audit@example.com",
            ]
        );
        assert!(header.contains("\r\nSubject: Hello\r\n") && !header.contains("\r\nCc:"), "{header}");
        let plain = compose(&message(), rendered(), &settings()).expect("good");
        assert_eq!(mail.message_id, plain.message_id);
        assert_eq!(mail.envelope_from, plain.envelope_from);
    }

    #[test]
    fn a_letter_that_was_sent_back_names_those_whom_it_would_have_reached() {
        let mail = redirected(|message| {
            several(message);
            message.only_recipients = Some(vec![1, 3]);
        });
        assert_eq!(mail.recipients[0].index, 1);
        assert_eq!(mail.recipients.len(), 1);
        let header = header(&mail);
        assert!(header.contains("\r\nX-Postlane-To: bob@example.com\r\n"), "{header}");
        assert!(header.contains("\r\nX-Postlane-Bcc: audit@example.com\r\n"), "{header}");
        assert!(!header.contains("ann@example.com") && !header.contains("X-Postlane-Cc"), "{header}");
    }

    #[test]
    fn a_hundred_recipients_fit() {
        let mail = redirected(|message| {
            let address = |number| format!("{number}{}@{}.example", "a".repeat(61), "b.".repeat(80) + "c");
            message.bcc = (10..109).map(|number| address(number).parse().expect("a mailbox")).collect();
        });
        let header = header(&mail);
        assert!(header.len() < MAX_HEADER_SIZE && header.lines().all(|line| line.len() < 998));
        assert_eq!(header.matches(".example").count(), 99);
    }

    #[test]
    fn what_would_not_have_gone_to_its_recipients_does_not_go_here() {
        let settings =
            config::Mail { redirect_to: Some("staging@example.net".parse().expect("a mailbox")), ..settings() };
        let mut bad = message();
        bad.to = vec![lettre::message::Mailbox::new(None, lettre::Address::new_dangerous("a b", "example.com"))];
        assert!(compose(&bad, rendered(), &settings).is_err());
        let mut claims = message();
        claims.headers = vec![("X-Postlane-Bcc".to_owned(), "me@example.com".to_owned())];
        assert!(compose(&claims, rendered(), &settings).is_err());
    }
}
