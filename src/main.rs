//! postlane.
fn main() {}
