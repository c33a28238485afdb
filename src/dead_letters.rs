//! The dead letters as somebody works with them: read, chosen, looked at, handed out, sent back.
//!
//! Owns what a letter says ([`Letter`]), which ones are meant ([`Filter`]), reading the topic in the order of its letters
//! with bounded memory ([`Scan`]), what becomes of a letter that is sent back ([`judge`]), and the memory of what was
//! ([`Memory`]). How letters are written is [`kafka::dead_letter`](crate::kafka::dead_letter)'s, how they are shown the
//! command line's.

mod desk;
mod export;
mod filter;
mod judge;
mod letter;
mod memory;
mod redrive;
mod scan;
mod store;
#[cfg(test)]
mod tests;

pub use desk::{Desk, Error};
pub use export::{event_lines, exported, header};
pub use filter::Filter;
pub use judge::{Groups, Lanes, Skip, Target, judge};
pub use letter::{Letter, Original, Place};
pub use memory::{Kept, Marks, Memory, Unreadable, of_this_topic};
pub use redrive::{Options, PORTION, Plan, Progress, Redrive, Stop, Summary};
pub use scan::{Found, Scan};
pub use store::{Error as StoreError, Lease, Store};
