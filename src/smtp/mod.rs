//! Sessions to the relay and what its answers mean.
//!
//! Owns the sockets: [`Connector`] opens a [`Session`], the session sends [`Outgoing`] mails one after the other and
//! says what it saw as an [`Attempt`], and [`classify`] turns that into a [`Class`] for each recipient. What follows
//! from a class (retries, pauses, dead letters) is decided elsewhere.
//!
//! ```no_run
//! # async fn example(settings: &postlane::config::Smtp) -> Result<(), Box<dyn std::error::Error>> {
//! use postlane::smtp::{Connector, Outgoing, Progress, classify};
//!
//! let mut session = Connector::new(settings)?.open().await?;
//! let recipients = ["user@example.com".parse()?];
//! let mail = Outgoing::new(None, &recipients, b"Subject: Hello\r\n\r\nHello.\r\n")?;
//! let attempt = session.send(&mail, &Progress::default()).await;
//! println!("{:?}", classify(&attempt, &settings.throttle_replies));
//! session.quit().await;
//! # Ok(())
//! # }
//! ```

mod auth;
mod certificate;
mod classify;
mod connector;
mod greeting;
mod held;
mod mail;
mod phase;
pub mod relay;
mod reply;
mod session;
#[cfg(test)]
mod testing;
mod transport;

pub use certificate::Certificate;
pub use classify::{Class, Verdict, classify};
pub use connector::{Connector, OpenError, OpenPhase};
use greeting::Capabilities;
pub use held::Held;
pub use mail::{EnvelopeError, MAX_RECIPIENTS, Outgoing};
pub use phase::{Observer, Phase};
pub use reply::Reply;
pub use session::{Attempt, Data, Offers, ProbeError, Progress, Session, Stage};
