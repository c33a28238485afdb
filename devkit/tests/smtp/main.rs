//! The scripted SMTP server, seen by a bare socket and by lettre.

mod client;
mod dialog;
mod options;
mod script;
mod security;

use std::time::Duration;

/// Far more than anything here takes.
const SOON: Duration = Duration::from_secs(10);
