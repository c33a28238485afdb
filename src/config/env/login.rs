//! Who we are towards the relay: the variables of AUTH and of our certificate, which make sense together only.

use std::path::PathBuf;

use super::{
    super::{AuthMethod, Credentials, SecretSource},
    Reader,
};

/// The texts of the variables.
pub(super) struct Texts<'a> {
    pub(super) users: [(&'static str, Option<&'a String>); 2],
    pub(super) password: Option<&'a String>,
    pub(super) password_file: Option<&'a String>,
    pub(super) token_file: Option<&'a String>,
    pub(super) auth: Option<&'a String>,
}

/// User, password, token and mechanism. There are credentials where a user is set, and then what the mechanism needs.
pub(super) fn read(reader: &mut Reader, texts: &Texts<'_>) -> (Option<Credentials>, AuthMethod) {
    let [newer, older] = texts.users;
    let (user_name, user) = reader.either(newer, older);
    let user = reader.optional(user_name, user, "a user name without control characters", |text| {
        (!text.chars().any(char::is_control)).then(|| text.to_owned())
    });
    let password = reader.secret(("SMTP_PASSWORD", texts.password), ("SMTP_PASSWORD_FILE", texts.password_file));
    let token = reader.secret(("SMTP_TOKEN_FILE", None), ("SMTP_TOKEN_FILE", texts.token_file));
    let expected = "auto, plain, login, xoauth2 or oauthbearer";
    let auth = reader.optional("SMTP_AUTH", texts.auth, expected, |text| match text.to_ascii_lowercase().as_str() {
        "auto" => Some(AuthMethod::Auto),
        "plain" => Some(AuthMethod::Plain),
        "login" => Some(AuthMethod::Login),
        "xoauth2" => Some(AuthMethod::Xoauth2),
        "oauthbearer" => Some(AuthMethod::OauthBearer),
        _ => None,
    });
    let method = auth.unwrap_or(AuthMethod::Auto);
    (credentials(reader, method, user, password, token), method)
}

fn credentials(
    reader: &mut Reader,
    method: AuthMethod,
    user: Option<String>,
    password: Option<SecretSource>,
    token: Option<SecretSource>,
) -> Option<Credentials> {
    let Some(user) = user else {
        let needs = [
            (password.is_some(), "the user of SMTP_PASSWORD"),
            (token.is_some(), "the user of SMTP_TOKEN_FILE"),
            (method != AuthMethod::Auto, "the user for the AUTH that SMTP_AUTH asks for"),
        ];
        if let Some((_, expected)) = needs.into_iter().find(|(set, _)| *set) {
            reader.problem("SMTP_USER", None, expected);
        }
        return None;
    };
    let (missing, variable, expected) = match method {
        AuthMethod::Auto => (
            password.is_none() && token.is_none(),
            "SMTP_PASSWORD",
            "the password of SMTP_USER (or SMTP_PASSWORD_FILE, or SMTP_TOKEN_FILE)",
        ),
        AuthMethod::Plain | AuthMethod::Login => {
            (password.is_none(), "SMTP_PASSWORD", "the password that SMTP_AUTH needs (or SMTP_PASSWORD_FILE)")
        }
        AuthMethod::Xoauth2 | AuthMethod::OauthBearer => {
            (token.is_none(), "SMTP_TOKEN_FILE", "the file of the access token that SMTP_AUTH needs")
        }
    };
    if missing {
        reader.problem(variable, None, expected);
        return None;
    }
    Some(Credentials { user, password, token })
}

/// Our certificate and its key: both files or none.
pub(super) fn identity(
    reader: &mut Reader,
    certificate: Option<&String>,
    key: Option<&String>,
) -> Option<(PathBuf, PathBuf)> {
    let file = |text: Option<&String>| text.filter(|text| !text.is_empty()).map(PathBuf::from);
    match (file(certificate), file(key)) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (Some(_), None) => {
            reader.problem("SMTP_KEY_FILE", None, "the key of SMTP_CERTIFICATE_FILE");
            None
        }
        (None, Some(_)) => {
            reader.problem("SMTP_CERTIFICATE_FILE", None, "the certificate of SMTP_KEY_FILE");
            None
        }
        (None, None) => None,
    }
}
