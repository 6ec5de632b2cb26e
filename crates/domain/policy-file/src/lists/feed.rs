//! Feeds: lines of text.

use std::net::IpAddr;

use policy::{HostPattern, model::FeedFormat};
use serde::Deserialize;

use super::{Gather, LIST_BYTES, ListError, ListLimits, ListRead, name, range};

/// Reads a feed within the usual limits.
pub fn read_feed(format: FeedFormat, bytes: &[u8]) -> Result<ListRead, ListError> {
    read_feed_within(format, bytes, ListLimits::default())
}

/// Reads a feed within these limits.
pub fn read_feed_within(format: FeedFormat, bytes: &[u8], limits: ListLimits) -> Result<ListRead, ListError> {
    if bytes.len() > LIST_BYTES {
        return Err(ListError::TooLarge(bytes.len()));
    }
    if !bytes.is_empty() && !bytes.ends_with(b"\n") {
        return Err(ListError::CutOff);
    }
    let mut gather = Gather::new(limits);
    let mut announced = None;
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        if index > limits.lines {
            return Err(ListError::TooManyLines(limits.lines));
        }
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        let Ok(text) = std::str::from_utf8(line) else {
            gather.read.records += 1;
            gather.bad(index + 1, &String::from_utf8_lossy(line));
            continue;
        };
        let read = match format {
            FeedFormat::Hosts => hosts_line(text, &mut gather)?,
            FeedFormat::Domains => domain_line(text, &mut gather)?,
            FeedFormat::Cidrs => range_line(text, &mut gather)?,
            FeedFormat::SpamhausDrop if text.starts_with('{') => drop_record(text, &mut gather, &mut announced)?,
            FeedFormat::SpamhausDrop => range_line(text, &mut gather)?,
        };
        match read {
            Line::Good => gather.read.records += 1,
            Line::Nothing => {}
            Line::Bad => {
                gather.read.records += 1;
                gather.bad(index + 1, text);
            }
        }
    }
    check_announced(announced, &gather)?;
    gather.finish()
}

/// What a line turned out to be.
enum Line {
    Good,
    /// A comment, or an entry of no interest.
    Nothing,
    Bad,
}

/// Names that hosts files carry for the machine itself.
fn is_local(name: &str) -> bool {
    matches!(name, "localhost" | "localhost.localdomain" | "local" | "broadcasthost" | "0.0.0.0")
        || name.starts_with("ip6-")
}

fn without_comment<'t>(text: &'t str, marks: &[char]) -> &'t str {
    text.split(marks).next().unwrap_or_default().trim()
}

fn hosts_line(text: &str, gather: &mut Gather) -> Result<Line, ListError> {
    let mut words = without_comment(text, &['#']).split_ascii_whitespace();
    let address = words.next().and_then(|word| word.split('%').next()).map(str::parse::<IpAddr>);
    let Some(Ok(_)) = address else { return Ok(Line::Bad) };
    let (mut good, mut local, mut wrong) = (false, false, false);
    for word in words {
        match name(word) {
            _ if is_local(word) => local = true,
            Some(name) => {
                gather.host(HostPattern::Exact(name))?;
                good = true;
            }
            None => wrong = true,
        }
    }
    Ok(match (good && !wrong, local && !wrong) {
        (true, _) => Line::Good,
        (false, true) => Line::Nothing,
        (false, false) => Line::Bad,
    })
}

/// One domain a line; `*.`, a leading dot and a blocker list's `||…^` mean the same: it and all names below.
fn domain_line(text: &str, gather: &mut Gather) -> Result<Line, ListError> {
    let text = without_comment(text, &['#', ' ', '\t']);
    if text.is_empty() || text.starts_with(['!', ';', '[']) {
        return Ok(Line::Nothing);
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        gather.range(address.into())?;
        return Ok(Line::Good);
    }
    let plain = text.strip_prefix("||").and_then(|rest| rest.strip_suffix('^')).unwrap_or(text);
    let plain = plain.strip_prefix("*.").or_else(|| plain.strip_prefix('.')).unwrap_or(plain);
    let Some(name) = name(plain) else { return Ok(Line::Bad) };
    gather.host(HostPattern::Domain(name))?;
    Ok(Line::Good)
}

fn range_line(text: &str, gather: &mut Gather) -> Result<Line, ListError> {
    let text = without_comment(text, &['#', ';', ' ', '\t']);
    if text.is_empty() {
        return Ok(Line::Nothing);
    }
    let Some(range) = range(text) else { return Ok(Line::Bad) };
    gather.range(range)?;
    Ok(Line::Good)
}

/// One record of Spamhaus's JSON lines: a range, or what the list says of itself.
#[derive(Deserialize)]
struct DropRecord {
    cidr: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    records: Option<u64>,
}

fn drop_record(text: &str, gather: &mut Gather, announced: &mut Option<u64>) -> Result<Line, ListError> {
    let Ok(record) = serde_json::from_str::<DropRecord>(text) else { return Ok(Line::Bad) };
    if let Some(range) = record.cidr.as_deref().and_then(range) {
        gather.range(range)?;
        return Ok(Line::Good);
    }
    if record.kind.as_deref() == Some("metadata") {
        *announced = record.records;
        return Ok(Line::Nothing);
    }
    Ok(Line::Bad)
}

fn check_announced(announced: Option<u64>, gather: &Gather) -> Result<(), ListError> {
    let found = u64::try_from(gather.read.records).unwrap_or(u64::MAX);
    match announced {
        Some(announced) if announced > found => Err(ListError::Truncated { announced, found }),
        Some(_) | None => Ok(()),
    }
}
