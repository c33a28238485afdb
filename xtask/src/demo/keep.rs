//! `cargo xtask demo --keep`: broker, mail server and service stay, and say what happens, until Ctrl-C.
//!
//! Owns the life of the service while a person plays with it: it is started again when a template changes, since it reads
//! templates at its start alone. What can be tried stands in [`guide`].

use std::{
    collections::BTreeMap,
    fs, io,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result};
use devkit::service::{Builder, Service};
use serde_json::Value;

use super::{Folder, Outcome, SOON, Stage, guide, guide::Surroundings, page, reads_lanes, service};
use crate::{interrupt, progress::Progress};

/// How often mails, log and templates are looked at.
const LOOK: Duration = Duration::from_millis(300);
/// A dead letter is written a little later than the log says so; the page is written anew for this long after any change.
const SETTLING: Duration = Duration::from_secs(3);
const PARTITIONS: i32 = 2;
/// Where postlane listens by default, if that is free.
const HTTP_PORT: u16 = 8081;

/// Runs until a signal comes.
pub(super) async fn run() -> Result<ExitCode> {
    let mut playground = None;
    let started = interrupt::or_interrupted(async {
        playground = Some(Playground::start().await?);
        Ok(ExitCode::SUCCESS)
    });
    let exit = started.await?;
    let Some(mut playground) = playground else { return Ok(exit) };
    let name = tokio::select! {
        name = interrupt::signalled() => name?,
        failed = playground.watch() => return failed.map(|()| ExitCode::FAILURE),
    };
    playground.end(name).await?;
    Ok(ExitCode::SUCCESS)
}

struct Playground {
    progress: Progress,
    folder: Folder,
    stage: Stage,
    builder: Builder,
    /// None while a template keeps it from starting.
    service: Option<Service>,
    templates: Templates,
    /// Mails that were shown.
    mails: usize,
    /// Bytes of the log that were read.
    read: usize,
    /// Until when the page is written anew.
    settling: Instant,
}

impl Playground {
    async fn start() -> Result<Self> {
        let progress = Progress::start();
        let folder = Folder::empty()?;
        let templates = folder.path.join("templates");
        copy(Path::new("templates"), &templates).context("this wants to be started in the repository's folder")?;
        let stage = Stage::set(&progress, &folder, PARTITIONS).await?;
        let variables = vec![
            ("KAFKA_BROKERS", stage.cluster.bootstrap().to_owned()),
            ("KAFKA_TOPIC", stage.names.normal.clone()),
            ("KAFKA_DLQ_TOPIC", stage.names.dead_letters.clone()),
            ("KAFKA_GROUP_ID", stage.names.group.clone()),
            ("SMTP_HOST", "127.0.0.1".to_owned()),
            ("SMTP_PORT", stage.smtp.port().to_string()),
            ("SMTP_ENCRYPTION", "none".to_owned()),
            ("MAIL_FROM", "Usual Store <noreply@usualstore.com>".to_owned()),
            ("TEMPLATES_DIR", templates.display().to_string()),
            ("HTTP_ADDR", http_address()?.to_string()),
            // What the topics were made with, so that nothing differs from what is wanted.
            ("KAFKA_TOPIC_PARTITIONS", PARTITIONS.to_string()),
            ("KAFKA_DLQ_RETENTION", "7d".to_owned()),
        ];
        let mut builder =
            service(&stage.program, &stage.cluster, &stage.names, &stage.smtp).log_to(folder.path.join("postlane.log"));
        for (name, value) in &variables {
            builder = builder.set(name, value);
        }
        let surroundings = Surroundings { variables, program: stage.program.clone() };
        surroundings.write(&folder, &stage.cluster).await?;
        let mut service = builder.start()?;
        reads_lanes(&mut service, &stage.names).await?;
        progress.step("postlane serve runs and reads the three lanes");
        guide::print(&progress, &folder, &stage.names);
        let read = service.log().len();
        let templates = Templates::look(templates)?;
        let settling = Instant::now() + SETTLING;
        Ok(Self { progress, folder, stage, builder, service: Some(service), templates, mails: 0, read, settling })
    }

