//! The producer against real brokers: what it says of a mail is what became of it.

mod common;
mod fallback;
mod killed;
mod published;
