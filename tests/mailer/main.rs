//! Mails sent directly, against a mail server that follows a script and keeps the books.

mod bed;
mod outages;
mod outcomes;
mod sessions;
