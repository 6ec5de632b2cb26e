//! SOCKS5: what a message takes, and no byte more.

use policy::Target;
use wire::socks5::{Read, greeting, password, request};

/// Any bytes as a greeting, as a user name and password, and as a request.
pub(crate) fn socks5(bytes: &[u8]) {
    holds(bytes, greeting, 257);
    holds(bytes, password, 513);
    holds(bytes, request, 262);
    if let Read::Complete((target, port), used) = request(bytes) {
        let written = written(&target, port);
        assert_eq!(request(&written), Read::Complete((target, port), written.len()));
        assert_ne!(port, 0);
        assert!(bytes[..used].ends_with(&port.to_be_bytes()));
    }
}

fn holds<T: PartialEq + std::fmt::Debug>(bytes: &[u8], read: fn(&[u8]) -> Read<T>, longest: usize) {
    let whole = read(bytes);
    for cut in 0..bytes.len().min(longest + 1) {
        let early = read(&bytes[..cut]);
        assert!(early == Read::Incomplete || early == whole, "cut at {cut}: {early:?}, whole: {whole:?}");
    }
    assert!(bytes.len() < longest || whole != Read::Incomplete, "more than {longest} bytes are waited for");
    if let Read::Complete(_, used) = &whole {
        assert!(*used <= bytes.len() && *used <= longest);
        assert_eq!(read(&bytes[..*used]), whole);
        assert!(*used == 0 || read(&bytes[..used - 1]) == Read::Incomplete);
    }
}

fn written(target: &Target, port: u16) -> Vec<u8> {
    let mut out = vec![5, 1, 0];
    match target {
        Target::Name(name) => {
            out.extend([3, u8::try_from(name.as_str().len()).unwrap()]);
            out.extend_from_slice(name.as_str().as_bytes());
        }
        Target::Address(std::net::IpAddr::V4(address)) => {
            out.push(1);
            out.extend(address.octets());
        }
        Target::Address(std::net::IpAddr::V6(address)) => {
            out.push(4);
            out.extend(address.octets());
        }
    }
    out.extend(port.to_be_bytes());
    out
}
