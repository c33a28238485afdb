//! The postlane program.

mod cli;

use std::process::ExitCode;

/// musl's own takes one lock for all threads; docs/deploy.md has the figures.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::run()
}
