//! What a client gives away at AUTH (RFC 4954, RFC 4616). Decodes; the session asks and decides.

use data_encoding::BASE64;

/// User and password of a PLAIN response. An authorization identity is only allowed to be the user.
pub(super) fn plain(response: &str) -> Option<(String, String)> {
    let decoded = text(response)?;
    let mut parts = decoded.split('\0');
    let (identity, user, password) = (parts.next()?, parts.next()?, parts.next()?);
    let sound = parts.next().is_none() && (identity.is_empty() || identity == user);
    sound.then(|| (user.to_owned(), password.to_owned()))
}

/// What a refused token is told (RFC 7628 3.2.2).
pub(super) const TOKEN_REFUSED: &str = r#"{"status":"401","schemes":"bearer"}"#;

/// User and token of an XOAUTH2 or OAUTHBEARER response.
pub(super) fn bearer(response: &str) -> Option<(String, String)> {
    let decoded = text(response)?;
    let fields = decoded.strip_suffix("\x01\x01")?;
    let (first, rest) = fields.split_once('\x01')?;
    let user = match first.strip_prefix("user=") {
        Some(user) => user.to_owned(),
        None => first.strip_prefix("n,a=")?.strip_suffix(',')?.replace("=2C", ",").replace("=3D", "="),
    };
    let token = rest.split('\x01').find_map(|field| field.strip_prefix("auth=Bearer "))?;
    Some((user, token.to_owned()))
}

/// One answer of a LOGIN exchange.
pub(super) fn text(response: &str) -> Option<String> {
    // RFC 4954 4: an initial response of length zero is a single equals sign.
    if response == "=" {
        return Some(String::new());
    }
    String::from_utf8(BASE64.decode(response.as_bytes()).ok()?).ok()
}

/// The challenge that asks for this.
pub(super) fn challenge(prompt: &str) -> Vec<u8> {
    format!("334 {}\r\n", BASE64.encode(prompt.as_bytes())).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bearers_have_a_user_and_a_token() {
        let response = |text: &str| BASE64.encode(text.as_bytes());
        let expected = Some(("ann".to_owned(), "t0k".to_owned()));
        assert_eq!(bearer(&response("user=ann\x01auth=Bearer t0k\x01\x01")), expected);
        assert_eq!(bearer(&response("n,a=ann,\x01host=h\x01port=1\x01auth=Bearer t0k\x01\x01")), expected);
        assert_eq!(bearer(&response("user=ann\x01auth=Bearer t0k")), None);
        assert_eq!(bearer(&response("user=ann\x01\x01")), None);
    }

    #[test]
    fn plain_has_three_parts() {
        let response = |text: &str| BASE64.encode(text.as_bytes());
        assert_eq!(plain(&response("\0ann\0secret")), Some(("ann".into(), "secret".into())));
        assert_eq!(plain(&response("ann\0ann\0secret")), Some(("ann".into(), "secret".into())));
        assert_eq!(plain(&response("bob\0ann\0secret")), None);
        assert_eq!(plain(&response("ann\0secret")), None);
        assert_eq!(plain("no base64"), None);
    }
}
