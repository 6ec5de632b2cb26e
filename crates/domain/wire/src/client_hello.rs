//! Reads a TLS ClientHello (RFC 8446, 4.1.2; RFC 5246, 7.4.1.2) from the first bytes of a connection.
//!
//! It is asked again whenever more bytes are there, and its verdict on a stream does not depend
//! on where the stream was cut: once it is not [`Hello::Incomplete`] no further byte changes it, and
//! TLS records are joined. It takes only what has one meaning: two server names, an address as a name,
//! a doubled extension or a byte left over are malformed, because peers differ in what they would use.

use policy::{HostName, Target};

/// What the first bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hello {
    /// Could become a ClientHello: read on.
    Incomplete,
    /// The first byte is no TLS handshake record's.
    NotTls,
    /// Begins as one and has no one meaning.
    Malformed(&'static str),
    /// A ClientHello.
    Complete(ClientHello),
}

/// What it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientHello {
    /// The server name indication (RFC 6066, 3), normalised.
    pub server_name: Option<HostName>,
    /// The protocols offered (RFC 7301), in order.
    pub alpn: Vec<String>,
    /// Whether an `encrypted_client_hello` extension (RFC 9849) or a draft of it is there.
    pub encrypted: bool,
}

const RECORD_HANDSHAKE: u8 = 22;
const RECORD_HEADER: usize = 5;
/// The most bytes of one plaintext record (RFC 8446, 5.1).
const RECORD_LIMIT: usize = 1 << 14;
const HANDSHAKE_CLIENT_HELLO: u8 = 1;
const HANDSHAKE_HEADER: usize = 4;

const TOO_LONG: &str = "a ClientHello longer than the bound";

const EXTENSION_SERVER_NAME: u16 = 0;
const EXTENSION_ALPN: u16 = 16;
/// RFC 9849, and the numbers of the drafts and of ESNI before it that clients in the field still send.
const EXTENSIONS_ENCRYPTED: [u16; 7] = [0xfe0d, 0xfe0c, 0xfe0b, 0xfe0a, 0xfe09, 0xfe08, 0xffce];

/// Reads what is there of a stream, from its start.
///
/// `limit` bounds the bytes that are looked at, headers of records and all; a message that announces more, or is cut
/// into so many records that it takes more, is malformed. One record carries at most 16 KiB, none is empty, and none
/// holds a byte behind the ClientHello. A server name is ASCII and a host name in the sense of [`HostName::parse`];
/// one name or none.
pub fn read(bytes: &[u8], limit: usize) -> Hello {
    match message(bytes.get(..limit).unwrap_or(bytes), limit) {
        Ok(Some(message)) => match client_hello(&message) {
            Ok(hello) => Hello::Complete(hello),
            Err(reason) => Hello::Malformed(reason),
        },
        Ok(None) if bytes.first().is_some_and(|byte| *byte != RECORD_HANDSHAKE) => Hello::NotTls,
        Ok(None) if bytes.len() >= limit => Hello::Malformed(TOO_LONG),
        Ok(None) => Hello::Incomplete,
        Err(reason) => Hello::Malformed(reason),
    }
}

/// The body of the first handshake message, joined from its records; `None` while it is not complete.
fn message(bytes: &[u8], limit: usize) -> Result<Option<Vec<u8>>, &'static str> {
    let mut rest = Reader(bytes);
    let mut joined: Vec<u8> = Vec::new();
    loop {
        match rest.0 {
            [] => return Ok(None),
            [first, ..] if *first != RECORD_HANDSHAKE => {
                return if joined.is_empty() { Ok(None) } else { Err("another record within the ClientHello") };
            }
            [_, major, ..] if *major != 3 => return Err("no TLS version this gateway knows"),
            _ => {}
        }
        let Some(header) = rest.take(RECORD_HEADER) else { return Ok(None) };
        let &[_, _, minor, high, low] = header else { return Ok(None) };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if minor > 4 {
            return Err("no TLS version this gateway knows");
        }
        if length == 0 {
            return Err("an empty record within the ClientHello");
        }
        if length > RECORD_LIMIT {
            return Err("a TLS record longer than 16 KiB");
        }
        let (present, after) = rest.0.split_at(length.min(rest.0.len()));
        joined.extend_from_slice(present);
        if joined.first().is_some_and(|kind| *kind != HANDSHAKE_CLIENT_HELLO) {
            return Err("the first TLS message is no ClientHello");
        }
        let whole_record = present.len() == length;
        if let &[_, a, b, c, ..] = joined.as_slice() {
            let body = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
            let total = HANDSHAKE_HEADER + body;
            if total > limit {
                return Err(TOO_LONG);
            }
            let announced = joined.len() - present.len() + length;
            if announced > total {
                return Err("bytes after the ClientHello in its record");
            }
            if announced == total {
                return Ok(whole_record.then(|| joined.split_off(HANDSHAKE_HEADER)));
            }
        }
        if !whole_record {
            return Ok(None);
        }
        rest.0 = after;
    }
}

