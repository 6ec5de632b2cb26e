//! Reads one plain HTTP/1 request head (RFC 9112), strictly.
//!
//! As with the ClientHello, a verdict once reached is changed by no later byte. Where two
//! recipients could read a head differently it is refused, with the reason: bare line feeds, folded
//! lines, two `Host` or `Content-Length` fields, a length beside a transfer coding, and so on
//! (spec/egress.md 6). What passes is written out again from its parts, never forwarded raw.

/// What the fields say together.
mod fields;
/// When to look at a cut head again.
mod next_look;
/// What asks an origin to act on another method or path.
mod overrides;

use std::borrow::Cow;

use fields::{framing, hop_options, match_target, upgrade};
pub use next_look::NextLook;
pub(crate) use overrides::is_override;
use policy::{HttpFacts, Target, http_path};

/// The longest method that is taken.
const METHOD_LIMIT: usize = 64;
/// The longest first token that could still be meant as a method.
const TOKEN_LIMIT: usize = 4 * 1024;
/// The longest request line.
const LINE_LIMIT: usize = 16 * 1024;
/// The most header fields.
const FIELD_LIMIT: usize = 256;

/// Methods that make a first line HTTP even when the rest of it is broken, in any case.
const METHODS: [&str; 16] = [
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "DELETE",
    "CONNECT",
    "OPTIONS",
    "TRACE",
    "TRACK",
    "PATCH",
    "PROPFIND",
    "PROPPATCH",
    "MKCOL",
    "COPY",
    "MOVE",
    "LOCK",
];

/// Fields that the origin doesn't get: those for a proxy, and `Expect`, which servers behind one another read
/// differently. A client that waits for the answer to it sends its body soon without.
const LEFT_OUT: [&str; 3] = ["proxy-connection", "proxy-authorization", "expect"];

/// What the first bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Head {
    /// Could become a request head: read on.
    Incomplete,
    /// Some other protocol.
    NotHttp,
    /// HTTP/2 without negotiation (RFC 9113, 3.3).
    Http2,
    /// HTTP, or meant to be, without one meaning.
    Malformed(&'static str),
    /// A request head, and how many bytes it took.
    Complete(Box<RequestHead>, usize),
}

/// How the request names its target (RFC 9112, 3.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Form {
    /// `/path?query`, or `*` with OPTIONS.
    Origin,
    /// `http://host:port/path`; the offset at which the path begins in the target.
    Absolute(usize),
    /// `host:port`, with CONNECT.
    Authority,
}

/// How the body is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    Empty,
    /// So many bytes.
    Length(u64),
    /// Chunks.
    Chunked,
}

/// A host, and a port where one was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// The host.
    pub host: Target,
    /// The port.
    pub port: Option<u16>,
}

/// A request head with one meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHead {
    /// The method, as sent.
    pub method: String,
    /// The target, as sent: visible ASCII.
    pub target: String,
    /// How the target is written.
    pub form: Form,
    /// Whether it is HTTP/1.1, not 1.0.
    pub version_1_1: bool,
    /// `Host`, or the target of CONNECT.
    pub authority: Authority,
    /// The fields in order, names as sent.
    pub fields: Vec<(String, Vec<u8>)>,
    /// The body.
    pub framing: Framing,
    /// Whether it asks to become a WebSocket (RFC 6455).
    pub websocket: bool,
}

/// Reads what is there of a stream, from the start of a request.
///
/// `limit` bounds the whole head, and no byte behind it is looked at; within it a request line has at most 16 KiB, a method 64 bytes, and there are at most
/// 256 fields. `proxy` allows CONNECT. The absolute form is taken in both cases, and its host must be that of `Host`.
pub fn read(bytes: &[u8], limit: usize, proxy: bool) -> Head {
    let bytes = bytes.get(..limit).unwrap_or(bytes);
    match first_line(bytes) {
        FirstLine::Undecided if bytes.len() >= LINE_LIMIT.min(limit) => Head::Malformed("a request line too long"),
        FirstLine::Undecided => Head::Incomplete,
        FirstLine::NotHttp => Head::NotHttp,
        FirstLine::Http2 => Head::Http2,
        FirstLine::Malformed(reason) => Head::Malformed(reason),
        FirstLine::Http => match whole(bytes, limit, proxy) {
            Ok(Some((head, used))) => Head::Complete(Box::new(head), used),
            Ok(None) => Head::Incomplete,
            Err(reason) => Head::Malformed(reason),
        },
    }
}

/// Whether bytes that are no whole first line could be the start of a request.
pub fn could_be_http(bytes: &[u8]) -> bool {
    let end = bytes.iter().position(|byte| !is_token(*byte)).unwrap_or(bytes.len());
    let token = bytes.get(..end).unwrap_or_default();
    has_version(bytes)
        || METHODS.iter().any(|name| name.as_bytes().get(..end).is_some_and(|part| part.eq_ignore_ascii_case(token)))
}

