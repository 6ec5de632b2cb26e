//! The head of a response, as far as it says where the response ends (RFC 9112, 4 and 6).

use crate::body::Body;

/// The longest response head.
pub const HEAD_LIMIT: usize = 256 * 1024;
/// The most header fields.
const FIELD_LIMIT: usize = 512;

/// What the first bytes of a response say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResponseHead {
    /// Read on.
    Incomplete,
    /// It has no one meaning.
    Malformed(&'static str),
    /// A head.
    Complete {
        /// Its length in bytes.
        length: usize,
        /// The status code.
        status: u16,
        /// The body, before the request's method is looked at.
        body: Body,
    },
}

/// Reads what is there of a stream, from the start of a response; `to_head` where the request was a HEAD.
///
/// A head has at most [`HEAD_LIMIT`] bytes and 512 fields. What servers in the field send is taken (a length given
/// twice alike, no reason phrase); two ways to frame the body are not.
pub fn read(bytes: &[u8], to_head: bool) -> ResponseHead {
    let mut fields = [httparse::EMPTY_HEADER; FIELD_LIMIT];
    let mut parsed = httparse::Response::new(&mut fields);
    let length = match parsed.parse(bytes.get(..HEAD_LIMIT).unwrap_or(bytes)) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if bytes.len() < HEAD_LIMIT => return ResponseHead::Incomplete,
        Ok(httparse::Status::Partial) => return ResponseHead::Malformed("a response head longer than the bound"),
        Err(_) => return ResponseHead::Malformed("a response head that is not HTTP"),
    };
    let status = parsed.code.unwrap_or_default();
    if !(100..=999).contains(&status) {
        return ResponseHead::Malformed("a response without a status");
    }
    let body = if to_head || status < 200 || status == 204 || status == 304 {
        Ok(Body::Done)
    } else {
        framing(parsed.headers)
    };
    match body {
        Ok(body) => ResponseHead::Complete { length, status, body },
        Err(reason) => ResponseHead::Malformed(reason),
    }
}

/// The most header fields of a proxy's answer.
const PROXY_FIELD_LIMIT: usize = 64;

/// The status of a whole head, such as a proxy's answer to CONNECT: at most 64 fields, and no byte behind it.
pub fn status(head: &[u8]) -> Result<u16, &'static str> {
    let mut fields = [httparse::EMPTY_HEADER; PROXY_FIELD_LIMIT];
    let mut response = httparse::Response::new(&mut fields);
    match response.parse(head) {
        Ok(httparse::Status::Complete(length)) if length == head.len() => {}
        Ok(_) => return Err("its head is not whole"),
        Err(_) => return Err("its head is no HTTP"),
    }
    response.code.ok_or("it has no status")
}

fn framing(fields: &[httparse::Header<'_>]) -> Result<Body, &'static str> {
    let mut length: Option<u64> = None;
    let mut chunked = None;
    for field in fields {
        if field.name.eq_ignore_ascii_case("content-length") {
            let text = std::str::from_utf8(field.value.trim_ascii()).ok();
            let digits = text.filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()));
            let value = digits.and_then(|text| text.parse().ok()).ok_or("a Content-Length that is no number")?;
            if length.is_some_and(|length| length != value) {
                return Err("two Content-Length fields that differ");
            }
            length = Some(value);
        } else if field.name.eq_ignore_ascii_case("transfer-encoding") {
            if chunked.is_some() {
                return Err("two Transfer-Encoding fields");
            }
            chunked = Some(field.value.trim_ascii().eq_ignore_ascii_case(b"chunked"));
        }
    }
    match (length, chunked) {
        (Some(_), Some(_)) => Err("Content-Length beside Transfer-Encoding"),
        (None, Some(true)) => Ok(Body::chunked(false)),
        (None, Some(false)) => Err("a transfer coding other than chunked"),
        (Some(0), None) => Ok(Body::Done),
        (Some(length), None) => Ok(Body::Length(length)),
        (None, None) => Ok(Body::UntilClose),
    }
}

#[cfg(test)]
mod tests {
    use super::{ResponseHead, read};
    use crate::body::Body;

    fn complete(text: &str, to_head: bool) -> (u16, Body) {
        match read(text.as_bytes(), to_head) {
            ResponseHead::Complete { length, status, body } => {
                assert_eq!(length, text.len());
                (status, body)
            }
            other => panic!("{text:?}: {other:?}"),
        }
    }

    #[test]
    fn where_a_response_ends() {
        assert_eq!(complete("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", false), (200, Body::Length(5)));
        assert_eq!(complete("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", true), (200, Body::Done));
        assert_eq!(complete("HTTP/1.1 204 No\r\n\r\n", false), (204, Body::Done));
        assert_eq!(complete("HTTP/1.1 100 Continue\r\n\r\n", false), (100, Body::Done));
        assert_eq!(complete("HTTP/1.0 200 OK\r\n\r\n", false), (200, Body::UntilClose));
        assert_eq!(complete("HTTP/1.1 200\r\nTransfer-Encoding: Chunked\r\n\r\n", false), (200, Body::chunked(false)));
        for text in [
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            "SSH-2.0-x\r\n",
        ] {
            assert!(matches!(read(text.as_bytes(), false), ResponseHead::Malformed(_)), "{text:?}");
        }
        assert_eq!(read(b"HTTP/1.1 20", false), ResponseHead::Incomplete);
    }
}
