//! Rules.

use std::collections::HashMap;

use policy::{
    HostPattern, Protocol,
    model::{Action, EchMode, From, Group, LogMode, RecordType, Rule, RuleEnforcement, TlsMode, To},
};
use values::{GroupName, LabelSelector, RuleName};

use super::{Converter, parts, problem::Problem};
use crate::{place::Place, wire};

impl<'f> Converter<'f> {
    pub(super) fn all_rules(&mut self, spec: &Place<'_>) {
        let rules = spec.key("rules");
        // Which rule is the first of its name, and of its priority.
        let mut names: HashMap<&str, usize> = HashMap::with_capacity(self.written.rules.len());
        let mut priorities: HashMap<i64, usize> = HashMap::with_capacity(self.written.rules.len());
        let ready = std::mem::take(&mut self.spec.rules);
        self.spec.rules.reserve_exact(self.written.rules.len());
        for (index, written) in self.written.rules.iter().enumerate() {
            let place = rules.index(index);
            let first = *names.entry(&written.name).or_insert(index);
            if first != index {
                let (value, first) = (format!("{:?}", written.name), Some(rules.index(first).key("name").path()));
                self.report(&place.key("name"), Problem::Repeated { what: "rule name", value, first });
            }
            let first = *priorities.entry(written.priority).or_insert(index);
            if first != index {
                let (value, first) = (written.priority.to_string(), Some(rules.index(first).key("priority").path()));
                self.report(&place.key("priority"), Problem::Repeated { what: "priority", value, first });
            }
            if let Some(rule) = self.rule(written, &place) {
                self.spec.rules.push(rule);
            }
        }
        // What the preset brought stands behind.
        self.add_behind(ready, &spec.key("preset"));
    }

    fn rule(&mut self, written: &'f wire::Rule, place: &Place<'_>) -> Option<Rule> {
        let name = self.rule_name(&written.name, &place.key("name"));
        let from = self.from(written.from.as_ref(), &place.key("from"));
        let to = self.to(written, &place.key("to"));
        let ports = self.ports(written, place);
        let names = self.rule_names(written, to.as_ref(), place);
        let http = self.http(written, place);
        let max_body = self.bound(written, written.max_body.as_ref(), &place.key("maxBody"));
        let max_response = self.bound(written, written.max_response.as_ref(), &place.key("maxResponse"));
        let process = match &written.process {
            Some(process) => self.each(process.as_slice(), &place.key("process"), parts::process),
            None => Vec::new(),
        };
        let route = match &written.route {
            Some(route) => self.route_reference(route, &place.key("route")).map(Some),
            None => Some(None),
        };
        let credential = match &written.credential {
            Some(name) => self.rule_credential(name, &place.key("credential")).map(Some),
            None => Some(None),
        };
        let transform = match &written.transform {
            Some(transform) => self.transform(transform, &place.key("transform")).map(Some),
            None => Some(None),
        };
        let upstream_ca = self.upstream_ca(written, place);
        let expires = self.optional(&place.key("expires"), written.expires.as_ref(), parts::moment);
        let (name, from, to) = (name?, from?, to?);
        let rule = Rule {
            name,
            priority: written.priority,
            from,
            to,
            names,
            protocol: protocol(written.protocol),
            ports,
            http,
            max_body,
            max_response,
            process,
            action: action(written.action),
            enforcement: enforcement(written.enforcement),
            tls: match written.tls {
                Some(wire::Tls::Passthrough) => TlsMode::Passthrough,
                Some(wire::Tls::Inspect) => TlsMode::Inspect,
                None => TlsMode::AsNeeded,
            },
            ech: match written.ech {
                Some(wire::Ech::Allow) => EchMode::Allow,
                Some(wire::Ech::Deny) | None => EchMode::DenySuspect,
            },
            route: route?,
            credential: credential?,
            transform: transform?,
            upstream_ca: upstream_ca?,
            log: match written.log {
                Some(wire::Log::Start) => LogMode::Start,
                Some(wire::Log::End) => LogMode::End,
                Some(wire::Log::All) | None => LogMode::All,
            },
            record_types: written.record_types.iter().map(|kind| record_type(*kind)).collect(),
            note: written.note.clone(),
            expires: expires?,
        };
        self.check_tls(&rule, place);
        self.check_credential(&rule, place);
        self.check_transform(&rule, written, place);
        Some(rule)
    }

