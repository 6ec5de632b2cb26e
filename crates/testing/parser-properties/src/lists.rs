//! Feeds and service tags: what is read is bounded, normal, and the same when it is written and read again.

use policy::{
    HostPattern,
    model::{FeedFormat, ListContent, Provider, ServiceTag},
};
use policy_lists::{FeedError, ServiceTagError, read_feed, read_service_tag};

use crate::split_choice;

/// A choice of format, and a file.
pub(crate) fn lists(bytes: &[u8]) {
    let Some((choice, file)) = split_choice(bytes) else { return };
    match choice % 7 {
        0 => feed(FeedFormat::Hosts, file),
        1 => feed(FeedFormat::Domains, file),
        2 => feed(FeedFormat::Cidrs, file),
        3 => feed(FeedFormat::SpamhausDrop, file),
        4 => tag(Provider::Azure, file),
        5 => tag(Provider::Aws, file),
        _ => tag(Provider::Google, file),
    }
}

fn feed(format: FeedFormat, file: &[u8]) {
    let Ok(content) = read_feed(format, file) else { return };
    assert!(file.ends_with(b"\n"), "a file that is cut off is taken");
    assert!(!content.hosts.is_empty() || !content.cidrs.is_empty());
    for range in &content.cidrs {
        assert_eq!(range.trunc(), *range);
        assert!(range.prefix_len() >= if range.addr().is_ipv4() { 8 } else { 16 }, "{range} is wider than lists mean");
    }
    for pattern in &content.hosts {
        let name = pattern.name().expect("no feed covers every name");
        assert!(name.as_str().contains('.'), "{name} covers a top-level domain");
        assert_eq!(matches!(pattern, HostPattern::Exact(_)), format == FeedFormat::Hosts);
    }
    assert_eq!(read_feed(format, written(format, &content).as_bytes()), Ok(content.clone()));
    // Cut within its last line it is refused, or it was that line's end.
    let cut = &file[..file.len() - 1];
    assert!(cut.is_empty() || cut.ends_with(b"\n") || read_feed(format, cut) == Err(FeedError::CutOff));
}

fn written(format: FeedFormat, content: &ListContent) -> String {
    let mut text = String::new();
    for pattern in &content.hosts {
        let name = pattern.name().expect("no feed covers every name");
        let line = if format == FeedFormat::Hosts { format!("0.0.0.0 {name}\n") } else { format!("{name}\n") };
        text.push_str(&line);
    }
    for range in &content.cidrs {
        text.push_str(&format!("{range}\n"));
    }
    text
}

fn tag(provider: Provider, file: &[u8]) {
    let mut tag = ServiceTag { provider, name: "Storage".to_owned(), path: "file".to_owned() };
    let content = match read_service_tag(&tag, file) {
        Ok(content) => content,
        Err(ServiceTagError::Unknown { near: Some(near), .. }) => {
            tag.name = near;
            match read_service_tag(&tag, file) {
                Ok(content) => content,
                Err(ServiceTagError::Unknown { .. }) => panic!("{:?} is offered and not there", tag.name),
                Err(_) => return,
            }
        }
        Err(_) => return,
    };
    assert!(content.hosts.is_empty() && !content.cidrs.is_empty());
    assert!(content.cidrs.is_sorted_by(|one, next| one < next), "each once, in order");
    assert!(content.cidrs.iter().all(|range| range.trunc() == *range));
    tag.name = tag.name.to_ascii_uppercase();
    assert_eq!(read_service_tag(&tag, file), Ok(content), "letter case says nothing");
}
