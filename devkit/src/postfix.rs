//! A private Postfix with TLS and SASL, which hands all its mail on to a scripted server ([`smtp`](crate::smtp)).
//!
//! Owns an instance of its own: configuration, queue and data below a temporary folder, ports from the system. Touches
//! nothing of an installation that the machine may use. Needs root, as Postfix does, and Debian's packages `postfix`,
//! `sasl2-bin` and `libsasl2-modules`.

use std::{
    fs,
    io::Write as _,
    net::{Ipv4Addr, TcpListener},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use tempfile::TempDir;

use crate::process::{Process, Signal};

const START_LIMIT: Duration = Duration::from_secs(30);
const STOP_LIMIT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);
/// Realm of the users, as `smtpd_sasl_local_domain` has it.
const REALM: &str = "postlane.test";
/// What to do where a part is missing.
const INSTALL: &str = "as root: apt-get install postfix sasl2-bin libsasl2-modules";

/// Options of an instance that has not been started yet.
#[derive(Debug, Clone)]
#[must_use]
pub struct Builder {
    next_hop: u16,
    user: String,
    password: String,
    mechanisms: String,
    size_limit: usize,
    refused: Vec<String>,
}

impl Builder {
    /// The mechanisms of AUTH instead of `PLAIN LOGIN`.
    pub fn mechanisms(mut self, names: &str) -> Self {
        names.clone_into(&mut self.mechanisms);
        self
    }

    /// `message_size_limit` in octets instead of 10,240,000.
    pub fn size_limit(mut self, octets: usize) -> Self {
        self.size_limit = octets;
        self
    }

    /// A recipient that is refused at RCPT with 554 5.7.1.
    pub fn refuse(mut self, recipient: &str) -> Self {
        self.refused.push(recipient.to_owned());
        self
    }

    /// Starts it and waits until both ports answer.
    ///
    /// # Errors
    /// When a program is missing, the user is not root, or it does not come up.
    pub async fn start(self) -> Result<Postfix> {
        Postfix::start(&self).await
    }
}

/// A running instance; ends when dropped.
#[derive(Debug)]
pub struct Postfix {
    master: Process,
    submission: u16,
    submissions: u16,
    ca_pem: String,
    log: PathBuf,
    folder: TempDir,
}

impl Postfix {
    /// An instance that knows one user, demands TLS and AUTH, and relays everything to this port on 127.0.0.1.
    pub fn builder(next_hop: u16, user: &str, password: &str) -> Builder {
        Builder {
            next_hop,
            user: user.to_owned(),
            password: password.to_owned(),
            mechanisms: "PLAIN LOGIN".to_owned(),
            size_limit: 10_240_000,
            refused: Vec::new(),
        }
    }

    async fn start(builder: &Builder) -> Result<Self> {
        let postfix = program("postfix")?;
        program("saslpasswd2")?;
        let root = Path::new("/proc/self").metadata().is_ok_and(|own| own.uid() == 0);
        ensure!(root, "Postfix can be started by root only: run this test as root");
        let folder = TempDir::with_prefix("postlane-postfix-")?;
        // its daemons become another user before they read what lies here
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        let (submission, submissions) = free_ports()?;
        let ca_pem = write(folder.path(), builder, submission, submissions)?;
        set_password(folder.path(), &builder.user, &builder.password)?;
        let log = folder.path().join("log");
        let configuration = folder.path().join("etc");
        let arguments = ["-c", configuration.to_str().context("not UTF-8")?, "start-fg"];
        let mut master = Process::spawn(&postfix, &arguments, &log)?;
        let deadline = Instant::now() + START_LIMIT;
        for port in [submission, submissions] {
            while tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_err() {
                let said = || fs::read_to_string(&log).unwrap_or_default();
                ensure!(master.exit_status()?.is_none(), "Postfix does not run: {}", said());
                ensure!(Instant::now() < deadline, "Postfix does not listen on port {port}: {}", said());
                tokio::time::sleep(POLL).await;
            }
        }
        Ok(Self { master, submission, submissions, ca_pem, log, folder })
    }

    /// The port with STARTTLS.
    #[must_use]
    pub fn submission(&self) -> u16 {
        self.submission
    }

    /// The port with TLS from the first byte.
    #[must_use]
    pub fn submissions(&self) -> u16 {
        self.submissions
    }

