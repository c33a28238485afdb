//! `postlane send` as a child process on a real broker, and what the command line as a whole promises to scripts.

mod bed;
mod direct;
mod many;
mod one;
mod outages;
mod pipes;
mod stopped;
mod texts;
