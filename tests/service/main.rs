//! Whole-program tests: `postlane serve` on a real broker, against a mail server that follows a script.

mod bed;
mod bounds;
mod configuration;
mod crash;
mod dead_letter_topic;
mod fairness;
mod first_mail;
mod group;
mod load;
mod memory;
mod offsets;
mod outages;
mod records;
mod shutdown;
mod topics;
mod undecodable;
mod watch;
