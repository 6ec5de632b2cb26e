//! SOCKS5 requests (RFC 1928): greeting, CONNECT. SOCKS4, BIND and UDP ASSOCIATE are refused by name.
//!
//! Nobody has to authenticate: the sandbox is known by its socket. A client that can only go on with a user name and
//! password (RFC 1929) may say any, and they are kept nowhere. Names and addresses are read as they stand.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use policy::Target;

/// The first byte of every message.
pub const VERSION: u8 = 5;
/// The first byte of SOCKS4 and 4a, which have no answer but a refusal.
pub const VERSION_4: u8 = 4;
/// The first byte of a user name and password (RFC 1929, 2).
const PASSWORD_VERSION: u8 = 1;
/// The answer to any user name and password: go on.
pub const PASSWORD_TAKEN: [u8; 2] = [PASSWORD_VERSION, 0];
/// The answer to SOCKS4: rejected.
pub const REFUSED_4: [u8; 8] = [0, 91, 0, 0, 0, 0, 0, 0];

/// How a client goes on after its greeting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Without authentication.
    Open = 0,
    /// With a user name and password.
    Password = 2,
}

/// What a server answers to a request (RFC 1928, 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// Connected.
    Succeeded = 0,
    /// General failure.
    Failed = 1,
    /// Not allowed by ruleset.
    NotAllowed = 2,
    /// Host unreachable: the name does not resolve, or nobody answers.
    HostUnreachable = 4,
    /// Command not supported.
    CommandNotSupported = 7,
    /// Address type not supported.
    AddressNotSupported = 8,
}

/// A step of reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read<T> {
    /// More bytes are needed.
    Incomplete,
    /// This, and how many bytes it took.
    Complete(T, usize),
    /// Refused, with what to answer where an answer is due.
    Refused(Option<Reply>, &'static str),
}

/// Reads the greeting: the method to go on by, `None` where the client offers none of ours. The longest is 257 bytes.
pub fn greeting(bytes: &[u8]) -> Read<Option<Method>> {
    match bytes {
        [version, ..] if *version != VERSION => Read::Refused(None, "no SOCKS5 greeting"),
        [_, 0, ..] => Read::Complete(None, 2),
        [_, count, rest @ ..] => match rest.get(..usize::from(*count)) {
            Some(methods) => {
                let offered = |method: &Method| methods.contains(&(*method as u8));
                Read::Complete([Method::Open, Method::Password].into_iter().find(offered), 2 + usize::from(*count))
            }
            None => Read::Incomplete,
        },
        _ => Read::Incomplete,
    }
}

/// The answer to a greeting: the method, or none of them.
#[inline]
pub fn greeting_answer(method: Option<Method>) -> [u8; 2] {
    [VERSION, method.map_or(0xff, |method| method as u8)]
}

/// Reads past a user name and password (RFC 1929, 2). The longest is 513 bytes.
pub fn password(bytes: &[u8]) -> Read<()> {
    let after = |at: usize| bytes.get(at).map(|length| at + 1 + usize::from(*length));
    match bytes.first() {
        Some(&PASSWORD_VERSION) => match after(1).and_then(after) {
            Some(end) if end <= bytes.len() => Read::Complete((), end),
            Some(_) | None => Read::Incomplete,
        },
        Some(_) => Read::Refused(None, "a broken SOCKS5 user name and password"),
        None => Read::Incomplete,
    }
}

/// Reads the request: the target and port of a CONNECT. The longest is 262 bytes; a name is a host or an address in
/// text, in the sense of [`Target::parse`].
pub fn request(bytes: &[u8]) -> Read<(Target, u16)> {
    let &[version, command, reserved, kind, ref rest @ ..] = bytes else { return Read::Incomplete };
    if version != VERSION || reserved != 0 {
        return Read::Refused(Some(Reply::Failed), "a broken SOCKS5 request");
    }
    let unsupported = match command {
        1 => None,
        2 => Some("SOCKS5 BIND, which is not supported"),
        3 => Some("SOCKS5 UDP ASSOCIATE, which is not supported"),
        _ => Some("an unknown SOCKS5 command"),
    };
    if let Some(reason) = unsupported {
        return Read::Refused(Some(Reply::CommandNotSupported), reason);
    }
    let (target, length) = match kind {
        1 => match rest.first_chunk::<4>() {
            Some(octets) => (Target::Address(IpAddr::V4(Ipv4Addr::from(*octets))), 4),
            None => return Read::Incomplete,
        },
        4 => match rest.first_chunk::<16>() {
            Some(octets) => (Target::from(Ipv6Addr::from(*octets)), 16),
            None => return Read::Incomplete,
        },
        3 => {
            let Some(length) = rest.first().map(|length| usize::from(*length)) else { return Read::Incomplete };
            let Some(name) = rest.get(1..=length) else { return Read::Incomplete };
            let parsed = std::str::from_utf8(name).ok().and_then(|name| Target::parse(name).ok());
            match parsed {
                Some(target) => (target, 1 + length),
                None => return Read::Refused(Some(Reply::NotAllowed), "a SOCKS5 target that is no host"),
            }
        }
        _ => return Read::Refused(Some(Reply::AddressNotSupported), "a SOCKS5 address of an unknown kind"),
    };
    let Some(port) = rest.get(length..).and_then(|rest| rest.first_chunk::<2>()) else { return Read::Incomplete };
    match u16::from_be_bytes(*port) {
        0 => Read::Refused(Some(Reply::NotAllowed), "port 0"),
        port => Read::Complete((target, port), 4 + length + 2),
    }
}

