//! The containment suite: runs against Cofferdam and its peers, prints a table.
fn main() {}
