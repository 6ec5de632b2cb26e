//! Puts a secret in for its placeholder: as a whole value, in the places that the policy names, and nowhere else.
//!
//! Everything here takes what is to stand there as bytes, so that a first look, for which no secret is needed yet, can
//! ask with the placeholder itself. A placeholder that stands elsewhere goes on as it is: it is no secret.

/// Fields of the head.
mod header;
/// The path and the query.
mod target;
/// Bodies of forms and of JSON.
mod body;

use policy::{
    http_path,
    model::{
        credential::{Field, Place},
        header_fields::is_same,
    },
};
use values::Secret;

use crate::Placeholder;

/// Where a placeholder is swapped.
#[derive(Debug, Clone, Copy)]
pub struct Swap<'a> {
    /// The placeholder.
    pub placeholder: &'a Placeholder,
    /// In these header fields, lower case.
    pub headers: &'a [String],
    /// In these places of exact requests.
    pub fields: &'a [Field],
}

/// A request, as the sandbox sent it.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The method.
    pub method: &'a str,
    /// The path and query.
    pub target: &'a str,
    /// The fields of its head.
    pub fields: &'a [(String, Vec<u8>)],
}

/// What of a head is another.
#[derive(Debug, Default)]
pub struct SwappedHead {
    /// The path and query, where the secret stands in it.
    pub target: Option<Secret>,
    /// Fields by their number, with their new value, or none where the field is removed: the sandbox's own value in a
    /// place that is for the secret alone.
    pub fields: Vec<(usize, Option<Secret>)>,
}

impl SwappedHead {
    /// Whether the placeholder stood anywhere.
    pub fn found(&self) -> bool {
        self.target.is_some() || self.fields.iter().any(|(_, value)| value.is_some())
    }
}

impl Swap<'_> {
    /// The head with this in place of the placeholder.
    pub fn head(&self, request: Request<'_>, with: &[u8]) -> SwappedHead {
        let mut swapped = SwappedHead::default();
        for (number, (name, value)) in request.fields.iter().enumerate() {
            if self.headers.iter().any(|header| is_same(name, header)) {
                swapped.fields.push((number, header::swap(name, value, self.placeholder.text(), with)));
            }
        }
        swapped.target = self.target(request, with);
        swapped
    }

    fn target(&self, request: Request<'_>, with: &[u8]) -> Option<Secret> {
        let placeholder = self.placeholder.text();
        let path = http_path::normalise(request.target)?;
        let mut swapped: Option<Secret> = None;
        for field in self.fields.iter().filter(|field| field.method == request.method) {
            let target = swapped.as_ref().map_or(Some(request.target), Secret::expose_str)?;
            let next = match &field.place {
                Place::Path if field.path.replace("{placeholder}", placeholder) == path => {
                    target::path(&path, target, placeholder, with)
                }
                Place::Query(name) if field.path == path => target::query(target, name, placeholder, with),
                Place::Path | Place::Query(_) | Place::Form(_) | Place::Json(_) => None,
            };
            swapped = next.or(swapped);
        }
        swapped
    }

    /// Whether the placeholder may stand in the body of this request, so that the body has to be seen whole.
    pub fn looks_at_body(&self, request: Request<'_>) -> bool {
        self.body_fields(request).next().is_some()
    }

    /// Whether it may stand where only text can.
    pub fn needs_text(&self) -> bool {
        self.fields.iter().any(|field| match field.place {
            Place::Json(_) => true,
            Place::Path | Place::Query(_) | Place::Form(_) => false,
        })
    }

    /// The body with this in place of the placeholder; `None` where it does not stand there.
    pub fn body(&self, request: Request<'_>, body: &[u8], with: &[u8]) -> Option<Secret> {
        let mut swapped: Option<Secret> = None;
        for field in self.body_fields(request) {
            let body = swapped.as_ref().map_or(body, Secret::expose);
            let next = match &field.place {
                Place::Form(name) => body::form(body, name, self.placeholder.text(), with),
                Place::Json(pointer) => body::json(body, pointer, self.placeholder.text(), with),
                Place::Path | Place::Query(_) => None,
            };
            swapped = next.or(swapped);
        }
        swapped
    }

    fn body_fields<'b>(&'b self, request: Request<'b>) -> impl Iterator<Item = &'b Field> {
        let kind = body::kind(request.fields);
        let path = kind.and_then(|_| http_path::normalise(request.target));
        self.fields.iter().filter(move |field| {
            let fits = match field.place {
                Place::Form(_) => kind == Some(body::Kind::Form),
                Place::Json(_) => kind == Some(body::Kind::Json),
                Place::Path | Place::Query(_) => false,
            };
            fits && field.method == request.method && path.as_deref() == Some(&field.path)
        })
    }
}

#[cfg(test)]
mod tests;
