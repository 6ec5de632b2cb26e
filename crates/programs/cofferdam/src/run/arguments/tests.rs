//! What flags may hold, and how it is read.

use super::*;

fn host(host: &str, port: Option<u16>, addresses: Option<&str>) -> Destination {
    Destination::Host { host: host.to_owned(), port, addresses: addresses.map(|a| a.parse().unwrap()) }
}

fn range(range: &str, port: Option<u16>) -> Destination {
    Destination::Range { range: range.parse().unwrap(), port }
}

#[test]
fn destinations_are_read() {
    for (text, expected) in [
        ("api.example.com", host("api.example.com", None, None)),
        ("*.Example.com.:443", host("*.example.com", Some(443), None)),
        ("wiki.corp.example@10.20.0.0/16", host("wiki.corp.example", None, Some("10.20.0.0/16"))),
        ("wiki.corp.example:8080@fd00::/8", host("wiki.corp.example", Some(8080), Some("fd00::/8"))),
        ("10.1.2.3/8", range("10.0.0.0/8", None)),
        ("10.1.2.3", range("10.1.2.3/32", None)),
        ("10.1.2.3:5432", range("10.1.2.3/32", Some(5432))),
        ("10.0.0.0/8:5432", range("10.0.0.0/8", Some(5432))),
        ("::1", range("::1/128", None)),
        ("[::1]:53", range("::1/128", Some(53))),
        ("fd00::/8", range("fd00::/8", None)),
        ("registry:pip", Destination::Registry("pip".to_owned())),
    ] {
        assert_eq!(text.parse::<Destination>().as_ref(), Ok(&expected), "{text}");
    }
    for wrong in ["", "a b", "x:0", "x:65536", "x:", "x:080", "10.0.0.1@10.0.0.0/8", "0x7f.1", "x@y", "http://x/"] {
        assert!(wrong.parse::<Destination>().is_err(), "{wrong}");
    }
}

#[test]
fn a_url_is_answered_with_the_host_to_write() {
    for (url, host) in [
        ("https://api.example.com/v1?x", "api.example.com:443"),
        ("http://api.example.com", "api.example.com:80"),
        ("HTTPS://user@api.example.com:8443/", "api.example.com:8443"),
        ("ssh://git.example.com/x", "git.example.com"),
        ("https://[2001:db8::1]/", "[2001:db8::1]:443"),
    ] {
        let error = url.parse::<Destination>().unwrap_err();
        assert!(error.contains(&format!(": write {host} (")), "{url}: {error}");
        assert!(host.parse::<Destination>().is_ok(), "{host}");
    }
}

#[test]
fn variables_mounts_and_sizes_are_read() {
    let variable = |bytes: &[u8]| Variable::parse(OsStr::from_bytes(bytes));
    let value = |bytes: &[u8]| Some(OsStr::from_bytes(bytes).to_owned());
    assert_eq!(variable(b"A=b=c"), Ok(Variable { name: "A".to_owned(), value: value(b"b=c") }));
    assert_eq!(variable(b"A=\xff"), Ok(Variable { name: "A".to_owned(), value: value(b"\xff") }));
    assert_eq!(variable(b"A"), Ok(Variable { name: "A".to_owned(), value: None }));
    assert!(variable(b"=x").is_err() && variable(b"\xff=x").is_err() && variable(b"").is_err());
    for (text, expected) in
        [("/a:/b", ("/a", "/b", true)), ("x/y:/b:ro", ("x/y", "/b", false)), ("/a:/b:rw", ("/a", "/b", true))]
    {
        let (source, target, writable) = expected;
        let mount = MountFlag { source: source.into(), target: target.into(), writable };
        assert_eq!(text.parse(), Ok(mount), "{text}");
    }
    for wrong in ["/a", "/a:b", "/a:/", ":/b", "/a:/b/../c", "/a:/b:rx"] {
        assert!(wrong.parse::<MountFlag>().is_err(), "{wrong}");
    }
    for (text, expected) in [
        ("512", Some(512)),
        ("2G", Some(2 << 30)),
        ("1KiB", Some(1024)),
        ("3mb", Some(3 << 20)),
        ("0", None),
        ("G", None),
        ("1X", None),
        ("99999999T", None),
    ] {
        assert_eq!(text.parse::<Size>().ok().map(|size| size.0), expected, "{text}");
    }
    assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5400)));
    assert!(duration("-1s").is_err() && duration("0s").is_err() && duration("soon").is_err());
}

proptest::proptest! {
    #[test]
    fn no_text_panics(text in "\\PC{0,80}") {
        let _ = (text.parse::<Destination>(), Variable::parse(text.as_ref()), text.parse::<MountFlag>(), text.parse::<Size>(), duration(&text));
    }
}
