//! `postlane dlq` and `postlane topics describe` on a real broker: what is listed, what is sent back, and never twice.

#[path = "../service/bed.rs"]
#[expect(dead_code, reason = "the bed has more than these tests need")]
mod bed;
mod crash;
mod letters;
mod look;
mod memory;
mod redrive;
mod scale;
mod story;
