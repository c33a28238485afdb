//! Whole-program tests: `postlane serve` on a real broker, against a mail server that follows a script.

mod bed;
mod fairness;
mod first_mail;
mod load;
mod memory;
