//! No child process outlives its program, however that ends.
#![expect(clippy::unwrap_used, reason = "a failing step is a failing test")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use devkit::kafka::Cluster;
use devkit::process::{Process, Signal};

const LIMIT: Duration = Duration::from_secs(20);
/// Makes this binary the program that is killed.
const VICTIM: &str = "DEVKIT_TEST_VICTIM";

/// Not a test by itself: what the test below runs in a process of its own.
#[tokio::test]
async fn victim() {
    if std::env::var_os(VICTIM).is_some() {
        let cluster = Cluster::builder().start().await.unwrap();
        println!("broker at {}", cluster.bootstrap());
        std::future::pending::<()>().await;
    }
}

#[tokio::test]
async fn a_broker_and_its_data_go_with_a_program_that_was_killed() {
    let folder = tempfile::tempdir().unwrap();
    let mut program = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "victim", "--nocapture"])
        .env(VICTIM, "1")
        .env("TMPDIR", folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(program.stdout.take().unwrap()).lines().map_while(Result::ok);
    let address = lines.find_map(|line| Some(line.split_once("broker at ")?.1.to_owned())).unwrap();
    Cluster::attach(&address).await.unwrap();
    let data = || std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(data(), 1);

    program.kill().unwrap();
    program.wait().unwrap();
    let deadline = Instant::now() + LIMIT;
    while Cluster::attach(&address).await.is_ok() || data() > 0 {
        assert!(Instant::now() < deadline, "the broker outlives its program");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_child_is_signalled_and_ended() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Process::spawn("sleep", &["600"], &folder.path().join("log")).unwrap();
    assert_eq!(child.exit_status().unwrap(), None);
    assert!(child.wait(Duration::from_millis(50)).await.is_err(), "it still runs");
    child.signal(Signal::TERM).unwrap();
    assert!(!child.wait(LIMIT).await.unwrap().success());
    child.signal(Signal::TERM).unwrap();

    let child = Process::spawn("sleep", &["600"], &folder.path().join("log")).unwrap();
    let id = Path::new("/proc").join(child.id().to_string());
    assert!(runs(&id));
    drop(child);
    assert!(!runs(&id), "dropped is killed");
}

/// Whether a process is there and not merely waiting to be reaped.
fn runs(process: &Path) -> bool {
    std::fs::read_to_string(process.join("stat")).is_ok_and(|stat| !stat.contains(") Z "))
}
