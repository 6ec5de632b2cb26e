//! What conversion finds wrong, before it is put to lines and words.

use policy::{
    HostNameError,
    http_path::PathGlobError,
    model::{
        credential::{CredentialMisuse, CredentialProblem},
        transform::TransformProblem,
    },
};
use values::NameError;

use crate::{
    diagnostics::{Diagnostic, Severity},
    document::Node,
    flow::DestinationError,
    place::Path,
};

/// One finding: where, and what.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Finding {
    pub(crate) path: Path,
    pub(crate) problem: Problem,
}

/// What can be wrong with a file whose shape is right.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(crate) enum Problem {
    #[error("no {kind} is named {name:?}")]
    Unknown { kind: &'static str, name: String, near: Option<String>, hint: Option<String> },
    #[error("the {what} {value} stands here twice")]
    Repeated { what: &'static str, value: String, first: Option<Path> },
    #[error("{text:?} is no name: {source}")]
    Name { text: String, source: NameError },
    #[error("{text:?} is kept for built-in rules")]
    ReservedName { text: String },
    #[error("{text:?} is no host name: {source}")]
    Host { text: String, source: HostNameError },
    #[error("{text:?} covers every domain under a public suffix")]
    PublicSuffix { text: String },
    #[error("'*' stands for every name, which only `mode: unrestricted` knows")]
    EveryHost,
    #[error("{text:?} is no address or range")]
    Cidr { text: String, meant: Option<String> },
    #[error("{text:?} is no address")]
    Address { text: String },
    #[error("{text:?} is no port or range of ports")]
    Port { text: String },
    #[error("{count} port ranges; a rule has at most 64")]
    TooManyPorts { count: usize },
    #[error("{text:?} is no URL of a web group: {why}")]
    Url { text: String, why: String },
    #[error("{text:?} is no path glob: {source}")]
    PathGlob { text: String, source: PathGlobError },
    #[error("{text:?} is no HTTP method")]
    Method { text: String },
    #[error("{text:?} can't stand in a header")]
    Header { text: String },
    #[error("{text:?} and its value can't be a parameter of a query")]
    Parameter { text: String },
    #[error("{text:?} is no executable: expected a path that begins with '/', or sha256: and 64 hex digits")]
    Process { text: String },
    #[error("{text:?} is no size")]
    Size { text: String },
    #[error("{text:?} is no duration of at least one second")]
    Duration { text: String },
    #[error("{text:?} is no moment or date")]
    Moment { text: String },
    #[error("{text:?} is no proxy: expected HOST:PORT")]
    Proxy { text: String },
    #[error("{text:?} is no DNS server")]
    DnsServer { text: String },
    #[error("{text:?} is no path of a file")]
    FilePath { text: String },
    #[error("{text:?} is no {what}")]
    NotA { text: String, what: &'static str },
    #[error("{text:?} is no place where a provider listens: {why}")]
    Endpoint { text: String, why: String },
    #[error("{0}")]
    Credential(CredentialProblem),
    #[error("{0}")]
    Misuse(CredentialMisuse),
    #[error("{0}")]
    Transform(TransformProblem),
    #[error("{value} is out of range: {low} to {high}")]
    Range { value: String, low: String, high: String },
    #[error("{what} needs {needs}, which this build does not have")]
    Unbuilt { what: String, needs: &'static str },
    #[error("{what}")]
    Contradiction { what: String, hint: Option<&'static str> },
    #[error("{text:?} is no destination: {source}")]
    Destination { text: String, source: DestinationError },
    #[error("{what}")]
    Warning { what: String, hint: Option<&'static str> },
}

impl Problem {
    fn severity(&self) -> Severity {
        if let Self::Warning { .. } = self { Severity::Warning } else { Severity::Error }
    }

    fn nearest(&self) -> Option<String> {
        if let Self::Unknown { near: word, .. } | Self::Cidr { meant: word, .. } = self {
            return word.clone();
        }
        let Self::Method { text } = self else { return None };
        Some(text.to_ascii_uppercase()).filter(|upper| upper != text)
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Unknown { hint, .. } => return hint.clone(),
            Self::Contradiction { hint, .. } | Self::Warning { hint, .. } => return hint.map(str::to_owned),
            Self::Host { text, .. } if text.contains("://") => "write the name alone, without the scheme",
            Self::Host { text, .. } if text.contains('/') => {
                "write the name alone; a path belongs to `urls`, a range to `cidrs`"
            }
            Self::Host { text, .. } if text.contains(':') => "write the name alone; ports stand in the rule",
            Self::Host { source: HostNameError::IpSpelling, .. } => "an address belongs to `cidrs`",
            Self::PublicSuffix { .. } => "name the domains: \"*.example.com\"",
            Self::EveryHost => "list the hosts, or write `to: any` in a rule",
            Self::Cidr { .. } => "an address, or a range from its first address: 10.0.0.0/8, \"fc00::/7\"",
            Self::Port { .. } => "1 to 65535, or LOW-HIGH",
            Self::Size { .. } => "bytes, or such as 512KiB, 10MiB, 1GiB",
            Self::Duration { .. } => "such as 30s, 10m or 1h30m",
            Self::Moment { .. } => "such as 2027-01-31T12:00:00Z, or 2027-01-31 for the end of that day (UTC)",
            Self::DnsServer { .. } => {
                "10.0.0.53, 10.0.0.53:5353, tls://10.0.0.53#dns.example or https://dns.example/dns-query#10.0.0.53"
            }
            Self::Destination { .. } => "HOST:PORT, ADDRESS:PORT, or an http or https URL",
            Self::FilePath { text } if text.starts_with('~') => {
                "`~` is not expanded: write the whole path, or one that starts at this file"
            }
            Self::Credential(problem) => return credential_hint(problem).map(str::to_owned),
            Self::Misuse(misuse) => return misuse_hint(*misuse).map(str::to_owned),
            Self::Repeated { .. }
            | Self::NotA { .. }
            | Self::Endpoint { .. }
            | Self::Name { .. }
            | Self::ReservedName { .. }
            | Self::Host { .. }
            | Self::Address { .. }
            | Self::TooManyPorts { .. }
            | Self::Url { .. }
            | Self::PathGlob { .. }
            | Self::Method { .. }
            | Self::Header { .. }
            | Self::Parameter { .. }
            | Self::Process { .. }
            | Self::Proxy { .. }
            | Self::FilePath { .. }
            | Self::Range { .. }
            | Self::Transform(_)
            | Self::Unbuilt { .. } => return None,
        };
        Some(hint.to_owned())
    }
}

fn credential_hint(problem: &CredentialProblem) -> Option<&'static str> {
    let hint = match problem {
        CredentialProblem::NoHosts => "write `bind: { hosts: [\"api.example.com\"] }`",
        CredentialProblem::TooWide(_) => "name the hosts that are given the secret",
        CredentialProblem::NoKeys => "use `from: aws`, or another way to attach it",
        CredentialProblem::KeysSent => "write `attach: { sigv4: { service: s3, region: eu-central-1 } }`",
        CredentialProblem::NoCertificate => "write `from: { certificate: { chain: PATH, key: { file: PATH } } }`",
        CredentialProblem::CertificateSent => "write `attach: clientCertificate`",
        CredentialProblem::NoPlaceholder => "write `expose: { env: NAME }` beside it",
        CredentialProblem::NowhereToSwap => "write `headers: [authorization]`",
        CredentialProblem::FieldPath(_) => "`/login` beside `query`, `form` or `json`; else `/bot/{placeholder}/send`",
        CredentialProblem::Format(_) => "such as `Token token={value}`",
        CredentialProblem::ExposedNowhere => "such as `env: GITHUB_TOKEN`",
        CredentialProblem::PathGlob { .. }
        | CredentialProblem::Header(_)
        | CredentialProblem::ExposedCertificate
        | CredentialProblem::ExposedKeys => return None,
    };
    Some(hint)
}

fn misuse_hint(misuse: CredentialMisuse) -> Option<&'static str> {
    match misuse {
        CredentialMisuse::Denies => Some("leave out `credential`, or let the rule allow or ask"),
        CredentialMisuse::Protocol => Some("leave out `protocol`, or write `protocol: tcp`"),
        CredentialMisuse::Passthrough => Some("leave out `tls`"),
        CredentialMisuse::Plain => Some("write `ports: [443]`, or leave out `ports`"),
        CredentialMisuse::Hosts => Some("let `bind.hosts` of the credential and `to` of the rule name the same hosts"),
        CredentialMisuse::Ports => Some("let `bind.ports` of the credential name those of the rule, or leave them out"),
        CredentialMisuse::Methods => Some("let `bind.methods` of the credential name those of the rule's `http`"),
    }
}

impl Finding {
    /// Whether it holds although parts of the file were taken away because their shape is wrong.
    /// `whole` is the file with them.
    pub(crate) fn stands_without(&self, whole: &Node) -> bool {
        match &self.problem {
            Problem::Unknown { name, .. } => {
                let spec = whole.entry("spec").map(|entry| &entry.value);
                let names = |key: &str| spec.and_then(|spec| spec.entry(key)).map(|entry| &entry.value);
                let rule = names("rules").is_some_and(|rules| rules.holds_item_named(name));
                !rule
                    && !["groups", "routes", "credentials"]
                        .iter()
                        .any(|key| names(key).is_some_and(|node| node.entry(name).is_some()))
            }
            // They are about what belongs together, and part of it may be gone.
            Problem::Contradiction { .. } | Problem::Warning { .. } | Problem::EveryHost => false,
            Problem::Credential(_) | Problem::Misuse(_) | Problem::Transform(_) => false,
            Problem::Repeated { .. }
            | Problem::Name { .. }
            | Problem::ReservedName { .. }
            | Problem::Host { .. }
            | Problem::PublicSuffix { .. }
            | Problem::Cidr { .. }
            | Problem::Address { .. }
            | Problem::Port { .. }
            | Problem::TooManyPorts { .. }
            | Problem::Url { .. }
            | Problem::PathGlob { .. }
            | Problem::Method { .. }
            | Problem::Header { .. }
            | Problem::Parameter { .. }
            | Problem::Process { .. }
            | Problem::Size { .. }
            | Problem::Duration { .. }
            | Problem::Moment { .. }
            | Problem::Proxy { .. }
            | Problem::DnsServer { .. }
            | Problem::FilePath { .. }
            | Problem::NotA { .. }
            | Problem::Endpoint { .. }
            | Problem::Range { .. }
            | Problem::Unbuilt { .. }
            | Problem::Destination { .. } => true,
        }
    }

    /// The finding as people read it, at its place in the file.
    pub(crate) fn diagnostic(&self, root: &Node) -> Diagnostic {
        // What is not built is about the field as such.
        let of_field = matches!(self.problem, Problem::Unbuilt { .. });
        let at = if of_field { self.path.find_key(root) } else { self.path.find(root) };
        let found = Diagnostic::at(at, self.problem.severity(), self.problem.to_string())
            .nearest(self.problem.nearest())
            .hint(self.problem.hint());
        let Problem::Repeated { first: Some(first), .. } = &self.problem else { return found };
        found.related(first.find(root), "the first one")
    }
}
