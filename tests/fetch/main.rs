//! Reading a partition: the loop on a fake reader with paused time, and loop and reader on a real broker.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod broker;
mod faults;
mod outages;
mod proxy;
mod reading;
mod recorder;