    /// The certificate of the authority that signed that of the server, in PEM.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// All that it has said so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Gives a user this password from now on.
    ///
    /// # Errors
    /// When the password cannot be written.
    pub fn set_password(&self, user: &str, password: &str) -> Result<()> {
        set_password(self.folder.path(), user, password)
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        // what was started is a script that waits for the master: only `stop` ends that, and with it its daemons
        if let Ok(postfix) = program("postfix") {
            let configuration = self.folder.path().join("etc");
            let mut stop = Command::new(postfix);
            stop.arg("-c").arg(configuration).arg("stop");
            stop.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            // what is left is ended below
            let _ = stop.status();
        }
        if self.master.signal(Signal::TERM).is_err() {
            return;
        }
        let deadline = Instant::now() + STOP_LIMIT;
        while matches!(self.master.exit_status(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(POLL);
        }
    }
}

fn program(name: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
        .with_context(|| format!("{name} is missing; {INSTALL}"))
}

/// Postfix wants ports by number; another program may take one in between, and then the start fails.
fn free_ports() -> Result<(u16, u16)> {
    let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let (first, second) = (bind()?, bind()?);
    Ok((first.local_addr()?.port(), second.local_addr()?.port()))
}

/// Writes the whole configuration; the authority's certificate.
fn write(folder: &Path, builder: &Builder, submission: u16, submissions: u16) -> Result<String> {
    let put = |name: &str, text: &str| {
        fs::write(folder.join(name), text).with_context(|| format!("cannot write {name} for Postfix"))
    };
    for name in ["etc", "etc/sasl", "queue", "data"] {
        fs::create_dir(folder.join(name))?;
    }
    let data = Command::new("chown").arg("postfix").arg(folder.join("data")).status()?;
    ensure!(data.success(), "there is no user postfix; {INSTALL}");
    let place = folder.display();
    let Builder { next_hop, mechanisms, size_limit, .. } = builder;
    put(
        "etc/sasl/smtpd.conf",
        &format!(
            "pwcheck_method: auxprop\nauxprop_plugin: sasldb\nsasldb_path: {place}/sasldb2\nmech_list: {mechanisms}\n"
        ),
    )?;
    let refused: Vec<_> = builder.refused.iter().map(|address| format!("{address} REJECT not here\n")).collect();
    put("recipients", &refused.concat())?;
    put(
        "etc/main.cf",
        &format!(
            "compatibility_level = 3.6\n\
         queue_directory = {place}/queue\n\
         data_directory = {place}/data\n\
         maillog_file = /dev/stdout\n\
         myhostname = localhost\n\
         inet_interfaces = loopback-only\n\
         inet_protocols = ipv4\n\
         mynetworks =\n\
         mydestination =\n\
         local_recipient_maps =\n\
         alias_maps =\n\
         relayhost = [127.0.0.1]:{next_hop}\n\
         disable_dns_lookups = yes\n\
         smtp_tls_security_level = none\n\
         message_size_limit = {size_limit}\n\
         mailbox_size_limit = 0\n\
         smtpd_tls_cert_file = {place}/certificate.pem\n\
         smtpd_tls_key_file = {place}/key.pem\n\
         smtpd_tls_auth_only = yes\n\
         smtpd_sasl_auth_enable = yes\n\
         smtpd_sasl_type = cyrus\n\
         smtpd_sasl_path = smtpd\n\
         smtpd_sasl_local_domain = {REALM}\n\
         smtpd_sasl_security_options = noanonymous\n\
         cyrus_sasl_config_path = {place}/etc/sasl\n\
         smtpd_relay_restrictions = permit_sasl_authenticated, reject\n\
         smtpd_recipient_restrictions = check_recipient_access texthash:{place}/recipients\n\
         smtpd_error_sleep_time = 0\n\
         smtpd_hard_error_limit = 1000\n\
         smtpd_peername_lookup = no\n\
         smtpd_client_connection_count_limit = 0\n"
        ),
    )?;
    put(
        "etc/master.cf",
        &format!(
            "127.0.0.1:{submission} inet n - n - - smtpd -o smtpd_tls_security_level=encrypt\n\
         127.0.0.1:{submissions} inet n - n - - smtpd -o smtpd_tls_wrappermode=yes\n\
         pickup unix n - n 60 1 pickup\n\
         cleanup unix n - n - 0 cleanup\n\
         qmgr unix n - n 300 1 qmgr\n\
         tlsmgr unix - - n 1000? 1 tlsmgr\n\
         rewrite unix - - n - - trivial-rewrite\n\
         bounce unix - - n - 0 bounce\n\
         defer unix - - n - 0 bounce\n\
         trace unix - - n - 0 bounce\n\
         verify unix - - n - 1 verify\n\
         proxymap unix - - n - - proxymap\n\
         proxywrite unix - - n - 1 proxymap\n\
         smtp unix - - n - - smtp\n\
         relay unix - - n - - smtp\n\
         error unix - - n - - error\n\
         retry unix - - n - - error\n\
         discard unix - - n - - discard\n\
         anvil unix - - n - 1 anvil\n\
         scache unix - - n - 1 scache\n\
         postlog unix-dgram n - n - 1 postlogd\n"
        ),
    )?;
    let (ca_pem, certificate, key) = certificate()?;
    put("certificate.pem", &certificate)?;
    put("key.pem", &key)?;
    fs::set_permissions(folder.join("key.pem"), fs::Permissions::from_mode(0o600))?;
    Ok(ca_pem)
}

fn certificate() -> Result<(String, String, String)> {
    let ca_key = KeyPair::generate()?;
    let mut ca = CertificateParams::new(Vec::new())?;
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    ca.distinguished_name.push(DnType::CommonName, "devkit Postfix authority");
    let ca_pem = ca.self_signed(&ca_key)?.pem();
    let key = KeyPair::generate()?;
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let certificate = CertificateParams::new(names)?.signed_by(&key, &Issuer::new(ca, ca_key))?;
    Ok((ca_pem, certificate.pem(), key.serialize_pem()))
}

fn set_password(folder: &Path, user: &str, password: &str) -> Result<()> {
    let database = folder.join("sasldb2");
    let mut child = Command::new(program("saslpasswd2")?)
        .args(["-p", "-c", "-u", REALM, "-f"])
        .arg(&database)
        .arg(user)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()?;
    child.stdin.take().context("saslpasswd2 has no input")?.write_all(password.as_bytes())?;
    let status = child.wait()?;
    if !status.success() {
        bail!("saslpasswd2 ended with {status}; {INSTALL}");
    }
    fs::set_permissions(&database, fs::Permissions::from_mode(0o644))?;
    Ok(())
}
