//! The parts of a policy as words. Lists are `[a, b]`, so that a difference can name the elements.

/// Credentials.
mod credential;

use std::fmt::Display;

use policy::{
    Protocol,
    model::{
        Action, DnsServer, EchMode, From, Group, Hop, HttpMatch, LogMode, Mode, PolicySpec, ProcessMatch, Provider,
        RecordType, Route, Rule, RuleEnforcement, Scheme, StrictBinding, TlsMode, To, UrlPattern,
        metadata_service::MetadataService, transform::Transform,
    },
};
use values::LabelSelector;

pub(super) use credential::{credential, credential_fields};

fn list<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    format!("[{}]", items.join(", "))
}

/// The settings of a policy by field, the same fields for every policy.
pub(super) fn settings(spec: &PolicySpec) -> Vec<(&'static str, String)> {
    let managed = &spec.managed_path;
    let toggles = managed.package_registries.iter().chain(&managed.code_repositories);
    let toggles = toggles.map(|toggle| toggle.toggle.clone());
    let managed = list(toggles.chain(managed.additional_hosts.iter().map(ToString::to_string)));
    let dns = &spec.dns;
    vec![
        ("name", spec.name.clone()),
        (
            "mode",
            match spec.mode {
                Mode::Unrestricted => "unrestricted",
                Mode::Limited => "limited",
                Mode::Routed => "routed",
            }
            .to_owned(),
        ),
        ("defaultEnforcement", if spec.watch_default { "watch" } else { "enforce" }.to_owned()),
        ("route", spec.route.as_ref().map(ToString::to_string).unwrap_or_else(|| "direct".to_owned())),
        ("allowedHosts", list(&spec.allowed_hosts)),
        ("managedPath", managed),
        (
            "strictBinding",
            match spec.strict_binding {
                StrictBinding::Deny => "true",
                StrictBinding::Record => "false",
            }
            .to_owned(),
        ),
        ("metadataService", metadata_service(&spec.metadata_service)),
        (
            "dns",
            format!(
                "{} queries/s, labels to {}, {} bits/s, {}",
                dns.queries_per_second,
                dns.label_length,
                dns.entropy_bits_per_second,
                if dns.refused { "REFUSED" } else { "NXDOMAIN" }
            ),
        ),
    ]
}

/// The clouds that are answered for, with every setting.
fn metadata_service(service: &MetadataService) -> String {
    let MetadataService { aws, azure, gcp } = service;
    let aws = aws.as_ref().map(|identity| format!("aws {identity:?}"));
    let azure = azure.as_ref().map(|identity| format!("azure {identity:?}"));
    let gcp = gcp.as_ref().map(|identity| format!("gcp {identity:?}"));
    aws.into_iter().chain(azure).chain(gcp).collect::<Vec<_>>().join("; ")
}

pub(super) fn hop(hop: &Hop) -> String {
    match hop {
        Hop::Direct => "direct".to_owned(),
        Hop::Interface(name) => format!("interface {name}"),
        Hop::Mark(mark) => format!("mark {mark}"),
        Hop::Netns(name) => format!("netns {name}"),
        Hop::SourceAddress(address) => format!("source address {address}"),
        Hop::HttpProxy(proxy) => format!("HTTP proxy {}:{}", proxy.host, proxy.port),
        Hop::Socks5(proxy) => format!("SOCKS5 {}:{}", proxy.host, proxy.port),
    }
}

pub(super) fn dns(route: &Route) -> String {
    list(route.dns.iter().map(|server| match server {
        DnsServer::Plain(address) => address.to_string(),
        DnsServer::Tls(address, name) => format!("tls://{address}#{name}"),
        DnsServer::Https(address, name, path) => format!("https://{name}{path}#{address}"),
    }))
}

pub(super) fn route(route: &Route) -> String {
    format!("{}, dns {}", hop(&route.hop), dns(route))
}

fn labels(selector: &LabelSelector) -> String {
    let pairs: Vec<String> = selector.0.iter().map(|(key, value)| format!("{key}={value}")).collect();
    pairs.join(" and ")
}

fn ports((low, high): &(u16, u16)) -> String {
    if low == high { low.to_string() } else { format!("{low}-{high}") }
}

fn url(url: &UrlPattern) -> String {
    format!("{}://{}:{}{}", if url.tls { "https" } else { "http" }, url.host, url.port, url.path)
}

/// The lists of a group by field, the same fields for every group.
pub(super) fn group_fields(group: &Group) -> Vec<(&'static str, String)> {
    let tag = group.service_tag.as_ref().map(|tag| {
        let provider = match tag.provider {
            Provider::Azure => "azure",
            Provider::Aws => "aws",
            Provider::Google => "google",
        };
        format!("{provider} {} from {}", tag.name, tag.path)
    });
    let feed = group.feed.as_ref().map(|feed| {
        let refresh = feed.refresh.map(|refresh| format!(", every {} s", refresh.as_secs())).unwrap_or_default();
        format!("{} ({:?}{refresh})", feed.path, feed.format)
    });
    vec![
        ("sandboxes", list(group.sandboxes.iter().map(labels))),
        ("hosts", list(&group.hosts)),
        ("urls", list(group.urls.iter().map(url))),
        ("cidrs", list(&group.cidrs)),
        ("serviceTag", tag.unwrap_or_default()),
        ("feed", feed.unwrap_or_default()),
    ]
}

pub(super) fn group(group: &Group) -> String {
    let there = group_fields(group).into_iter().filter(|(_, words)| !words.is_empty() && words != "[]");
    let told: Vec<String> = there.map(|(field, words)| format!("{field} {words}")).collect();
    told.join("; ")
}

