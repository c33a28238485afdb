//! The end of a chore before its time: Ctrl-C, SIGTERM, or a terminal that is closed.

use std::{future::Future, process::ExitCode};

use anyhow::Result;
use tokio::signal::unix::{SignalKind, signal};

/// What a shell reports for a program that Ctrl-C has ended.
const INTERRUPTED: u8 = 130;

/// Runs a chore until its end or until a signal comes; then it is dropped, and all that it has started goes with it.
pub(crate) async fn or_interrupted(chore: impl Future<Output = Result<ExitCode>>) -> Result<ExitCode> {
    let name = tokio::select! {
        ended = chore => return ended,
        name = signalled() => name?,
    };
    eprintln!("\nstopped by {name}; nothing is left running");
    Ok(ExitCode::from(INTERRUPTED))
}

/// Waits for one of them, and says which it was.
pub(crate) async fn signalled() -> Result<&'static str> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    Ok(tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted.map(|()| "Ctrl-C")?,
        _ = terminate.recv() => "SIGTERM",
        _ = hang_up.recv() => "the end of the terminal",
    })
}
