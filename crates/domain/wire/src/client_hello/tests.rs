//! One verdict wherever the bytes are cut, and what is malformed.

use proptest::prelude::{any, prop, prop_assert_eq, proptest};

use super::{ClientHello, Hello, read};

const LIMIT: usize = 64 * 1024;

fn vector8(bytes: &[u8]) -> Vec<u8> {
    [&[u8::try_from(bytes.len()).unwrap()], bytes].concat()
}

fn vector16(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

fn extension(kind: u16, data: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &vector16(data)].concat()
}

fn sni(names: &[&str]) -> Vec<u8> {
    let list: Vec<u8> = names.iter().flat_map(|name| [&[0][..], &vector16(name.as_bytes())].concat()).collect();
    extension(0, &vector16(&list))
}

fn alpn(protocols: &[&str]) -> Vec<u8> {
    let list: Vec<u8> = protocols.iter().flat_map(|protocol| vector8(protocol.as_bytes())).collect();
    extension(16, &vector16(&list))
}

fn message(extensions: &[Vec<u8>]) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend(vector8(&[1; 32]));
    body.extend(vector16(&[0x13, 0x01, 0x13, 0x02]));
    body.extend(vector8(&[0]));
    body.extend(vector16(&extensions.concat()));
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[1, length[1], length[2], length[3]], body.as_slice()].concat()
}

fn records(message: &[u8], size: usize) -> Vec<u8> {
    message.chunks(size).flat_map(|chunk| [&[22, 3, 1][..], &vector16(chunk)].concat()).collect()
}

fn hello(extensions: &[Vec<u8>]) -> Vec<u8> {
    records(&message(extensions), 1 << 14)
}

fn named(name: &str) -> Hello {
    Hello::Complete(ClientHello {
        server_name: Some(policy::HostName::parse(name).unwrap()),
        alpn: vec!["h2".to_owned(), "http/1.1".to_owned()],
        encrypted: false,
    })
}

fn ordinary() -> Vec<Vec<u8>> {
    vec![extension(43, &[2, 3, 4]), sni(&["API.example.com"]), alpn(&["h2", "http/1.1"]), extension(21, &[0; 600])]
}

#[test]
fn one_verdict_at_every_cut_and_record_size() {
    for size in [1, 2, 3, 5, 64, 200, 1 << 14] {
        let bytes = records(&message(&ordinary()), size);
        for cut in 0..bytes.len() {
            assert_eq!(read(&bytes[..cut], LIMIT), Hello::Incomplete, "record size {size}, cut at {cut}");
        }
        assert_eq!(read(&bytes, LIMIT), named("api.example.com"), "record size {size}");
        let longer = [bytes.as_slice(), b"\x14\x03\x03\x00\x01\x01"].concat();
        assert_eq!(read(&longer, LIMIT), named("api.example.com"), "record size {size}");
    }
}

#[test]
fn what_has_no_one_meaning_is_malformed() {
    let grease = extension(0xfe0d, &[0; 100]);
    let mut trailing = message(&ordinary());
    trailing.push(0);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("two names", hello(&[sni(&["a.example", "b.example"])])),
        ("two extensions", hello(&[sni(&["a.example"]), sni(&["b.example"])])),
        ("v4 literal", hello(&[sni(&["127.0.0.1"])])),
        ("v6 literal", hello(&[sni(&["::1"])])),
        ("decimal literal", hello(&[sni(&["2130706433"])])),
        ("U-label", hello(&[sni(&["b\u{fc}cher.example"])])),
        ("NUL", hello(&[sni(&["a.example\0.b.example"])])),
        ("empty name", hello(&[sni(&[""])])),
        ("empty list", hello(&[extension(0, &[0, 0])])),
        ("empty extension", hello(&[extension(0, &[])])),
        ("unknown kind", hello(&[extension(0, &vector16(&[1, 0, 1, b'a']))])),
        ("empty alpn", hello(&[extension(16, &[0, 0])])),
        ("empty protocol", hello(&[extension(16, &vector16(&[0]))])),
        ("bytes behind", records(&trailing, 1 << 14)),
        ("empty record", [&[22, 3, 1, 0, 0], hello(&ordinary()).as_slice()].concat()),
        ("alert within", {
            let mut bytes = records(&message(&ordinary()), 100);
            bytes.splice(105..105, [21, 3, 1, 0, 2, 1, 0]);
            bytes
        }),
        ("server hello first", vec![22, 3, 3, 0, 4, 2, 0, 0, 0]),
        ("SSL 2 in a record", vec![22, 2, 0, 0, 4]),
        ("huge record", vec![22, 3, 1, 0xff, 0xff]),
        ("huge message", vec![22, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff]),
        ("cut", records(&[1, 0, 0, 4, 3, 3, 0, 0], 100)),
    ];
    for (what, bytes) in cases {
        assert!(matches!(read(&bytes, LIMIT), Hello::Malformed(_)), "{what}: {:?}", read(&bytes, LIMIT));
    }
    let Hello::Complete(found) = read(&hello(&[sni(&["a.example"]), grease]), LIMIT) else { panic!("grease") };
    assert!(found.encrypted);
}

#[test]
fn records_do_not_stretch_the_bound() {
    let bytes = records(&message(&ordinary()), 1);
    assert!(bytes.len() > 4000);
    assert_eq!(read(&bytes[..3999], 4000), Hello::Incomplete);
    for length in [4000, 4001, bytes.len()] {
        assert_eq!(read(&bytes[..length], 4000), Hello::Malformed("a ClientHello longer than the bound"));
    }
    assert_eq!(read(&bytes, bytes.len()), named("api.example.com"));
}

#[test]
fn what_is_not_tls() {
    for bytes in [&b"GET / HTTP/1.1"[..], b"SSH-2.0", &[0x80, 0x2e, 1], &[0]] {
        assert_eq!(read(bytes, LIMIT), Hello::NotTls);
    }
    assert_eq!(read(b"", LIMIT), Hello::Incomplete);
    let Hello::Complete(found) = read(&hello(&[]), LIMIT) else { panic!("no extensions") };
    assert_eq!(found.server_name, None);
    let Hello::Complete(found) = read(&hello(&[sni(&["a.example."])]), LIMIT) else { panic!("trailing dot") };
    assert_eq!(found.server_name.unwrap().as_str(), "a.example");
}

proptest! {
    #[test]
    fn no_later_byte_changes_a_verdict(bytes in prop::collection::vec(any::<u8>(), 0..200), more in prop::collection::vec(any::<u8>(), 1..60), tls in any::<bool>()) {
        let mut bytes = bytes;
        if tls {
            bytes.splice(0..0, [22, 3, 1, 0, 40, 1, 0, 0, 36]);
        }
        let verdict = read(&bytes, LIMIT);
        bytes.extend(more);
        if verdict != Hello::Incomplete {
            prop_assert_eq!(read(&bytes, LIMIT), verdict);
        }
    }

    #[test]
    fn a_changed_byte_never_panics(at in 0usize..700, value in any::<u8>()) {
        let mut bytes = hello(&ordinary());
        let at = at % bytes.len();
        bytes[at] = value;
        read(&bytes, LIMIT);
    }
}
