//! Why a policy can't be compiled: all reasons at once, each with the part it is about.

use values::{CredentialName, GroupName, RouteName, RuleName};

use crate::{
    host_name::HostPattern,
    http_path::PathGlobError,
    model::{
        credential::{CredentialMisuse, CredentialProblem},
        transform::TransformProblem,
    },
};

/// One reason. [`CompileError::rule`] and [`CompileError::group`] say where to point.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// Two rules have one name.
    #[error("two rules are named {rule}")]
    DuplicateRule {
        /// The name.
        rule: RuleName,
    },
    /// Two rules have one priority.
    #[error("rule {rule} has priority {priority}, as has rule {other}; priorities are unique")]
    DuplicatePriority {
        /// The later rule in the file.
        rule: RuleName,
        /// The earlier one.
        other: RuleName,
        /// Their priority.
        priority: i64,
    },
    /// A rule has a name that the policy engine uses itself.
    #[error("{rule} is the name of a built-in; name the rule otherwise")]
    ReservedName {
        /// The name.
        rule: RuleName,
    },
    /// A rule refers to a group that is not there.
    #[error("rule {rule} refers to group {group}, which is not defined")]
    UnknownGroup {
        /// The rule.
        rule: RuleName,
        /// The group.
        group: GroupName,
    },
    /// A group used as source selects no sandboxes.
    #[error("rule {rule} comes from group {group}, which selects no sandboxes")]
    GroupSelectsNoSandboxes {
        /// The rule.
        rule: RuleName,
        /// The group.
        group: GroupName,
    },
    /// A destination that holds nothing: the rule would never match.
    #[error("rule {rule} goes to a group that holds no hosts, urls, cidrs, service tag or feed")]
    NoDestination {
        /// The rule.
        rule: RuleName,
        /// The group, where it has a name.
        group: Option<GroupName>,
    },
    /// A feed's content was not handed in.
    #[error("feed {path} was not read")]
    MissingFeed {
        /// The first rule that needs it.
        rule: RuleName,
        /// The group, where it has a name.
        group: Option<GroupName>,
        /// The feed's path.
        path: String,
    },
    /// A service tag's content was not handed in.
    #[error("service tag {tag} was not found in {path}")]
    MissingServiceTag {
        /// The first rule that needs it.
        rule: RuleName,
        /// The group, where it has a name.
        group: Option<GroupName>,
        /// The tag.
        tag: String,
        /// The provider's file.
        path: String,
    },
    /// A wildcard that covers everybody under a public suffix, in what does not deny.
    #[error("{pattern} covers every name under a public suffix; only a rule that denies may do so")]
    PublicSuffix {
        /// The rule; none for `allowedHosts` and the managed path.
        rule: Option<RuleName>,
        /// The group, where it has a name.
        group: Option<GroupName>,
        /// The pattern.
        pattern: HostPattern,
    },
    /// `*` outside `unrestricted`.
    #[error("'*' alone can be used only in mode unrestricted; say which hosts, or `to: any`")]
    AnyHost {
        /// The rule; none for `allowedHosts` and the managed path.
        rule: Option<RuleName>,
        /// The group, where it has a name.
        group: Option<GroupName>,
    },
    /// A next hop that is not defined.
    #[error("route {route} is not defined")]
    UnknownRoute {
        /// The rule; none for the mode's route.
        rule: Option<RuleName>,
        /// The route.
        route: RouteName,
    },
    /// Routed mode without a route would send everything the direct way.
    #[error("mode routed needs `route:`, the next hop of what is allowed")]
    RouteMissing,
    /// A mode's route in a mode that has none.
    #[error("`route:` belongs to mode routed; give each rule its own route, or change the mode")]
    RouteOutsideRouted {
        /// The route.
        route: RouteName,
    },
    /// A port range that ends before it starts, or more than 64 of them.
    #[error("rule {rule}: {problem}")]
    Ports {
        /// The rule.
        rule: RuleName,
        /// What is wrong.
        problem: PortProblem,
    },
    /// Ports on a protocol that has none.
    #[error("rule {rule}: ICMP has no ports")]
    IcmpPorts {
        /// The rule.
        rule: RuleName,
    },
    /// A path glob that is none.
    #[error("{glob:?}: {source}")]
    PathGlob {
        /// The rule.
        rule: RuleName,
        /// The group, where it has a name.
        group: Option<GroupName>,
        /// The glob.
        glob: String,
        /// What is wrong.
        source: PathGlobError,
    },
    /// `tls: passthrough` beside what only inspection would show.
    #[error("`tls: passthrough` looks at no request inside TLS, and {what} needs it; {remedy}")]
    PassthroughUnread {
        /// The rule.
        rule: RuleName,
        /// The group, where it has a name.
        group: Option<GroupName>,
        /// What needs it.
        what: String,
        /// What to do.
        remedy: &'static str,
    },
    /// `tls: inspect` on a protocol that carries no TLS over TCP.
    #[error("rule {rule}: only TCP can be inspected; leave out `tls: inspect` or set `protocol: tcp`")]
    InspectedProtocol {
        /// The rule.
        rule: RuleName,
    },
    /// A bound on what a denied request carries.
    #[error("rule {rule} denies; only what is allowed or asked about has a `maxBody` or `maxResponse`")]
    BoundedDenial {
        /// The rule.
        rule: RuleName,
    },
    /// A rule attaches a credential that is not there.
    #[error("rule {rule} attaches credential {credential}, which is not defined")]
    UnknownCredential {
        /// The rule.
        rule: RuleName,
        /// The credential.
        credential: CredentialName,
    },
    /// A rule attaches a credential that it can't.
    #[error("rule {rule} can't attach credential {credential}: {problem}")]
    CredentialMisuse {
        /// The rule.
        rule: RuleName,
        /// The credential.
        credential: CredentialName,
        /// Why.
        problem: CredentialMisuse,
    },
    /// A credential that is wrong in itself.
    #[error("credential {credential}: {problem}")]
    Credential {
        /// The credential.
        credential: CredentialName,
        /// What is wrong.
        problem: CredentialProblem,
    },
    /// A rule changes requests in a way that can't be.
    #[error("rule {rule} can't change requests like this: {problem}")]
    Transform {
        /// The rule.
        rule: RuleName,
        /// Why.
        problem: TransformProblem,
    },
    /// Roots for a server where the rule opens no TLS.
    #[error("rule {rule}: `upstreamCa` is for rules that let requests inside TLS through")]
    UpstreamCa {
        /// The rule.
        rule: RuleName,
    },
    /// The metadata service names a credential that is not there, or that can't stand behind its placeholder.
    #[error("the metadata service of {cloud} names credential {credential}, which is not defined or not of its kind")]
    MetadataCredential {
        /// The cloud.
        cloud: &'static str,
        /// The credential.
        credential: CredentialName,
    },
    /// More than the index can number.
    #[error("the policy is too large: more than {limit} {what}")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
        /// How many there may be.
        limit: usize,
    },
    /// A toggle of the managed path whose name can't stand in a rule's name.
    #[error("managed path {toggle:?}: not a name")]
    Toggle {
        /// The toggle.
        toggle: String,
    },
}

