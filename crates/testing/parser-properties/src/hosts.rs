//! Host names, patterns and targets: one normal form, and nobody takes it for an address.

use std::net::IpAddr;

use policy::{HostName, HostPattern, Target};
use url::{Host, Url};

/// Any text as a name, a pattern and a target.
pub(crate) fn host(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(name) = HostName::parse(text) {
        name_holds(text, &name);
    }
    if let Ok(pattern) = HostPattern::parse(text) {
        pattern_holds(&pattern);
    }
    if let Ok(target) = Target::parse(text) {
        target_holds(text, &target);
    }
}

fn name_holds(text: &str, name: &HostName) {
    let normal = name.as_str();
    assert_eq!(HostName::parse(normal).as_ref(), Ok(name), "the normal form is its own normal form");
    assert!((1..=253).contains(&normal.len()));
    assert!(normal.split('.').all(|label| (1..=63).contains(&label.len())));
    assert!(normal.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.')));
    assert!(!is_address_of_inet_aton(normal), "{normal} is an address to inet_aton");
    assert!(normal.parse::<IpAddr>().is_err());
    if text.is_ascii() {
        assert_eq!(HostName::parse(&text.to_ascii_uppercase()).as_ref(), Ok(name), "letter case says nothing");
        assert_eq!(normal, text.to_ascii_lowercase().trim_end_matches('.'));
    }
    if !text.ends_with(['.', '\u{3002}', '\u{ff0e}', '\u{ff61}']) {
        assert_eq!(HostName::parse(&format!("{text}.")).as_ref(), Ok(name), "nor does the trailing dot");
    }
    let (unicode, valid) = idna::domain_to_unicode(normal);
    if valid.is_ok() {
        assert_eq!(HostName::parse(&unicode).as_ref(), Ok(name), "{unicode} is another spelling of it");
    }
    assert_eq!(Target::parse(text), Ok(Target::Name(name.clone())));
    // A browser, or any client of the WHATWG's URLs.
    match Host::parse(text) {
        Ok(Host::Domain(domain)) => assert_eq!(domain.trim_end_matches('.'), normal),
        Ok(address) => panic!("{text:?} is the address {address} in a URL"),
        Err(error) => panic!("{text:?} is no host in a URL: {error}"),
    }
    assert!(HostPattern::Domain(name.clone()).matches(name));
    assert!(!HostPattern::Subnames(name.clone()).matches(name));
}

fn pattern_holds(pattern: &HostPattern) {
    assert_eq!(HostPattern::parse(&pattern.to_string()).as_ref(), Ok(pattern));
    let Some(name) = pattern.name() else { return };
    let below = HostName::parse(&format!("a.{name}"));
    let beside = HostName::parse(&format!("a{name}"));
    let is_wild = matches!(pattern, HostPattern::Subnames(_));
    assert_eq!(pattern.matches(name), !is_wild);
    assert!(below.is_ok_and(|below| pattern.matches(&below)) == is_wild || name.as_str().len() > 251);
    assert!(!beside.is_ok_and(|beside| pattern.matches(&beside)), "{pattern} covers a name beside it");
}

fn target_holds(text: &str, target: &Target) {
    assert_eq!(Target::parse(&target.to_string()).as_ref(), Ok(target));
    if let Target::Address(address) = target {
        assert_eq!(*address, address.to_canonical());
        let bare = text.trim_start_matches('[').trim_end_matches(']');
        assert_eq!(bare.parse::<IpAddr>().map(|address| address.to_canonical()), Ok(*address));
        let bracketed = if bare.contains(':') { format!("[{bare}]") } else { bare.to_owned() };
        let url = Url::parse(&format!("http://{bracketed}/")).expect("an address in a URL");
        match url.host() {
            Some(Host::Ipv4(v4)) => assert_eq!(IpAddr::V4(v4), *address),
            Some(Host::Ipv6(v6)) => assert_eq!(IpAddr::V6(v6).to_canonical(), *address),
            other => panic!("{text:?} is {other:?} in a URL"),
        }
    }
}

/// As the C library's `inet_aton` reads: one to four numbers, each decimal, octal or hexadecimal.
fn is_address_of_inet_aton(text: &str) -> bool {
    let parts: Vec<&str> = text.split('.').collect();
    let number = |part: &&str| -> Option<u64> {
        match part.strip_prefix("0x") {
            Some("") => Some(0),
            Some(hex) => u64::from_str_radix(hex, 16).ok(),
            None if part.starts_with('0') && part.len() > 1 => u64::from_str_radix(part, 8).ok(),
            None => part.parse().ok(),
        }
    };
    let numbers: Option<Vec<u64>> = parts.iter().map(number).collect();
    numbers.is_some_and(|numbers| numbers.len() <= 4)
}
