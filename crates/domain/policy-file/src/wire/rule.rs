//! Rules and tests, as written.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Group, Transform};

/// One rule: which flows, and what happens to them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rule {
    /// Unique; shown and recorded with every decision it makes.
    pub name: String,
    /// Unique; the lowest is judged first.
    pub priority: i64,
    /// The sandboxes: `any`, a group's name, or labels. `any` where not written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<From>,
    /// The destinations: `any`, a group's name, or a group written here. `any` opens no guard.
    pub to: To,
    /// The names that a rule by address opens in DNS.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// The protocol. `any` where not written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// Ports and ranges: `443`, `8000-8100`; at most 64. Any where not written, but with a `credential`: then the ports of
    /// its `bind`, else 443 and the port of the URL by which the rule matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<OneOrMany<Port>>,
    /// Conditions on the HTTP request; entries are OR-ed. To see it, TLS is inspected, but on a rule for port 80 alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub http: Vec<HttpMatch>,
    /// The most an allowed request's body may hold: bytes, or such as `10MiB`. Needs inspection as `http` does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_body: Option<Size>,
    /// The most the body of its response may hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_response: Option<Size>,
    /// The executable's path in the sandbox, or `sha256:` and its digest; entries are OR-ed. Narrows a rule, is no boundary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<OneOrMany<String>>,
    /// What happens.
    pub action: Action,
    /// Whether it happens. `enforce` where not written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enforcement: Option<Enforcement>,
    /// How TLS is treated. Where not written it is inspected where the rule has to see the request (`http`, `https` URLs,
    /// `maxBody`, `maxResponse`, `credential`, `transform`, `upstreamCa`), and passed through elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// What happens to an encrypted ClientHello that may hide another name. `deny` where not written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ech: Option<Ech>,
    /// The next hop's name, where not the policy's `route`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// The name of the credential that is attached to what the rule allows. Such a rule has TLS inspected, and matches
    /// only requests inside TLS that the credential is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
    /// What is changed in requests that the rule lets through. Needs inspection as `http` does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transform: Option<Transform>,
    /// A bundle of roots (PEM), relative to this file, that servers are verified against in place of the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream_ca: Option<String>,
    /// Which records of an allowed flow are shown. `all` where not written; a deny is always recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<Log>,
    /// DNS record types that the rule opens beyond addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub record_types: Vec<RecordType>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// `2027-01-31T12:00:00Z`, or a date (to its end, UTC). Afterwards an allow or ask is skipped; a deny stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
}

impl Rule {
    /// A rule with nothing written but what must be.
    pub fn new(name: String, priority: i64, action: Action, to: To) -> Self {
        Self {
            name,
            priority,
            from: None,
            to,
            names: Vec::new(),
            protocol: None,
            ports: None,
            http: Vec::new(),
            max_body: None,
            max_response: None,
            process: None,
            action,
            enforcement: None,
            tls: None,
            ech: None,
            route: None,
            credential: None,
            transform: None,
            upstream_ca: None,
            log: None,
            record_types: Vec::new(),
            note: None,
            expires: None,
        }
    }
}

/// One value, or a list of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum OneOrMany<T> {
    /// One.
    One(T),
    /// A list.
    Many(Vec<T>),
}

impl<T> OneOrMany<T> {
    /// As a list.
    pub fn as_slice(&self) -> &[T] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

/// The sandboxes of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum From {
    /// `any`, or a group's name.
    Name(String),
    /// Labels; all of them must be on the sandbox.
    Labels(BTreeMap<String, String>),
}

/// The destinations of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum To {
    /// `any`, or a group's name.
    Name(String),
    /// A group written here.
    Group(Group),
}

/// A port, or a range of ports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Port {
    /// One port.
    One(i64),
    /// `LOW-HIGH`, both included.
    Range(String),
}

/// A number of bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Size {
    /// Bytes.
    Bytes(i64),
    /// With a unit: `512KiB`, `10MiB`, `1GiB`, or `KB`, `MB`, `GB` of a thousand.
    Unit(String),
}

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP, QUIC included.
    Udp,
    /// ICMP and ICMPv6.
    Icmp,
    /// Each of them.
    Any,
}

/// Conditions on an HTTP request. Conditions of one entry are AND-ed, values of one list OR-ed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpMatch {
    /// How it is sent: `https` inside TLS, `http` without. Either where not written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<Scheme>,
    /// Methods, as they are sent: `GET`, `POST`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// Path globs: `*` within a segment, `**` over segments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
    /// Header fields that must have exactly this value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Parameters of the query that must be there with exactly this value, decoded. One that is there twice, or that
    /// servers would read in different ways, fulfils no rule that allows.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub query: BTreeMap<String, String>,
}

/// How a request is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// Plain.
    Http,
    /// Inside TLS, which is opened to see it.
    Https,
}

/// What happens to a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It goes on.
    Allow,
    /// It is refused.
    Deny,
    /// A person is asked; without one it is refused.
    Ask,
}

/// Whether a rule acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Enforcement {
    /// It decides.
    Enforce,
    /// Its match is recorded under `would`, and judging goes on.
    Watch,
    /// It is skipped.
    Off,
    /// The same as `watch`.
    Audit,
    /// The same as `enforce`.
    Enabled,
}

/// How TLS is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Tls {
    /// The ClientHello is read, nothing is decrypted.
    Passthrough,
    /// Every request inside is judged: the gateway ends the client's TLS with a certificate of its own.
    Inspect,
}

/// What happens to an encrypted ClientHello that may hide another name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Ech {
    /// It is refused.
    Deny,
    /// It passes.
    Allow,
}

/// Which records of an allowed flow are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Log {
    /// The decision.
    Start,
    /// The end.
    End,
    /// Both.
    All,
}

/// A DNS record type that only a rule opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum RecordType {
    /// Mail exchange.
    Mx,
    /// Text.
    Txt,
    /// Service location.
    Srv,
}

/// A case that must hold before the policy is applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TestCase {
    /// The sandbox's labels. None where not written.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub from: BTreeMap<String, String>,
    /// Where the flow goes: `HOST:PORT`, `ADDRESS:PORT` or an `http` or `https` URL.
    pub to: String,
    /// The HTTP method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// The executable's path, or `sha256:` and its digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<String>,
    /// The address that the name resolves to. A neutral public one where not written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// What must come out.
    pub expect: Verdict,
    /// The rule that must decide.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// The credential that it must carry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
    /// Watched rules that must match on the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub would: Option<OneOrMany<String>>,
}

/// What comes out of a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It goes on.
    Allowed,
    /// It is refused.
    Denied,
    /// A person is asked.
    Asked,
}