enum FirstLine {
    Undecided,
    NotHttp,
    Http2,
    Malformed(&'static str),
    Http,
}

/// Whether the first line is HTTP's. Lines of other text protocols are told apart by the missing version.
fn first_line(bytes: &[u8]) -> FirstLine {
    match bytes.first() {
        None => return FirstLine::Undecided,
        Some(b'\r' | b'\n' | b' ' | b'\t') => return FirstLine::Malformed("white space before the request"),
        Some(_) => {}
    }
    let token = bytes.iter().position(|byte| !is_token(*byte));
    let end = token.unwrap_or(bytes.len());
    if end > TOKEN_LIMIT {
        return FirstLine::NotHttp;
    }
    let Some(end) = token else { return FirstLine::Undecided };
    let (method, rest) = bytes.split_at(end);
    let known = METHODS.iter().any(|name| name.as_bytes().eq_ignore_ascii_case(method));
    if !matches!(rest.first(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
        return if known { FirstLine::Malformed("no space after the method") } else { FirstLine::NotHttp };
    }
    let newline = bytes.iter().take(LINE_LIMIT).position(|byte| *byte == b'\n');
    let line = bytes.get(..newline.unwrap_or(bytes.len())).unwrap_or_default();
    let odd = line.iter().position(|byte| *byte >= 0x7f || (*byte < 0x20 && !matches!(byte, b'\t' | b'\r')));
    if let Some(before) = odd.and_then(|at| line.get(..at))
        && !known
        && !has_version(before)
    {
        return FirstLine::NotHttp;
    }
    if newline.is_none() {
        return FirstLine::Undecided;
    }
    if line.strip_suffix(b"\r").unwrap_or(line) == b"PRI * HTTP/2.0" {
        return FirstLine::Http2;
    }
    // A known method before a path, without a version, is HTTP/0.9; `get key` is another protocol's.
    let argument = line.get(end..).unwrap_or_default().trim_ascii_start();
    if has_version(line) {
        if end > METHOD_LIMIT { FirstLine::Malformed("a method longer than the bound") } else { FirstLine::Http }
    } else if known && (argument.starts_with(b"/") || argument.starts_with(b"http")) {
        FirstLine::Malformed("a request line without method, target and version")
    } else {
        FirstLine::NotHttp
    }
}

fn has_version(line: &[u8]) -> bool {
    line.windows(5).any(|window| window.eq_ignore_ascii_case(b"HTTP/"))
}

/// Finds the end of the head, holding every line to CRLF, then reads the lines.
fn whole(bytes: &[u8], limit: usize, proxy: bool) -> Result<Option<(RequestHead, usize)>, &'static str> {
    let mut lines: Vec<&[u8]> = Vec::with_capacity(16);
    let mut rest = bytes;
    loop {
        let used = bytes.len() - rest.len();
        let end = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r' | 0));
        let line = match end.and_then(|at| rest.split_at_checked(at)) {
            Some((line, [b'\r', b'\n', following @ ..])) => {
                rest = following;
                line
            }
            Some((_, [b'\r'])) | None if used + rest.len() < limit => return Ok(None),
            Some((_, [b'\r'])) | None => return Err("a request head longer than the bound"),
            Some((_, [b'\n', ..])) => return Err("a bare line feed"),
            Some((_, [b'\r', ..])) => return Err("a bare carriage return"),
            Some(_) => return Err("a NUL byte"),
        };
        if bytes.len() - rest.len() > limit {
            return Err("a request head longer than the bound");
        }
        if line.is_empty() {
            break;
        }
        if lines.len() > FIELD_LIMIT {
            return Err("too many header fields");
        }
        lines.push(line);
    }
    let (request, fields) = lines.split_first().ok_or("no request line")?;
    let head = request_head(request, fields, proxy)?;
    Ok(Some((head, bytes.len() - rest.len())))
}

fn request_head(line: &[u8], lines: &[&[u8]], proxy: bool) -> Result<RequestHead, &'static str> {
    let line = std::str::from_utf8(line).map_err(|_| "a request line that is not ASCII")?;
    let mut parts = line.split(' ');
    let (Some(method), Some(target), Some(version), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err("a request line without method, target and version");
    };
    let version_1_1 = match version {
        "HTTP/1.1" => true,
        "HTTP/1.0" => false,
        _ => return Err("an HTTP version other than 1.0 and 1.1"),
    };
    check_method(method)?;
    if target.is_empty() || !target.bytes().all(|byte| matches!(byte, 0x21..=0x7e)) || target.contains('#') {
        return Err("a request target that is not visible ASCII");
    }
    let fields = lines.iter().map(|line| field(line)).collect::<Result<Vec<_>, _>>()?;
    let (form, authority) = match_target(method, target, &fields, proxy)?;
    let framing = framing(&fields, version_1_1)?;
    let websocket = upgrade(method, version_1_1, &fields)?;
    if websocket && !matches!(framing, Framing::Empty | Framing::Length(0)) {
        // A server that does not agree takes what follows for the body, and we for the next request.
        return Err("an upgrade with a body");
    }
    Ok(RequestHead {
        method: method.to_owned(),
        target: target.to_owned(),
        form,
        version_1_1,
        authority,
        fields,
        framing,
        websocket,
    })
}

