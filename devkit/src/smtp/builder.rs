//! What a server offers and how it behaves where no rule says otherwise.

use std::path::PathBuf;
use std::time::Duration;

use super::tls::{Certificate, Mode};
use super::{Command, Retention, Rule, SmtpServer, StartError};

/// Options of a server that has not been started yet.
#[derive(Debug)]
#[must_use]
pub struct Builder {
    pub(super) options: Options,
    pub(super) port: u16,
    pub(super) certificate: Certificate,
    pub(super) rules: Vec<Rule>,
}

#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches, one for each keyword of EHLO")]
pub(super) struct Options {
    pub(super) pipelining: bool,
    pub(super) eight_bit_mime: bool,
    pub(super) smtputf8: bool,
    pub(super) enhanced_status_codes: bool,
    pub(super) size: Option<usize>,
    pub(super) keywords: Vec<String>,
    pub(super) lower_case_keywords: bool,
    pub(super) tls: Mode,
    pub(super) require_tls: bool,
    pub(super) login: Option<(String, String)>,
    pub(super) mechanisms: Vec<String>,
    pub(super) require_auth: bool,
    pub(super) inject_after_starttls: Vec<u8>,
    pub(super) max_connections: Option<usize>,
    pub(super) max_mails: Option<u64>,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) latency: [Duration; Command::COUNT],
    pub(super) transcripts: bool,
    pub(super) retention: Retention,
    pub(super) folder: Option<PathBuf>,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            options: Options {
                pipelining: true,
                eight_bit_mime: true,
                smtputf8: true,
                enhanced_status_codes: true,
                size: Some(10_240_000),
                keywords: Vec::new(),
                lower_case_keywords: false,
                tls: Mode::Never,
                require_tls: false,
                login: None,
                mechanisms: vec!["PLAIN".into(), "LOGIN".into()],
                require_auth: false,
                inject_after_starttls: Vec::new(),
                max_connections: None,
                max_mails: None,
                idle_timeout: None,
                latency: [Duration::ZERO; Command::COUNT],
                transcripts: false,
                retention: Retention::Full,
                folder: None,
            },
            port: 0,
            certificate: Certificate {
                names: vec!["localhost".into(), "127.0.0.1".into()],
                expired: false,
                from_clients: false,
            },
            rules: Vec::new(),
        }
    }
}

impl Builder {
    /// The port on 127.0.0.1; 0, the default, takes a free one.
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Whether EHLO names PIPELINING (RFC 2920); it does by default.
    pub fn pipelining(mut self, offered: bool) -> Self {
        self.options.pipelining = offered;
        self
    }

    /// Whether EHLO names 8BITMIME (RFC 6152); it does by default.
    pub fn eight_bit_mime(mut self, offered: bool) -> Self {
        self.options.eight_bit_mime = offered;
        self
    }

    /// Whether EHLO names SMTPUTF8 (RFC 6531); it does by default.
    pub fn smtputf8(mut self, offered: bool) -> Self {
        self.options.smtputf8 = offered;
        self
    }

    /// Whether EHLO names ENHANCEDSTATUSCODES (RFC 2034) and default replies have them; so by default.
    pub fn enhanced_status_codes(mut self, offered: bool) -> Self {
        self.options.enhanced_status_codes = offered;
        self
    }

    /// The SIZE that EHLO names (RFC 1870), in octets; larger mails are refused with 552. 10,240,000 by default; `None`
    /// names and refuses nothing.
    pub fn size(mut self, octets: Option<usize>) -> Self {
        self.options.size = octets;
        self
    }

    /// A further line of the EHLO reply.
    pub fn keyword(mut self, line: &str) -> Self {
        self.options.keywords.push(line.to_owned());
        self
    }

    /// EHLO names all keywords in lower case.
    pub fn lower_case_keywords(mut self) -> Self {
        self.options.lower_case_keywords = true;
        self
    }

    /// Offers STARTTLS (RFC 3207) with a certificate of an authority of the server's own.
    pub fn starttls(mut self) -> Self {
        self.options.tls = Mode::StartTls;
        self
    }

