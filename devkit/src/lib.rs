//! What postlane's tests, demonstration and benchmarks run against.
//!
//! Owns the servers of the outside world: the real Apache Kafka ([`kafka`]), a mail server that follows a script
//! ([`smtp`]), a collector of traces ([`otlp`]). Knows postlane from outside only ([`service`]), so a test that uses it sees the service only as the world does. Not
//! published.

pub mod kafka;
pub mod otlp;
pub mod process;
pub mod service;
pub mod smtp;
