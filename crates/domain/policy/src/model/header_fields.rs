//! Header fields that no policy sets: those that frame a message or say where it goes.

/// Fields that frame a message, belong to one connection, or that servers take for the request's target.
const NEVER_SET: [&str; 19] = [
    "connection",
    "content-length",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "sec-websocket-key",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-forwarded-host",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-url",
    "x-rewrite-url",
    "x-forwarded-prefix",
];

/// Whether the field is never set, in any case: it frames or routes the request, or is for a proxy.
pub fn is_never_set(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.starts_with("proxy-") || NEVER_SET.contains(&name.as_str())
}
