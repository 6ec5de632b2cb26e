//! Fields and parameters by which an origin could act on another method or path than the one sent.

use policy::{http_query, model::header_fields::is_same};

use super::RequestHead;

/// Fields whose presence beside the real method could make an origin use another one.
const METHOD_OVERRIDES: [&str; 4] =
    ["x-http-method-override", "x-http-method", "x-method-override", "x-original-method"];

/// The parameter of the query that is such a field to some frameworks.
const METHOD_PARAMETER: &str = "_method";

/// Fields by which some origins act on another path than the one sent, or (RFC 4918, 10.3) on one more.
const PATH_OVERRIDES: [&str; 9] = [
    "x-original-url",
    "x-rewrite-url",
    "x-original-uri",
    "x-forwarded-uri",
    "x-http-path-override",
    "x-envoy-original-path",
    "x-forwarded-path",
    "x-forwarded-prefix",
    "destination",
];

/// Whether it names an override.
pub(crate) fn is_override(name: &[u8]) -> bool {
    METHOD_OVERRIDES.iter().chain(&PATH_OVERRIDES).any(|known| is_same(name, known))
}

impl RequestHead {
    /// Whether a field or a parameter asks an origin to act on another method or path than the one sent; then why that is refused.
    pub fn overrides(&self) -> Option<&'static str> {
        let other = |names: &[&str], sent: &[u8]| {
            self.fields
                .iter()
                .any(|(field, value)| value.as_slice() != sent && names.iter().any(|name| is_same(field, name)))
        };
        let target = self.origin_target();
        let query = target.split_once('?').map_or("", |(_, query)| query);
        if other(&METHOD_OVERRIDES, self.method.as_bytes()) {
            Some("a field that names another method")
        } else if http_query::values(query, METHOD_PARAMETER).any(|named| named.as_ref() != Some(&self.method)) {
            Some("a parameter that names another method")
        } else if other(&PATH_OVERRIDES, target.as_bytes()) {
            Some("a field that names another path")
        } else {
            None
        }
    }
}
