//! HTTP/1 messages: heads, bodies and responses, beside httparse.

use policy::Target;
use url::{Host, Url};
use wire::{
    body::Body,
    http_head::{Form, Head, RequestHead, read},
    response::{self, ResponseHead},
};

use crate::{cuts, split_choice};

const LIMITS: [usize; 2] = [64 * 1024, 200];

/// Any bytes as the start of a connection, inside one and to a proxy.
pub(crate) fn head(bytes: &[u8]) {
    for (limit, proxy) in [(LIMITS[0], false), (LIMITS[0], true), (LIMITS[1], false)] {
        let whole = read(bytes, limit, proxy);
        for cut in cuts(bytes.len()) {
            let early = read(&bytes[..cut], limit, proxy);
            assert!(early == Head::Incomplete || early == whole, "cut at {cut}: {early:?}, whole: {whole:?}");
        }
        let longer = [bytes, b"\r\n\r\nX: y\r\n\r\n"].concat();
        assert!(whole == Head::Incomplete || read(&longer, limit, proxy) == whole, "later bytes change {whole:?}");
        assert!(bytes.len() < limit || whole != Head::Incomplete, "more than {limit} bytes are waited for");
        assert_eq!(read(&bytes[..bytes.len().min(limit)], limit, proxy), whole, "bytes behind the bound are looked at");
        if let Head::Complete(head, used) = whole {
            assert!(used <= bytes.len() && used <= limit);
            httparse_agrees(&bytes[..used], &head);
            written_is_the_same(&head);
            host_agrees(&head);
        }
    }
}

/// What httparse, and so hyper, reads of the same head.
fn httparse_agrees(bytes: &[u8], head: &RequestHead) {
    let mut fields = [httparse::EMPTY_HEADER; 257];
    let mut theirs = httparse::Request::new(&mut fields);
    let parsed = theirs.parse(bytes).expect("a head that httparse takes too");
    assert_eq!(parsed, httparse::Status::Complete(bytes.len()));
    assert_eq!(theirs.method, Some(head.method.as_str()));
    assert_eq!(theirs.path, Some(head.target.as_str()));
    assert_eq!(theirs.version, Some(u8::from(head.version_1_1)));
    let theirs: Vec<(&str, &[u8])> = theirs.headers.iter().map(|field| (field.name, field.value)).collect();
    let ours: Vec<(&str, &[u8])> = head.fields.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
    assert_eq!(ours, theirs);
}

/// What is written for the origin reads the same, and says nothing that the client did not say.
fn written_is_the_same(head: &RequestHead) {
    if head.form == Form::Authority {
        return;
    }
    for last in [false, true] {
        let written = head.write(last);
        let Head::Complete(again, used) = read(&written, written.len(), false) else {
            panic!("what is written is no head: {}", written.escape_ascii());
        };
        assert_eq!(used, written.len());
        assert_eq!(again.method, head.method);
        assert_eq!(again.target, head.origin_target());
        assert_eq!(again.authority.host, head.authority.host);
        assert_eq!(again.framing, head.framing);
        assert_eq!(again.websocket, head.websocket);
        assert_eq!(again.facts().path, head.facts().path);
        let added = usize::from(last && !head.websocket);
        assert!(again.fields.len() <= head.fields.len() + added);
        assert!(again.fields.iter().all(|field| was_sent(field, head) || added == 1), "a field was made up");
    }
}

/// Whether a field is one of the head's; of `Connection` some options may be left out.
fn was_sent((name, value): &(String, Vec<u8>), head: &RequestHead) -> bool {
    let options = |value: &[u8]| -> Vec<Vec<u8>> {
        value.split(|byte| *byte == b',').map(|option| option.trim_ascii().to_vec()).collect()
    };
    head.fields.iter().any(|(sent, all)| {
        let part = || options(value).iter().all(|option| options(all).contains(option));
        sent == name && (all == value || (name.eq_ignore_ascii_case("connection") && part()))
    })
}

/// What a client of URLs takes for the host.
fn host_agrees(head: &RequestHead) {
    let url = Url::parse(&format!("http://{}/", head.authority.host)).expect("a host of a URL");
    match (url.host(), &head.authority.host) {
        (Some(Host::Domain(domain)), Target::Name(name)) => assert_eq!(domain, name.as_str()),
        (Some(Host::Ipv4(v4)), Target::Address(address)) => assert_eq!(std::net::IpAddr::V4(v4), *address),
        (Some(Host::Ipv6(v6)), Target::Address(address)) => assert_eq!(std::net::IpAddr::V6(v6), *address),
        (theirs, ours) => panic!("{theirs:?} in a URL, {ours:?} here"),
    }
}

