//! A reply of the server, whoever parsed it, in one clean form.

use std::{error::Error as _, fmt};

use lettre::transport::smtp::{self as lettre_smtp, response::Response};

use crate::{config::ReplyPattern, mask};

/// An SMTP reply that was read whole (RFC 5321 4.2).
#[derive(Clone, PartialEq, Eq)]
pub struct Reply {
    /// Three digits, 200..=599.
    pub code: u16,
    /// Enhanced status code (RFC 3463) where the text starts with one.
    pub enhanced: Option<(u8, u16, u16)>,
    /// Text of all lines, joined by a space; bytes above 0x7f are `?`, controls are spaces.
    pub text: String,
}

/// Masks what looks like an address: servers like to repeat the recipient's.
impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply")
            .field("code", &self.code)
            .field("enhanced", &self.enhanced)
            .field("text", &mask::text(&self.text))
            .finish()
    }
}

impl Reply {
    /// A reply with this code and text; characters that are not printable ASCII are replaced.
    pub fn new(code: u16, text: &str) -> Self {
        let text = clean(text);
        Self { code, enhanced: enhanced_code(&text), text }
    }

    /// Whether it is a 2xx: the command was done.
    pub fn is_positive(&self) -> bool {
        (200..300).contains(&self.code)
    }

    /// Whether it is a 4xx or 5xx: the command was refused.
    pub fn is_negative(&self) -> bool {
        (400..600).contains(&self.code)
    }

    /// Whether it is a 4xx: another try may do.
    pub fn is_transient(&self) -> bool {
        (400..500).contains(&self.code)
    }

    /// Whether `pattern` names this reply's code or its enhanced code.
    pub fn matches(&self, pattern: &ReplyPattern) -> bool {
        match *pattern {
            ReplyPattern::Code(code) => self.code == code,
            ReplyPattern::Enhanced(class, subject, detail) => self.enhanced == Some((class, subject, detail)),
        }
    }

    pub(super) fn from_response(response: &Response) -> Self {
        let mut lines = response.message();
        let mut text = lines.next().unwrap_or_default().to_owned();
        for line in lines {
            text.push(' ');
            text.push_str(line);
        }
        Self::new(response.code().into(), &text)
    }

    /// The reply behind an error; `None` where no reply could be read, and then the session is out of step.
    pub(super) fn from_error(error: &lettre_smtp::Error) -> Option<Self> {
        let code = error.status()?.into();
        Some(Self::new(code, &error.source().map(ToString::to_string).unwrap_or_default()))
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, self.text)
    }
}

/// One line of printable ASCII: controls become spaces, everything beyond ASCII `?`.
pub(super) fn clean(text: &str) -> String {
    text.trim_end()
        .chars()
        .map(|c| match c {
            c if c.is_ascii_control() => ' ',
            c if c.is_ascii() => c,
            _ => '?',
        })
        .collect()
}

/// The class need not agree with the code as RFC 2034 demands: servers do say `552 4.5.3`.
fn enhanced_code(text: &str) -> Option<(u8, u16, u16)> {
    let mut parts = text.split(' ').next()?.split('.');
    let (class, subject, detail) = (parts.next()?, parts.next()?, parts.next()?);
    let number = |part: &str| -> Option<u16> {
        ((1..=3).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit())).then(|| part.parse().ok())?
    };
    if parts.next().is_some() {
        return None;
    }
    let class = match class {
        "2" => 2,
        "4" => 4,
        "5" => 5,
        _ => return None,
    };
    Some((class, number(subject)?, number(detail)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_enhanced_code_is_the_first_word_of_the_text() {
        assert_eq!(Reply::new(550, "5.1.1 no such user").enhanced, Some((5, 1, 1)));
        assert_eq!(Reply::new(550, "5.7.512").enhanced, Some((5, 7, 512)));
        assert_eq!(Reply::new(552, "4.5.3 too many").enhanced, Some((4, 5, 3)));
        for text in ["no such user 5.1.1", "5.1 x", "5.1.1.1 x", "3.1.1 x", "5.1.1234 x", "5..1 x", "5.+1.1 x", ""] {
            assert_eq!(Reply::new(550, text).enhanced, None, "{text:?}");
        }
    }

    #[test]
    fn the_text_is_one_line_of_printable_ascii() {
        assert_eq!(Reply::new(250, "a\r\nb\tc\u{7f} \u{e9}\r\n").to_string(), "250 a  b c  ?");
    }

    #[test]
    fn patterns_match_codes_and_enhanced_codes() {
        let reply = Reply::new(550, "5.4.5 daily quota");
        assert!(reply.matches(&ReplyPattern::Code(550)));
        assert!(reply.matches(&ReplyPattern::Enhanced(5, 4, 5)));
        assert!(!reply.matches(&ReplyPattern::Code(450)));
        assert!(!reply.matches(&ReplyPattern::Enhanced(4, 4, 5)));
    }
}
