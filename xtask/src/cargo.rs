//! Cargo as a child: builds and tests beside what runs already.
//!
//! Owns the process group of that child, so that a chore that ends early leaves no compiler and no test behind. Cargo's
//! output goes where ours goes.

use std::{
    ffi::{OsStr, OsString},
    path::PathBuf,
    process::{ExitStatus, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::Command;

/// What `cargo run` tells the program that it runs about its own package; build scripts would take it for theirs and run
/// again.
const OURS: [&str; 4] = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"];

/// A process group that is told to end if this is dropped while it runs.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            // Gone already is as good.
            let _ = kill_process_group(leader, Signal::TERM);
        }
    }
}

/// Runs cargo to its end, in a process group of its own; whoever drops the future ends it with all its children.
pub(crate) async fn run<A: AsRef<OsStr>>(arguments: &[A], variables: &[(&str, &str)]) -> Result<ExitStatus> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(&program);
    command.args(arguments).envs(variables.iter().copied()).stdin(Stdio::null()).process_group(0);
    for (name, _) in std::env::vars_os() {
        if OURS.iter().any(|prefix| name.as_encoded_bytes().starts_with(prefix.as_bytes())) {
            command.env_remove(name);
        }
    }
    let mut child = command.spawn().with_context(|| format!("cannot run {}", program.display()))?;
    let leader = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let mut group = Group(leader);
    let status = child.wait().await.context("cannot wait for cargo")?;
    group.0 = None;
    Ok(status)
}

/// Builds the program in the profile in which this one was built, and says where it is.
///
/// # Errors
/// When it does not compile; cargo has said why.
pub(crate) async fn build_postlane() -> Result<PathBuf> {
    let here = std::env::current_exe().context("cannot tell where this program is")?;
    let profile = here
        .parent()
        .and_then(|folder| folder.file_name())
        .and_then(OsStr::to_str)
        .context("this program does not lie in a folder of cargo's")?;
    // The folder of the profile `dev` has another name.
    let profile = if profile == "debug" { "dev" } else { profile };
    let status = run(&["build", "--package", "postlane", "--bin", "postlane", "--profile", profile], &[]).await?;
    ensure!(status.success(), "postlane does not compile: see above");
    let program = here.with_file_name("postlane");
    ensure!(program.is_file(), "cargo has built postlane, but not as {}", program.display());
    Ok(program)
}

/// Builds the program as it is released, for this target or for the host, and says where it is.
///
/// # Errors
/// When it does not compile; cargo has said why.
pub(crate) async fn build_release(target: Option<&str>) -> Result<PathBuf> {
    eprintln!("building the release …");
    let mut line = vec!["build", "--release", "--locked", "--package", "postlane", "--bin", "postlane"];
    line.extend(target.iter().flat_map(|target| ["--target", target]));
    let status = run(&line, &[]).await?;
    ensure!(status.success(), "the release does not compile: see above");
    // this program lies in debug or release below cargo's folder
    let here = std::env::current_exe().context("cannot tell where this program is")?;
    let folder = here.ancestors().nth(2).context("this program does not lie in a folder of cargo's")?;
    Ok(folder.join(target.unwrap_or_default()).join("release/postlane"))
}
