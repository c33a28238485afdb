//! What a session sends: an envelope and the bytes of a message.

use lettre::Address;

use crate::compose::is_plain;

/// Recipients of one transaction at the most: what every server must take (RFC 5321 4.5.3.1.8).
pub const MAX_RECIPIENTS: usize = 100;

/// An envelope that may not go into SMTP commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// There is nobody to send to.
    #[error("the envelope has no recipient")]
    NoRecipient,
    /// More recipients than one transaction may have.
    #[error("the envelope has {0} recipients, more than {MAX_RECIPIENTS}")]
    TooManyRecipients(usize),
    /// The sender's address holds characters that a command cannot carry.
    #[error("the envelope sender holds a space, a control, an angle bracket or a character beyond ASCII")]
    Sender,
    /// The recipient at this place of the list holds characters that a command cannot carry.
    #[error("envelope recipient {0} holds a space, a control, an angle bracket or a character beyond ASCII")]
    Recipient(usize),
}

/// A mail as a session sends it; its envelope was checked when it was made.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'a> {
    from: Option<&'a Address>,
    recipients: &'a [Address],
    bytes: &'a [u8],
}

impl<'a> Outgoing<'a> {
    /// A mail from `from` (`None` is the null sender `<>`) to `recipients`; `bytes` is the message with CRLF line ends
    /// and no dots stuffed.
    ///
    /// # Errors
    ///
    /// When the envelope is empty, has more than [`MAX_RECIPIENTS`], or holds what could end or alter a command.
    pub fn new(from: Option<&'a Address>, recipients: &'a [Address], bytes: &'a [u8]) -> Result<Self, EnvelopeError> {
        if recipients.is_empty() {
            return Err(EnvelopeError::NoRecipient);
        }
        if recipients.len() > MAX_RECIPIENTS {
            return Err(EnvelopeError::TooManyRecipients(recipients.len()));
        }
        if from.is_some_and(|address| !is_plain(address)) {
            return Err(EnvelopeError::Sender);
        }
        match recipients.iter().position(|address| !is_plain(address)) {
            Some(index) => Err(EnvelopeError::Recipient(index)),
            None => Ok(Self { from, recipients, bytes }),
        }
    }

    /// Envelope sender; `None` is the null sender `<>`.
    pub fn from(&self) -> Option<&'a Address> {
        self.from
    }

    /// Envelope recipients, 1..=[`MAX_RECIPIENTS`].
    pub fn recipients(&self) -> &'a [Address] {
        self.recipients
    }

    /// The message with CRLF line ends, no dots stuffed.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(user: &str) -> Address {
        Address::new(user, "example.com").expect("an address that lettre takes")
    }

    #[test]
    fn an_envelope_is_checked_when_it_is_made() {
        let good = [address("a"), address("b")];
        assert!(Outgoing::new(None, &good, b"").is_ok());
        assert_eq!(Outgoing::new(None, &[], b"").err(), Some(EnvelopeError::NoRecipient));
        let many = vec![address("a"); MAX_RECIPIENTS + 1];
        assert!(Outgoing::new(None, &many[1..], b"").is_ok());
        assert_eq!(Outgoing::new(None, &many, b"").err(), Some(EnvelopeError::TooManyRecipients(101)));
        for user in ["\"a>b\"", "\"a<b\"", "\"a b\"", "\u{e9}"] {
            let bad = address(user);
            assert_eq!(Outgoing::new(Some(&bad), &good, b"").err(), Some(EnvelopeError::Sender), "{user}");
            let recipients = [address("a"), bad];
            assert_eq!(Outgoing::new(None, &recipients, b"").err(), Some(EnvelopeError::Recipient(1)), "{user}");
        }
    }
}