/// A choice of strictness, and a body.
pub(crate) fn body(bytes: &[u8]) {
    let Some((choice, bytes)) = split_choice(bytes) else { return };
    let strict = choice & 1 == 0;
    let start = match choice >> 1 {
        0 | 64 => Body::Length(u64::from(choice) * 7),
        1 | 65 => Body::UntilClose,
        _ => Body::chunked(strict),
    };
    // The higher half of the choices has a bound as well.
    let bounded = if choice < 128 { Ok(start) } else { start.at_most(u64::from(choice & 63)) };
    let Ok(start) = bounded else { return };
    let whole = walk(start, bytes, usize::MAX);
    for piece in [1, 2, 7, 64] {
        let pieces = walk(start, bytes, piece);
        assert_eq!(pieces.is_err(), whole.is_err(), "in pieces of {piece}");
        assert!(whole.is_err() || pieces == whole, "in pieces of {piece}: {pieces:?}, whole: {whole:?}");
    }
    let Ok((taken, done)) = whole else { return };
    assert!(done || taken == bytes.len());
    if matches!(start, Body::Chunked(_)) && done {
        assert_eq!(Some(taken), chunked_end(bytes, strict), "httparse ends elsewhere");
    }
}

/// How many bytes belong to the body, and whether it ended there.
fn walk(start: Body, bytes: &[u8], piece: usize) -> Result<(usize, bool), &'static str> {
    let mut body = start;
    let mut total = 0;
    while total < bytes.len() && !body.is_done() {
        let rest = &bytes[total..];
        let unseen = usize::try_from(body.unseen()).unwrap_or(usize::MAX).min(rest.len());
        // What may be moved unseen is moved so every other time.
        if unseen > 0 && total % 2 == 1 && piece != usize::MAX {
            body.skip(unseen as u64);
            total += unseen;
            continue;
        }
        let part = &rest[..rest.len().min(piece)];
        let taken = body.advance(part)?;
        assert!(taken <= part.len() && (taken > 0 || body.is_done()), "no progress");
        assert!(taken == part.len() || body.is_done());
        total += taken;
    }
    Ok((total, body.is_done()))
}

/// Where a chunked body ends by httparse's reading of sizes; `None` where it takes it for no such body.
pub(crate) fn chunked_end(bytes: &[u8], strict: bool) -> Option<usize> {
    let mut at = 0;
    loop {
        let line = bytes.get(at..)?;
        let Ok(httparse::Status::Complete((used, size))) = httparse::parse_chunk_size(line) else { return None };
        assert!(!strict || line[..used - 2].iter().all(u8::is_ascii_hexdigit), "more than a number");
        at += used;
        if size == 0 {
            break;
        }
        at = at.checked_add(usize::try_from(size).ok()?)?;
        if bytes.get(at..at + 2)? != b"\r\n" {
            return None;
        }
        at += 2;
    }
    loop {
        let length = bytes.get(at..)?.windows(2).position(|two| two == b"\r\n")?;
        at += length + 2;
        if length == 0 {
            return Some(at);
        }
    }
}

/// A choice of request, and the answer to it.
pub(crate) fn response(bytes: &[u8]) {
    let Some((choice, bytes)) = split_choice(bytes) else { return };
    let to_head = choice & 1 == 1;
    let whole = response::read(bytes, to_head);
    for cut in cuts(bytes.len()) {
        let early = response::read(&bytes[..cut], to_head);
        assert!(early == ResponseHead::Incomplete || early == whole, "cut at {cut}: {early:?}, whole: {whole:?}");
    }
    assert!(bytes.len() < response::HEAD_LIMIT || whole != ResponseHead::Incomplete);
    let ResponseHead::Complete { length, status, body } = whole else {
        return;
    };
    assert!(length <= bytes.len() && length <= response::HEAD_LIMIT && (100..=999).contains(&status));
    let text = &bytes[..length];
    assert!(
        text.ends_with(b"\n") && text.starts_with(b"HTTP/1.") || text.starts_with(b"\r") || text.starts_with(b"\n")
    );
    assert_eq!(response::status(text).ok().unwrap_or(status), status);
    let bodiless = to_head || status < 200 || matches!(status, 204 | 304);
    assert!(!bodiless || body == Body::Done, "a body where none can be");
    let other = response::read(bytes, !to_head);
    assert!(bodiless || matches!(other, ResponseHead::Complete { body: Body::Done, .. }));
}