/// What is wrong with a rule's ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PortProblem {
    /// The end lies before the start.
    #[error("the port range {0}-{1} ends before it starts")]
    Reversed(u16, u16),
    /// More than 64 ranges.
    #[error("{0} port ranges; at most 64 are allowed")]
    TooMany(usize),
}

impl CompileError {
    /// The rule that it is about.
    pub fn rule(&self) -> Option<&RuleName> {
        match self {
            CompileError::DuplicateRule { rule }
            | CompileError::DuplicatePriority { rule, .. }
            | CompileError::ReservedName { rule }
            | CompileError::UnknownGroup { rule, .. }
            | CompileError::GroupSelectsNoSandboxes { rule, .. }
            | CompileError::NoDestination { rule, .. }
            | CompileError::MissingFeed { rule, .. }
            | CompileError::MissingServiceTag { rule, .. }
            | CompileError::Ports { rule, .. }
            | CompileError::IcmpPorts { rule }
            | CompileError::PathGlob { rule, .. }
            | CompileError::PassthroughUnread { rule, .. }
            | CompileError::InspectedProtocol { rule }
            | CompileError::BoundedDenial { rule }
            | CompileError::UnknownCredential { rule, .. }
            | CompileError::CredentialMisuse { rule, .. }
            | CompileError::Transform { rule, .. }
            | CompileError::UpstreamCa { rule } => Some(rule),
            CompileError::PublicSuffix { rule, .. }
            | CompileError::AnyHost { rule, .. }
            | CompileError::UnknownRoute { rule, .. } => rule.as_ref(),
            CompileError::RouteMissing
            | CompileError::RouteOutsideRouted { .. }
            | CompileError::Credential { .. }
            | CompileError::MetadataCredential { .. }
            | CompileError::TooLarge { .. }
            | CompileError::Toggle { .. } => None,
        }
    }

    /// The group that it is about, where it has a name.
    pub fn group(&self) -> Option<&GroupName> {
        match self {
            CompileError::UnknownGroup { group, .. } | CompileError::GroupSelectsNoSandboxes { group, .. } => {
                Some(group)
            }
            CompileError::NoDestination { group, .. }
            | CompileError::MissingFeed { group, .. }
            | CompileError::MissingServiceTag { group, .. }
            | CompileError::PublicSuffix { group, .. }
            | CompileError::AnyHost { group, .. }
            | CompileError::PathGlob { group, .. }
            | CompileError::PassthroughUnread { group, .. } => group.as_ref(),
            CompileError::DuplicateRule { .. }
            | CompileError::DuplicatePriority { .. }
            | CompileError::ReservedName { .. }
            | CompileError::UnknownRoute { .. }
            | CompileError::RouteMissing
            | CompileError::RouteOutsideRouted { .. }
            | CompileError::Ports { .. }
            | CompileError::IcmpPorts { .. }
            | CompileError::InspectedProtocol { .. }
            | CompileError::BoundedDenial { .. }
            | CompileError::UnknownCredential { .. }
            | CompileError::CredentialMisuse { .. }
            | CompileError::Credential { .. }
            | CompileError::Transform { .. }
            | CompileError::UpstreamCa { .. }
            | CompileError::MetadataCredential { .. }
            | CompileError::TooLarge { .. }
            | CompileError::Toggle { .. } => None,
        }
    }
}
