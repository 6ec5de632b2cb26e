//! What a rule changes in the requests that it lets through.
//!
//! The request is judged as the sandbox sent it, and changed after that. So a change never makes a rule match. Where the
//! host is rewritten the rule answers for the new one: no other rule is asked, but the guards over its addresses hold.

use std::collections::BTreeMap;

use crate::{
    facts::Protocol,
    host_name::HostName,
    http_path,
    model::{
        Action, PolicySpec, Rule, TlsMode,
        credential::Attach,
        header_fields::{self, is_same},
    },
};

/// The most header fields that a rule changes.
const FIELDS: usize = 64;

/// Changes to a request. Names of header fields are lower case.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Transform {
    /// Fields that the request has with this value alone, whatever was sent.
    pub set: BTreeMap<String, String>,
    /// Fields that the request gets where it has none of that name.
    pub insert: BTreeMap<String, String>,
    /// Fields that are taken out.
    pub remove: Vec<String>,
    /// A plain request goes on inside TLS, to port 443. Never the other way.
    pub to_tls: bool,
    /// The host that it goes to in place of its own: the name that is resolved, checked, dialled and asked for.
    pub host: Option<HostName>,
    /// Another beginning of the path.
    pub path: Option<PathPrefix>,
}

/// The beginning of a path and what takes its place: whole segments, `/` for none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathPrefix {
    /// In normal form.
    pub from: String,
    /// In normal form.
    pub to: String,
}

/// Why a rule can't change requests as it says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransformProblem {
    /// It denies.
    #[error("a rule that denies changes nothing")]
    Denies,
    /// It is not for TCP.
    #[error("only requests over TCP are changed")]
    Protocol,
    /// It passes TLS through.
    #[error("`tls: passthrough` looks at no request, and changes none")]
    Passthrough,
    /// Nothing is changed.
    #[error("it changes nothing")]
    Empty,
    /// Too much is changed.
    #[error("it changes {0} header fields; at most 64 are changed")]
    TooMany(usize),
    /// A field that frames or routes the request.
    #[error("the header field {0:?} frames or routes a request, and is not changed")]
    Header(String),
    /// A value that would break the header.
    #[error("the value of the header field {0:?} is not printable ASCII without spaces at its ends")]
    Value(String),
    /// A field that is changed twice.
    #[error("the header field {0:?} is changed in two ways")]
    Twice(String),
    /// A field that the rule's credential is in.
    #[error("the header field {0:?} is the credential's")]
    Carries(String),
    /// Into TLS, where the rule is not about plain HTTP alone.
    #[error("`scheme: https` is for plain requests: write `ports: [80]`")]
    Scheme,
    /// A path that is not in normal form.
    #[error("{0:?} is no beginning of a path: whole segments in normal form, such as /v1")]
    Path(String),
    /// A credential would go to a host that it is not bound to.
    #[error("the credential is not bound to {0}, where the request would go")]
    Host(HostName),
    /// A credential would go to a path that it is not bound to.
    #[error("the credential is bound to paths, and this rule changes them")]
    BoundPath,
}

impl Transform {
    /// The request target as it is sent: the path's beginning replaced where it is `from`, the query as it was. None
    /// where the path can be read in two ways; such a request is refused.
    pub fn target(&self, target: &str) -> Option<String> {
        let Some(prefix) = &self.path else { return Some(target.to_owned()) };
        let path = http_path::normalise(target)?;
        let Some(rest) = after(&prefix.from, &path) else { return Some(target.to_owned()) };
        let mut sent = encode(prefix.to.trim_end_matches('/'));
        sent.push_str(&encode(rest));
        if sent.is_empty() {
            sent.push('/');
        }
        if let Some((_, query)) = target.split_once('?') {
            sent.push('?');
            sent.push_str(query);
        }
        Some(sent)
    }

    fn fields(&self) -> impl Iterator<Item = &String> {
        self.set.keys().chain(self.insert.keys()).chain(&self.remove)
    }

    fn is_empty(&self) -> bool {
        self.fields().next().is_none() && !self.to_tls && self.host.is_none() && self.path.is_none()
    }

