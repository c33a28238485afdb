//! Dead letters: their shape byte for byte, and their writing on a real broker.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod broker;
mod outages;
mod shape;
mod writing;
