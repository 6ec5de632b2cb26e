//! Names of header fields, which of them are one to some server, and those that no policy sets: they frame a message or
//! say where it goes.

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
pub fn is_same(one: impl AsRef<[u8]>, other: impl AsRef<[u8]>) -> bool {
    let (one, other) = (one.as_ref(), other.as_ref());
    let folded = |byte: &u8| if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    one.len() == other.len() && one.iter().map(folded).eq(other.iter().map(folded))
}

/// Whether a field's name begins so, to some server.
pub(crate) fn begins_with(name: &str, beginning: &str) -> bool {
    name.get(..beginning.len()).is_some_and(|own| is_same(own, beginning))
}

/// Whether the field, in any spelling, frames the message or is for one connection or proxy: it is left as it is.
pub fn is_framing(name: &str) -> bool {
    FRAMING.iter().any(|own| is_same(own, name))
        || ["proxy-", "sec-websocket-"].iter().any(|own| begins_with(name, own))
}

/// Whether the field is never set, in any spelling: it frames or routes the request. One that routes may be removed.
pub fn is_never_set(name: &str) -> bool {
    is_framing(name) || ROUTING.iter().any(|own| is_same(own, name))
}

/// Whether a text may be a field's value: printable ASCII, without spaces at its ends.
pub fn is_value(text: &str) -> bool {
    text.bytes().all(|b| (0x20..0x7f).contains(&b)) && text.trim() == text
}

#[cfg(test)]
mod tests {
    use super::{is_framing, is_never_set, is_same};

    #[test]
    fn a_name_is_known_in_every_spelling_that_some_server_takes_for_it() {
        for name in
            ["Content-Length", "content_length", "Transfer_Encoding", "PROXY_AUTHORIZATION", "sec-websocket_key"]
        {
            assert!(is_framing(name) && is_never_set(name), "{name}");
        }
        for name in ["X-Original-URL", "x_http_method-override", "Forwarded"] {
            assert!(!is_framing(name) && is_never_set(name), "{name}");
        }
        for name in ["x-team", "contentlength", "content-length-x", "proxy", "é", "sec-websocke\u{74}\u{e9}"] {
            assert!(!is_never_set(name), "{name}");
        }
        assert!(is_same("X_Key", b"x-key") && !is_same("x-key", "x-keys") && !is_same("xkey", "x-key"));
    }
}
