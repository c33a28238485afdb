//! The story of a shutdown: the first signal drains, a second one or the deadline cuts.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Tells all parts of the process how far a shutdown has come. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    /// Take nothing new.
    pub drain: CancellationToken,
    /// Cut what can be cut without a doubt about its outcome.
    pub cut: CancellationToken,
    /// Cut everything.
    pub cut_all: CancellationToken,
}

impl Shutdown {
    /// A process that runs.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cuts everything at once.
    pub fn abort(&self) {
        self.drain.cancel();
        self.cut.cancel();
        self.cut_all.cancel();
    }
}

/// Spans of a shutdown, all from its first signal on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// When mails before their final dot are cut.
    pub cut: Duration,
    /// When mails that wait for the reply to their final dot are cut.
    pub cut_all: Duration,
    /// How long the last commit may take.
    pub commit: Duration,
}

impl Schedule {
    /// Divides the time from the first signal to the exit.
    pub fn within(timeout: Duration) -> Self {
        let commit = (timeout / 5).min(Duration::from_secs(3));
        let cut_all = timeout.saturating_sub(commit + timeout / 20);
        Self { cut: cut_all.mul_f64(0.8), cut_all, commit }
    }
}

/// SIGTERM and SIGINT.
#[derive(Debug)]
pub struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    /// Takes both signals over from the operating system.
    ///
    /// # Errors
    ///
    /// When the operating system refuses the handlers.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next of them and gives its name.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Drains and then cuts, until `done` says that nothing is left. True if a second signal cut it short.
pub async fn drain(
    shutdown: &Shutdown,
    schedule: Schedule,
    signals: &mut Signals,
    done: impl Future<Output = ()>,
) -> bool {
    shutdown.drain.cancel();
    let deadlines = async {
        tokio::time::sleep(schedule.cut).await;
        warn!("time is running out: mails before their final dot are cut and stay unsettled");
        shutdown.cut.cancel();
        tokio::time::sleep(schedule.cut_all.saturating_sub(schedule.cut)).await;
        warn!("time is up: mails that wait for the reply to their final dot are cut; they may be sent again");
        shutdown.cut_all.cancel();
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    tokio::select! {
        () = done => {
            info!("everything that was being sent is finished");
            false
        }
        () = deadlines => false,
        name = signals.next() => {
            warn!(signal = name, "second signal: cutting at once");
            shutdown.abort();
            true
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_ends_before_the_timeout() {
        for timeout in [1, 5, 25, 300].map(Duration::from_secs) {
            let schedule = Schedule::within(timeout);
            assert!(schedule.cut < schedule.cut_all);
            assert!(schedule.cut_all + schedule.commit < timeout);
            assert!(schedule.cut >= timeout / 2);
        }
    }
}
