//! Heads of requests and responses as they go on: written anew from their parts, without what is for one hop.

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
    header::{
        ALT_SVC, CONNECTION, CONTENT_LENGTH, COOKIE, HOST, SEC_WEBSOCKET_EXTENSIONS, TE, TRANSFER_ENCODING, UPGRADE,
    },
};
use hyper::body::{Body, Incoming};
use policy::Layer;
use wire::http_head::{self, Framing, Head, RequestHead};

use super::{
    body::{Answer, Upload},
    strict::Read,
    websocket,
};
use crate::refuse::Problem;

/// Says what we decided.
const VERDICT: &str = "cofferdam-verdict";
/// Fields for one hop (RFC 9110, 7.6.1). `Expect` was answered by us.
const ONE_HOP: [&str; 10] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authorization",
    "proxy-authenticate",
    "transfer-encoding",
    "upgrade",
    "expect",
    "http2-settings",
    "host",
];

/// Reads an HTTP/2 request as if it were one of HTTP/1.1, so that both are held to the same rules.
pub(super) fn of_http2(request: &Request<Incoming>, limit: usize) -> Read {
    let refuse = |reason| Err((Layer::Http, reason));
    let Some(authority) = request.uri().authority() else { return refuse("a request without :authority") };
    if request.uri().scheme_str() != Some("https") {
        return refuse("a :scheme that is not https");
    }
    let target = match request.uri().path_and_query() {
        Some(target) if request.method() == Method::OPTIONS && target.as_str() == "*" => "*",
        Some(target) => target.as_str(),
        None => return refuse("a request without :path"),
    };
    let mut text = Vec::with_capacity(512);
    let mut field = |name: &[u8], value: &[u8]| {
        text.extend_from_slice(name);
        text.extend_from_slice(value);
        text.extend_from_slice(b"\r\n");
    };
    field(request.method().as_str().as_bytes(), format!(" {target} HTTP/1.1").as_bytes());
    field(b"Host: ", authority.as_str().as_bytes());
    let mut cookies: Vec<&[u8]> = Vec::new();
    for (name, value) in request.headers() {
        if name == COOKIE {
            cookies.push(value.as_bytes());
        } else if name != HOST || value.as_bytes() != authority.as_str().as_bytes() {
            field(format!("{name}: ").as_bytes(), value.as_bytes());
        }
    }
    if !cookies.is_empty() {
        // RFC 9113, 8.2.3.
        field(b"cookie: ", &cookies.join(&b"; "[..]));
    }
    field(b"", b"");
    match http_head::read(&text, limit, false) {
        Head::Complete(head, used) if used == text.len() && !head.websocket => Ok(head),
        Head::Malformed(reason) => refuse(reason),
        Head::Complete(..) | Head::Incomplete | Head::NotHttp | Head::Http2 => refuse("a request head of no meaning"),
    }
}

