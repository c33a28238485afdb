//! Publishing mails from an application.

mod partitions;
mod publisher;
