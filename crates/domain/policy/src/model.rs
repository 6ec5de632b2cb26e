//! The policy as written and checked: modes, groups, routes, rules.
//!
//! `policy-file` builds a [`PolicySpec`](crate::model::PolicySpec); [`crate::CompiledPolicy::compile`] makes it fast. What refers to
//! another part (a rule to a group, a group to a feed) does so by name; compile refuses a dangling one.

/// Secrets by name: where they come from, how they are attached, and what they are bound to.
pub mod credential;
/// Sets of sources or destinations, and the lists that they refer to.
mod groups;
/// Header fields that no policy sets.
pub mod header_fields;
/// Which rules look into TLS.
mod inspection;
/// What a sandbox finds where cloud libraries look for a machine's identity.
pub mod metadata_service;
/// What a rule changes in the requests that it lets through.
pub mod transform;
/// Traffic to a credential's hosts that nobody looks through.
mod unopened;

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf};

use values::{CredentialName, GroupName, LabelSelector, RouteName, RuleName};

use crate::{facts::Protocol, host_name::HostPattern};

pub use groups::{Feed, FeedFormat, Group, ListContent, Lists, Provider, ServiceTag, UrlPattern};
pub use unopened::Unopened;

/// What is done with flows that no rule decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Mode {
    /// Allowed, but for the guards.
    Unrestricted,
    /// Denied.
    #[default]
    Limited,
    /// Denied; what is allowed leaves through the user's own network.
    Routed,
}

/// Whether a rule acts, is noted, or sleeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum RuleEnforcement {
    /// It decides.
    #[default]
    Enforce,
    /// Its match is noted under `would` and evaluation goes on.
    Watch,
    /// It is skipped.
    Off,
}

/// What a rule does with what it matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Let it go on.
    Allow,
    /// Refuse it.
    Deny,
    /// Ask a person.
    Ask,
}

/// The source of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum From {
    /// Every sandbox.
    Any,
    /// The sandboxes that a group selects.
    Group(GroupName),
    /// The sandboxes that these labels select.
    Labels(LabelSelector),
}

/// The destination of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum To {
    /// Every destination. Opens no guard.
    Any,
    /// A named group.
    Group(GroupName),
    /// A group written in place.
    Inline(Group),
}

/// How a request was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Plain.
    Http,
    /// Inside opened TLS.
    Https,
}

/// Conditions on a request. Conditions of one match are AND-ed, entries of one list OR-ed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HttpMatch {
    /// How it was sent; none is either way.
    pub scheme: Option<Scheme>,
    /// Methods, case-sensitive; empty is any.
    pub methods: Vec<String>,
    /// Globs on the normalised path: `*` within a segment, `**` over segments; empty is any.
    pub paths: Vec<String>,
    /// Header fields that must have exactly this value; names lower case.
    pub headers: BTreeMap<String, String>,
    /// Parameters of the query that must be there once, with exactly this value after one decoding.
    pub query: BTreeMap<String, String>,
}

/// Conditions on the process. A narrowing, not a boundary: a process can exec after it connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProcessMatch {
    /// The executable's path in the sandbox.
    Executable(String),
    /// SHA-256 of the executable, lower-case hex.
    Digest(String),
}

/// How TLS is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TlsMode {
    /// Passed through, unless the rule has to see the request.
    #[default]
    AsNeeded,
    /// Read the ClientHello, never terminate. No condition on what is inside then.
    Passthrough,
    /// Terminated, so that every request is judged.
    Inspect,
}

/// What a passthrough rule does with an encrypted ClientHello.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum EchMode {
    /// Deny where it may hide another name, else pass as unverified.
    #[default]
    DenySuspect,
    /// `ech: allow`.
    Allow,
}

/// When a rule's flows are logged. A denied flow always is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum LogMode {
    /// The decision only.
    Start,
    /// The end only; the decision is still written before the first byte (invariant 3), marked `quiet`.
    End,
    /// Both.
    #[default]
    All,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Unique.
    pub name: RuleName,
    /// Unique; the lowest is judged first.
    pub priority: i64,
    /// The source.
    pub from: From,
    /// The destination.
    pub to: To,
    /// The names that this rule by address opens in DNS; their answers must lie in the rule's ranges.
    pub names: Vec<HostPattern>,
    /// The protocol; `None` is any.
    pub protocol: Option<Protocol>,
    /// Port ranges, both ends included; empty is any; at most 64.
    pub ports: Vec<(u16, u16)>,
    /// Conditions on the HTTP request; empty is none. Entries are OR-ed. Over TLS they need inspection.
    pub http: Vec<HttpMatch>,
    /// The most bytes of an allowed request's body.
    pub max_body: Option<u64>,
    /// The most bytes of an allowed request's response body.
    pub max_response: Option<u64>,
    /// Conditions on the process; empty is none. Entries are OR-ed.
    pub process: Vec<ProcessMatch>,
    /// What it does.
    pub action: Action,
    /// Whether it does it.
    pub enforcement: RuleEnforcement,
    /// TLS.
    pub tls: TlsMode,
    /// Encrypted ClientHello.
    pub ech: EchMode,
    /// The next hop, where not the mode's.
    pub route: Option<RouteName>,
    /// The credential that is attached to what the rule allows. Such a rule matches only requests inside TLS that the
    /// credential is bound to.
    pub credential: Option<CredentialName>,
    /// What is changed in requests that the rule lets through.
    pub transform: Option<transform::Transform>,
    /// A bundle of roots (PEM) that the server's certificate is verified against, in place of the system's.
    pub upstream_ca: Option<PathBuf>,
    /// Logging.
    pub log: LogMode,
    /// DNS record types beyond A, AAAA, CNAME, HTTPS and SVCB that the rule opens (MX, TXT, SRV).
    pub record_types: Vec<RecordType>,
    /// For people.
    pub note: Option<String>,
    /// After this moment the rule is skipped where it allows or asks, and kept where it denies.
    pub expires: Option<jiff::Timestamp>,
}

