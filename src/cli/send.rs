//! `postlane send`: one mail, or a file of events.
//!
//! Owns what a person or a script says and sees. How a mail is checked, published and sent is the library's business.

mod arguments;
mod batches;
mod book;
mod gate;
mod identity;
mod lines;
mod look;
mod mail;
mod many;
mod one;
mod pace;
mod progress;
mod publish;
mod report;
mod run;
mod state;
#[cfg(test)]
mod tests;
mod window;

pub(super) use self::arguments::Arguments;
use super::exit::Exit;

pub(super) fn run(arguments: &Arguments) -> Exit {
    match &arguments.file.path {
        Some(file) => many::run(arguments, file),
        None => mail::run(arguments),
    }
}