    /// Shows what happens; comes back only with a failure.
    async fn watch(&mut self) -> Result<()> {
        loop {
            tokio::time::sleep(LOOK).await;
            self.show_mails();
            self.show_log()?;
            if self.templates.have_changed()? {
                self.start_again().await?;
            }
            let ended = self.service.as_mut().and_then(|service| service.exit_status().transpose()).transpose()?;
            if let Some(status) = ended {
                self.show_log()?;
                self.service = None;
                self.progress
                    .step(format_args!("postlane has ended with {status}; a changed template starts it again"));
            }
            if Instant::now() < self.settling {
                self.write_page().await?;
            }
        }
    }

    fn show_mails(&mut self) {
        let ledger = self.stage.smtp.ledger();
        for mail in ledger.accepted().iter().skip(self.mails) {
            let subject = mail.decoded().map(|decoded| decoded.subject).unwrap_or_default();
            let file = self.folder.shown(&format!("mails/{:04}.eml", mail.sequence));
            self.progress.step(format_args!("mail to {}: {subject}  {file}", mail.recipients.join(", ")));
            self.settling = Instant::now() + SETTLING;
        }
        self.mails = ledger.accepted().len();
    }

    /// What the service has said since: outcomes other than mails, which speak for themselves, warnings and errors.
    fn show_log(&mut self) -> Result<()> {
        let log = self.log()?;
        // Only whole lines.
        let end = log.rfind('\n').map_or(0, |at| at + 1);
        for line in log.get(self.read..end).unwrap_or_default().lines() {
            if let Some(said) = said(line) {
                self.progress.step(said);
                self.settling = Instant::now() + SETTLING;
            }
        }
        self.read = end;
        Ok(())
    }

    fn log(&self) -> Result<String> {
        let file = self.folder.path.join("postlane.log");
        fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))
    }

    async fn start_again(&mut self) -> Result<()> {
        self.progress.step("a template has changed: postlane is started again");
        if let Some(mut service) = self.service.take() {
            service.terminate(SOON).await?;
        }
        self.service = Some(self.builder.start()?);
        Ok(())
    }

    async fn write_page(&self) -> Result<()> {
        let letters = self.stage.cluster.read_all(&self.stage.names.dead_letters).await?;
        let outcome = Outcome::new(Vec::new(), &self.stage.smtp.ledger(), &letters, &self.log()?, String::new())?;
        let page = page::index(&outcome, "so far: load this page again for more.");
        fs::write(self.folder.path.join("index.html"), page).context("cannot write index.html")
    }

    async fn end(mut self, name: &str) -> Result<()> {
        self.progress.line("");
        self.progress.step(format_args!("{name}: postlane finishes what is being sent"));
        if let Some(mut service) = self.service.take() {
            let status = service.terminate(SOON).await?;
            self.progress.step(format_args!("it has ended with {status}"));
        }
        let Self { progress, folder, stage, .. } = self;
        drop(stage);
        progress.step(format_args!("nothing is left running; mails and log are in {}", folder.shown.display()));
        Ok(())
    }
}

/// A line of the log as a person wants it, if at all.
fn said(line: &str) -> Option<String> {
    let Ok(entry) = serde_json::from_str::<Value>(line) else { return Some(format!("postlane says: {line}")) };
    let text = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default();
    match (text("outcome"), text("level")) {
        ("sent", _) => None,
        ("dead letter", _) => Some(
            format!("dead letter {}: {}, {}", text("id"), text("reason"), text("detail"))
                .replace("letter :", "letter:"),
        ),
        ("deferred", _) => {
            Some(format!("{} is deferred, next try in {}: {}", text("id"), text("retry_in"), text("reply")))
        }
        (_, level @ ("WARN" | "ERROR")) => Some(format!("{level}: {}", fields(&entry))),
        _ if text("message") == "postlane starts" => Some("postlane runs".to_owned()),
        _ => None,
    }
}