fn http(entry: &HttpMatch) -> String {
    let methods = if entry.methods.is_empty() { "any method".to_owned() } else { entry.methods.join("/") };
    let paths = if entry.paths.is_empty() { "any path".to_owned() } else { entry.paths.join(" or ") };
    let headers: String = entry.headers.iter().map(|(name, value)| format!(" with {name}: {value}")).collect();
    let query: String = entry.query.iter().map(|(name, value)| format!(" with ?{name}={value}")).collect();
    let scheme = match entry.scheme {
        Some(Scheme::Http) => " over http",
        Some(Scheme::Https) => " over https",
        None => "",
    };
    format!("{methods} {paths}{headers}{query}{scheme}")
}

/// The fields of a rule but for its name and priority, the same fields for every rule.
pub(super) fn rule_fields(rule: &Rule) -> Vec<(&'static str, String)> {
    let from = match &rule.from {
        From::Any => "any".to_owned(),
        From::Group(name) => name.to_string(),
        From::Labels(selector) => labels(selector),
    };
    let nothing = Group::default();
    let (to, inline) = match &rule.to {
        To::Any => ("any".to_owned(), &nothing),
        To::Group(name) => (name.to_string(), &nothing),
        To::Inline(inline) => (String::new(), inline),
    };
    let process = rule.process.iter().map(|process| match process {
        ProcessMatch::Executable(path) => path.clone(),
        ProcessMatch::Digest(digest) => format!("sha256:{digest}"),
    });
    let types = rule.record_types.iter().map(|kind| match kind {
        RecordType::Mx => "MX",
        RecordType::Txt => "TXT",
        RecordType::Srv => "SRV",
    });
    let mut fields = vec![("action", action(rule.action).to_owned()), ("from", from), ("to", to)];
    fields.extend(group_fields(inline).into_iter().map(|(field, words)| (field_of_to(field), words)));
    fields.extend([
        ("names", list(&rule.names)),
        ("protocol", protocol(rule.protocol).to_owned()),
        ("ports", list(rule.ports.iter().map(ports))),
        ("http", list(rule.http.iter().map(http))),
        ("maxBody", rule.max_body.map(|bytes| bytes.to_string()).unwrap_or_default()),
        ("maxResponse", rule.max_response.map(|bytes| bytes.to_string()).unwrap_or_default()),
        ("process", list(process)),
        ("enforcement", enforcement(rule.enforcement).to_owned()),
        (
            "tls",
            match rule.tls {
                TlsMode::AsNeeded => "",
                TlsMode::Passthrough => "passthrough",
                TlsMode::Inspect => "inspect",
            }
            .to_owned(),
        ),
        ("ech", if rule.ech == EchMode::Allow { "allow" } else { "deny" }.to_owned()),
        ("route", rule.route.as_ref().map(ToString::to_string).unwrap_or_default()),
        ("credential", rule.credential.as_ref().map(ToString::to_string).unwrap_or_default()),
        ("transform", rule.transform.as_ref().map(transform).unwrap_or_default()),
        ("upstreamCa", rule.upstream_ca.as_ref().map(|path| path.display().to_string()).unwrap_or_default()),
        ("recordTypes", list(types)),
        (
            "log",
            match rule.log {
                LogMode::Start => "start",
                LogMode::End => "end",
                LogMode::All => "all",
            }
            .to_owned(),
        ),
        ("note", rule.note.clone().unwrap_or_default()),
        ("expires", rule.expires.map(|at| at.to_string()).unwrap_or_default()),
    ]);
    fields
}

fn transform(transform: &Transform) -> String {
    let given = |word: &'static str, (name, value): (&String, &String)| format!("{word} {name}: {value}");
    let set = transform.set.iter().map(|field| given("set", field));
    let insert = transform.insert.iter().map(|field| given("insert", field));
    let remove = transform.remove.iter().map(|name| format!("remove {name}"));
    let scheme = transform.to_tls.then(|| "scheme https".to_owned());
    let host = transform.host.iter().map(|host| format!("host {host}"));
    let path = transform.path.iter().map(|path| format!("path {} with {}", path.from, path.to));
    list(set.chain(insert).chain(remove).chain(scheme).chain(host).chain(path))
}

/// What a field of a group is called in a rule whose destination is written in place.
fn field_of_to(field: &'static str) -> &'static str {
    match field {
        "hosts" => "to hosts",
        "urls" => "to urls",
        "cidrs" => "to cidrs",
        "serviceTag" => "to serviceTag",
        "feed" => "to feed",
        other => other,
    }
}

fn action(action: Action) -> &'static str {
    match action {
        Action::Allow => "allow",
        Action::Deny => "deny",
        Action::Ask => "ask",
    }
}

fn protocol(protocol: Option<Protocol>) -> &'static str {
    match protocol {
        Some(Protocol::Tcp) => "tcp",
        Some(Protocol::Udp) => "udp",
        Some(Protocol::Icmp) => "icmp",
        None => "any",
    }
}

fn enforcement(enforcement: RuleEnforcement) -> &'static str {
    match enforcement {
        RuleEnforcement::Enforce => "enforce",
        RuleEnforcement::Watch => "watch",
        RuleEnforcement::Off => "off",
    }
}

/// A rule in one line: what is not as usual.
pub(super) fn rule(rule: &Rule) -> String {
    let usual = [("from", "any"), ("protocol", "any"), ("enforcement", "enforce"), ("ech", "deny"), ("log", "all")];
    let told = rule_fields(rule).into_iter().filter(|(field, words)| {
        *field != "action" && !words.is_empty() && words != "[]" && !usual.contains(&(*field, words.as_str()))
    });
    let told: Vec<String> = told.map(|(field, words)| format!("{field} {words}")).collect();
    format!("{} {}", action(rule.action), told.join(", "))
}
