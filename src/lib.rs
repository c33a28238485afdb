//! Delivers the e-mail events of Kafka topics by SMTP.
//!
//! The modules are named after the stages that a mail passes: [`kafka`] fetches, [`event`] decodes, [`schedule`]
//! orders, [`template`] renders, [`compose`] builds the message, [`smtp`] sends, [`retry`] decides what follows, and
//! [`pipeline`] joins them. [`serve`] builds it all and brings it to its end. What an operator sees of it comes from
//! [`health`] and [`metrics`], by way of [`http`].

mod chain;
pub mod check;
pub mod compose;
pub mod config;
pub mod delay;
pub mod email;
pub mod event;
mod file;
mod foreign;
pub mod health;
pub mod http;
pub mod https;
pub mod kafka;
pub mod mask;
pub mod metrics;
pub mod pipeline;
pub mod retry;
pub mod schedule;
pub mod serve;
pub mod shutdown;
pub mod smtp;
mod tcp;
pub mod telemetry;
pub mod template;
pub mod tls;
mod trace_parent;

pub use email::{Email, InvalidEmail};
pub use event::Priority;
