//! `postlane serve`: the service itself.

use std::io;

use anyhow::Context;
use postlane::{
    config::{Config, LogFormat},
    serve::{self, Error},
};
use tracing_subscriber::EnvFilter;

use super::{exit::Exit, runtime};

pub(super) fn run(config: Config) -> Exit {
    match start(config) {
        Ok(()) => Exit::Done,
        Err(error) => {
            eprintln!("postlane: {error:#}");
            match error.downcast_ref::<Error>() {
                Some(error) if error.is_configuration() => Exit::Config,
                Some(Error::Group(_)) => Exit::Later,
                _ => Exit::Failed,
            }
        }
    }
}

fn start(config: Config) -> anyhow::Result<()> {
    log(&config)?;
    let runtime = runtime::new().context("the runtime does not start")?;
    let outcome = runtime.block_on(serve::serve(config));
    // what hangs in a name lookup or a write must not hold up the end
    runtime.shutdown_background();
    Ok(outcome?)
}

fn log(config: &Config) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&config.log_filter).context("RUST_LOG")?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_target(false)
        .log_internal_errors(false);
    match config.log_format {
        LogFormat::Text => builder.with_ansi(io::IsTerminal::is_terminal(&io::stderr())).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    Ok(())
}