    fn rule_name(&mut self, text: &str, place: &Place<'_>) -> Option<RuleName> {
        let reserved = matches!(text, "mode-default" | "allowed-hosts");
        if reserved || text.starts_with("guard:") || text.starts_with("managed-path:") {
            self.report(place, Problem::ReservedName { text: text.to_owned() });
            return None;
        }
        self.take(place, parts::name(text, RuleName::new))
    }

    fn from(&mut self, written: Option<&wire::From>, place: &Place<'_>) -> Option<From> {
        match written {
            None => Some(From::Any),
            Some(wire::From::Name(name)) if name == "any" => Some(From::Any),
            Some(wire::From::Name(name)) => {
                let group = self.group_reference(name, place, |group| !group.sandboxes.is_empty())?;
                Some(From::Group(group))
            }
            Some(wire::From::Labels(labels)) => {
                if labels.is_empty() {
                    let what = "no label is named, so every sandbox matches".to_owned();
                    self.report(place, Problem::Contradiction { what, hint: Some("write `from: any`") });
                }
                Some(From::Labels(LabelSelector(labels.clone())))
            }
        }
    }

    fn to(&mut self, written: &wire::Rule, place: &Place<'_>) -> Option<To> {
        let opens = written.action != wire::Action::Deny;
        match &written.to {
            wire::To::Name(name) if name == "any" => Some(To::Any),
            wire::To::Name(name) => {
                let group = self.group_reference(name, place, |group| group.sandboxes.is_empty())?;
                if opens {
                    self.open_group(name);
                }
                Some(To::Group(group))
            }
            wire::To::Group(inline) => {
                if inline.sandboxes.is_some() {
                    let what = "`sandboxes` are sources, not destinations".to_owned();
                    self.report(
                        &place.key("sandboxes"),
                        Problem::Contradiction { what, hint: Some("write them under `from`") },
                    );
                }
                let group = self.group(inline, place, None);
                let broad = self.broad.remove("").unwrap_or_default();
                let hosts = place.key("hosts");
                for (index, pattern) in broad.into_iter().filter(|_| opens) {
                    self.judge_breadth(&pattern, &hosts.index(index));
                }
                Some(To::Inline(group))
            }
        }
    }

    /// An allow or ask uses this group: now its widest wildcards count. Each is reported once.
    fn open_group(&mut self, name: &str) {
        let Some(broad) = self.broad.remove(name) else { return };
        let top = Place::TOP;
        let (spec, groups) = (top.key("spec"), "groups");
        let groups = spec.key(groups);
        let group = groups.key(name);
        let hosts = group.key("hosts");
        for (index, pattern) in broad {
            self.judge_breadth(&pattern, &hosts.index(index));
        }
    }

    /// A reference to a group that has what is asked of it.
    fn group_reference(&mut self, name: &str, place: &Place<'_>, fits: impl Fn(&Group) -> bool) -> Option<GroupName> {
        let Some(group) = self.find_group(name) else {
            if self.written.groups.contains_key(name) {
                // Its own name is wrong, which was said there.
                return None;
            }
            if let Some(hint) = inline_hint(name) {
                let name = name.to_owned();
                self.report(place, Problem::Unknown { kind: "group", name, near: None, hint: Some(hint) });
            } else {
                let known = self.group_names();
                self.unknown(place, "group", name, known.iter().map(String::as_str).chain(["any"]));
            }
            return None;
        };
        if !fits(group) {
            let (is, wants) =
                if group.sandboxes.is_empty() { ("destinations", "sandboxes") } else { ("sandboxes", "destinations") };
            let what = format!("the group {name:?} is of {is}; {wants} are needed here");
            self.report(place, Problem::Contradiction { what, hint: None });
        }
        self.take(place, parts::name(name, GroupName::new))
    }

