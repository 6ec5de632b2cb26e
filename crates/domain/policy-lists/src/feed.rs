//! Threat feeds and other lists: hosts, domains, ranges, Spamhaus DROP.

use ipnet::IpNet;
use policy::{
    HostName, HostPattern,
    model::{FeedFormat, ListContent},
};
use serde::Deserialize;

use crate::{ENTRY_LIMIT, FILE_LIMIT};

/// Names of the machine itself, which `hosts` files carry along.
const LOCAL_NAMES: [&str; 9] = [
    "localhost",
    "localhost.localdomain",
    "local",
    "broadcasthost",
    "ip6-localhost",
    "ip6-loopback",
    "ip6-localnet",
    "ip6-allnodes",
    "ip6-allrouters",
];

/// Why a file is no feed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FeedError {
    /// It is too large.
    #[error("it has {0} bytes; at most {FILE_LIMIT} are read")]
    TooLarge(usize),
    /// It has too many entries.
    #[error("it has more than {ENTRY_LIMIT} entries")]
    TooMany,
    /// It is no text.
    #[error("it is not UTF-8 text")]
    NotText,
    /// Its last line has no end.
    #[error("its last line has no line end, so it may be cut off")]
    CutOff,
    /// It says how many ranges it holds, and holds fewer.
    #[error("it announces {announced} ranges and holds {found}, so it is cut off")]
    Short {
        /// As it says.
        announced: usize,
        /// As counted.
        found: usize,
    },
    /// It holds nothing.
    #[error("it holds no entry")]
    Empty,
    /// Too much of it is not understood.
    #[error("{wrong} of its {lines} lines are not understood, the first in line {first}: is the format right?")]
    WrongFormat {
        /// How many lines.
        wrong: usize,
        /// Of how many.
        lines: usize,
        /// The first of them, counted from 1.
        first: usize,
    },
}

/// Reads a feed. A few odd lines (one in a hundred, at least three) are passed over.
pub fn read_feed(format: FeedFormat, bytes: &[u8]) -> Result<ListContent, FeedError> {
    if bytes.len() > FILE_LIMIT {
        return Err(FeedError::TooLarge(bytes.len()));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| FeedError::NotText)?;
    if !text.is_empty() && !text.ends_with('\n') {
        return Err(FeedError::CutOff);
    }
    // Counted first: a file of ten million lines is refused without being kept.
    if text.lines().count() > ENTRY_LIMIT {
        return Err(FeedError::TooMany);
    }
    let mut content = ListContent::default();
    let (mut lines, mut wrong, mut first) = (0, 0, 0);
    let mut announced = 0;
    for (number, line) in text.strip_prefix('\u{feff}').unwrap_or(text).lines().enumerate() {
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        lines += 1;
        if !read_line(format, line, &mut content, &mut announced) {
            wrong += 1;
            first = if wrong == 1 { number + 1 } else { first };
        }
        if content.hosts.len() + content.cidrs.len() > ENTRY_LIMIT {
            return Err(FeedError::TooMany);
        }
    }
    if wrong > 3.max(lines / 100) || (wrong > 0 && wrong == lines) {
        return Err(FeedError::WrongFormat { wrong, lines, first });
    }
    let found = content.cidrs.len() + wrong;
    if announced > found {
        return Err(FeedError::Short { announced, found });
    }
    if content.hosts.is_empty() && content.cidrs.is_empty() {
        return Err(FeedError::Empty);
    }
    Ok(content)
}

/// Whether the line is understood; comments are.
fn read_line(format: FeedFormat, line: &str, content: &mut ListContent, announced: &mut usize) -> bool {
    match format {
        FeedFormat::Hosts => read_hosts(without_comment(line), content),
        FeedFormat::Domains => read_domain(without_comment(line), content),
        FeedFormat::Cidrs => read_range(without_comment(line), content),
        FeedFormat::SpamhausDrop if line.starts_with('{') => read_drop_object(line, content, announced),
        FeedFormat::SpamhausDrop => read_range(line.split(';').next().unwrap_or_default().trim(), content),
    }
}