    fn field_problem(&self) -> Option<TransformProblem> {
        let count = self.fields().count();
        if count > FIELDS {
            return Some(TransformProblem::TooMany(count));
        }
        let given = || self.set.iter().chain(&self.insert);
        let never = given().map(|(name, _)| name).find(|name| header_fields::is_never_set(name));
        if let Some(name) = never.or_else(|| self.remove.iter().find(|name| header_fields::is_framing(name))) {
            return Some(TransformProblem::Header(name.clone()));
        }
        if let Some((name, _)) = given().find(|(_, value)| !header_fields::is_value(value)) {
            return Some(TransformProblem::Value(name.clone()));
        }
        let twice = self.fields().find(|name| self.fields().filter(|other| is_same(other, name)).count() > 1);
        twice.map(|name| TransformProblem::Twice(name.clone()))
    }

    fn path_problem(&self) -> Option<TransformProblem> {
        let prefix = self.path.as_ref()?;
        let is_prefix = |path: &str| {
            let whole = path == "/" || !path.ends_with('/');
            whole && !path.contains('?') && http_path::normalise(&encode(path)).as_deref() == Some(path)
        };
        let wrong = [&prefix.from, &prefix.to].into_iter().find(|path| !is_prefix(path));
        wrong.map(|path| TransformProblem::Path(path.clone()))
    }
}

impl PolicySpec {
    /// Why the rule can't change requests as it says, if it can't.
    pub fn transform_problem(&self, rule: &Rule) -> Option<TransformProblem> {
        let transform = rule.transform.as_ref()?;
        if rule.action == Action::Deny {
            return Some(TransformProblem::Denies);
        }
        if rule.protocol.is_some_and(|own| own != Protocol::Tcp) {
            return Some(TransformProblem::Protocol);
        }
        if rule.tls == TlsMode::Passthrough && rule.may_meet_tls() {
            return Some(TransformProblem::Passthrough);
        }
        if transform.to_tls && rule.may_meet_tls() {
            return Some(TransformProblem::Scheme);
        }
        if transform.is_empty() {
            return Some(TransformProblem::Empty);
        }
        let own = transform.field_problem().or_else(|| transform.path_problem());
        own.or_else(|| self.carried_problem(rule, transform))
    }

    /// A credential goes where it is bound to, also behind a change.
    fn carried_problem(&self, rule: &Rule, transform: &Transform) -> Option<TransformProblem> {
        let credential = rule.credential.as_ref().and_then(|name| self.credentials.get(name))?;
        if let Some(name) = transform.fields().find(|name| carries(&credential.attach, name)) {
            return Some(TransformProblem::Carries(name.clone()));
        }
        let bind = &credential.bind;
        if let Some(host) = transform.host.as_ref().filter(|host| !bind.hosts.iter().any(|own| own.matches(host))) {
            return Some(TransformProblem::Host(host.clone()));
        }
        let paths = transform.path.is_some() && !bind.paths.is_empty();
        paths.then_some(TransformProblem::BoundPath)
    }
}

/// Whether the credential is in the header field of this name, in any spelling.
fn carries(attach: &Attach, name: &str) -> bool {
    match attach {
        Attach::Bearer | Attach::Basic { .. } => is_same(name, "authorization"),
        Attach::Header { name: own, .. } => is_same(name, own),
        Attach::Cookie { .. } => is_same(name, "cookie"),
        Attach::SigV4 { .. } => is_same(name, "authorization") || header_fields::begins_with(name, "x-amz-"),
        Attach::Placeholder { headers, .. } => headers.iter().any(|own| is_same(name, own)),
        Attach::Query { .. } | Attach::ClientCertificate => false,
    }
}

/// What of a path stands behind this beginning of whole segments.
fn after<'p>(prefix: &str, path: &'p str) -> Option<&'p str> {
    let rest = path.strip_prefix(prefix.trim_end_matches('/'))?;
    (rest.is_empty() || rest.starts_with('/')).then_some(rest)
}

/// A path in normal form as it is sent (RFC 3986, 3.3).
fn encode(path: &str) -> String {
    let mut sent = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,=:@".contains(&byte) {
            sent.push(char::from(byte));
        } else {
            sent.push_str(&format!("%{byte:02X}"));
        }
    }
    sent
}

#[cfg(test)]
mod tests {
    use proptest::{prop_assert, prop_assert_eq, proptest};