    fn ports(&mut self, written: &wire::Rule, place: &Place<'_>) -> Vec<(u16, u16)> {
        let Some(ports) = &written.ports else {
            if written.protocol == Some(wire::Protocol::Udp) && written.action != wire::Action::Deny {
                let what = "UDP is opened port by port, and this rule names none: it opens nothing".to_owned();
                let hint = Some("name at most 64 ports, such as `ports: [123]`");
                self.report(&place.key("protocol"), Problem::Warning { what, hint });
            }
            return Vec::new();
        };
        let place = place.key("ports");
        if written.protocol == Some(wire::Protocol::Icmp) {
            let what = "ICMP has no ports".to_owned();
            self.report(&place, Problem::Contradiction { what, hint: None });
        }
        self.port_list(ports, &place)
    }

    pub(super) fn port_list(&mut self, ports: &wire::OneOrMany<wire::Port>, place: &Place<'_>) -> Vec<(u16, u16)> {
        let ports = ports.as_slice();
        self.take(place, parts::port_count(ports.len()));
        let mut found = Vec::with_capacity(ports.len());
        for (index, port) in ports.iter().enumerate() {
            found.extend(self.take(&place.index(index), parts::port(port)));
        }
        found
    }

    fn rule_names(&mut self, written: &wire::Rule, to: Option<&To>, place: &Place<'_>) -> Vec<HostPattern> {
        let names = self.open_hosts(&written.names, &place.key("names"));
        let group = match to {
            Some(To::Inline(group)) => Some(group),
            Some(To::Group(name)) => self.find_group(name.as_str()),
            Some(To::Any) | None => None,
        };
        let by_address = group.is_some_and(|group| !group.cidrs.is_empty() || group.service_tag.is_some());
        let by_name =
            group.is_some_and(|group| !group.hosts.is_empty() || !group.urls.is_empty() || group.feed.is_some());
        if written.action != wire::Action::Deny && by_address && !by_name && names.is_empty() {
            let what = "this rule by address opens no names: they won't resolve".to_owned();
            let hint = Some("list them in `names`, unless clients dial the addresses themselves");
            self.report(&place.key("to"), Problem::Warning { what, hint });
        }
        if !names.is_empty() && !by_address {
            let what = "`names` belongs to a rule whose `to` is by address".to_owned();
            self.report(
                &place.key("names"),
                Problem::Contradiction { what, hint: Some("write them as `hosts` of the destination") },
            );
        }
        names
    }

    fn http(&mut self, written: &wire::Rule, place: &Place<'_>) -> Vec<policy::model::HttpMatch> {
        let place = place.key("http");
        if !written.http.is_empty() && matches!(written.protocol, Some(wire::Protocol::Udp | wire::Protocol::Icmp)) {
            let what = "`http` needs TCP".to_owned();
            self.report(&place, Problem::Contradiction { what, hint: None });
        }
        let mut found = Vec::with_capacity(written.http.len());
        for (index, entry) in written.http.iter().enumerate() {
            let place = place.index(index);
            let mut problems = Vec::new();
            found.push(parts::http(entry, |key, index, problem| problems.push((key, index, problem))));
            for (key, index, problem) in problems {
                self.report(&place.key(key).index(index), problem);
            }
        }
        found
    }

