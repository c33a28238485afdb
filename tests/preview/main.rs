//! `postlane templates preview` in a real browser, and the other commands that need nothing but templates.

mod browser;
mod commands;
mod pages;
mod server;

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use devkit::process::{Process, Signal};

/// Longest time for the program to start, and to end.
const LIMIT: Duration = Duration::from_secs(20);

/// A folder of templates.
pub(crate) struct Templates(tempfile::TempDir);

impl Templates {
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        let templates = Self(tempfile::tempdir().expect("a temporary folder"));
        for (name, source) in files {
            templates.write(name, source);
        }
        templates
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes a file as editors do: beside it, and then into its place.
    pub(crate) fn write(&self, name: &str, source: &str) {
        let path = self.0.path().join(name);
        let folder = path.parent().expect("inside of the folder");
        fs::create_dir_all(folder).expect("writable");
        let new = folder.join(".new");
        fs::write(&new, source).expect("writable");
        fs::rename(new, path).expect("writable");
    }
}

/// The preview of a folder.
pub(crate) struct Preview {
    process: Process,
    /// `http://127.0.0.1:PORT`
    pub(crate) address: String,
    _log: tempfile::TempDir,
}

impl Preview {
    pub(crate) async fn start(templates: &Templates) -> Self {
        let log = tempfile::tempdir().expect("a temporary folder");
        let file = log.path().join("log");
        let arguments = ["templates".as_ref(), "preview".as_ref(), "--dir".as_ref(), templates.path().as_os_str()];
        let process = Process::spawn(env!("CARGO_BIN_EXE_postlane"), &arguments, &file).expect("the program");
        let deadline = Instant::now() + LIMIT;
        let address = loop {
            let text = fs::read_to_string(&file).unwrap_or_default();
            let rest = text.split_once("http://").and_then(|(_, rest)| rest.split_once("/\n"));
            if let Some((address, _)) = rest {
                break format!("http://{address}");
            }
            assert!(Instant::now() < deadline, "no address: {text}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        Self { process, address, _log: log }
    }

    /// Ctrl-C, and the exit status.
    pub(crate) async fn interrupt(mut self) -> Option<i32> {
        self.process.signal(Signal::INT).expect("a signal");
        self.process.wait(LIMIT).await.expect("the end").code()
    }
}
