//! What a request says, as far as a metadata service looks at it.

use policy::{http_path, http_query, model::header_fields::is_same};
use wire::http_head::{Framing, RequestHead};

/// What those who forward add (RFC 7239, RFC 9110, 7.6.3).
const FORWARDED: [&str; 3] = ["x-forwarded-for", "forwarded", "via"];

/// A request.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    /// The method.
    pub(super) method: &'a str,
    /// The path, in normal form; nothing where it has none.
    pub(super) path: Option<String>,
    query: &'a str,
    fields: &'a [(String, Vec<u8>)],
    /// Whether it has a body.
    pub(super) has_body: bool,
}

/// What a header field says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field<'a> {
    /// It is not there.
    Missing,
    /// It is there once.
    Once(&'a str),
    /// It is there more than once, or is no text.
    Odd,
}

/// What a parameter of the query says.
pub(super) use http_query::Parameter;

impl<'a> Asked<'a> {
    /// A request whose target in origin form is this; it is held by the caller.
    pub(super) fn new(head: &'a RequestHead, target: &'a str) -> Self {
        let query = target.split_once('?').map_or("", |(_, query)| query);
        let has_body = match head.framing {
            Framing::Empty | Framing::Length(0) => false,
            Framing::Length(_) | Framing::Chunked => true,
        };
        Self { method: &head.method, path: http_path::normalise(target), query, fields: &head.fields, has_body }
    }

    /// A header field; its name in lower case.
    pub(super) fn field(&self, name: &str) -> Field<'a> {
        let mut values = self.fields.iter().filter(|(sent, _)| sent.eq_ignore_ascii_case(name)).map(|(_, value)| value);
        match (values.next(), values.next()) {
            (None, _) => Field::Missing,
            (Some(value), None) => std::str::from_utf8(value).map_or(Field::Odd, Field::Once),
            (Some(_), Some(_)) => Field::Odd,
        }
    }

    /// Whether it came over somebody who forwards: then it is not of a program that looks for its own identity.
    pub(super) fn is_forwarded(&self) -> bool {
        self.fields.iter().any(|(sent, _)| FORWARDED.iter().any(|name| is_same(sent, name)))
    }

    /// A parameter of the query.
    pub(super) fn parameter(&self, name: &str) -> Parameter {
        http_query::parameter(self.query, name)
    }
}
