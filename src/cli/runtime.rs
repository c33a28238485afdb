//! The runtime under a command.

use std::{future::Future, io};

use super::{exit::Exit, terminal::complain};

/// Threads for all tasks, timers and sockets included.
pub(super) fn new() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}

/// Runs a short command to its end; what hangs in a name lookup does not hold it up.
pub(super) fn block_on<T>(work: impl Future<Output = T>) -> Result<T, Exit> {
    let runtime = new().map_err(|error| {
        complain(format_args!("the runtime does not start: {error}"));
        Exit::Failed
    })?;
    let outcome = runtime.block_on(work);
    runtime.shutdown_background();
    Ok(outcome)
}
