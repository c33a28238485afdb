//! What the server does instead of its default answer. Describes; [`session`](super::session) performs.

use std::fmt::Write;
use std::time::Duration;

/// What the server does at one point of the dialog.
#[derive(Debug, Clone)]
pub enum Action {
    /// The default answer.
    Accept,
    /// These bytes, as they are. What follows in the dialog is read from the code of their last line: `2xx` accepts,
    /// `354` asks for the content, `421` closes the connection, anything else refuses; without a readable code the
    /// command has no answer.
    Send(Vec<u8>),
    /// These bytes one by one with a pause before each; for the dialog they count as with [`Action::Send`].
    Drip(Vec<u8>, Duration),
    /// The action after a pause. The client sees earlier replies at once.
    Delay(Duration, Box<Action>),
    /// No answer: until the client hangs up, or for a time after which the server hangs up. Meanwhile up to 1 MiB of
    /// what the client sends is read; nothing at [`Command::Handshake`], where its hanging up goes unnoticed.
    ///
    /// [`Command::Handshake`]: super::Command::Handshake
    Silence(Option<Duration>),
    /// Close the connection in order; earlier replies still go out.
    HangUp,
    /// Close the connection by a TCP reset; earlier replies still go out, but the client may lose them.
    Reset,
    /// Take the mail as accepted, then close the connection in order without an answer: the client cannot know.
    TakeAndHangUp,
    /// One after another; the first that answers the command decides.
    Sequence(Vec<Action>),
}

impl Action {
    /// A reply of one line, or of several where `text` has line feeds. `enhanced` is the enhanced status code
    /// (RFC 3463) that each line starts with; empty for none.
    ///
    /// ```
    /// use devkit::smtp::Action;
    /// let Action::Send(bytes) = Action::reply(550, "5.1.1", "no such user\nnor any like it") else { unreachable!() };
    /// assert_eq!(bytes, b"550-5.1.1 no such user\r\n550 5.1.1 nor any like it\r\n");
    /// ```
    pub fn reply(code: u16, enhanced: &str, text: &str) -> Self {
        Self::Send(reply(code, enhanced, text))
    }

    /// These bytes, as they are.
    pub fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        Self::Send(bytes.into())
    }

    /// The reply of [`Action::reply`], then close the connection in order.
    pub fn reply_then_hang_up(code: u16, enhanced: &str, text: &str) -> Self {
        Self::Sequence(vec![Self::reply(code, enhanced, text), Self::HangUp])
    }

    /// The reply of [`Action::reply`] after a pause.
    pub fn late_reply(pause: Duration, code: u16, enhanced: &str, text: &str) -> Self {
        Self::reply(code, enhanced, text).after(pause)
    }

    /// The reply of [`Action::reply`] byte by byte, with a pause before each.
    pub fn drip(interval: Duration, code: u16, enhanced: &str, text: &str) -> Self {
        Self::Drip(reply(code, enhanced, text), interval)
    }

    /// No answer until the client hangs up.
    pub fn silence() -> Self {
        Self::Silence(None)
    }

    /// This action after a pause.
    #[must_use]
    pub fn after(self, pause: Duration) -> Self {
        Self::Delay(pause, Box::new(self))
    }
}

/// The bytes of a reply.
pub(super) fn reply(code: u16, enhanced: &str, text: &str) -> Vec<u8> {
    let mut bytes = String::new();
    let mut lines = text.split('\n').peekable();
    while let Some(line) = lines.next() {
        let mark = if lines.peek().is_some() { '-' } else { ' ' };
        let space = if enhanced.is_empty() || line.is_empty() { "" } else { " " };
        // Writing to a String cannot fail.
        let _ = write!(bytes, "{code}{mark}{enhanced}{space}{line}\r\n");
    }
    bytes.into_bytes()
}

/// The code of the last line, where it has one.
pub(super) fn code_of(bytes: &[u8]) -> Option<u16> {
    let line = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let start = line.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    let line = &line[start..];
    let digits = line.get(..3).filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
    if !matches!(line.get(3), None | Some(b' ' | b'\r')) {
        return None;
    }
    Some(digits.iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_has_the_code() {
        assert_eq!(code_of(b"250 fine\r\n"), Some(250));
        assert_eq!(code_of(b"250\r\n"), Some(250));
        assert_eq!(code_of(b"250-fine\r\n451 4.0.0 or not\r\n"), Some(451));
        assert_eq!(code_of(b"250 gr\xfc\xdfe\r\n"), Some(250));
        assert_eq!(code_of(b"250-more\r\n"), None);
        assert_eq!(code_of(b"25"), None);
        assert_eq!(code_of(b"rubbish\r\n"), None);
        assert_eq!(code_of(b""), None);
    }

    #[test]
    fn a_reply_without_an_enhanced_code_has_none() {
        assert_eq!(reply(250, "", "fine"), b"250 fine\r\n");
    }
}