    use std::path::PathBuf;

    use values::{CredentialName, RuleName};

    use super::{PathPrefix, Transform, TransformProblem};
    use crate::{
        http_path::normalise,
        model::{
            Action, PolicySpec, Rule, To,
            credential::{Attach, Bind, Credential, Source, Stored},
        },
    };

    fn rewritten(from: &str, to: &str, target: &str) -> Option<String> {
        let path = Some(PathPrefix { from: from.to_owned(), to: to.to_owned() });
        Transform { path, ..Transform::default() }.target(target)
    }

    #[test]
    fn the_beginning_of_a_path_is_replaced_by_whole_segments() {
        for (from, to, target, sent) in [
            ("/v1", "/v2", "/v1/a?q=1", Some("/v2/a?q=1")),
            ("/v1", "/v2", "/v1", Some("/v2")),
            ("/v1", "/v2", "/v11/a", Some("/v11/a")),
            ("/v1", "/v2", "/x/%2e%2e/v1/a%20b", Some("/v2/a%20b")),
            ("/v1", "/", "/v1", Some("/")),
            ("/v1", "/", "/v1/", Some("/")),
            ("/", "/api", "/a", Some("/api/a")),
            ("/", "/api", "/", Some("/api/")),
            ("/v1", "/v2", "/other?%2f", Some("/other?%2f")),
            ("/v1", "/v2", "/v1/a%2fb", None),
            ("/v1", "/v2", "*", None),
        ] {
            assert_eq!(rewritten(from, to, target).as_deref(), sent, "{from} {to} {target}");
        }
        assert_eq!(Transform::default().target("/a%2fb").as_deref(), Some("/a%2fb"), "nothing is rewritten");
    }

    /// What is wrong with setting one field and removing another, on a rule that attaches a credential so.
    fn problem(set: &str, remove: &str, attach: Attach) -> Option<TransformProblem> {
        let key = CredentialName::new("key").unwrap();
        let source = Source::Stored(Stored::File(PathBuf::from("key")));
        let credential = Credential { source, attach, bind: Bind::default(), expose: None };
        let spec = PolicySpec { credentials: [(key.clone(), credential)].into(), ..PolicySpec::default() };
        let set = [(set.to_owned(), "1".to_owned())].into();
        let changes = Transform { set, remove: vec![remove.to_owned()], ..Transform::default() };
        let rule = Rule::new(RuleName::new("r").unwrap(), 1, Action::Allow, To::Any);
        spec.transform_problem(&Rule { credential: Some(key), transform: Some(changes), ..rule })
    }

    #[test]
    fn a_field_is_changed_once_and_never_the_credentials_in_any_spelling() {
        let header = || Attach::Header { name: "x-api-key".to_owned(), format: "{value}".to_owned() };
        let sigv4 = || Attach::SigV4 { service: "s3".to_owned(), region: "r".to_owned() };
        let carries = |name: &str| Some(TransformProblem::Carries(name.to_owned()));
        assert_eq!(problem("x-a", "x-b", header()), None);
        assert_eq!(problem("x-a", "x_a", header()), Some(TransformProblem::Twice("x-a".to_owned())));
        assert_eq!(
            problem("x-a", "content_length", header()),
            Some(TransformProblem::Header("content_length".to_owned()))
        );
        assert_eq!(problem("x_api_key", "x-b", header()), carries("x_api_key"));
        assert_eq!(problem("x-a", "x-api_key", header()), carries("x-api_key"));
        assert_eq!(problem("x_amz_date", "x-b", sigv4()), carries("x_amz_date"));
        assert_eq!(problem("authorization", "x-b", Attach::Bearer), carries("authorization"));
    }

    proptest! {
        #[test]
        fn what_is_sent_reads_as_the_path_that_was_meant(rest in "(/[a-zé %20]{1,4}){0,3}", to in "/[a-z]{1,3}") {
            let target = format!("/v1{}", super::encode(&rest));
            if let Some(path) = normalise(&target) {
                let sent = rewritten("/v1", &to, &target).unwrap_or_default();
                prop_assert!(sent.is_ascii() && !sent.contains(' '));
                prop_assert_eq!(normalise(&sent), Some(path.replacen("/v1", &to, 1)));
            }
        }
    }
}
