//! `postlane config`: what is in force.

use std::fmt::Write as _;

use postlane::config::Config;

use super::{exit::Exit, terminal::print};

pub(super) const EXAMPLES: &str = "\
Examples:
  postlane config                 # every setting as NAME=value
  postlane config | grep KAFKA_";

pub(super) fn run(config: &Config) -> Exit {
    let mut text = String::new();
    for (name, value) in config.effective() {
        let _ = writeln!(text, "{name}={value}");
    }
    print(&text, Exit::Done)
}
