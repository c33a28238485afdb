//! The bytes of commands and of a message.

use std::fmt;

use lettre::Address;

/// A command of a transaction.
#[derive(Debug, Clone, Copy)]
pub(super) enum Command<'a> {
    Reset,
    /// SIZE (RFC 1870) and BODY=8BITMIME (RFC 6152) only where the server announced them.
    Mail {
        from: Option<&'a Address>,
        size: Option<usize>,
        eight_bit: bool,
    },
    Recipient(&'a Address),
    Data,
}

impl Command<'_> {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Reset => "RSET",
            Self::Mail { .. } => "MAIL",
            Self::Recipient(_) => "RCPT",
            Self::Data => "DATA",
        }
    }
}

impl fmt::Display for Command<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reset => f.write_str("RSET\r\n"),
            Self::Mail { from, size, eight_bit } => {
                write!(f, "MAIL FROM:<{}>", from.map_or("", |address| address.as_ref()))?;
                if let Some(size) = size {
                    write!(f, " SIZE={size}")?;
                }
                f.write_str(if *eight_bit { " BODY=8BITMIME\r\n" } else { "\r\n" })
            }
            Self::Recipient(address) => write!(f, "RCPT TO:<{address}>\r\n"),
            Self::Data => f.write_str("DATA\r\n"),
        }
    }
}

/// Appends a message with its dots stuffed (RFC 5321 4.5.2) and the final dot.
pub(super) fn put_body(message: &[u8], out: &mut Vec<u8>) {
    out.reserve(message.len() + 64);
    for line in message.split_inclusive(|byte| *byte == b'\n') {
        if line.first() == Some(&b'.') {
            out.push(b'.');
        }
        out.extend_from_slice(line);
    }
    if !message.is_empty() && !message.ends_with(b"\r\n") {
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b".\r\n");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn body(message: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        put_body(message, &mut out);
        out
    }

    #[test]
    fn a_dot_that_begins_a_line_is_doubled_and_a_last_line_is_ended() {
        assert_eq!(body(b".a\r\n..\r\nb.\r\n.\r\n"), b"..a\r\n...\r\nb.\r\n..\r\n.\r\n");
        assert_eq!(body(b"a"), b"a\r\n.\r\n");
        assert_eq!(body(b""), b".\r\n");
        assert_eq!(body(b"."), b"..\r\n.\r\n");
    }

    #[test]
    fn commands_carry_what_the_server_announced() {
        let address = Address::new("a", "example.com").expect("an address");
        let mail = |from, size, eight_bit| Command::Mail { from, size, eight_bit }.to_string();
        assert_eq!(mail(None, None, false), "MAIL FROM:<>\r\n");
        assert_eq!(mail(Some(&address), Some(7), true), "MAIL FROM:<a@example.com> SIZE=7 BODY=8BITMIME\r\n");
        assert_eq!(Command::Recipient(&address).to_string(), "RCPT TO:<a@example.com>\r\n");
    }

    proptest! {
        /// What a server does (RFC 5321 4.5.2): end at the first line that is a dot alone, else drop a leading dot.
        #[test]
        fn a_server_reads_back_the_same_lines(lines in prop::collection::vec("[.a\u{fc}]{0,4}", 1..8)) {
            let message = lines.join("\r\n") + "\r\n";
            let sent = String::from_utf8(body(message.as_bytes())).expect("text stays text");
            let mut read = Vec::new();
            let mut rest = sent.split("\r\n");
            for line in rest.by_ref() {
                if line == "." {
                    break;
                }
                read.push(line.strip_prefix('.').unwrap_or(line).to_owned());
            }
            prop_assert_eq!(read, lines);
            prop_assert_eq!(rest.collect::<Vec<_>>(), vec![""]);
        }
    }
}
