//! The points of an SMTP dialog that a script can hook into. Knows verbs, not their arguments.

/// A point of the dialog at which the server answers.
///
/// Most are verbs of RFC 5321; [`Command::Banner`], [`Command::Handshake`], [`Command::Body`] and [`Command::Dot`] are
/// moments that have no verb of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Command {
    /// The connection has been opened (after the TLS handshake where TLS is implicit); the default answer is 220.
    Banner,
    /// The TLS handshake is about to begin; anything but [`Action::Accept`](super::Action::Accept) prevents it.
    Handshake,
    /// `EHLO`.
    Ehlo,
    /// `HELO`.
    Helo,
    /// `STARTTLS` (RFC 3207).
    StartTls,
    /// `AUTH` (RFC 4954), asked once the client has given its credentials.
    Auth,
    /// `MAIL FROM`.
    Mail,
    /// `RCPT TO`.
    Rcpt,
    /// `DATA`; the default answer is 354.
    Data,
    /// The 354 is out and nothing of the content has been read; the default is to read on without a reply.
    Body,
    /// The final dot has been read.
    Dot,
    /// `RSET`.
    Rset,
    /// `NOOP`.
    Noop,
    /// `QUIT`.
    Quit,
    /// Any other line; the default answer is 500.
    Other,
}

impl Command {
    /// How many points there are.
    pub(super) const COUNT: usize = 15;

    /// Position in a table of [`Command::COUNT`] entries.
    pub(super) fn index(self) -> usize {
        self as usize
    }

    /// The verb that a line starts with, in any case.
    pub(super) fn of_line(line: &[u8]) -> Self {
        const VERBS: [(&[u8], Command); 9] = [
            (b"EHLO", Command::Ehlo),
            (b"HELO", Command::Helo),
            (b"MAIL", Command::Mail),
            (b"RCPT", Command::Rcpt),
            (b"DATA", Command::Data),
            (b"RSET", Command::Rset),
            (b"NOOP", Command::Noop),
            (b"QUIT", Command::Quit),
            (b"AUTH", Command::Auth),
        ];
        let end = line.iter().position(|&byte| byte == b' ').unwrap_or(line.len());
        let verb = &line[..end];
        if verb.eq_ignore_ascii_case(b"STARTTLS") {
            return Self::StartTls;
        }
        VERBS.iter().find(|(name, _)| verb.eq_ignore_ascii_case(name)).map_or(Self::Other, |&(_, command)| command)
    }

    /// Whether it has to be the last of a pipelined group (RFC 2920 3.1).
    pub(super) fn ends_group(self) -> bool {
        matches!(self, Self::Ehlo | Self::StartTls | Self::Auth | Self::Data | Self::Quit | Self::Noop)
    }
}
