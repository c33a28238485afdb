//! Sessions to the relay and what its answers mean.
//!
//! Owns the sockets: [`Connector`] opens a [`Session`], the session sends [`Outgoing`] mails one after the other and
//! says what it saw as an [`Attempt`], and [`classify`] turns that into a [`Class`] for each recipient. What follows
//! from a class (retries, pauses, dead letters) is decided elsewhere.

mod classify;
mod connector;
mod greeting;
mod mail;
pub mod relay;
mod reply;
mod session;
#[cfg(test)]
mod testing;
pub mod tls;
mod transport;

pub use classify::{Class, Verdict, classify};
pub use connector::{Connector, OpenError, OpenPhase};
pub use mail::{EnvelopeError, MAX_RECIPIENTS, Outgoing};
pub use reply::Reply;
pub use session::{Attempt, Data, Progress, Session, Stage};
