//! A scripted SMTP server (RFC 5321) for tests, the demo and benchmarks.
//!
//! It speaks the whole dialog with PIPELINING, STARTTLS, implicit TLS and AUTH, answers as its [`Rule`]s say, and keeps a
//! [`Ledger`] of what it accepted, refused, or took without an answer. It delivers nothing and looks up nobody.

mod action;
mod auth;
mod books;
mod builder;
mod command;
mod envelope;
mod ledger;
mod mail;
mod rule;
mod server;
mod session;
pub(crate) mod tls;
mod verbs;
mod wire;

pub use action::Action;
pub use builder::Builder;
pub use command::Command;
pub use ledger::{End, Ledger, Line, Session, Side};
pub use mail::{Decoded, Group, Mail, Retention};
pub use rule::{Context, Key, Rule, on};
pub use server::{SmtpServer, StartError, WaitError};
