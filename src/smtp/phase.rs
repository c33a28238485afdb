//! The phases of a session, for those who want to know how long each takes.

use std::{fmt, sync::Arc, time::Duration};

use tokio::time::Instant;

/// A part of a session's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Name lookup and TCP connect.
    Connect,
    /// The TLS handshake.
    Tls,
    /// Banner, EHLO and STARTTLS, each.
    Greeting,
    /// The AUTH exchange.
    Auth,
    /// From MAIL, and RSET before it, to the last reply to RCPT.
    Envelope,
    /// From the end of the envelope to the reply to DATA.
    Data,
    /// Handing the message over.
    Body,
    /// From the final dot to its reply.
    FinalDot,
}

impl Phase {
    /// All of them, in their order.
    pub const ALL: [Self; 8] =
        [Self::Connect, Self::Tls, Self::Greeting, Self::Auth, Self::Envelope, Self::Data, Self::Body, Self::FinalDot];

    /// Its word in a metric.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Greeting => "greeting",
            Self::Auth => "auth",
            Self::Envelope => "envelope",
            Self::Data => "data",
            Self::Body => "body",
            Self::FinalDot => "final_dot",
        }
    }
}

/// Hears of each phase that has ended, whether well or not; one that was dropped in its midst has not. Cheap to clone.
#[derive(Clone, Default)]
pub struct Observer(Option<Arc<Hear>>);

type Hear = dyn Fn(Phase, Duration) + Send + Sync;

impl Observer {
    /// Calls this at the end of each phase.
    pub fn new(hear: impl Fn(Phase, Duration) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(hear)))
    }

    /// A phase that began at `since` has ended.
    pub(super) fn ended(&self, phase: Phase, since: Instant) {
        if let Some(hear) = &self.0 {
            hear(phase, since.elapsed());
        }
    }

    /// Times a phase.
    pub(super) async fn time<T>(&self, phase: Phase, work: impl Future<Output = T>) -> T {
        let since = Instant::now();
        let outcome = work.await;
        self.ended(phase, since);
        outcome
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observer")
    }
}
