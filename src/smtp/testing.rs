//! A server that follows a script, one for each connection, and says afterwards what it heard.
//!
//! One step a line: `> text` says a line; `>- text` says it without its end; `< VERB` hears a line that begins so;
//! `<.` hears a message to its final dot; `?` waits for [`Relay::go_on`]; `drip text` says text over and over, byte by
//! byte; `deaf` reads nothing any more; `!` hangs up. After the last step it hears until the client closes.

use std::{sync::Arc, time::Duration};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::JoinHandle,
    time::{interval, timeout},
};

use super::{Connector, Session};
use crate::config::{AuthMethod, Encryption, Smtp, Timeouts};

/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// Banner and EHLO of a server with the given keywords, as a script.
pub(super) fn greeting(keywords: &[&str]) -> String {
    let offers: Vec<_> = keywords.iter().map(|keyword| format!("> 250-{keyword}\n")).collect();
    format!("> 220 relay\n< EHLO\n> 250-relay\n{}> 250 HELP\n", offers.concat())
}

/// Replies to a pipelined mail for one recipient, as a script.
pub(super) const ACCEPTED: &str = "< MAIL\n< RCPT\n< DATA\n> 250 ok\n> 250 ok\n> 354 go\n<.\n> 250 2.0.0 queued\n";

/// A relay that plays one script for each connection.
pub(super) struct Relay {
    pub port: u16,
    go_on: Arc<Notify>,
    task: JoinHandle<Vec<Vec<String>>>,
}

impl Relay {
    pub(super) async fn start(scripts: impl IntoIterator<Item = String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("a bound socket").port();
        let scripts: Vec<String> = scripts.into_iter().collect();
        let go_on = Arc::new(Notify::new());
        let told = Arc::clone(&go_on);
        let task = tokio::spawn(async move {
            let mut heard = Vec::new();
            for script in scripts {
                let (stream, _) = listener.accept().await.expect("a connection");
                heard.push(play(stream, &script, &told).await);
            }
            heard
        });
        Self { port, go_on, task }
    }

    /// Lets the script go on after a `?`.
    pub(super) fn go_on(&self) {
        self.go_on.notify_one();
    }

    /// What was heard on the one connection there was.
    pub(super) async fn heard(self) -> Vec<String> {
        let mut all = timeout(PATIENCE, self.task).await.expect("the script ends").expect("the script is followed");
        assert_eq!(all.len(), 1);
        all.remove(0)
    }

    pub(super) fn settings(&self) -> Smtp {
        Smtp { port: self.port, ..settings() }
    }

    pub(super) async fn session(&self) -> Session {
        self.session_with(|_| {}).await
    }

    pub(super) async fn session_with(&self, change: impl FnOnce(&mut Smtp)) -> Session {
        let mut settings = self.settings();
        change(&mut settings);
        Connector::new(&settings).expect("good settings").open().await.expect("a session")
    }
}

/// Settings without encryption and with deadlines that no test reaches by accident.
pub(super) fn settings() -> Smtp {
    Smtp {
        host: "127.0.0.1".to_owned(),
        port: 0,
        encryption: Encryption::None,
        credentials: None,
        auth: AuthMethod::Auto,
        allow_insecure_auth: false,
        ca_file: None,
        identity: None,
        hello_name: "client.example".to_owned(),
        sessions: 1,
        sessions_reserved: 0,
        max_messages_per_session: 100,
        idle_timeout: PATIENCE,
        timeouts: Timeouts {
            connect: PATIENCE,
            tls: PATIENCE,
            greeting: PATIENCE,
            auth: PATIENCE,
            command: PATIENCE,
            data: PATIENCE,
            body: PATIENCE,
            final_dot: PATIENCE,
            quit: PATIENCE,
        },
        throttle_replies: std::collections::BTreeSet::new(),
        rate_limit: None,
    }
}

async fn play(stream: TcpStream, script: &str, go_on: &Notify) -> Vec<String> {
    let mut stream = BufReader::new(stream);
    let mut heard = Vec::new();
    // What is said is collected, so that replies to a group leave in one write, as those of real servers do.
    let mut say = Vec::new();
    for step in script.lines() {
        if let Some(text) = step.strip_prefix(">- ") {
            say.extend_from_slice(text.as_bytes());
            continue;
        }
        if let Some(text) = step.strip_prefix("> ") {
            say.extend_from_slice(format!("{text}\r\n").as_bytes());
            continue;
        }
        flush(&mut stream, &mut say).await;
        if let Some(text) = step.strip_prefix("drip ") {
            drip(&mut stream, text).await;
            continue;
        }
        match step {
            "!" => return heard,
            "?" => go_on.notified().await,
            "deaf" => std::future::pending().await,
            "<." => loop {
                let line = hear(&mut stream).await.expect("a message to its dot");
                if line == "." {
                    break;
                }
                heard.push(line);
            },
            _ => {
                let verb = step.strip_prefix("< ").unwrap_or_else(|| panic!("{step:?} is no step"));
                let line = hear(&mut stream).await.unwrap_or_else(|| panic!("{verb} expected, the client closed"));
                assert!(line.starts_with(verb), "{verb} expected, heard {line:?}");
                heard.push(line);
            }
        }
    }
    flush(&mut stream, &mut say).await;
    let mut rest = Vec::new();
    // A reset is an end, too.
    let _ = stream.read_to_end(&mut rest).await;
    heard.extend(String::from_utf8_lossy(&rest).lines().map(str::to_owned));
    heard
}

async fn flush(stream: &mut BufReader<TcpStream>, say: &mut Vec<u8>) {
    // The client may be gone already; what it heard is the test's to check.
    let _ = stream.write_all(say).await;
    say.clear();
}

/// Says `text` over and over until the client closes.
async fn drip(stream: &mut BufReader<TcpStream>, text: &str) {
    let mut pace = interval(Duration::from_millis(5));
    for byte in format!("{text}\r\n").as_bytes().iter().cycle() {
        pace.tick().await;
        if stream.write_all(&[*byte]).await.is_err() {
            return;
        }
    }
}

async fn hear(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let mut line = Vec::new();
    stream.read_until(b'\n', &mut line).await.ok()?;
    let text = String::from_utf8_lossy(&line);
    text.strip_suffix("\r\n").map(str::to_owned)
}