fn without_comment(line: &str) -> &str {
    line.split(['#', ';']).next().unwrap_or_default().trim()
}

/// `0.0.0.0 name name …`
fn read_hosts(line: &str, content: &mut ListContent) -> bool {
    let mut words = line.split_whitespace();
    let Some(address) = words.next() else { return true };
    if address.split('%').next().is_none_or(|address| address.parse::<std::net::IpAddr>().is_err()) {
        return false;
    }
    words.fold(true, |understood, name| {
        if LOCAL_NAMES.contains(&name) || name.parse::<std::net::IpAddr>().is_ok() {
            return understood;
        }
        match read_name(name) {
            Some(name) => {
                content.hosts.push(HostPattern::Exact(name));
                understood
            }
            None => false,
        }
    })
}

/// One domain a line; `*.`, a leading dot and `||…^` mean the same here: the name and all below it.
fn read_domain(line: &str, content: &mut ListContent) -> bool {
    if line.is_empty() || line.starts_with('!') {
        return true;
    }
    let plain = line.strip_prefix("||").and_then(|rest| rest.strip_suffix('^')).unwrap_or(line);
    let plain = plain.strip_prefix("*.").or_else(|| plain.strip_prefix('.')).unwrap_or(plain);
    match read_name(plain) {
        Some(name) => {
            content.hosts.push(HostPattern::Domain(name));
            true
        }
        None => false,
    }
}

/// A name; a single label would cover a whole top-level domain, which no list means.
fn read_name(text: &str) -> Option<HostName> {
    HostName::parse(text).ok().filter(|name| name.as_str().contains('.'))
}

fn read_range(line: &str, content: &mut ListContent) -> bool {
    if line.is_empty() {
        return true;
    }
    let range = line.parse::<IpNet>().ok().or_else(|| line.parse::<std::net::IpAddr>().ok().map(IpNet::from));
    let range = range.filter(is_meant);
    content.cidrs.extend(range.map(|range| range.trunc()));
    range.is_some()
}

/// Whether a range is no wider than lists mean: `0.0.0.0/0` is a mistake, or an attack on who uses the list.
fn is_meant(range: &IpNet) -> bool {
    match range {
        IpNet::V4(range) => range.prefix_len() >= 8,
        IpNet::V6(range) => range.prefix_len() >= 16,
    }
}

