//! What is known of the relay, for people and for metrics.

use std::time::Duration;

use tokio::time::Instant;

use super::{Gate, Relay};

/// Whether mails may be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GateReport {
    /// They may, as far as is known.
    Open,
    /// The relay is down.
    Shut {
        /// For how long.
        since: Duration,
        /// What was seen last.
        why: String,
        /// When it is tried again, zero where it is time and a mail is lacking; `None` while it is being tried.
        retry_in: Option<Duration>,
    },
}

/// What is known of the relay at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Whether mails may be sent.
    pub gate: GateReport,
    /// Sessions that are open.
    pub sessions: usize,
    /// The most of them at once, as the relay has let us have them.
    pub sessions_limit: usize,
    /// The most mails per second; `None` where there is no limit.
    pub rate: Option<f64>,
    /// When the rate allows the next mail; zero where it does now.
    pub next_mail: Duration,
    /// How often the relay went down.
    pub outages: u64,
    /// Replies that asked for a slower pace.
    pub throttled: u64,
    /// How long ago a mail was accepted last.
    pub accepted: Option<Duration>,
}

impl Report {
    /// Whether mails may be sent, as far as is known.
    pub fn is_up(&self) -> bool {
        self.gate == GateReport::Open
    }
}

impl Relay {
    /// What is known now.
    pub fn report(&self) -> Report {
        let mut state = self.lock();
        let now = Instant::now();
        self.recover(&mut state);
        let retry_at = match state.gate {
            Gate::Open | Gate::Probing => None,
            Gate::Down(at) => Some(at),
        };
        let gate = match (&state.gate, &state.outage) {
            (Gate::Open, _) | (_, None) => GateReport::Open,
            (Gate::Down(_) | Gate::Probing, Some((since, why))) => GateReport::Shut {
                since: now.duration_since(*since),
                why: why.clone(),
                retry_in: retry_at.map(|at| at.saturating_duration_since(now)),
            },
        };
        Report {
            gate,
            sessions: state.established,
            sessions_limit: state.limit,
            rate: state.rate.in_force(now),
            next_mail: state.rate.ready_at(now).saturating_duration_since(now),
            outages: state.outages,
            throttled: state.throttled,
            accepted: state.last_accepted.map(|at| now.duration_since(at)),
        }
    }
}
