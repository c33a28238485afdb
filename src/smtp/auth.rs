//! AUTH (RFC 4954): which mechanism is used, and what is said in it.
//!
//! Owns the exchange from the AUTH command to its last reply, and that nothing of a secret stays in an error. Where
//! secrets come from, and how often one is tried, is the connector's.

use std::collections::HashSet;

use data_encoding::BASE64;

use super::{
    Capabilities, Reply,
    greeting::{self, Greeter},
    reply::clean,
};
use crate::config::{AuthMethod, Credentials, SecretSource};

/// Longest command line in bytes with its CRLF (RFC 5321 4.5.3.1.4): a longer initial response waits for its challenge.
const MAX_COMMAND: usize = 512;
/// Longest reason of a refused token that is repeated, in characters.
const MAX_REASON: usize = 300;

/// What stands in a reply for a word that could tell a secret.
const HIDDEN: &str = "***";
/// Shortest part of what was sent by which it is recognized, in characters.
const MIN_PART: usize = 6;
/// Longest run of base64 that is shown, in characters: ids of sessions and mails are shorter.
const MAX_RUN: usize = 40;

/// A SASL mechanism.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mechanism {
    OauthBearer,
    Xoauth2,
    Plain,
    Login,
}

impl Mechanism {
    /// From the best to the worst.
    const ALL: [Self; 4] = [Self::OauthBearer, Self::Xoauth2, Self::Plain, Self::Login];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::OauthBearer => "OAUTHBEARER",
            Self::Xoauth2 => "XOAUTH2",
            Self::Plain => "PLAIN",
            Self::Login => "LOGIN",
        }
    }

    fn is_meant_by(self, method: AuthMethod) -> bool {
        match method {
            AuthMethod::Auto => true,
            AuthMethod::Plain => self == Self::Plain,
            AuthMethod::Login => self == Self::Login,
            AuthMethod::Xoauth2 => self == Self::Xoauth2,
            AuthMethod::OauthBearer => self == Self::OauthBearer,
        }
    }

    /// What proves who we are.
    fn secret(self, credentials: &Credentials) -> Option<&SecretSource> {
        match self {
            Self::OauthBearer | Self::Xoauth2 => credentials.token.as_ref(),
            Self::Plain | Self::Login => credentials.password.as_ref(),
        }
    }
}

/// The best mechanism that the settings allow, that there is a secret for, and that the server offers; otherwise what
/// is wrong, as a clause.
pub(super) fn choose<'a>(
    method: AuthMethod,
    credentials: &'a Credentials,
    capabilities: &Capabilities,
) -> Result<(Mechanism, &'a SecretSource), String> {
    let wanted: Vec<_> = Mechanism::ALL
        .into_iter()
        .filter(|mechanism| mechanism.is_meant_by(method))
        .filter_map(|mechanism| Some((mechanism, mechanism.secret(credentials)?)))
        .collect();
    if let Some(found) = wanted.iter().find(|(mechanism, _)| capabilities.offers_auth(mechanism.name())) {
        return Ok(*found);
    }
    let names: Vec<_> = wanted.iter().map(|(mechanism, _)| mechanism.name()).collect();
    let offered = match capabilities.auth.as_slice() {
        [] => "no AUTH at all".to_owned(),
        names => format!("AUTH {} only", names.join(" ")),
    };
    Err(format!("the server offers {offered}, and not {}", names.join(" or ")))
}

/// Why AUTH failed.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum Error {
    #[error("the server answered {reply} to AUTH {}{}", mechanism.name(), reason.as_ref().map(|text| format!(" ({text})")).unwrap_or_default())]
    Refused {
        mechanism: Mechanism,
        reply: Reply,
        /// What the server said of a token before it refused it.
        reason: Option<String>,
    },
    #[error("the server asked for more than AUTH {} has", .0.name())]
    Asked(Mechanism),
    #[error("the server answered {code} to AUTH {}, which is neither yes nor no", mechanism.name())]
    Neither { mechanism: Mechanism, code: u16 },
    #[error("{0}")]
    Greeting(String),
}

