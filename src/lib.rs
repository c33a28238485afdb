//! Delivers the e-mail events of Kafka topics by SMTP.
//!
//! The modules are named after the stages that a mail passes: [`kafka`] fetches, [`event`] decodes, [`schedule`]
//! orders, [`template`] renders, [`compose`] builds the message, [`smtp`] sends, [`retry`] decides what follows, and
//! [`pipeline`] joins them. [`serve`] builds it all and brings it to its end. What an operator sees of it comes from
//! [`health`] and [`metrics`], by way of [`http`].

mod chain;
#[cfg(feature = "service")]
pub mod check;
pub mod compose;
pub mod config;
#[cfg(feature = "service")]
pub mod dead_letters;
pub mod delay;
pub mod email;
pub mod event;
pub mod failure;
mod file;
mod foreign;
#[cfg(feature = "service")]
pub mod health;
#[cfg(feature = "service")]
pub mod http;
pub mod https;
pub mod kafka;
#[cfg(feature = "smtp")]
pub mod mailer;
pub mod mask;
#[cfg(feature = "service")]
pub mod metrics;
#[cfg(feature = "service")]
pub mod pipeline;
pub mod producer;
#[cfg(feature = "service")]
pub mod retry;
#[cfg(feature = "service")]
pub mod schedule;
#[cfg(feature = "service")]
pub mod serve;
#[cfg(feature = "service")]
pub mod shutdown;
#[cfg(feature = "smtp")]
pub mod smtp;
mod tcp;
#[cfg(feature = "service")]
pub mod telemetry;
#[cfg(feature = "templates")]
pub mod template;
#[cfg(feature = "testing")]
pub mod testing;
pub mod tls;
mod trace_parent;

pub use email::{Email, InvalidEmail};
pub use event::Priority;
pub use producer::{Producer, Receipt, SendError};

/// The programs in the documents compile.
#[cfg(all(doctest, feature = "smtp"))]
#[doc = include_str!("../docs/migrating.md")]
struct Migrating;
