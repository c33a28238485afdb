//! The programs of `examples/clients`, each built with the tools of its language and run against a real broker and a running
//! service, and the documents that quote them.

mod arrives;
mod excerpts;
mod outage;
mod programs;