fn client_hello(body: &[u8]) -> Result<ClientHello, &'static str> {
    const CUT: &str = "a ClientHello that ends too early";
    let mut hello = Reader(body);
    let version = hello.u16().ok_or(CUT)?;
    if version >> 8 != 3 {
        return Err("no TLS version this gateway knows");
    }
    hello.take(32).ok_or(CUT)?;
    let session = hello.vector8().ok_or(CUT)?;
    if session.len() > 32 {
        return Err("a session id longer than 32 bytes");
    }
    let suites = hello.vector16().ok_or(CUT)?;
    if suites.is_empty() || suites.len() % 2 != 0 {
        return Err("a broken list of cipher suites");
    }
    if hello.vector8().ok_or(CUT)?.is_empty() {
        return Err("an empty list of compression methods");
    }
    let mut seen = ClientHello { server_name: None, alpn: Vec::new(), encrypted: false };
    if hello.0.is_empty() {
        return Ok(seen);
    }
    let mut extensions = Reader(hello.vector16().ok_or(CUT)?);
    if !hello.0.is_empty() {
        return Err("bytes after the extensions");
    }
    let mut kinds: Vec<u16> = Vec::with_capacity(24);
    while !extensions.0.is_empty() {
        let kind = extensions.u16().ok_or(CUT)?;
        let data = extensions.vector16().ok_or(CUT)?;
        if kinds.contains(&kind) {
            return Err("the same extension twice");
        }
        kinds.push(kind);
        match kind {
            EXTENSION_SERVER_NAME => seen.server_name = Some(server_name(data)?),
            EXTENSION_ALPN => seen.alpn = alpn(data)?,
            kind if EXTENSIONS_ENCRYPTED.contains(&kind) => seen.encrypted = true,
            _ => {}
        }
    }
    Ok(seen)
}

/// Exactly one host name (RFC 6066 forbids two of a kind and defines no other kind).
fn server_name(data: &[u8]) -> Result<HostName, &'static str> {
    const BROKEN: &str = "a broken server name";
    let mut outer = Reader(data);
    let mut list = Reader(outer.vector16().ok_or(BROKEN)?);
    if !outer.0.is_empty() {
        return Err(BROKEN);
    }
    let kind = list.take(1).ok_or(BROKEN)?;
    let name = list.vector16().ok_or(BROKEN)?;
    if kind != [0] {
        return Err("a server name of an unknown kind");
    }
    if !list.0.is_empty() {
        return Err("two server names");
    }
    // RFC 6066, 3: ASCII. Servers compare bytes, so another spelling of a name is another name to them.
    let name =
        std::str::from_utf8(name).ok().filter(|name| name.is_ascii()).ok_or("a server name that is not ASCII")?;
    match Target::parse(name) {
        Ok(Target::Name(name)) => Ok(name),
        Ok(Target::Address(_)) => Err("an address as the server name"),
        Err(_) => Err("a server name that is no host name"),
    }
}

fn alpn(data: &[u8]) -> Result<Vec<String>, &'static str> {
    const BROKEN: &str = "a broken list of protocols";
    let mut outer = Reader(data);
    let mut list = Reader(outer.vector16().ok_or(BROKEN)?);
    if !outer.0.is_empty() || list.0.is_empty() {
        return Err(BROKEN);
    }
    let mut protocols = Vec::new();
    while !list.0.is_empty() {
        let protocol = list.vector8().ok_or(BROKEN)?;
        if protocol.is_empty() {
            return Err(BROKEN);
        }
        protocols.push(protocol.escape_ascii().to_string());
    }
    Ok(protocols)
}

/// Takes from the front, never past the end.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        let taken = self.take(2)?;
        Some(u16::from_be_bytes([*taken.first()?, *taken.get(1)?]))
    }

    fn vector8(&mut self) -> Option<&'a [u8]> {
        let length = usize::from(*self.take(1)?.first()?);
        self.take(length)
    }

    fn vector16(&mut self) -> Option<&'a [u8]> {
        let length = usize::from(self.u16()?);
        self.take(length)
    }
}

#[cfg(test)]
mod tests;
