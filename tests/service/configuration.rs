//! The program before it connects: wrong settings, templates and certificates, and what it prints.

use std::{
    fs,
    io::Read,
    net::TcpListener,
    process::{Command, Output, Stdio},
};

use tempfile::TempDir;

/// Two listeners in the place of broker and relay, which nobody may connect to.
struct Untouched {
    broker: TcpListener,
    relay: TcpListener,
}

impl Untouched {
    fn new() -> Self {
        let listen = || {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
            listener.set_nonblocking(true).expect("non-blocking");
            listener
        };
        Self { broker: listen(), relay: listen() }
    }

    /// The program with what it needs to run.
    fn postlane(&self, arguments: &[&str]) -> Command {
        let mut command = postlane(arguments);
        command
            .env("KAFKA_BROKERS", self.broker.local_addr().expect("an address").to_string())
            .env("SMTP_HOST", "127.0.0.1")
            .env("SMTP_PORT", self.relay.local_addr().expect("an address").port().to_string());
        command
    }

    fn assert_untouched(&self) {
        for (listener, name) in [(&self.broker, "broker"), (&self.relay, "relay")] {
            assert!(listener.accept().is_err(), "the {name} was connected to");
        }
    }
}

fn postlane(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_postlane"));
    command.args(arguments).env_clear().stdin(Stdio::null());
    command
}

