//! The programs that one would start from, each run as its first lines say, against a real broker and a mail server.

use std::{collections::BTreeMap, path::PathBuf, process::Stdio, sync::OnceLock, time::Duration};

use data_encoding::BASE64URL_NOPAD;
use devkit::{
    kafka,
    service::{Builder, Names, Service},
    smtp::SmtpServer,
};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    net::TcpStream,
    process::{Child, ChildStdout, Command},
    time::timeout,
};

const PATIENCE: Duration = Duration::from_secs(60);
/// What links are signed with.
const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// Where cargo puts the examples; it builds them if a test alone was asked for.
fn example(name: &str) -> PathBuf {
    static BUILT: OnceLock<BTreeMap<String, PathBuf>> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        let mut build = std::process::Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--locked", "--examples", "--message-format=json"]);
        if env!("CARGO_BIN_EXE_postlane").contains("/release/") {
            build.arg("--release");
        }
        let output = build.current_dir(env!("CARGO_MANIFEST_DIR")).output().expect("cargo runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let messages = output.stdout.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
        messages
            .filter(|message: &Value| message["target"]["kind"][0] == "example")
            .filter_map(|message| {
                let (name, path) = (message["target"]["name"].as_str()?, message["executable"].as_str()?);
                Some((name.to_owned(), PathBuf::from(path)))
            })
            .collect()
    });
    built.get(name).unwrap_or_else(|| panic!("no example {name} in {built:?}")).clone()
}

