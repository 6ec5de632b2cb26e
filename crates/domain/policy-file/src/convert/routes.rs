//! Routes and the managed path.

use std::collections::BTreeSet;

use policy::model::{Hop, ManagedHosts, Mode, Route};
use values::RouteName;

use super::{Converter, parts, problem::Problem};
use crate::{place::Place, presets, wire};

impl<'f> Converter<'f> {
    pub(super) fn routes(&mut self, spec: &Place<'_>) {
        let place = spec.key("routes");
        for (name, written) in &self.written.routes {
            let place = place.key(name);
            let hop = self.hop(written, &place);
            let dns = self.each(&written.dns, &place.key("dns"), parts::dns_server);
            if let Some(name) = self.take(&place, parts::name(name, RouteName::new)) {
                self.spec.routes.insert(name, Route { hop, dns });
            }
        }
    }

    fn hop(&mut self, written: &wire::Route, place: &Place<'_>) -> Hop {
        let mut hops = Vec::new();
        if let Some(interface) = &written.interface {
            let fine = (1..=15).contains(&interface.len()) && !interface.contains(['/', ' ', '\0']);
            if !fine {
                let what = format!("{interface:?} is no network interface: 1 to 15 bytes without '/' and spaces");
                self.report(&place.key("interface"), Problem::Contradiction { what, hint: None });
            }
            hops.push(("interface", Hop::Interface(interface.clone())));
        }
        if let Some(mark) = written.mark {
            let mark = u32::try_from(mark).map_err(|_| Problem::Range {
                value: mark.to_string(),
                low: "0".to_owned(),
                high: u32::MAX.to_string(),
            });
            hops.extend(self.take(&place.key("mark"), mark).map(|mark| ("mark", Hop::Mark(mark))));
        }
        if let Some(netns) = &written.netns {
            hops.extend(
                self.take(&place.key("netns"), parts::file_path(netns)).map(|path| ("netns", Hop::Netns(path))),
            );
        }
        if let Some(text) = &written.source_address {
            let address = self.take(&place.key("sourceAddress"), parts::address(text));
            hops.extend(address.map(|address| ("sourceAddress", Hop::SourceAddress(address))));
        }
        if let Some(text) = &written.http_proxy {
            hops.extend(
                self.take(&place.key("httpProxy"), parts::proxy(text)).map(|at| ("httpProxy", Hop::HttpProxy(at))),
            );
        }
        if let Some(text) = &written.socks5 {
            hops.extend(self.take(&place.key("socks5"), parts::proxy(text)).map(|at| ("socks5", Hop::Socks5(at))));
        }
        for (key, _) in hops.iter().skip(1) {
            let what = format!("a route has one way out; `{key}` is a second");
            self.report(&place.key(key), Problem::Contradiction { what, hint: Some("make two routes of it") });
        }
        hops.into_iter().next().map(|(_, hop)| hop).unwrap_or_default()
    }

    pub(super) fn managed_path(&mut self, spec: &Place<'_>) {
        let Some(written) = &self.written.managed_path else { return };
        let place = spec.key("managedPath");
        if self.spec.mode == Mode::Unrestricted {
            let what = "in `mode: unrestricted` the managed path adds nothing".to_owned();
            self.report(&place, Problem::Warning { what, hint: None });
        }
        if written.remote_mcp == Some(true) {
            let what = "remoteMcp".to_owned();
            self.report(&place.key("remoteMcp"), Problem::Unbuilt { what, needs: "the connectors" });
        }
        let mut registries = Vec::new();
        for registry in &written.package_registries {
            // Its hosts are found by the program, before the start.
            registries.push(ManagedHosts {
                toggle: registry_name(*registry).to_owned(),
                hosts: Vec::new(),
                ports: Vec::new(),
            });
        }
        self.toggles(&registries, &place.key("packageRegistries"));
        let repositories: Vec<ManagedHosts> =
            written.code_repositories.iter().map(|repository| presets::code_repository(*repository)).collect();
        self.toggles(&repositories, &place.key("codeRepositories"));
        self.spec.managed_path.package_registries = registries;
        self.spec.managed_path.code_repositories = repositories;
        let hosts = self.open_hosts(&written.additional_hosts, &place.key("additionalHosts"));
        self.spec.managed_path.additional_hosts = hosts;
    }

    fn toggles(&mut self, toggles: &[ManagedHosts], place: &Place<'_>) {
        let mut seen = BTreeSet::new();
        for (index, toggle) in toggles.iter().enumerate() {
            if !seen.insert(&toggle.toggle) {
                let problem = Problem::Repeated { what: "word", value: toggle.toggle.clone(), first: None };
                self.report(&place.index(index), problem);
            }
        }
    }
}

fn registry_name(registry: wire::PackageRegistry) -> &'static str {
    match registry {
        wire::PackageRegistry::Pypi => "pypi",
        wire::PackageRegistry::Npm => "npm",
        wire::PackageRegistry::Crates => "crates",
        wire::PackageRegistry::Nuget => "nuget",
        wire::PackageRegistry::Apt => "apt",
        wire::PackageRegistry::Go => "go",
    }
}
