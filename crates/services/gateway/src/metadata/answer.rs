//! What a request is answered, and why.

use std::borrow::Cow;

use serde_json::Value;
use smallvec::SmallVec;

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    /// The status.
    pub(super) status: Code,
    /// `Content-Type`.
    pub(super) content_type: &'static str,
    /// More header fields.
    pub(super) fields: SmallVec<[(&'static str, String); 2]>,
    /// The body.
    pub(super) body: String,
    /// Why, for the record.
    pub(super) reason: Cow<'static, str>,
}

/// The statuses that are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    /// What was asked for is given.
    Ok,
    /// The request has no meaning here.
    BadRequest,
    /// It proves nothing.
    Unauthorized,
    /// It must not be asked.
    Forbidden,
    /// Nothing is there.
    NotFound,
    /// Another method.
    MethodNotAllowed,
}

impl Code {
    /// As a number.
    pub(super) fn number(self) -> u16 {
        match self {
            Code::Ok => 200,
            Code::BadRequest => 400,
            Code::Unauthorized => 401,
            Code::Forbidden => 403,
            Code::NotFound => 404,
            Code::MethodNotAllowed => 405,
        }
    }

    /// In words.
    pub(super) fn words(self) -> &'static str {
        match self {
            Code::Ok => "OK",
            Code::BadRequest => "Bad Request",
            Code::Unauthorized => "Unauthorized",
            Code::Forbidden => "Forbidden",
            Code::NotFound => "Not Found",
            Code::MethodNotAllowed => "Method Not Allowed",
        }
    }
}

impl Answer {
    /// Text that was asked for.
    pub(super) fn text(body: impl Into<String>, reason: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::Ok, "text/plain", body.into(), reason)
    }

    /// JSON that was asked for.
    pub(super) fn json(body: &Value, reason: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::Ok, "application/json", body.to_string(), reason)
    }

    /// A refusal in words.
    pub(super) fn refusal(status: Code, reason: impl Into<Cow<'static, str>>) -> Self {
        let reason = reason.into();
        Self::new(status, "text/plain", format!("{}\n", reason), reason)
    }

    /// An answer of any kind.
    pub(super) fn new(
        status: Code,
        content_type: &'static str,
        body: String,
        reason: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { status, content_type, fields: SmallVec::new(), body, reason: reason.into() }
    }

    /// The same with one more header field.
    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    /// Whether what was asked for is given.
    pub(super) fn is_given(&self) -> bool {
        self.status == Code::Ok
    }

    /// As bytes of HTTP/1.1.
    pub(super) fn write(&self, head_only: bool, closes: bool) -> Vec<u8> {
        let mut text = format!(
            "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n",
            self.status.number(),
            self.status.words(),
            self.content_type,
            self.body.len()
        );
        for (name, value) in &self.fields {
            text.push_str(name);
            text.push_str(": ");
            text.push_str(value);
            text.push_str("\r\n");
        }
        text.push_str(if closes { "Connection: close\r\n\r\n" } else { "\r\n" });
        if !head_only {
            text.push_str(&self.body);
        }
        text.into_bytes()
    }
}