/// Topics, a mail server and the service between them.
struct Bed {
    smtp: SmtpServer,
    names: Names,
    variables: Vec<(&'static str, String)>,
    _service: Service,
}

impl Bed {
    async fn new() -> Self {
        let cluster = kafka::shared().await.expect("a broker");
        let names = Names::unique();
        for topic in names.lanes().into_iter().chain([names.dead_letters.as_str()]) {
            cluster.create_topic(topic, 1, &[]).await.expect("a topic");
        }
        let smtp = SmtpServer::builder().start().await;
        let service = Builder::new(env!("CARGO_BIN_EXE_postlane"))
            .names(&names)
            .set("KAFKA_BROKERS", cluster.bootstrap())
            .set("SMTP_HOST", "127.0.0.1")
            .set("SMTP_PORT", smtp.port())
            .set("SMTP_ENCRYPTION", "none")
            .start()
            .expect("the service starts");
        let variables = vec![("KAFKA_BROKERS", cluster.bootstrap().to_owned()), ("KAFKA_TOPIC", names.normal.clone())];
        Self { smtp, names, variables, _service: service }
    }
}

fn command(name: &str, variables: impl IntoIterator<Item = (&'static str, String)>) -> Command {
    let mut command = Command::new(example(name));
    command.env_clear().envs(variables).stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    command
}

/// Runs it to its end; what it has printed.
async fn run(mut command: Command) -> String {
    let output = timeout(PATIENCE, command.stderr(Stdio::piped()).output()).await.expect("it ends").expect("it runs");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{stdout}\n{stderr}", output.status);
    stdout.into_owned()
}

#[tokio::test]
async fn publish() {
    let bed = Bed::new().await;
    let mut command = command("publish", bed.variables.clone());
    command.arg("user@example.com");
    let said = run(command).await;
    assert!(said.contains(&format!("is safe: topic {}, partition ", bed.names.normal)), "{said}");
    bed.smtp.wait_for_mails(1, PATIENCE).await.expect("the mail");
    let ledger = bed.smtp.ledger();
    assert_eq!(ledger.accepted()[0].recipients, ["user@example.com"]);
    let mail = ledger.accepted()[0].decoded().expect("MIME");
    assert_eq!(mail.subject, "Hello from Kafka");
    assert!(mail.text.expect("text").contains("an event in a topic a moment ago"));
}

#[tokio::test]
async fn direct_smtp() {
    let smtp = SmtpServer::builder().start().await;
    let relay = [("SMTP_HOST", "127.0.0.1".to_owned()), ("SMTP_PORT", smtp.port().to_string())];
    let mut command = command("direct_smtp", relay.into_iter().chain([("SMTP_ENCRYPTION", "none".to_owned())]));
    command.args(["ann@example.com", "bob@example.com", "carl@example.com"]);
    let said = run(command).await;
    let ledger = smtp.ledger();
    assert_eq!(ledger.accepted().len(), 3, "{said}");
    for mail in ledger.accepted() {
        assert!(said.contains(mail.message_id().expect("an id")), "{said}");
    }
    for address in ["ann@example.com", "bob@example.com", "carl@example.com"] {
        assert_eq!(ledger.deliveries(address), 1);
    }
}

/// The API in a process of its own.
struct Api {
    child: Child,
    address: String,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Api {
    async fn start(bed: &Bed, more: &[(&'static str, &str)]) -> Self {
        let own = [
            ("APP_SECRET", SECRET),
            ("DEMO_ACCOUNT", "ann@example.com"),
            ("LISTEN", "127.0.0.1:0"),
            ("BASE_URL", "https://shop.example.com"),
        ];
        let own = own.iter().chain(more).map(|(name, value)| (*name, (*value).to_owned()));
        let mut child =
            command("forgot_password", bed.variables.iter().cloned().chain(own)).spawn().expect("it starts");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let line = timeout(PATIENCE, lines.next_line()).await.expect("in time").expect("text").expect("a line");
        let address = line.strip_prefix("listening on http://").unwrap_or_else(|| panic!("{line}")).to_owned();
        Self { child, address, lines }
    }

    /// Status, headers in lower case, body.
    async fn request(&self, method: &str, path: &str, body: &Value) -> (u16, String, String) {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        let answer = async {
            let mut stream = TcpStream::connect(&self.address).await.expect("it listens");
            stream.write_all(request.as_bytes()).await.expect("it reads");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.expect("it answers");
            answer
        };
        let answer = timeout(PATIENCE, answer).await.expect("an answer in time");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
        (status, head.to_ascii_lowercase(), body.to_owned())
    }

    async fn forgot(&self, address: &str) -> (u16, String) {
        let body = serde_json::json!({ "email": address });
        let (status, _, body) = self.request("POST", "/api/forgot-password", &body).await;
        (status, body)
    }

    async fn reset(&self, token: &str, password: &str) -> u16 {
        let body = serde_json::json!({ "token": token, "password": password });
        self.request("POST", "/api/reset-password", &body).await.0
    }

    /// SIGTERM, as from an orchestrator; what it has said.
    async fn end(mut self) -> String {
        let pid = self.child.id().expect("it runs").to_string();
        let killed = Command::new("kill").args(["-TERM", &pid]).status().await.expect("kill");
        assert!(killed.success());
        let mut said = String::new();
        while let Some(line) = timeout(PATIENCE, self.lines.next_line()).await.expect("it ends").expect("text") {
            said += &line;
            said.push('\n');
        }
        let status = timeout(PATIENCE, self.child.wait()).await.expect("it ends").expect("a status");
        assert!(status.success(), "{status}\n{said}");
        said
    }
}

/// The tokens of the links that were mailed, in the order of the mails.
fn tokens(smtp: &SmtpServer) -> Vec<String> {
    let link = "https://shop.example.com/reset?token=";
    let ledger = smtp.ledger();
    let texts = ledger.accepted().iter().map(|mail| mail.decoded().expect("MIME").text.expect("text"));
    texts
        .map(|text| {
            let (_, rest) = text.split_once(link).unwrap_or_else(|| panic!("no link in {text}"));
            rest.split_whitespace().next().expect("a token").to_owned()
        })
        .collect()
}

/// A token as the program makes it, for a password that was never changed.
fn signed(address: &str, expires: chrono::DateTime<chrono::Utc>) -> String {
    let payload = format!("{address}\n{}", expires.timestamp());
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("a key");
    mac.update(format!("reset-password\n0\n{payload}").as_bytes());
    let encode = |bytes: &[u8]| BASE64URL_NOPAD.encode(bytes);
    format!("{}.{}", encode(payload.as_bytes()), encode(&mac.finalize().into_bytes()))
}

#[tokio::test]
async fn forgot_password() {
    let bed = Bed::new().await;
    let api = Api::start(&bed, &[]).await;
    let unknown = api.forgot("nobody@example.com").await;
    let known = api.forgot("Ann@Example.com").await;
    assert_eq!(known.0, 202);
    assert_eq!(known, unknown, "the answer tells nothing");
    bed.smtp.wait_for_mails(1, PATIENCE).await.expect("the mail");
    api.forgot("ann@example.com").await;
    bed.smtp.wait_for_mails(2, PATIENCE).await.expect("another one");
    let [first, second] = &tokens(&bed.smtp)[..] else { panic!("two mails") };
    assert!(bed.smtp.ledger().accepted().iter().all(|mail| mail.recipients == ["ann@example.com"]));

    let (status, head, page) = api.request("GET", &format!("/reset?token={first}"), &Value::Null).await;
    assert!(status == 200 && page.contains("<form"), "{status} {page}");
    assert!(head.contains("referrer-policy: no-referrer") && head.contains("cache-control: no-store"), "{head}");
    assert!(!page.contains(first.as_str()));

    // signed by us, and too late
    let minutes = |minutes| signed("ann@example.com", chrono::Utc::now() + chrono::Duration::minutes(minutes));
    let form = async |token: &str| api.request("GET", &format!("/reset?token={token}"), &Value::Null).await.0;
    assert_eq!((form(&minutes(1)).await, form(&minutes(-1)).await), (200, 400));
    assert_eq!(api.reset(&minutes(-1), "correct horse battery").await, 400);

    // whatever is not exactly ours
    let (payload, signature) = first.split_once('.').expect("two parts");
    let (_, other) = second.split_once('.').expect("two parts");
    let flipped = format!("{payload}.{}{}", if signature.starts_with('A') { 'B' } else { 'A' }, &signature[1..]);
    for bad in ["", "x", ".", payload, &flipped, &format!("{payload}.{other}x"), &format!("{payload}.")] {
        assert_eq!(api.reset(bad, "correct horse battery").await, 400, "{bad:?}");
    }
    assert_eq!(api.request("GET", "/reset?token=x", &Value::Null).await.0, 400);
    assert_eq!(api.reset(first, "short").await, 422);
    assert_eq!(api.reset(first, "correct horse battery").await, 204);
    // one change ends all links that were made before it
    assert_eq!(api.reset(first, "correct horse battery").await, 400, "it was used");
    assert_eq!(api.reset(second, "correct horse battery").await, 400, "nor is an older one good");

    // the event in the high lane expires with its link
    let cluster = kafka::shared().await.expect("a broker");
    let records = cluster.read_all(&bed.names.high).await.expect("records");
    assert_eq!(records.len(), 2);
    let event: Value = serde_json::from_slice(records[0].value.as_ref().expect("a value")).expect("JSON");
    let expires: chrono::DateTime<chrono::Utc> =
        event["message"]["expires_at"].as_str().and_then(|text| text.parse().ok()).expect("a time");
    let left = expires - chrono::Utc::now();
    assert!(left.num_minutes() >= 10 && left.num_minutes() < 15, "{left}");

    // what was asked for last is sent before it ends
    api.forgot("ann@example.com").await;
    let said = api.end().await;
    assert_eq!(said.matches("a link is on its way").count(), 3, "{said}");
    assert!(!said.contains("ann@example.com"), "{said}");
    bed.smtp.wait_for_mails(3, PATIENCE).await.expect("the last one");
}