impl From<greeting::Error> for Error {
    fn from(error: greeting::Error) -> Self {
        // no line that was sent stands in it, so no secret does
        Self::Greeting(error.to_string())
    }
}

/// Who logs in, where and how.
pub(super) struct Login<'a> {
    pub(super) mechanism: Mechanism,
    pub(super) user: &'a str,
    pub(super) secret: &'a str,
    pub(super) host: &'a str,
    pub(super) port: u16,
}

impl Login<'_> {
    /// Runs the whole exchange.
    pub(super) async fn run(&self, greeter: &mut Greeter) -> Result<(), Error> {
        let mechanism = self.mechanism;
        let mut responses = self.responses().into_iter();
        let mut command = format!("AUTH {}", mechanism.name());
        if mechanism != Mechanism::Login {
            let initial = responses.as_slice().first().map(|initial| format!("{command} {initial}"));
            if let Some(line) = initial.filter(|line| line.len() + 2 <= MAX_COMMAND) {
                command = line;
                responses.next();
            }
        }
        let mut reply = greeter.exchange(&command).await?;
        let mut reason = None;
        // each challenge takes a response, so this ends
        while reply.code == 334 {
            reply = match responses.next() {
                Some(response) => greeter.exchange(&response).await?,
                None if reason.is_none() && self.explains_itself() => {
                    reason = Some(readable(&reply.text));
                    greeter.exchange(self.acknowledgement()).await?
                }
                None => {
                    greeter.cancel().await;
                    return Err(Error::Asked(mechanism));
                }
            };
        }
        if reply.is_positive() && reason.is_none() {
            return Ok(());
        }
        if reply.is_negative() {
            let reply = Reply { text: self.redact(&reply.text), ..reply };
            return Err(Error::Refused { mechanism, reply, reason: reason.map(|text| self.redact(&text)) });
        }
        Err(Error::Neither { mechanism, code: reply.code })
    }

    /// What is said, in base64; the first of them may stand in the command.
    fn responses(&self) -> Vec<String> {
        let Self { user, secret, host, port, .. } = self;
        let plain = match self.mechanism {
            Mechanism::Plain => vec![format!("\0{user}\0{secret}")],
            Mechanism::Login => vec![(*user).to_owned(), (*secret).to_owned()],
            Mechanism::Xoauth2 => vec![format!("user={user}\x01auth=Bearer {secret}\x01\x01")],
            Mechanism::OauthBearer => {
                // RFC 5801 4: these two have a meaning in the header
                let user = user.replace('=', "=3D").replace(',', "=2C");
                vec![format!("n,a={user},\x01host={host}\x01port={port}\x01auth=Bearer {secret}\x01\x01")]
            }
        };
        plain.into_iter().map(|text| BASE64.encode(text.as_bytes())).collect()
    }

    /// Whether a further challenge is not a question but says why a token is refused.
    fn explains_itself(&self) -> bool {
        matches!(self.mechanism, Mechanism::Xoauth2 | Mechanism::OauthBearer)
    }

    /// Answer to such a challenge: nothing, or one control-A (RFC 7628 3.2.3).
    fn acknowledgement(&self) -> &'static str {
        if self.mechanism == Mechanism::OauthBearer { "AQ==" } else { "" }
    }

    /// Servers do repeat what they did not understand: whole, cut off or folded, as it was sent or decoded. A word that
    /// has a part of that is not shown.
    fn redact(&self, text: &str) -> String {
        let mut sent: Vec<String> = self.responses();
        // what LOGIN says first is the user, and no secret
        sent.drain(..usize::from(self.mechanism == Mechanism::Login));
        sent.extend([BASE64.encode(self.secret.as_bytes()), self.secret.to_owned(), clean(self.secret)]);
        // as the bytes beyond ASCII of a reply are read
        sent.push(self.secret.bytes().map(|byte| if byte.is_ascii() { char::from(byte) } else { '?' }).collect());
        let parts: Vec<(usize, HashSet<&[u8]>)> = sent
            .iter()
            .filter(|sent| !sent.is_empty())
            .map(|sent| (sent.len().min(MIN_PART), sent.as_bytes().windows(sent.len().min(MIN_PART)).collect()))
            .collect();
        let bytes = text.as_bytes();
        let mut shown: Vec<&str> = Vec::new();
        let mut start = 0;
        let mut secret = vec![false; bytes.len()];
        for (length, parts) in &parts {
            for (at, window) in bytes.windows(*length).enumerate() {
                if parts.contains(window) {
                    secret[at..at + length].fill(true);
                }
            }
        }
        for word in text.split(' ') {
            let end = start + word.len();
            let hidden = secret[start..end].contains(&true) || longest_run(word) > MAX_RUN;
            match shown.last() {
                Some(&HIDDEN) if hidden => {}
                _ => shown.push(if hidden { HIDDEN } else { word }),
            }
            start = end + 1;
        }
        shown.join(" ")
    }
}