/// The reply to a request. The bound address is not told.
pub fn reply(reply: Reply) -> [u8; 10] {
    [VERSION, reply as u8, 0, 1, 0, 0, 0, 0, 0, 0]
}

#[cfg(test)]
mod tests {
    use policy::Target;

    use super::{Method, Read, Reply, greeting, password, request};

    #[test]
    fn greetings() {
        for (methods, expected) in [
            (&[0][..], Some(Method::Open)),
            (&[2, 0], Some(Method::Open)),
            (&[1, 2], Some(Method::Password)),
            (&[2], Some(Method::Password)),
            (&[1], None),
            (&[3, 0x80, 0xff], None),
            (&[], None),
        ] {
            let bytes = [&[5, u8::try_from(methods.len()).unwrap()], methods, &[7]].concat();
            assert_eq!(greeting(&bytes), Read::Complete(expected, bytes.len() - 1), "{methods:?}");
            for cut in 0..(bytes.len() - 1) {
                assert_eq!(greeting(&bytes[..cut]), Read::Incomplete);
            }
        }
        assert!(matches!(greeting(&[4, 1]), Read::Refused(None, _)));
    }

    #[test]
    fn passwords_at_every_cut() {
        let long = [&[1, 255][..], &[b'u'; 255], &[255], &[b'p'; 255]].concat();
        for bytes in [b"\x01\x04user\x04pass".to_vec(), b"\x01\0\0".to_vec(), b"\x01\x01u\0".to_vec(), long] {
            for cut in 0..bytes.len() {
                assert_eq!(password(&bytes[..cut]), Read::Incomplete);
            }
            assert_eq!(password(&[&bytes[..], &[5]].concat()), Read::Complete((), bytes.len()));
        }
        assert!(matches!(password(&[5, 1, 0]), Read::Refused(None, _)));
    }

    #[test]
    fn requests_at_every_cut() {
        let name = [&[5, 1, 0, 3, 9][..], b"a.example", &[1, 187, 9]].concat();
        let v4 = [5, 1, 0, 1, 192, 0, 2, 1, 0, 80].to_vec();
        let mapped = [&[5, 1, 0, 4][..], &[0; 10], &[0xff, 0xff, 127, 0, 0, 1, 0, 80]].concat();
        for (bytes, host, port, used) in
            [(name, "a.example", 443, 16), (v4, "192.0.2.1", 80, 10), (mapped, "127.0.0.1", 80, 22)]
        {
            for cut in 0..used {
                assert_eq!(request(&bytes[..cut]), Read::Incomplete);
            }
            assert_eq!(request(&bytes), Read::Complete((Target::parse(host).unwrap(), port), used));
        }
    }

    #[test]
    fn refusals() {
        let named =
            |name: &str| [&[5, 1, 0, 3, u8::try_from(name.len()).unwrap()][..], name.as_bytes(), &[0, 80]].concat();
        for bytes in [named("2130706433"), named("0177.0.0.1"), named("a\0b"), named(""), named("fe80::1%eth0")] {
            assert!(matches!(request(&bytes), Read::Refused(Some(Reply::NotAllowed), _)), "{}", bytes.escape_ascii());
        }
        assert!(matches!(request(&[5, 2, 0, 1]), Read::Refused(Some(Reply::CommandNotSupported), _)));
        assert!(matches!(request(&[5, 3, 0, 1]), Read::Refused(Some(Reply::CommandNotSupported), _)));
        assert!(matches!(request(&[5, 1, 0, 9]), Read::Refused(Some(Reply::AddressNotSupported), _)));
        assert!(matches!(request(&[5, 1, 0, 1, 192, 0, 2, 1, 0, 0]), Read::Refused(Some(Reply::NotAllowed), _)));
    }
}