/// What a warning or an error says, with its fields.
fn fields(entry: &Value) -> String {
    let mut words = vec![entry.get("message").and_then(Value::as_str).unwrap_or_default().to_owned()];
    for (name, value) in entry.as_object().into_iter().flatten() {
        match value {
            _ if ["message", "level", "timestamp"].contains(&name.as_str()) => {}
            Value::String(text) => words.push(format!("{name}: {text}")),
            other => words.push(format!("{name}: {other}")),
        }
    }
    words.join(", ")
}

/// The usual address, or one with a free port. It stays the same when the service is started again.
fn http_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", HTTP_PORT)).or_else(|_| TcpListener::bind(("127.0.0.1", 0)));
    Ok(listener.context("no free port")?.local_addr()?)
}

/// A folder with all that is in it.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// The files of a folder, and when they were written last.
struct Templates {
    folder: PathBuf,
    files: BTreeMap<PathBuf, (SystemTime, u64)>,
}

impl Templates {
    fn look(folder: PathBuf) -> Result<Self> {
        let files = files(&folder).with_context(|| format!("cannot look into {}", folder.display()))?;
        Ok(Self { folder, files })
    }

    /// Whether they are other than at the last look, and were left alone since: an editor writes in several steps.
    fn have_changed(&mut self) -> Result<bool> {
        let now = Self::look(self.folder.clone())?;
        let changed = now.files != self.files;
        let settled = now.files.values().all(|(at, _)| at.elapsed().is_ok_and(|age| age >= LOOK));
        if changed && settled {
            *self = now;
        }
        Ok(changed && settled)
    }
}

fn files(folder: &Path) -> io::Result<BTreeMap<PathBuf, (SystemTime, u64)>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => found.extend(files(&entry.path())?),
            Ok(metadata) => drop(found.insert(entry.path(), (metadata.modified()?, metadata.len()))),
            // Gone since, as the file that an editor writes beside.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_log_a_person_sees_what_went_wrong() {
        let sent = r#"{"level":"INFO","outcome":"sent","id":"a"}"#;
        assert_eq!(said(sent), None, "the mail itself is shown");
        let dead = r#"{"level":"INFO","outcome":"dead letter","id":"a","reason":"rejected","detail":"550 no"}"#;
        assert_eq!(said(dead).as_deref(), Some("dead letter a: rejected, 550 no"));
        let nameless = r#"{"level":"INFO","outcome":"dead letter","reason":"malformed","detail":"no JSON"}"#;
        assert_eq!(said(nameless).as_deref(), Some("dead letter: malformed, no JSON"));
        let error = r#"{"timestamp":"t","level":"ERROR","message":"postlane ends","error":"templates","code":78}"#;
        assert_eq!(said(error).as_deref(), Some("ERROR: postlane ends, code: 78, error: templates"));
        assert_eq!(said("a panic").as_deref(), Some("postlane says: a panic"));
    }

    #[test]
    fn a_changed_template_is_seen_once_and_a_new_one_too() {
        let folder = tempfile::tempdir().expect("a folder");
        let inner = folder.path().join("welcome");
        fs::create_dir(&inner).expect("a folder");
        let old = SystemTime::now() - Duration::from_secs(60);
        let write = |name: &str, text: &str, at: SystemTime| {
            let file = fs::File::create(inner.join(name)).expect("a file");
            io::Write::write_all(&mut &file, text.as_bytes()).expect("written");
            file.set_modified(at).expect("a time");
        };
        write("text.txt.j2", "a", old);
        let mut templates = Templates::look(folder.path().to_owned()).expect("a look");
        assert!(!templates.have_changed().expect("a look"));
        write("text.txt.j2", "b", SystemTime::now() + Duration::from_secs(60));
        assert!(!templates.have_changed().expect("a look"), "it is still being written");
        write("text.txt.j2", "b", old + Duration::from_secs(1));
        assert!(templates.have_changed().expect("a look"));
        assert!(!templates.have_changed().expect("a look"));
        write("html.html.j2", "c", old);
        assert!(templates.have_changed().expect("a look"));
    }
}
