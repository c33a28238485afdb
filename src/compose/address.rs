//! Addresses as SMTP without SMTPUTF8 takes them (RFC 5321 4.1.2), whatever the type let through.

use std::net::{IpAddr, Ipv6Addr};

use lettre::{Address, message::Mailbox};

use super::{ComposeError, header};

/// Somebody in a header field: checked, ASCII address, name without controls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Party {
    pub(super) name: Option<String>,
    pub(super) address: Address,
}

pub(super) fn party(mailbox: &Mailbox, field: &str) -> Result<Party, ComposeError> {
    let name = mailbox.name.as_deref().map(str::trim).filter(|name| !name.is_empty());
    // Before the trimming: a line break at the end is one, too.
    if mailbox.name.as_deref().is_some_and(header::has_controls) {
        return Err(ComposeError::bad_address(field, "control characters in the display name"));
    }
    Ok(Party { name: name.map(str::to_owned), address: ascii(&mailbox.email, field)? })
}

/// The address with its domain as A-labels (RFC 5890).
pub(super) fn ascii(address: &Address, field: &str) -> Result<Address, ComposeError> {
    let (user, domain) = (address.user(), address.domain());
    if !user.is_ascii() {
        return Err(ComposeError::bad_address(field, "the part before the @ is not ASCII"));
    }
    if !is_local_part(user) {
        return Err(ComposeError::bad_address(field, "the part before the @ is not valid"));
    }
    let domain = domain_to_ascii(domain).ok_or_else(|| ComposeError::bad_address(field, "the domain is not valid"))?;
    // Checked above by the rules of SMTP, which are narrower but for IPv6 literals.
    Ok(Address::new_dangerous(user, domain))
}

/// Whether it can stand in an SMTP command: no space, no control, no angle bracket, nothing beyond ASCII.
pub(crate) fn is_plain(address: &Address) -> bool {
    let text: &str = address.as_ref();
    text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'<' && byte != b'>')
}

/// Dot-atom or quoted string (RFC 5321 4.1.2), at most 64 octets. Blanks and angle brackets are refused even in quotes:
/// servers differ in where they see the end of such an address, and a session takes none.
fn is_local_part(text: &str) -> bool {
    if text.is_empty() || text.len() > 64 {
        return false;
    }
    match text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        Some(inside) => {
            let mut escaped = false;
            let sound = inside.bytes().all(|b| {
                let sound = matches!(b, b'!'..=b'~') && !matches!(b, b'<' | b'>') && (escaped || b != b'"');
                escaped = !escaped && b == b'\\';
                sound
            });
            text.len() > 1 && sound && !escaped
        }
        None => text.split('.').all(|atom| {
            !atom.is_empty() && atom.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&b))
        }),
    }
}

fn domain_to_ascii(domain: &str) -> Option<String> {
    if let Some(inside) = domain.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        return match inside.strip_prefix("IPv6:").map(str::parse::<Ipv6Addr>) {
            Some(address) => address.ok().map(|address| format!("[IPv6:{address}]")),
            None => inside.parse().ok().map(literal),
        };
    }
    if let Ok(address) = domain.parse() {
        return Some(literal(address));
    }
    let ascii = if domain.is_ascii() { domain.to_owned() } else { idna::domain_to_ascii(domain).ok()? };
    // Also after the conversion: it maps full-width forms to ASCII, '＞' to '>' among them.
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    (ascii.len() <= 253 && ascii.split('.').all(is_label)).then_some(ascii)
}

/// Address literal (RFC 5321 4.1.3).
fn literal(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => format!("[{address}]"),
        IpAddr::V6(address) => format!("[IPv6:{address}]"),
    }
}
