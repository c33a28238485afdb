//! `cargo xtask test`: all tests of the workspace, on one real broker.
//!
//! Owns the broker that the test programs share and the call of cargo; its output and its exit status are cargo's.

use std::{ffi::OsString, process::ExitCode, thread};

use anyhow::Result;
use devkit::kafka::{BROKERS_VARIABLE, Cluster, KAFKA_VERSION};

use crate::{cargo, interrupt};

/// How many tests run at once where neither the variable nor an argument says so.
const THREADS_VARIABLE: &str = "RUST_TEST_THREADS";

/// Arguments of `cargo xtask test`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Arguments of `cargo test`: `NAME`, `--package devkit`, `--test service NAME -- --nocapture`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    cargo: Vec<OsString>,
}

/// Starts a broker, or takes the one that `POSTLANE_TEST_BROKERS` names, runs the tests and stops it.
pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode> {
    interrupt::or_interrupted(async {
        let cluster = Cluster::start().await?;
        let origin = if cluster.nodes().is_empty() {
            format!("the broker that {BROKERS_VARIABLE} names")
        } else {
            format!("Apache Kafka {KAFKA_VERSION}, started for these tests,")
        };
        eprintln!("{origin} answers at {}", cluster.bootstrap());
        let threads = threads(thread::available_parallelism().map_or(1, usize::from)).to_string();
        let mut variables = vec![(BROKERS_VARIABLE, cluster.bootstrap())];
        if std::env::var_os(THREADS_VARIABLE).is_none() {
            variables.push((THREADS_VARIABLE, &threads));
        }
        let status = cargo::run(&command_line(&arguments.cargo), &variables).await?;
        Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
    })
    .await
}

/// `cargo test` for the whole workspace with all features, unless the arguments choose packages.
fn command_line(arguments: &[OsString]) -> Vec<OsString> {
    let chooses = |argument: &OsString| {
        let text = argument.to_string_lossy();
        text == "--package" || text.starts_with("--package=") || (text.starts_with("-p") && !text.starts_with("--"))
    };
    let ours = arguments.iter().take_while(|argument| *argument != "--");
    let mut line = vec![OsString::from("test")];
    if !ours.into_iter().any(chooses) {
        // the producer for an application's own tests is no part of the program
        line.extend(["--workspace", "--all-features"].map(OsString::from));
    }
    line.extend(arguments.iter().cloned());
    line
}

/// Most tests wait for a broker or a timer rather than for the processor, and some of them start a broker of their own,
/// which takes half a gigabyte.
fn threads(processors: usize) -> usize {
    (2 * processors).clamp(2, 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(arguments: &[&str]) -> Vec<OsString> {
        command_line(&arguments.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn the_whole_workspace_unless_packages_are_named() {
        assert_eq!(line(&[]), ["test", "--workspace", "--all-features"]);
        assert_eq!(line(&["name", "--", "-p"]), ["test", "--workspace", "--all-features", "name", "--", "-p"]);
        assert_eq!(line(&["--profile=release"]), ["test", "--workspace", "--all-features", "--profile=release"]);
        for chosen in ["--package=devkit", "-pdevkit"] {
            assert_eq!(line(&[chosen]), ["test", chosen]);
        }
        assert_eq!(line(&["-p", "devkit", "name"]), ["test", "-p", "devkit", "name"]);
    }
}