impl Rule {
    /// A rule without further conditions: from every sandbox, any protocol and port, enforced, TLS passed through, all
    /// logged, without bounds, for ever.
    pub fn new(name: RuleName, priority: i64, action: Action, to: To) -> Self {
        Self {
            name,
            priority,
            from: From::Any,
            to,
            names: Vec::new(),
            protocol: None,
            ports: Vec::new(),
            http: Vec::new(),
            max_body: None,
            max_response: None,
            process: Vec::new(),
            action,
            enforcement: RuleEnforcement::default(),
            tls: TlsMode::default(),
            ech: EchMode::default(),
            route: None,
            credential: None,
            transform: None,
            upstream_ca: None,
            log: LogMode::default(),
            record_types: Vec::new(),
            note: None,
            expires: None,
        }
    }
}

/// A DNS record type that only a rule opens (RFC 1035, RFC 2782).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RecordType {
    /// Mail exchange.
    Mx,
    /// Text.
    Txt,
    /// Service location.
    Srv,
}

/// A next hop.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Route {
    /// How the gateway's sockets leave.
    pub hop: Hop,
    /// The DNS servers of this route; empty is the host's own.
    pub dns: Vec<DnsServer>,
}

/// How the gateway's sockets leave.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Hop {
    /// As the host does.
    #[default]
    Direct,
    /// Bound to a network interface (`SO_BINDTODEVICE`, socket(7)).
    Interface(String),
    /// With a firewall mark (`SO_MARK`; needs CAP_NET_ADMIN).
    Mark(u32),
    /// From another network namespace, by path or `ip netns` name.
    Netns(String),
    /// From this source address.
    SourceAddress(IpAddr),
    /// Through an HTTP CONNECT proxy.
    HttpProxy(ProxyAddress),
    /// Through a SOCKS5 proxy (RFC 1928).
    Socks5(ProxyAddress),
}

/// Where a proxy listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ProxyAddress {
    /// A name or an address, as written by the operator.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// A DNS server and how it is spoken to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum DnsServer {
    /// UDP, and TCP where truncated (RFC 1035, RFC 7766).
    Plain(std::net::SocketAddr),
    /// DNS over TLS (RFC 7858): `tls://address[:port]#name`.
    Tls(std::net::SocketAddr, String),
    /// DNS over HTTPS (RFC 8484): `https://name/path`, reached at the address.
    Https(std::net::SocketAddr, String, String),
}

/// Destinations taken off the user's route on purpose. The hosts come from the package managers'
/// own configuration, found by the program before the start; each is one toggle.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ManagedPath {
    /// `pip`, `npm` …: one entry for each toggle that is on, with the hosts found.
    pub package_registries: Vec<ManagedHosts>,
    /// `github` …
    pub code_repositories: Vec<ManagedHosts>,
    /// More hosts.
    pub additional_hosts: Vec<HostPattern>,
}

/// One toggle of the managed path and the hosts behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManagedHosts {
    /// `pypi`, `npm`, `crates`, `nuget`, `apt`, `go`, `github` …
    pub toggle: String,
    /// The hosts.
    pub hosts: Vec<HostPattern>,
    /// The TCP ports they are reached at; empty is 80 and 443.
    pub ports: Vec<u16>,
}

/// Bounds on a sandbox's DNS questions (spec/egress.md 3).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DnsLimits {
    /// Questions a second, with a burst of the same size.
    pub queries_per_second: u32,
    /// The longest label of a name that only a wildcard covers.
    pub label_length: usize,
    /// The most bits of entropy a second that labels under one wildcard may carry.
    pub entropy_bits_per_second: f64,
    /// Refuse with REFUSED instead of NXDOMAIN.
    pub refused: bool,
}

impl Default for DnsLimits {
    fn default() -> Self {
        Self { queries_per_second: 200, label_length: 40, entropy_bits_per_second: 600.0, refused: false }
    }
}

/// A whole policy, parsed and checked in itself.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PolicySpec {
    /// The policy's name.
    pub name: String,
    /// What happens where no rule matches.
    pub mode: Mode,
    /// `defaultEnforcement: watch`: the mode's default deny is noted only.
    pub watch_default: bool,
    /// Shorthand for one allow rule behind all others.
    pub allowed_hosts: Vec<HostPattern>,
    /// Routed mode's next hop.
    pub route: Option<RouteName>,
    /// The managed path.
    pub managed_path: ManagedPath,
    /// Next hops by name.
    pub routes: BTreeMap<RouteName, Route>,
    /// Credentials by name.
    pub credentials: BTreeMap<CredentialName, credential::Credential>,
    /// What is answered in place of clouds' metadata services.
    pub metadata_service: metadata_service::MetadataService,
    /// Groups by name.
    pub groups: BTreeMap<GroupName, Group>,
    /// Rules in any order.
    pub rules: Vec<Rule>,
    /// Whether a transparent flow's address must be among its name's (the default).
    pub strict_binding: StrictBinding,
    /// DNS bounds.
    pub dns: DnsLimits,
}

/// Whether a flow whose original address is not among its name's addresses is denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum StrictBinding {
    /// Denied.
    #[default]
    Deny,
    /// Recorded; the checked address of the name is dialled all the same.
    Record,
}