fn run(command: &mut Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command.output().expect("it runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (status.code(), text(stdout), text(stderr))
}

#[test]
fn every_wrong_variable_is_named_before_anything_is_connected() {
    let untouched = Untouched::new();
    let wrong = [
        ("KAFKA_TOPIC_LOW", "a topic"),
        ("KAFKA_AUTO_OFFSET_RESET", "newest"),
        ("KAFKA_DISCOVERY_INTERVAL", "30"),
        ("SMTP_ENCRYPTION", "ssl"),
        ("SMTP_SESSIONS", "0"),
        ("PRIORITY_WEIGHTS", "6:3"),
        ("COMMIT_INTERVAL", "0s"),
        ("KAFKA_FETCH_MAX_WAIT", "31s"),
        ("SHUTDOWN_TIMEOUT", "soon"),
        ("RETRY_MULTIPLIER", "0.5"),
        ("MAIL_FROM", "nobody"),
        ("TEMPLATES_DIR", "/nowhere/at/all"),
        ("LOG_FORMAT", "xml"),
    ];
    let mut command = untouched.postlane(&["serve"]);
    command.envs(wrong).env("SMTP_USER", "mailer").env("SMTP_PASSWORD", "hunter2-secret");
    command.env("SMTP_PASSWORD_FILE", "/nowhere/password");
    let (code, stdout, stderr) = run(&mut command);
    assert_eq!(code, Some(78), "{stderr}");
    for (name, held) in wrong {
        let named = stderr.lines().find(|line| line.contains(name)).unwrap_or_else(|| panic!("{name}:\n{stderr}"));
        assert!(named.contains(held) && named.contains("expected"), "{named}");
    }
    assert!(stderr.contains("SMTP_PASSWORD_FILE"), "{stderr}");
    assert!(!(stdout + &stderr).contains("hunter2"), "a secret is printed");
    untouched.assert_untouched();

    let (code, _, stderr) = run(&mut postlane(&["serve"]));
    assert_eq!(code, Some(78));
    for name in ["KAFKA_BROKERS is not set", "SMTP_HOST is not set"] {
        assert!(stderr.contains(name), "{stderr}");
    }
}

#[test]
fn a_broken_template_is_named_with_file_and_line_before_anything_is_connected() {
    let untouched = Untouched::new();
    let folder = TempDir::new().expect("a folder");
    let template = folder.path().join("receipt");
    fs::create_dir(&template).expect("a folder");
    fs::write(template.join("subject.txt.j2"), "Your receipt").expect("written");
    fs::write(template.join("text.txt.j2"), "Hello,\n\nyou paid {{ amount }.\n").expect("written");
    let mut command = untouched.postlane(&["serve"]);
    let (code, _, stderr) = run(command.env("TEMPLATES_DIR", folder.path()));
    assert_eq!(code, Some(78), "{stderr}");
    assert!(stderr.contains("receipt/text.txt.j2"), "{stderr}");
    assert!(stderr.contains("line 3") || stderr.contains(":3"), "{stderr}");

    // a log of JSON lines has nothing else in it
    let (code, _, stderr) = run(command.env("LOG_FORMAT", "json"));
    assert_eq!(code, Some(78), "{stderr}");
    let lines: Vec<serde_json::Value> = stderr.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let last = lines.last().expect("a line");
    assert_eq!((&last["level"], &last["message"]), (&"ERROR".into(), &"postlane ends".into()), "{stderr}");
    assert!(last["error"].as_str().is_some_and(|error| error.contains("receipt/text.txt.j2:3")), "{stderr}");
    untouched.assert_untouched();
}

#[test]
fn bad_certificate_authorities_are_named_before_anything_is_connected() {
    let untouched = Untouched::new();
    let folder = TempDir::new().expect("a folder");
    let rubbish = folder.path().join("rubbish.pem");
    fs::write(&rubbish, "no certificate at all").expect("written");
    for file in [rubbish, folder.path().join("missing.pem")] {
        let mut command = untouched.postlane(&["serve"]);
        let (code, _, stderr) = run(command.env("SMTP_CA_FILE", &file).env("SMTP_ENCRYPTION", "tls"));
        assert_eq!(code, Some(78), "{stderr}");
        assert!(stderr.contains(&file.display().to_string()), "{stderr}");
    }
    untouched.assert_untouched();
}

#[test]
fn config_prints_what_is_in_force_and_no_secret() {
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("password");
    fs::write(&file, "from-a-file-4711\n").expect("written");
    let untouched = Untouched::new();
    let with_file = |command: &mut Command| {
        let command = command.env("SMTP_USER", "mailer").env("SMTP_PASSWORD_FILE", &file).env("KAFKA_TOPIC", "mail");
        run(command)
    };
    let (code, stdout, stderr) = with_file(&mut untouched.postlane(&["config"]));
    assert_eq!(code, Some(0), "{stderr}");
    for line in [
        "KAFKA_TOPIC_HIGH=mail-high",
        "KAFKA_TOPIC_NORMAL=mail",
        "KAFKA_DISCOVERY_INTERVAL=30s",
        "SHUTDOWN_TIMEOUT=25s",
        "SMTP_USER=mailer",
        "SMTP_PASSWORD=***",
    ] {
        assert!(stdout.lines().any(|printed| printed == line), "{line} is not in\n{stdout}");
    }
    assert!(!(stdout + &stderr).contains("4711"));
    untouched.assert_untouched();
}

#[test]
fn config_into_a_closed_pipe_is_no_failure() {
    let mut command = Untouched::new().postlane(&["config"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    drop(child.stdout.take());
    let mut stderr = String::new();
    child.stderr.take().expect("a pipe").read_to_string(&mut stderr).expect("read");
    assert!(child.wait().expect("it ends").success(), "{stderr}");
    assert_eq!(stderr, "");
}

#[test]
fn the_command_line_says_what_it_is_and_what_it_does_not_know() {
    let (code, stdout, _) = run(&mut postlane(&["--version"]));
    assert_eq!((code, stdout.trim()), (Some(0), concat!("postlane ", env!("CARGO_PKG_VERSION"))));
    for arguments in [&["deliver"][..], &["serve", "--fast"], &[]] {
        let (code, _, stderr) = run(&mut postlane(arguments));
        assert_eq!(code, Some(2), "{arguments:?}: {stderr}");
        assert!(stderr.contains("Usage"), "{stderr}");
    }
}

#[test]
fn a_log_that_takes_nothing_more_ends_nothing() {
    let untouched = Untouched::new();
    let mut command = Command::new("timeout");
    command
        .args(["--preserve-status", "-s", "TERM", "2", env!("CARGO_BIN_EXE_postlane"), "serve"])
        .env_clear()
        .env("KAFKA_BROKERS", untouched.broker.local_addr().expect("an address").to_string())
        .env("SMTP_HOST", "127.0.0.1")
        .env("HTTP_ADDR", "127.0.0.1:0")
        .stderr(fs::OpenOptions::new().write(true).open("/dev/full").expect("a device that is always full"));
    assert_eq!(command.status().expect("it runs").code(), Some(0));
}
