//! `postlane serve`: the service itself.

use anyhow::Context;
use postlane::{
    config::{Config, LogFormat},
    serve::{self, Error},
    telemetry,
};

use super::{exit::Exit, runtime, terminal::complain};

pub(super) const EXAMPLES: &str = "\
Examples:
  KAFKA_BROKERS=kafka:9092 SMTP_HOST=mail.example.com postlane serve
  LOG_FORMAT=json RUST_LOG=info postlane serve

Signals:
  SIGTERM or SIGINT ends it: what is being sent is finished first, for
  SHUTDOWN_TIMEOUT (25s) at the most. A second one ends it at once.";

pub(super) fn run(config: Config) -> Exit {
    let format = config.log_format;
    match start(config) {
        Ok(()) => Exit::Done,
        Err(error) => {
            // a log of JSON lines stays one to its last line
            if format == LogFormat::Json && tracing::enabled!(tracing::Level::ERROR) {
                tracing::error!(error = format!("{error:#}"), "postlane ends");
            } else {
                complain(format_args!("{error:#}"));
            }
            match error.downcast_ref::<Error>() {
                Some(error) if error.is_configuration() => Exit::Config,
                Some(Error::Group(_)) => Exit::Later,
                _ => Exit::Failed,
            }
        }
    }
}

fn start(config: Config) -> anyhow::Result<()> {
    telemetry::log(&config).context("RUST_LOG")?;
    let runtime = runtime::new().context("the runtime does not start")?;
    let outcome = runtime.block_on(serve::serve(config));
    // what hangs in a name lookup or a write must not hold up the end
    runtime.shutdown_background();
    Ok(outcome?)
}
