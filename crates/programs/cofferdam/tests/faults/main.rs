//! What breaks, at the door: floods, records that are gone, killed processes, odd servers, broken policies, a clock that
//! jumps. None of it opens a way out, hangs, or loses the record of what left.

mod change;
mod endings;
mod files;
mod load;
mod record;
mod upstream;
#[path = "../support/mod.rs"]
mod support;
mod live;
