//! A refusal is fast and says what it is (spec/egress.md, 6).
//!
//! HTTP gets 403 with the rule and the reason; SOCKS5 its reply; everything else a reset at once.

use std::time::Duration;

use policy::{Decision, Guard};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use values::Revision;

use crate::socket::Socket;

/// How long a refused client may go on sending before it is cut off.
const LINGER: Duration = Duration::from_secs(1);
/// How much it may send meanwhile.
const LINGER_BYTES: usize = 256 * 1024;

/// A refusal as HTTP says it.
#[derive(Debug)]
pub(crate) struct Problem {
    /// The status.
    pub(crate) status: Status,
    /// The `Cofferdam-Verdict` field.
    pub(crate) verdict: String,
    /// `application/problem+json` (RFC 9457).
    pub(crate) body: String,
}

/// The refusal of a request that was denied: 403, or 421 where it went to the wrong connection.
pub(crate) fn denied(decision: &Decision, revision: Revision, status: Status, what: &str) -> Problem {
    let rule = decision.rule.as_str();
    let how_to_ask = if Guard::ALL.iter().any(|guard| guard.as_str() == rule) {
        "A built-in guard denied this, and no rule by name opens it. Ask whoever runs this sandbox."
    } else {
        "Ask whoever runs this sandbox to allow the destination: a rule in the policy, or `--allow HOST`. `cofferdam policy learn` proposes one from the record."
    };
    let body = serde_json::json!({
        "type": "about:blank",
        "title": "Denied by the network policy",
        "status": status.code(),
        "detail": decision.reason,
        "destination": what,
        "rule": rule,
        "revision": revision.to_string(),
        "layer": decision.layer.as_str(),
        "how_to_ask": how_to_ask,
    });
    let verdict = format!("denied; rule=\"{rule}\"; revision={revision}");
    Problem { status, verdict, body: body.to_string() }
}

/// The status of a request that was denied: one for another host than its connection went astray.
pub(crate) fn status_of(decision: &Decision) -> Status {
    if decision.rule == Guard::Binding.rule_name() {
        Status::Misdirected
    } else if decision.reason == TOO_LONG {
        Status::TooLong
    } else {
        Status::Forbidden
    }
}

/// What an allowed request that could not be carried out comes to.
pub(crate) fn failed(status: Status, error: &str) -> Problem {
    let body = serde_json::json!({
        "type": "about:blank",
        "title": status.title(),
        "status": status.code(),
        "detail": error,
    });
    Problem { status, verdict: "error".to_owned(), body: body.to_string() }
}

/// The response to a request that was denied.
pub(crate) fn denial(decision: &Decision, revision: Revision, status: Status, what: &str) -> Vec<u8> {
    denied(decision, revision, status, what).response()
}

/// The response to an allowed request that could not be carried out.
pub(crate) fn failure(status: Status, error: &str) -> Vec<u8> {
    failed(status, error).response()
}

impl Problem {
    fn response(&self) -> Vec<u8> {
        let Problem { status, verdict, body } = self;
        format!(
            "HTTP/1.1 {} {}\r\nContent-Type: application/problem+json\r\nContent-Length: {}\r\nCofferdam-Verdict: {verdict}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n{body}",
            status.code(),
            status.title(),
            body.len(),
        )
        .into_bytes()
    }
}

/// Why a request is denied whose body has more bytes than the rule's `maxBody`.
pub(crate) const TOO_LONG: &str = "the request's body is longer than the rule's `maxBody`";

/// The status of a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    /// It has no one meaning.
    BadRequest,
    /// The policy denies it.
    Forbidden,
    /// Its body is longer than the policy lets it be.
    TooLong,
    /// It is for another host than its connection.
    Misdirected,
    /// Too many like it came.
    TooMany,
    /// The server or its name could not be reached.
    BadGateway,
    /// We can't take it now.
    Unavailable,
    /// The server did not answer in time.
    GatewayTimeout,
}

impl Status {
    /// As a number.
    pub(crate) fn code(self) -> u16 {
        match self {
            Status::BadRequest => 400,
            Status::Forbidden => 403,
            Status::TooLong => 413,
            Status::Misdirected => 421,
            Status::TooMany => 429,
            Status::BadGateway => 502,
            Status::Unavailable => 503,
            Status::GatewayTimeout => 504,
        }
    }

    fn title(self) -> &'static str {
        match self {
            Status::BadRequest => "Bad Request",
            Status::Forbidden => "Forbidden",
            Status::TooLong => "Content Too Large",
            Status::Misdirected => "Misdirected Request",
            Status::TooMany => "Too Many Requests",
            Status::BadGateway => "Bad Gateway",
            Status::Unavailable => "Service Unavailable",
            Status::GatewayTimeout => "Gateway Timeout",
        }
    }
}

/// Writes a last message and closes so that the client gets it: what it still sends is read and dropped for a
/// moment, because closing with unread bytes is a reset that can overtake the message.
pub(crate) async fn answer(socket: Socket, message: &[u8]) {
    let Ok(mut stream) = socket.into_stream() else { return };
    let farewell = async {
        stream.write_all(message).await?;
        stream.shutdown().await?;
        let mut sink = [0; 4096];
        let mut dropped = 0;
        while dropped < LINGER_BYTES {
            match stream.read(&mut sink).await? {
                0 => break,
                count => dropped += count,
            }
        }
        Ok::<(), std::io::Error>(())
    };
    // Whatever fails here fails for a client that is refused anyway.
    let _ = tokio::time::timeout(LINGER, farewell).await;
}

#[cfg(test)]
mod tests {
    use policy::{Decision, Guard, Layer};
    use values::Revision;

    use super::{Status, denial};

    #[test]
    fn a_denial_names_rule_revision_and_reason() {
        let decision = Decision::by_guard(Guard::Metadata, Layer::Ip, "a \"reason\"\r\nX: y");
        let text = String::from_utf8(denial(&decision, Revision(3), Status::Forbidden, "a.example")).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 403 Forbidden\r\n"));
        assert!(head.contains("Cofferdam-Verdict: denied; rule=\"guard:metadata\"; revision=3"));
        assert!(!head.contains("X: y"));
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["detail"], "a \"reason\"\r\nX: y");
        assert_eq!(body["rule"], "guard:metadata");
    }
}
