//! Builds the programs of `examples/clients` below cargo's folder, once for all tests, and runs them.
//!
//! Owns the commands of the four tool chains and what is said where one is missing. Knows nothing of events.

use std::{
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};

use tokio::{process::Command, sync::OnceCell, time::timeout};

/// Time for fetching what a program is built on, and for building it.
const BUILT: Duration = Duration::from_secs(600);
/// Each of them gives up after ten seconds by itself.
const ENDED: Duration = Duration::from_secs(40);

/// A program that publishes one event.
#[derive(Debug)]
pub(crate) struct Program {
    /// Its folder.
    pub(crate) name: &'static str,
    command: Vec<PathBuf>,
}

/// How a program ended, and what it said.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) succeeded: bool,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Program {
    /// Runs it with these brokers, this base of the lanes' topics, and this recipient.
    pub(crate) async fn publish(&self, brokers: &str, base: &str, to: &str) -> Ended {
        let (program, arguments) = self.command.split_first().expect("a command");
        let mut command = Command::new(program);
        command.args(arguments).arg(to).env("KAFKA_BROKERS", brokers).env("KAFKA_TOPIC", base);
        let output = run(&mut command, ENDED).await.unwrap_or_else(|error| panic!("{}: {error}", self.name));
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        Ended { succeeded: output.status.success(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

/// All of them, ready to run.
pub(crate) async fn all() -> &'static [Program] {
    static ALL: OnceCell<Vec<Program>> = OnceCell::const_new();
    ALL.get_or_init(async || {
        let (kafka_go, franz, python, node) =
            tokio::join!(go("go-kafka-go"), go("go-franz"), python("python"), node("node"));
        vec![kafka_go, franz, python, node]
    })
    .await
}

async fn go(name: &'static str) -> Program {
    let missing = "Go is missing: install Debian's package golang-go (1.24 or newer, from Debian 13 on; .ci/run shows how an \
                   older Go fetches it)";
    let go = |arguments: &[&str]| {
        let mut command = Command::new("go");
        // Neither of them has to link with C, nor changes its go.mod and go.sum.
        command.args(arguments).current_dir(source(name)).env("CGO_ENABLED", "0").env("GOFLAGS", "-mod=readonly");
        command
    };
    let program = folder("go").join(name);
    let path = program.to_str().expect("UTF-8");
    step(name, missing, &mut go(&["build", "-trimpath", "-o", path, "."])).await;
    Program { name, command: vec![program] }
}

async fn python(name: &'static str) -> Program {
    let missing = "Python or its venv is missing: install Debian's package python3-venv (3.11 or newer)";
    let (source, folder) = (source(name), folder(name));
    let python = folder.join("bin/python");
    let requirements = source.join("requirements.txt");
    let publish = source.join("publish.py");
    let wanted = fs::read_to_string(&requirements).expect("the requirements");
    let works = run(Command::new(&python).args(["-c", "import confluent_kafka"]), BUILT).await;
    if !is_stamped(&folder, &wanted) || !works.is_ok_and(|output| output.status.success()) {
        step(name, missing, Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder)).await;
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes", "-r"];
        step(name, missing, Command::new(&python).args(pip).arg(&requirements)).await;
        stamp(&folder, &wanted);
    }
    Program { name, command: vec![python, publish] }
}

async fn node(name: &'static str) -> Program {
    let missing = "Node or npm is missing: install Debian's packages nodejs and npm (18 or newer)";
    let (source, folder) = (source(name), folder(name));
    for file in ["package.json", "package-lock.json", "publish.js"] {
        fs::copy(source.join(file), folder.join(file)).expect("a copy");
    }
    let wanted = fs::read_to_string(source.join("package-lock.json")).expect("the lock file");
    if !is_stamped(&folder, &wanted) {
        let arguments = ["ci", "--ignore-scripts", "--no-audit", "--no-fund"];
        step(name, missing, Command::new("npm").args(arguments).current_dir(&folder)).await;
        stamp(&folder, &wanted);
    }
    Program { name, command: vec!["node".into(), folder.join("publish.js")] }
}

/// Where the program's own files are.
fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/clients").join(name)
}

/// `target/clients/<name>`.
fn folder(name: &str) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("cargo's folder");
    let folder = target.join("clients").join(name);
    fs::create_dir_all(&folder).expect("a folder");
    folder
}

/// Whether a folder was made from these contents of a lock file, to the end.
fn is_stamped(folder: &Path, wanted: &str) -> bool {
    fs::read_to_string(folder.join("made-from")).is_ok_and(|made_from| made_from == wanted)
}

fn stamp(folder: &Path, wanted: &str) {
    fs::write(folder.join("made-from"), wanted).expect("written");
}

async fn step(name: &str, missing: &str, command: &mut Command) {
    match run(command, BUILT).await {
        Ok(output) if output.status.success() => {}
        Ok(output) => panic!(
            "{name}: {command:?} ended with {}\n{}{}\nIf that is for want of a tool: {missing}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ),
        Err(error) if error.kind() == io::ErrorKind::NotFound => panic!("{name}: {missing}"),
        Err(error) => panic!("{name}: {command:?}: {error}"),
    }
}

async fn run(command: &mut Command, within: Duration) -> io::Result<Output> {
    command.stdin(Stdio::null()).env_remove::<&OsStr>("PYTHONPATH".as_ref()).kill_on_drop(true);
    timeout(within, command.output()).await.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "it does not end"))?
}
