//! NuGet: its sources from `dotnet nuget list source`, its download hosts from each service index.

use serde::Deserialize;
use url::Url;

use crate::{
    discover::{DiscoverError, Found, Manager, parse_url},
    fetch::Fetcher,
    tool::Caller,
};

/// A service index (NuGet server API, version 3).
#[derive(Deserialize)]
struct ServiceIndex {
    resources: Vec<Resource>,
}

#[derive(Deserialize)]
struct Resource {
    #[serde(rename = "@id")]
    id: String,
    #[serde(rename = "@type")]
    kind: serde_json::Value,
}

pub(crate) fn discover(caller: &Caller, fetcher: &Fetcher) -> Result<Found, DiscoverError> {
    let mut found = Found::new(Manager::Nuget);
    for source in sources(&caller.ask("dotnet", &["nuget", "list", "source", "--format", "short"])?) {
        let url = parse_url(source, "dotnet")?;
        found.add_url(&url, "NuGet's sources");
        if url.path().ends_with(".json") {
            add_resources(&mut found, &url, fetcher)?;
        }
    }
    Ok(found)
}

/// `E https://…` lines; `D` marks a source that is off, a second letter its trust.
pub fn sources(listing: &str) -> Vec<&str> {
    listing
        .lines()
        .filter_map(|line| line.trim().split_once(' '))
        .filter(|(state, url)| state.starts_with('E') && url.trim().starts_with("http"))
        .map(|(_, url)| url.trim())
        .collect()
}

fn add_resources(found: &mut Found, index: &Url, fetcher: &Fetcher) -> Result<(), DiscoverError> {
    let host = index.host_str().unwrap_or_default().to_owned();
    let (service, stops) = fetcher.get_json::<ServiceIndex>(index)?;
    for stop in &stops {
        found.add_url(stop, &format!("a redirect of {host}"));
    }
    for resource in service.resources.iter().filter(|resource| is_for_restore(&resource.kind)) {
        if let Ok(url) = Url::parse(&resource.id) {
            found.add_url(&url, &format!("the service index of {host}"));
        }
    }
    Ok(())
}

/// What `dotnet restore` reads: package contents and registrations.
fn is_for_restore(kind: &serde_json::Value) -> bool {
    let is = |text: &str| text.starts_with("PackageBaseAddress") || text.starts_with("RegistrationsBaseUrl");
    match kind {
        serde_json::Value::String(text) => is(text),
        serde_json::Value::Array(kinds) => kinds.iter().filter_map(serde_json::Value::as_str).any(is),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enabled_http_sources_are_read() {
        let listing = "E https://a.example/v3/index.json\nD https://off.example/v3/index.json\nE /srv/packages\nEM https://b.example/\n";
        assert_eq!(sources(listing), ["https://a.example/v3/index.json", "https://b.example/"]);
    }
}