    /// TLS from the first byte (RFC 8314).
    pub fn implicit_tls(mut self) -> Self {
        self.options.tls = Mode::Implicit;
        self
    }

    /// Refuses MAIL with 530 before STARTTLS.
    pub fn require_tls(mut self) -> Self {
        self.options.require_tls = true;
        self
    }

    /// The names, or addresses, of the certificate instead of `localhost` and `127.0.0.1`.
    pub fn certificate_names(mut self, names: &[&str]) -> Self {
        self.certificate.names = names.iter().map(|&name| name.to_owned()).collect();
        self
    }

    /// A certificate whose time is over.
    pub fn expired_certificate(mut self) -> Self {
        self.certificate.expired = true;
        self
    }

    /// Takes only clients that show a certificate of the server's own authority; see
    /// [`SmtpServer::client_identity_pem`].
    pub fn require_client_certificate(mut self) -> Self {
        self.certificate.from_clients = true;
        self
    }

    /// Sends these bytes in the clear right behind the 220 of STARTTLS, as an attacker on the way could (CVE-2011-0411).
    pub fn inject_after_starttls(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.options.inject_after_starttls = bytes.into();
        self
    }

    /// Offers AUTH PLAIN and LOGIN and accepts this user and password.
    pub fn login(mut self, user: &str, password: &str) -> Self {
        self.options.login = Some((user.to_owned(), password.to_owned()));
        self
    }

    /// Offers AUTH XOAUTH2 and OAUTHBEARER and accepts this user and access token.
    pub fn token(mut self, user: &str, token: &str) -> Self {
        self.options.login = Some((user.to_owned(), token.to_owned()));
        self.mechanisms(&["XOAUTH2", "OAUTHBEARER"])
    }

    /// The mechanisms that AUTH names. Others than PLAIN, LOGIN, XOAUTH2 and OAUTHBEARER are named only.
    pub fn mechanisms(mut self, names: &[&str]) -> Self {
        self.options.mechanisms = names.iter().map(|&name| name.to_owned()).collect();
        self
    }

    /// Refuses MAIL with 530 before AUTH.
    pub fn require_auth(mut self) -> Self {
        self.options.require_auth = true;
        self
    }

    /// Answers connections beyond this number 421 and closes them.
    pub fn max_connections(mut self, count: usize) -> Self {
        self.options.max_connections = Some(count);
        self
    }

    /// Closes a connection without a word after it has brought so many mails.
    pub fn close_after_mails(mut self, count: u64) -> Self {
        self.options.max_mails = Some(count);
        self
    }

    /// Answers 421 and closes when the client has been silent for so long between commands.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.options.idle_timeout = Some(timeout);
        self
    }

    /// Waits so long before each answer to this command.
    pub fn latency(mut self, command: Command, latency: Duration) -> Self {
        self.options.latency[command.index()] = latency;
        self
    }

    /// Keeps what was said on each connection.
    pub fn transcripts(mut self) -> Self {
        self.options.transcripts = true;
        self
    }

    /// How much of each mail to keep; all by default.
    pub fn retention(mut self, retention: Retention) -> Self {
        self.options.retention = retention;
        self
    }

    /// Writes each accepted mail to this folder before it is answered; see [`Mail::save`](super::Mail::save).
    pub fn save_to(mut self, folder: impl Into<PathBuf>) -> Self {
        self.options.folder = Some(folder.into());
        self
    }

    /// Adds a rule; the first that matches wins.
    pub fn rule(mut self, rule: Rule) -> Self {
        self.rules.push(rule);
        self
    }

    /// Binds and listens.
    ///
    /// # Panics
    ///
    /// Where [`Builder::try_start`] gives an error.
    pub async fn start(self) -> SmtpServer {
        self.try_start().await.expect("a free port on loopback and valid certificate names")
    }

    /// Binds and listens.
    ///
    /// # Errors
    ///
    /// The port is taken, or a certificate name is none.
    pub async fn try_start(self) -> Result<SmtpServer, StartError> {
        SmtpServer::start(self).await
    }
}
