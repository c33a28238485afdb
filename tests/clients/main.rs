//! The programs of `examples/clients`, each built with the tools of its language and run against a real broker and a running
//! service, the documents that quote them, and the commands of the demo.

mod arrives;
mod excerpts;
mod guide;
mod outage;
mod programs;
