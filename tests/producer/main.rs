//! The producer against real brokers: what it says of a mail is what became of it.

mod bounds;
mod circuit;
mod common;
mod fallback;
mod killed;
mod leaders;
mod ledger;
mod outage;
mod published;
mod refused;
