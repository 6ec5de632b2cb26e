//! Names of header fields, and those that no policy sets: they frame a message or say where it goes.

/// Fields that frame a message or belong to one connection.
const FRAMING: [&str; 11] = [
    "connection",
    "content-encoding",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Fields that servers take for another target or method than the request's own.
const ROUTING: [&str; 8] = [
    "forwarded",
    "x-forwarded-host",
    "x-forwarded-prefix",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-url",
    "x-rewrite-url",
];

/// Whether some server takes two names for one field: in any case, with `_` for `-`, as CGI does (RFC 3875, 4.1.18).
pub fn is_same(one: &[u8], other: &[u8]) -> bool {
    let folded = |byte: &u8| if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    one.len() == other.len() && one.iter().map(folded).eq(other.iter().map(folded))
}

/// Whether the field, in any case, frames the message or is for one connection or proxy: it is left as it is.
pub fn is_framing(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.starts_with("proxy-") || name.starts_with("sec-websocket-") || FRAMING.contains(&name.as_str())
}

/// Whether the field is never set, in any case: it frames or routes the request. One that routes may be removed.
pub fn is_never_set(name: &str) -> bool {
    is_framing(name) || ROUTING.contains(&name.to_ascii_lowercase().as_str())
}

/// Whether a text may be a field's value: printable ASCII, without spaces at its ends.
pub fn is_value(text: &str) -> bool {
    text.bytes().all(|b| (0x20..0x7f).contains(&b)) && text.trim() == text
}