/// Longest run of characters that base64 is made of.
fn longest_run(word: &str) -> usize {
    let base64 = |c: char| c.is_ascii_alphanumeric() || "+/=".contains(c);
    word.split(|c| !base64(c)).map(str::len).max().unwrap_or_default()
}

/// The challenge that explains a refusal: base64 of a JSON object of texts, as a list of words.
fn readable(challenge: &str) -> String {
    let bytes = BASE64.decode(challenge.trim().as_bytes()).unwrap_or_else(|_| challenge.as_bytes().to_vec());
    let text = String::from_utf8_lossy(&bytes);
    let text = match serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&text) {
        Ok(fields) => {
            let word = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            fields.iter().map(|(name, value)| format!("{name} {}", word(value))).collect::<Vec<_>>().join(", ")
        }
        Err(_) => text.into_owned(),
    };
    clean(&text).chars().take(MAX_REASON).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    fn login(mechanism: Mechanism) -> Login<'static> {
        Login { mechanism, user: "me@example.com", secret: "hunter2", host: "relay.example.com", port: 587 }
    }

    fn credentials(password: bool, token: bool) -> Credentials {
        let secret = |there: bool| there.then(|| SecretSource::Value(Secret::new("x")));
        Credentials { user: "me".to_owned(), password: secret(password), token: secret(token) }
    }

    fn chosen(method: AuthMethod, password: bool, token: bool, offered: &[&str]) -> Result<&'static str, String> {
        let auth = offered.iter().map(|&name| name.to_owned()).collect();
        let capabilities = Capabilities { auth, ..Capabilities::default() };
        choose(method, &credentials(password, token), &capabilities).map(|(mechanism, _)| mechanism.name())
    }

    #[test]
    fn the_best_is_what_is_offered_and_what_there_is_a_secret_for() {
        let all = ["LOGIN", "PLAIN", "XOAUTH2", "OAUTHBEARER"];
        assert_eq!(chosen(AuthMethod::Auto, true, true, &all), Ok("OAUTHBEARER"));
        assert_eq!(chosen(AuthMethod::Auto, true, true, &all[..3]), Ok("XOAUTH2"));
        assert_eq!(chosen(AuthMethod::Auto, true, false, &all), Ok("PLAIN"));
        assert_eq!(chosen(AuthMethod::Auto, true, true, &all[..1]), Ok("LOGIN"));
        for (method, name) in [
            (AuthMethod::Plain, "PLAIN"),
            (AuthMethod::Login, "LOGIN"),
            (AuthMethod::Xoauth2, "XOAUTH2"),
            (AuthMethod::OauthBearer, "OAUTHBEARER"),
        ] {
            assert_eq!(chosen(method, true, true, &all), Ok(name));
        }
    }

    #[test]
    fn what_is_missing_is_said() {
        let says = |method, password, token, offered: &[&str], expected: &str| {
            assert_eq!(chosen(method, password, token, offered), Err(expected.to_owned()));
        };
        says(AuthMethod::Auto, true, false, &[], "the server offers no AUTH at all, and not PLAIN or LOGIN");
        let expected = "the server offers AUTH GSSAPI NTLM only, and not OAUTHBEARER or XOAUTH2 or PLAIN or LOGIN";
        says(AuthMethod::Auto, true, true, &["GSSAPI", "NTLM"], expected);
        says(AuthMethod::Plain, true, true, &["XOAUTH2"], "the server offers AUTH XOAUTH2 only, and not PLAIN");
    }

    #[test]
    fn the_responses_are_those_of_the_standards() {
        let said = |mechanism| {
            let decode = |text: &String| String::from_utf8(BASE64.decode(text.as_bytes()).expect("base64"));
            login(mechanism).responses().iter().map(|text| decode(text).expect("UTF-8")).collect::<Vec<_>>()
        };
        assert_eq!(said(Mechanism::Plain), ["\0me@example.com\0hunter2"]);
        assert_eq!(said(Mechanism::Login), ["me@example.com", "hunter2"]);
        assert_eq!(said(Mechanism::Xoauth2), ["user=me@example.com\x01auth=Bearer hunter2\x01\x01"]);
        assert_eq!(
            said(Mechanism::OauthBearer),
            ["n,a=me@example.com,\x01host=relay.example.com\x01port=587\x01auth=Bearer hunter2\x01\x01"]
        );
        // the example of RFC 7628 4.1 escapes nothing; these two must be
        let odd = Login { user: "a,b=c", ..login(Mechanism::OauthBearer) };
        let decoded = BASE64.decode(odd.responses()[0].as_bytes()).expect("base64");
        assert!(decoded.starts_with(b"n,a=a=2Cb=3Dc,\x01"));
    }

    #[test]
    fn an_echoed_secret_is_not_shown() {
        let login = login(Mechanism::Plain);
        let whole = BASE64.encode(b"\0me@example.com\0hunter2");
        let text = format!("5.5.2 AUTH PLAIN {whole} / {} / hunter2", BASE64.encode(b"hunter2"));
        assert_eq!(login.redact(&text), "5.5.2 AUTH PLAIN *** / *** / ***");
        assert_eq!(Login { secret: "", ..login }.redact("text"), "text");
    }

    #[test]
    fn an_echo_that_is_cut_or_folded_shows_nothing_of_the_secret() {
        let login = login(Mechanism::Plain);
        let whole = BASE64.encode(b"\0me@example.com\0hunter2");
        // servers repeat so many bytes of a line and no more, or fold it into two lines of a reply
        for echo in [whole[..whole.len() - 4].to_owned(), format!("{} {}", &whole[..20], &whole[20..])] {
            let shown = login.redact(&format!("5.5.2 unrecognized: AUTH PLAIN {echo}"));
            assert_eq!(shown, "5.5.2 unrecognized: AUTH PLAIN ***");
        }
        let odd = Login { secret: "p\u{e4}ss-hunter2", ..login };
        let reply = Reply::new(535, "5.7.8 wrong password p\u{e4}ss-hunter2");
        assert_eq!(odd.redact(&reply.text), "5.7.8 wrong password ***");
        let umlauts = Login { secret: "a\u{e4}b", ..odd };
        assert_eq!(umlauts.redact("no a?b nor a??b"), "no *** nor ***");
    }

    #[test]
    fn what_was_not_sent_is_shown_unless_it_looks_like_a_token() {
        let text = "5.7.8 Username and Password not accepted. https://support.google.com/mail/?p=BadCredentials \
                    d9443c01a7336-29f5b6c1d2esm7890123f8f.41 - gsmtp";
        assert_eq!(login(Mechanism::Plain).redact(text), text);
        let foreign = format!("5.7.8 no {}", BASE64.encode(&[7; 60]));
        assert_eq!(login(Mechanism::Plain).redact(&foreign), "5.7.8 no ***");
    }

    #[test]
    fn reasons_are_readable_and_short() {
        let challenge = BASE64.encode(br#"{"status":"401","schemes":"bearer"}"#);
        assert_eq!(readable(&challenge), "schemes bearer, status 401");
        assert_eq!(readable("no base64!"), "no base64!");
        assert_eq!(readable(&BASE64.encode("gr\u{fc}n\r\n250 ok".as_bytes())), "gr?n  250 ok");
        assert_eq!(readable(&"x".repeat(1001)).len(), MAX_REASON);
    }
}
