//! Sessions to the relay and what its answers mean.

use std::fmt;

/// An SMTP reply that was read whole (RFC 5321 4.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Three digits, 200..=599.
    pub code: u16,
    /// Enhanced status code (RFC 3463) where the text starts with one.
    pub enhanced: Option<(u8, u16, u16)>,
    /// Text of all lines, joined by a space; bytes above 0x7f are `?`, controls are spaces.
    pub text: String,
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, self.text)
    }
}
