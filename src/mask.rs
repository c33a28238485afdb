//! Addresses as they may stand in logs: enough to recognise, not enough to write to.

use std::borrow::Cow;

use lettre::Address;

/// `u***@example.com` for `user@example.com`.
pub fn address(address: &Address) -> String {
    let first: String = address.user().chars().take(1).collect();
    format!("{first}***@{}", address.domain())
}

/// Several addresses, masked; the first three of them by name.
pub fn list<'a>(addresses: impl IntoIterator<Item = &'a Address>) -> String {
    let all: Vec<String> = addresses.into_iter().map(address).collect();
    match all.len() {
        0..=3 => all.join(","),
        more => format!("{} and {} more", all[..3].join(","), more - 3),
    }
}

/// Masks whatever looks like an address in a text from outside, such as a reply of the relay.
pub fn text(text: &str) -> String {
    text.split_inclusive(' ').map(word).collect()
}

/// The local part of an address in a word becomes its first letter.
fn word(word: &str) -> Cow<'_, str> {
    let Some(at) = word.find('@') else { return Cow::Borrowed(word) };
    let is_local = |c: char| c.is_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.\"".contains(c);
    let start = word[..at]
        .rfind(|c| !is_local(c))
        .map_or(0, |before| before + word[before..].chars().next().map_or(1, char::len_utf8));
    let first: String = word[start..at].chars().take(1).collect();
    Cow::Owned(format!("{}{first}***{}", &word[..start], &word[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Address {
        text.parse().expect("an address")
    }

    #[test]
    fn keeps_the_first_letter_and_the_domain() {
        assert_eq!(address(&parsed("user@example.com")), "u***@example.com");
        let many: Vec<Address> = (0..5).map(|number| parsed(&format!("{number}@example.com"))).collect();
        assert_eq!(list(&many), "0***@example.com,1***@example.com,2***@example.com and 2 more");
    }

    #[test]
    fn finds_addresses_in_replies() {
        assert_eq!(
            text("550 5.1.1 <user.name@example.com>: unknown, ask postmaster@example.com."),
            "550 5.1.1 <u***@example.com>: unknown, ask p***@example.com."
        );
        assert_eq!(text("250 2.0.0 Ok: queued as 4Bx7"), "250 2.0.0 Ok: queued as 4Bx7");
        assert_eq!(text("é@x @ a@"), "é***@x ***@ a***@");
    }
}
