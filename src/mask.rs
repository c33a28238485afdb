//! Addresses as they may stand in logs: enough to recognise, not enough to write to.

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

/// Masks whatever looks like an address in a text from outside, such as a reply of the relay: its local part becomes
/// `***`, for nobody can say where in a foreign text its first letter stands.
pub fn text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((at, sign)) = next_at(rest) {
        let before = &rest[..at];
        out.push_str(&before[..local_part_start(before)]);
        out.push_str("***");
        out.push_str(sign);
        rest = &rest[at + sign.len()..];
    }
    out.push_str(rest);
    out
}

fn next_at(text: &str) -> Option<(usize, &'static str)> {
    ["@", "%40", "\u{ff20}"].into_iter().filter_map(|sign| Some((text.find(sign)?, sign))).min()
}

/// Where the local part begins that `before` ends with: a quoted string, or a run without delimiters.
fn local_part_start(before: &str) -> usize {
    let before = before.trim_end();
    if let Some(quoted) = before.strip_suffix('"') {
        let mut quotes = quoted.rmatch_indices('"').map(|(at, _)| at);
        return quotes.find(|at| !quoted[..*at].ends_with('\\')).unwrap_or(0);
    }
    let delimiter = before.rfind(|c: char| c.is_whitespace() || "<>()[],;:\"".contains(c));
    delimiter.map_or(0, |at| at + before[at..].chars().next().map_or(0, char::len_utf8))
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
            "550 5.1.1 <***@example.com>: unknown, ask ***@example.com."
        );
        assert_eq!(text("250 2.0.0 Ok: queued as 4Bx7"), "250 2.0.0 Ok: queued as 4Bx7");
        assert_eq!(text("<alice@x.com>,<bob@y.com>"), "<***@x.com>,<***@y.com>");
        assert_eq!(text("\"john doe\"@example.com, bob%40example.com"), "***@example.com, ***%40example.com");
    }
}
