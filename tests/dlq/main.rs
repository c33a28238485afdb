//! `postlane dlq` and `postlane topics describe` on a real broker: what is listed, what is sent back, and never twice.

#[path = "../service/bed.rs"]
#[allow(dead_code, reason = "made for the tests of the service as well")]
mod bed;
mod crash;
mod letters;
mod look;
mod memory;
mod redrive;
mod scale;
mod story;
