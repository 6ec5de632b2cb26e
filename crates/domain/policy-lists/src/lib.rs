//! From a feed's or a provider's published file to the names and ranges that a policy uses.
//!
//! Bytes in, a [`policy::model::ListContent`] out. A file that looks cut off or that is of another format is refused
//! as a whole: half a list would deny too little, or allow too much. Who reads the file, and keeps the last good
//! content when a refresh fails, is the program.

/// Threat feeds and other lists: hosts, domains, ranges, Spamhaus DROP.
mod feed;
/// Published address ranges of Azure, AWS and Google.
mod service_tag;

pub use feed::{FeedError, read_feed};
pub use service_tag::{ServiceTagError, read_service_tag};

/// The largest file that is read.
pub const FILE_LIMIT: usize = 256 << 20;
/// The most entries of one list.
pub const ENTRY_LIMIT: usize = 5_000_000;
