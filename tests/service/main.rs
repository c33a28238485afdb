//! Whole-program tests: `postlane serve` on a real broker, against a mail server that follows a script.

mod bed;
mod content;
mod deferred;
mod first_mail;
mod found;
mod limits;
mod outage;
mod redrive;
mod refused;
mod secrets;
mod sessions;
mod sparing;
mod unknown;