fn check_method(method: &str) -> Result<(), &'static str> {
    if method.is_empty() || !method.bytes().all(is_token) {
        return Err("a method that is no token");
    }
    if method.bytes().any(|byte| byte.is_ascii_lowercase()) {
        return Err("a method in lower case");
    }
    if matches!(method, "TRACE" | "TRACK") {
        return Err("TRACE echoes what it was sent");
    }
    Ok(())
}

fn field(line: &[u8]) -> Result<(String, Vec<u8>), &'static str> {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Err("a folded header line");
    }
    let colon = line.iter().position(|byte| *byte == b':').ok_or("a header line without a colon")?;
    let (name, value) = line.split_at(colon);
    if name.is_empty() || !name.iter().copied().all(is_token) {
        return Err("a header name that is no token");
    }
    let value = value.get(1..).unwrap_or_default();
    let value = trim_blanks(value);
    if value.iter().any(|byte| (*byte < 0x20 && *byte != b'\t') || *byte == 0x7f) {
        return Err("a control character in a header value");
    }
    let name = String::from_utf8(name.to_vec()).map_err(|_| "a header name that is no token")?;
    Ok((name, value.to_vec()))
}

/// Without the blanks around a value (RFC 9112, 5.1): spaces and tabs, no other white space.
fn trim_blanks(value: &[u8]) -> &[u8] {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let Some(first) = value.iter().position(|byte| !blank(byte)) else { return &[] };
    let last = value.iter().rposition(|byte| !blank(byte)).unwrap_or(first);
    value.get(first..=last).unwrap_or_default()
}

/// RFC 9110, 5.6.2.
#[inline]
pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

impl RequestHead {
    /// The path and query as an origin gets them.
    pub fn origin_target(&self) -> String {
        match self.form {
            Form::Origin | Form::Authority => self.target.clone(),
            Form::Absolute(at) => match self.target.get(at..).unwrap_or_default() {
                "" => "/".to_owned(),
                query if query.starts_with('?') => format!("/{query}"),
                path => path.to_owned(),
            },
        }
    }

    /// What the policy judges.
    pub fn facts(&self) -> HttpFacts {
        let headers = self
            .fields
            .iter()
            .map(|(name, value)| (name.to_ascii_lowercase(), String::from_utf8_lossy(value).into_owned()))
            .collect();
        let target = self.origin_target();
        let query = target.split_once('?').map(|(_, query)| query.to_owned());
        HttpFacts { method: self.method.clone(), path: http_path::normalise(&target), query, headers }
    }

    /// The head as the origin gets it. `last` asks the origin to close after its answer.
    pub fn write(&self, last: bool) -> Vec<u8> {
        let mut out = Vec::with_capacity(256 + self.fields.iter().map(|(n, v)| n.len() + v.len() + 4).sum::<usize>());
        out.extend_from_slice(self.method.as_bytes());
        out.push(b' ');
        out.extend_from_slice(self.origin_target().as_bytes());
        out.extend_from_slice(if self.version_1_1 { b" HTTP/1.1\r\n" } else { b" HTTP/1.0\r\n" });
        for (name, value) in &self.fields {
            let is_connection = name.eq_ignore_ascii_case("connection");
            let value = if is_connection { hop_options(value) } else { Cow::Borrowed(value.as_slice()) };
            let left_out = LEFT_OUT.iter().any(|hop| name.eq_ignore_ascii_case(hop))
                || (is_connection && value.is_empty())
                || (last && (name.eq_ignore_ascii_case("keep-alive") || (is_connection && !self.websocket)));
            if !left_out {
                out.extend_from_slice(name.as_bytes());
                out.extend_from_slice(b": ");
                out.extend_from_slice(&value);
                out.extend_from_slice(b"\r\n");
            }
        }
        if last && !self.websocket {
            out.extend_from_slice(b"Connection: close\r\n");
        }
        out.extend_from_slice(b"\r\n");
        out
    }
}

#[cfg(test)]
mod tests;
