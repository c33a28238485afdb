//! Whole-program tests against a broker that is reached by TLS and lets nobody in without a login.

#[path = "../service/bed.rs"]
#[expect(dead_code, reason = "the bed has more than these tests need")]
mod bed;
mod broker;
mod delivery;
mod refusals;
mod renewal;
