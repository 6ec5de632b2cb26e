//! SOCKS5 requests (RFC 1928): greeting without authentication, then CONNECT.
//!
//! Names and addresses are read as they stand; BIND and UDP ASSOCIATE are refused.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use policy::Target;

/// The first byte of every message.
pub const VERSION: u8 = 5;

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

/// Reads the greeting: whether the client offers to go without authentication. The longest is 257 bytes.
pub fn greeting(bytes: &[u8]) -> Read<bool> {
    match bytes {
        [version, ..] if *version != VERSION => Read::Refused(None, "no SOCKS5 greeting"),
        [_, 0, ..] => Read::Refused(None, "a SOCKS5 greeting without a method"),
        [_, count, rest @ ..] => match rest.get(..usize::from(*count)) {
            Some(methods) => Read::Complete(methods.contains(&0), 2 + usize::from(*count)),
            None => Read::Incomplete,
        },
        _ => Read::Incomplete,
    }
}

/// The answer to a greeting: no authentication, or none of the methods.
#[inline]
pub fn greeting_answer(accepted: bool) -> [u8; 2] {
    [VERSION, if accepted { 0 } else { 0xff }]
}

/// Reads the request: the target and port of a CONNECT. The longest is 262 bytes; a name is a host or an address in
/// text, in the sense of [`Target::parse`].
pub fn request(bytes: &[u8]) -> Read<(Target, u16)> {
    let &[version, command, reserved, kind, ref rest @ ..] = bytes else { return Read::Incomplete };
    if version != VERSION || reserved != 0 {
        return Read::Refused(Some(Reply::Failed), "a broken SOCKS5 request");
    }
    if command != 1 {
        return Read::Refused(Some(Reply::CommandNotSupported), "a SOCKS5 command other than CONNECT");
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

    use super::{Read, Reply, greeting, request};

    #[test]
    fn greetings() {
        assert_eq!(greeting(&[5, 2, 2, 0]), Read::Complete(true, 4));
        assert_eq!(greeting(&[5, 1, 2, 9]), Read::Complete(false, 3));
        assert_eq!(greeting(&[5, 2, 2]), Read::Incomplete);
        assert!(matches!(greeting(&[4, 1]), Read::Refused(None, _)));
        assert!(matches!(greeting(&[5, 0]), Read::Refused(None, _)));
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