    /// What a rule's `tls` asks for beside what else it says.
    fn check_tls(&mut self, rule: &Rule, place: &Place<'_>) {
        let group = match &rule.to {
            To::Any => None,
            To::Group(name) => self.find_group(name.as_str()),
            To::Inline(group) => Some(group),
        };
        let url = group.and_then(|group| group.urls.iter().find(|url| url.tls)).map(|url| url.host.to_string());
        let (contradiction, hint) = match rule.tls {
            TlsMode::Passthrough if url.is_some() => {
                let host = url.unwrap_or_default();
                (format!("`tls: passthrough` never sees the path of the https URL at {host}"), Some("leave out `tls`"))
            }
            // Said of these, which have errors of their own.
            TlsMode::Passthrough
                if rule.credential.is_some() || rule.transform.is_some() || rule.upstream_ca.is_some() =>
            {
                return;
            }
            TlsMode::Passthrough if rule.needs_request() && rule.may_meet_tls() => (
                "`tls: passthrough` never sees the request, and this rule looks at it".to_owned(),
                Some("leave out `tls` to have TLS inspected, or add `ports: [80]` to look at plain HTTP alone"),
            ),
            TlsMode::Inspect if matches!(rule.protocol, Some(Protocol::Udp | Protocol::Icmp)) => {
                ("only TCP can be inspected".to_owned(), None)
            }
            TlsMode::AsNeeded | TlsMode::Inspect | TlsMode::Passthrough => {
                self.warn_of_breadth(rule, place);
                return;
            }
        };
        self.report(&place.key("tls"), Problem::Contradiction { what: contradiction, hint });
    }

    /// A rule that looks into all TLS breaks every client that pins its server's certificate.
    fn warn_of_breadth(&mut self, rule: &Rule, place: &Place<'_>) {
        let enforced = rule.enforcement == RuleEnforcement::Enforce;
        let tcp = rule.protocol.is_none_or(|own| own == Protocol::Tcp);
        if enforced && tcp && rule.to == To::Any && rule.needs_request() && rule.opens_tls() {
            let what = "this rule has the TLS of every destination inspected".to_owned();
            let hint = Some("name the hosts in `to`, or add `ports: [80]` to look at plain HTTP alone");
            self.report(&place.key("to"), Problem::Warning { what, hint });
        }
    }

    fn bound(&mut self, written: &wire::Rule, size: Option<&wire::Size>, place: &Place<'_>) -> Option<u64> {
        let size = size?;
        if written.action == wire::Action::Deny {
            let what = "a denied request has no body to bound".to_owned();
            self.report(place, Problem::Contradiction { what, hint: None });
        }
        self.take(place, parts::size(size))
    }
}

/// What to write instead of a name that is a host or a range.
fn inline_hint(name: &str) -> Option<String> {
    if parts::cidr(name).is_ok() {
        return Some(format!("write an inline group: {{ cidrs: [\"{name}\"] }}"));
    }
    (name.contains('.') && parts::host(name).is_ok())
        .then(|| format!("write an inline group: {{ hosts: [\"{name}\"] }}"))
}

fn protocol(written: Option<wire::Protocol>) -> Option<Protocol> {
    match written {
        Some(wire::Protocol::Tcp) => Some(Protocol::Tcp),
        Some(wire::Protocol::Udp) => Some(Protocol::Udp),
        Some(wire::Protocol::Icmp) => Some(Protocol::Icmp),
        Some(wire::Protocol::Any) | None => None,
    }
}

fn action(written: wire::Action) -> Action {
    match written {
        wire::Action::Allow => Action::Allow,
        wire::Action::Deny => Action::Deny,
        wire::Action::Ask => Action::Ask,
    }
}

fn enforcement(written: Option<wire::Enforcement>) -> RuleEnforcement {
    match written {
        Some(wire::Enforcement::Enforce | wire::Enforcement::Enabled) | None => RuleEnforcement::Enforce,
        Some(wire::Enforcement::Watch | wire::Enforcement::Audit) => RuleEnforcement::Watch,
        Some(wire::Enforcement::Off) => RuleEnforcement::Off,
    }
}

fn record_type(written: wire::RecordType) -> RecordType {
    match written {
        wire::RecordType::Mx => RecordType::Mx,
        wire::RecordType::Txt => RecordType::Txt,
        wire::RecordType::Srv => RecordType::Srv,
    }
}