/// The request as the server gets it.
pub(super) fn outgoing(head: &RequestHead, http2: bool, body: Upload) -> Result<Request<Upload>, http::Error> {
    let target = head.origin_target();
    let method = Method::from_bytes(head.method.as_bytes())?;
    let has_body = !body.is_end_stream() || head.framing == Framing::Chunked;
    let uri: Uri = if http2 {
        let path = if target == "*" { "" } else { &target };
        format!("https://{}{path}", host(head)).parse()?
    } else {
        target.parse()?
    };
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    *request.version_mut() = if http2 { Version::HTTP_2 } else { Version::HTTP_11 };
    let headers = request.headers_mut();
    if !http2 {
        headers.insert(HOST, HeaderValue::from_str(&host(head))?);
    }
    for (name, value) in &head.fields {
        let name = HeaderName::from_bytes(name.as_bytes())?;
        // For one hop as well, but trailers come through us.
        if name == TE && value.eq_ignore_ascii_case(b"trailers") {
            headers.insert(TE, HeaderValue::from_static("trailers"));
        } else if name == SEC_WEBSOCKET_EXTENSIONS {
            if websocket::is_known_extension(value) {
                headers.append(name, HeaderValue::from_bytes(value)?);
            }
        } else if name != TE && !ONE_HOP.contains(&name.as_str()) {
            headers.append(name, HeaderValue::from_bytes(value)?);
        }
    }
    if head.websocket && !http2 {
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    } else if !http2 && has_body && (head.framing == Framing::Chunked || !headers.contains_key(CONTENT_LENGTH)) {
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    if !http2 && has_body {
        // Whoever leaves the body unread must not take it for a next request: see `lines`.
        headers.append(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(request)
}

/// Whether this request is followed by none.
pub(super) fn is_last<B>(request: &Request<B>) -> bool {
    request.headers().get_all(CONNECTION).iter().any(|value| value == "close")
}

/// A body of this length, whatever was told of it before.
pub(super) fn set_length<B>(request: &mut Request<B>, length: usize) {
    let headers = request.headers_mut();
    headers.remove(TRANSFER_ENCODING);
    headers.insert(CONTENT_LENGTH, length.into());
}

fn host(head: &RequestHead) -> String {
    match head.authority.port {
        Some(port) => format!("{}:{port}", head.authority.host),
        None => head.authority.host.to_string(),
    }
}

fn is_for_one_hop<'a>(name: &HeaderName, mut named: impl Iterator<Item = &'a [u8]>) -> bool {
    ONE_HOP.contains(&name.as_str())
        || named.any(|option| option.trim_ascii().eq_ignore_ascii_case(name.as_str().as_bytes()))
}

/// Why an answer can't be passed on: it has no one end, or switches to what nobody asked for.
pub(super) fn fault<B>(response: &Response<B>) -> Option<&'static str> {
    let headers = response.headers();
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let coding = codings.next();
    if response.status().is_informational() {
        Some("a switch of protocols that was not asked for")
    } else if coding.is_some() && headers.contains_key(CONTENT_LENGTH) {
        Some("Content-Length beside Transfer-Encoding")
    } else if coding.is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"chunked")) {
        Some("a transfer coding other than chunked")
    } else if codings.next().is_some() {
        Some("two Transfer-Encoding fields")
    } else {
        None
    }
}

/// Whether a server's field stays here: it leads the client past us (RFC 7838), or would speak in our name.
fn stays_here(name: &HeaderName) -> bool {
    name == ALT_SVC || name.as_str() == VERDICT
}

/// A server's answer as the client gets it.
pub(super) fn answer<B, A>(response: Response<B>, body: impl FnOnce(B) -> A) -> Response<A> {
    let (parts, inner) = response.into_parts();
    let mut answer = Response::new(body(inner));
    *answer.status_mut() = parts.status;
    let options: Vec<Vec<u8>> = parts
        .headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::to_vec))
        .collect();
    let mut last = None;
    let mut kept = HeaderMap::with_capacity(parts.headers.len());
    for (name, value) in parts.headers {
        // A name is told once for all its values.
        last = name.or(last);
        let Some(name) = &last else { continue };
        if name == CONTENT_LENGTH {
            // Said twice alike, it is said once.
            kept.insert(CONTENT_LENGTH, value);
        } else if !stays_here(name) && !is_for_one_hop(name, options.iter().map(Vec::as_slice)) {
            kept.append(name.clone(), value);
        }
    }
    if parts.status == StatusCode::SWITCHING_PROTOCOLS {
        kept.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        kept.insert(UPGRADE, HeaderValue::from_static("websocket"));
    }
    *answer.headers_mut() = kept;
    answer
}

/// Our own answer to a request that goes nowhere. `last` where nothing behind it may be read, `bare` without its body.
pub(super) fn problem(problem: Problem, last: bool, bare: bool) -> Response<Answer> {
    let Problem { status, verdict, body } = problem;
    let length = body.len();
    let mut response = Response::new(Answer::Own((!bare).then(|| body.into())));
    *response.status_mut() = StatusCode::from_u16(status.code()).unwrap_or(StatusCode::FORBIDDEN);
    let headers = response.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("application/problem+json"));
    headers.insert("cache-control", HeaderValue::from_static("no-store"));
    headers.insert(CONTENT_LENGTH, length.into());
    if let Ok(verdict) = HeaderValue::from_str(&verdict) {
        headers.insert(VERDICT, verdict);
    }
    if last {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
