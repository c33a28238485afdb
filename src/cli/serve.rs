//! `postlane serve`: the service itself.

use std::process::ExitCode;

use anyhow::Context;
use postlane::{
    config::Config,
    serve::{self, Error},
    telemetry,
};

use super::{EX_CONFIG, EX_TEMPFAIL};

pub(super) fn run(config: Config) -> ExitCode {
    match start(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("postlane: {error:#}");
            ExitCode::from(match error.downcast_ref::<Error>() {
                Some(error) if error.is_configuration() => EX_CONFIG,
                Some(Error::Group(_)) => EX_TEMPFAIL,
                _ => 1,
            })
        }
    }
}

fn start(config: Config) -> anyhow::Result<()> {
    telemetry::log(&config).context("RUST_LOG")?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("the runtime does not start")?;
    let outcome = runtime.block_on(serve::serve(config));
    // what hangs in a name lookup or a write must not hold up the end
    runtime.shutdown_background();
    Ok(outcome?)
}
