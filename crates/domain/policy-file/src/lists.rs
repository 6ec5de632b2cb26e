//! Lists kept outside the policy: threat feeds and providers' address ranges, from bytes to names and ranges.
//!
//! A list comes from somebody else, so a bad line is counted and skipped; but a list with many bad lines,
//! without entries, or cut off is refused whole, and the caller keeps the last good one. An entry so wide
//! that it must be a mistake (`0.0.0.0/0`, `com`) is a bad line.

/// Feeds: hosts, domains, ranges, Spamhaus DROP.
mod feed;
/// The range files of Azure, AWS and Google.
mod service_tag;

use ipnet::IpNet;
use policy::{HostName, HostPattern, model::ListContent};

pub use feed::{read_feed, read_feed_within};
pub use service_tag::read_service_tag;

/// The largest list that is read, in bytes.
pub const LIST_BYTES: usize = 512 * 1024 * 1024;

/// Bounds on a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListLimits {
    /// Lines, comments included.
    pub lines: usize,
    /// Names and ranges.
    pub entries: usize,
}

impl Default for ListLimits {
    fn default() -> Self {
        Self { lines: 10_000_000, entries: 4_000_000 }
    }
}

/// A list that was read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListRead {
    /// What it holds, sorted, each once.
    pub content: ListContent,
    /// How many lines or records hold something, good and bad.
    pub records: usize,
    /// How many of these are bad.
    pub bad: usize,
    /// The first bad one: its number (a line counted from 1, or a record) and its text, cut.
    pub first_bad: Option<(usize, String)>,
}

/// Why a list is refused whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    /// More bytes than are read.
    #[error("the list has {0} bytes; at most {LIST_BYTES} are read")]
    TooLarge(usize),
    /// More lines than are read.
    #[error("the list has more than {0} lines")]
    TooManyLines(usize),
    /// More entries than are kept.
    #[error("the list has more than {0} names and ranges")]
    TooManyEntries(usize),
    /// The last line has no end.
    #[error("the list's last line has no line end, so it may be cut off")]
    CutOff,
    /// Nothing in it.
    #[error("the list holds no entry")]
    Empty,
    /// More than one line in ten can't be read: it is another format, or broken.
    #[error("{bad} of {records} lines can't be read, the first is {number}: {text:?}; is it another format?")]
    TooManyBad {
        /// How many.
        bad: usize,
        /// Of how many.
        records: usize,
        /// The number of the first bad one.
        number: usize,
        /// Its text, cut.
        text: String,
    },
    /// The list says how many entries it has, and has not.
    #[error("the list is cut off: it announces {announced} entries and holds {found}")]
    Truncated {
        /// As it says.
        announced: u64,
        /// As counted.
        found: u64,
    },
    /// The file is not of the shape that this provider publishes.
    #[error("not a range file of {provider}: {message}")]
    NotPublished {
        /// The provider.
        provider: &'static str,
        /// What is wrong.
        message: String,
    },
    /// The file has no such tag.
    #[error("the range file of {provider} has no {name:?}{}", nearest.as_ref().map(|n| format!("; did you mean {n:?}?")).unwrap_or_default())]
    UnknownTag {
        /// The provider.
        provider: &'static str,
        /// The tag asked for.
        name: String,
        /// The nearest tag that is there.
        nearest: Option<String>,
    },
}

/// Gathers entries and counts what is bad.
#[derive(Debug)]
struct Gather {
    limits: ListLimits,
    read: ListRead,
}

impl Gather {
    fn new(limits: ListLimits) -> Self {
        Self { limits, read: ListRead::default() }
    }

    fn bad(&mut self, number: usize, text: &str) {
        self.read.bad += 1;
        if self.read.first_bad.is_none() {
            self.read.first_bad = Some((number, text.chars().take(80).collect()));
        }
    }

    fn host(&mut self, pattern: HostPattern) -> Result<(), ListError> {
        self.read.content.hosts.push(pattern);
        self.bounded()
    }

    fn range(&mut self, range: IpNet) -> Result<(), ListError> {
        self.read.content.cidrs.push(range);
        self.bounded()
    }

    fn bounded(&self) -> Result<(), ListError> {
        let content = &self.read.content;
        let fits = content.hosts.len() + content.cidrs.len() <= self.limits.entries;
        if fits { Ok(()) } else { Err(ListError::TooManyEntries(self.limits.entries)) }
    }

    fn finish(mut self) -> Result<ListRead, ListError> {
        let (bad, records) = (self.read.bad, self.read.records);
        if let Some((number, text)) = self.read.first_bad.clone().filter(|_| bad * 10 > records) {
            return Err(ListError::TooManyBad { bad, records, number, text });
        }
        let content = &mut self.read.content;
        if content.hosts.is_empty() && content.cidrs.is_empty() {
            return Err(ListError::Empty);
        }
        content.hosts.sort_unstable();
        content.hosts.dedup();
        content.cidrs.sort_unstable();
        content.cidrs.dedup();
        Ok(self.read)
    }
}

/// A range as a list may hold it: from its first address, and not so wide that it must be a mistake.
fn range(text: &str) -> Option<IpNet> {
    let net = match text.parse::<std::net::IpAddr>() {
        Ok(address) => IpNet::from(address),
        Err(_) => text.parse::<IpNet>().ok()?,
    };
    let widest = match net {
        IpNet::V4(_) => 8,
        IpNet::V6(_) => 16,
    };
    (net.trunc() == net && net.prefix_len() >= widest).then_some(net)
}

/// A name as a list may hold it: not a single label.
fn name(text: &str) -> Option<HostName> {
    HostName::parse(text).ok().filter(|name| name.as_str().contains('.'))
}

#[cfg(test)]
mod tests;
