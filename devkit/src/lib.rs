//! What the tests, the demo and the benchmarks of postlane run against. Not published.

pub mod smtp;
