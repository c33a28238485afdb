//! The arguments of MAIL and RCPT, and what may not be in a content (RFC 5321 4.1, 4.5.3; RFC 5322 2.1.1, 2.3).

/// A path with its parameters.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Path<'a> {
    /// Without angle brackets and source route.
    pub(super) address: &'a str,
    pub(super) parameters: &'a str,
    /// There was space before the bracket, which RFC 5321 3.3 forbids and most servers allow.
    pub(super) spaced: bool,
}

impl<'a> Path<'a> {
    /// The path of a line that starts with this, such as `MAIL FROM:`.
    pub(super) fn parse(line: &'a str, start: &str) -> Option<Self> {
        let rest = line.get(start.len()..).filter(|_| line.is_char_boundary(start.len()))?;
        if !line[..start.len()].eq_ignore_ascii_case(start) {
            return None;
        }
        let path = rest.trim_start_matches(' ');
        let (address, parameters) = path.strip_prefix('<')?.split_once('>')?;
        if !parameters.is_empty() && !parameters.starts_with(' ') {
            return None;
        }
        let address = match address.strip_prefix('@') {
            Some(route) => route.split_once(':')?.1,
            None => address,
        };
        Some(Self { address, parameters: parameters.trim(), spaced: path.len() < rest.len() })
    }

    /// The value of a parameter, empty where it has none.
    pub(super) fn parameter(&self, name: &str) -> Option<&'a str> {
        self.parameters.split(' ').find_map(|parameter| {
            let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

/// The first thing in a content that no client may send.
pub(super) fn fault(content: &[u8], eight_bit: bool) -> Option<&'static str> {
    let mut start = 0;
    for end in memchr::memchr_iter(b'\n', content) {
        if end == start || content[end - 1] != b'\r' {
            return Some("a bare LF in the content");
        }
        if end - 1 - start > 998 {
            return Some("a line of more than 998 octets in the content");
        }
        start = end + 1;
    }
    let returns = memchr::memchr_iter(b'\r', content).filter(|&at| content.get(at + 1) != Some(&b'\n')).count();
    if returns > 0 {
        return Some("a bare CR in the content");
    }
    if memchr::memchr(0, content).is_some() {
        return Some("a NUL in the content");
    }
    (!eight_bit && !content.is_ascii()).then_some("8-bit content without BODY=8BITMIME")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_addresses_and_parameters() {
        let path = Path::parse("mail from:<a@b> SIZE=12 BODY=8BITMIME", "MAIL FROM:").expect("a path");
        assert_eq!((path.address, path.parameter("size"), path.parameter("SMTPUTF8")), ("a@b", Some("12"), None));
        assert!(!path.spaced);
        assert_eq!(Path::parse("RCPT TO:<@relay,@other:a@b>", "RCPT TO:").map(|path| path.address), Some("a@b"));
        assert_eq!(Path::parse("MAIL FROM:<>", "MAIL FROM:").map(|path| path.address), Some(""));
        assert!(Path::parse("RCPT TO: <a@b>", "RCPT TO:").is_some_and(|path| path.spaced));
        for wrong in ["RCPT TO:a@b", "RCPT TO:<a@b", "RCPT TO:<a@b>x", "RCPT", "RCPT FROM:<a@b>", "RCPT T\u{d6}:<a@b>"]
        {
            assert_eq!(Path::parse(wrong, "RCPT TO:"), None, "{wrong}");
        }
    }

    #[test]
    fn faults_of_contents_are_found() {
        assert_eq!(fault(b"fine\r\n\r\n.\r\n", false), None);
        assert_eq!(fault(b"\n", false), Some("a bare LF in the content"));
        assert_eq!(fault(b"a\r\n\nb\r\n", false), Some("a bare LF in the content"));
        assert_eq!(fault(b"a\rb\r\n", false), Some("a bare CR in the content"));
        assert_eq!(fault(b"a\0\r\n", false), Some("a NUL in the content"));
        assert_eq!(fault("\u{fc}\r\n".as_bytes(), true), None);
        assert!(fault("\u{fc}\r\n".as_bytes(), false).is_some());
        assert_eq!(fault(&[&[b'a'; 998][..], b"\r\n"].concat(), false), None);
        assert!(fault(&[&[b'a'; 999][..], b"\r\n"].concat(), false).is_some());
    }
}