/// A line of Spamhaus's `drop_v4.json`: a range, or what the file says of itself.
fn read_drop_object(line: &str, content: &mut ListContent, announced: &mut usize) -> bool {
    #[derive(Deserialize)]
    struct Line {
        cidr: Option<IpNet>,
        #[serde(rename = "type")]
        kind: Option<String>,
        records: Option<usize>,
    }
    match serde_json::from_str::<Line>(line) {
        Ok(Line { cidr: Some(range), .. }) => {
            let meant = is_meant(&range);
            content.cidrs.extend(meant.then(|| range.trunc()));
            meant
        }
        Ok(Line { cidr: None, kind, records }) => {
            *announced = records.unwrap_or_default();
            kind.as_deref() == Some("metadata")
        }
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hosts(content: &ListContent) -> Vec<String> {
        content.hosts.iter().filter_map(|pattern| pattern.name().map(ToString::to_string)).collect()
    }

    fn ranges(content: &ListContent) -> Vec<String> {
        content.cidrs.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn each_format_is_read() {
        let content = read_feed(FeedFormat::Hosts, b"# list\n127.0.0.1 localhost\n0.0.0.0 0.0.0.0\n0.0.0.0 a.example b.example # x\n::1 ip6-localhost\nfe80::1%lo0 localhost\n").unwrap();
        assert_eq!(hosts(&content), ["a.example", "b.example"]);
        assert!(content.hosts.iter().all(|pattern| matches!(pattern, HostPattern::Exact(_))));

        let content = read_feed(
            FeedFormat::Domains,
            b"\xef\xbb\xbf! note\n||a.example^\n*.B.example\n.c.example\nd.example.\r\n",
        )
        .unwrap();
        assert_eq!(hosts(&content), ["a.example", "b.example", "c.example", "d.example"]);
        assert!(content.hosts.iter().all(|pattern| matches!(pattern, HostPattern::Domain(_))));

        let content = read_feed(FeedFormat::Cidrs, b"10.1.2.3/8\n2001:db8::1\n\n# end\n").unwrap();
        assert_eq!(ranges(&content), ["10.0.0.0/8", "2001:db8::1/128"]);

        let text = b"; Spamhaus DROP\n192.0.2.0/24 ; SBL1\n{\"cidr\":\"198.51.100.0/24\",\"sblid\":\"SBL2\"}\n{\"type\":\"metadata\",\"records\":1}\n";
        assert_eq!(ranges(&read_feed(FeedFormat::SpamhausDrop, text).unwrap()), ["192.0.2.0/24", "198.51.100.0/24"]);
    }

    #[test]
    fn a_doubtful_file_is_refused() {
        for (format, bytes, expected) in [
            (FeedFormat::Domains, &b""[..], FeedError::Empty),
            (FeedFormat::Domains, b"# nothing\n", FeedError::Empty),
            (FeedFormat::Domains, b"a.example\nb.exam", FeedError::CutOff),
            (FeedFormat::Cidrs, b"10.0.0.0/1", FeedError::CutOff),
            (FeedFormat::Domains, b"\xff\n", FeedError::NotText),
            (FeedFormat::Cidrs, b"a.example\n", FeedError::WrongFormat { wrong: 1, lines: 1, first: 1 }),
            (FeedFormat::Cidrs, b"0.0.0.0/0\n", FeedError::WrongFormat { wrong: 1, lines: 1, first: 1 }),
            (FeedFormat::Cidrs, b"::/0\n", FeedError::WrongFormat { wrong: 1, lines: 1, first: 1 }),
            (FeedFormat::Domains, b"com\n", FeedError::WrongFormat { wrong: 1, lines: 1, first: 1 }),
            (FeedFormat::Hosts, b"0.0.0.0 com\n", FeedError::WrongFormat { wrong: 1, lines: 1, first: 1 }),
            (
                FeedFormat::SpamhausDrop,
                b"{\"cidr\":\"192.0.2.0/24\"}\n{\"type\":\"metadata\",\"records\":2}\n",
                FeedError::Short { announced: 2, found: 1 },
            ),
            (
                FeedFormat::Hosts,
                b"0.0.0.0 a.example\n<html>\n<p>\n<p>\n<p>\n",
                FeedError::WrongFormat { wrong: 4, lines: 5, first: 2 },
            ),
        ] {
            assert_eq!(read_feed(format, bytes), Err(expected));
        }
    }

    #[test]
    fn a_list_has_a_bound() {
        let line = "a.example\n";
        let bytes = line.repeat(ENTRY_LIMIT + 1);
        assert_eq!(read_feed(FeedFormat::Domains, bytes.as_bytes()), Err(FeedError::TooMany));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            for format in [FeedFormat::Hosts, FeedFormat::Domains, FeedFormat::Cidrs, FeedFormat::SpamhausDrop] {
                let _ = read_feed(format, &bytes);
            }
        }

        #[test]
        fn every_written_domain_is_read(labels in proptest::collection::vec("[a-z]{1,10}", 1..50)) {
            let text: String = labels.iter().map(|label| format!("{label}.example\n")).collect();
            let content = read_feed(FeedFormat::Domains, text.as_bytes()).unwrap();
            prop_assert_eq!(content.hosts.len(), labels.len());
        }
    }
}
