//! What takes events, as this command sees it: the library's producer, or in tests something that follows a script.

use std::future::Future;

/// What became of an event that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Taken {
    /// An earlier try may have been taken as well.
    pub(super) twice_possible: bool,
}

/// Why an event was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NotTaken {
    /// It is at fault itself, and always will be.
    Event(String),
    /// Nobody answers; later it may go well.
    Away {
        /// What was seen.
        why: String,
        /// It may have been taken all the same.
        unknown: bool,
    },
    /// No event would be taken: no such topic, no right to write to it.
    Setup(String),
}

/// Takes events.
pub(super) trait Publish: Send + Sync + 'static {
    /// Hands over an event in wire format; bounded in time.
    fn publish(&self, event: Vec<u8>) -> impl Future<Output = Result<Taken, NotTaken>> + Send;
}
