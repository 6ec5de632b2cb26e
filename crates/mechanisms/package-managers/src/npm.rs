//! npm: its registries from `npm config list --json`, its download hosts from the registry's own answer.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use url::Url;

use crate::{
    discover::{DiscoverError, Found, Manager, parse_url},
    fetch::Fetcher,
    tool::Caller,
};

/// A package that every full registry has; the answer for one version is small.
const PACKAGE: [&str; 2] = ["semver", "latest"];

#[derive(Deserialize)]
struct Version {
    dist: Dist,
}

#[derive(Deserialize)]
struct Dist {
    tarball: String,
}

pub(crate) fn discover(caller: &Caller, fetcher: &Fetcher) -> Result<Found, DiscoverError> {
    let mut found = Found::new(Manager::Npm);
    for (key, registry) in registries(&caller.ask("npm", &["config", "list", "--json"])?)? {
        let url = parse_url(&registry, "npm")?;
        found.add_url(&url, &format!("npm's {key}"));
        add_downloads(&mut found, &url, fetcher)?;
    }
    Ok(found)
}

fn add_downloads(found: &mut Found, registry: &Url, fetcher: &Fetcher) -> Result<(), DiscoverError> {
    let mut page = registry.clone();
    page.path_segments_mut()
        .map_err(|()| DiscoverError::Unclear { tool: "npm", what: "a registry with a path".to_owned() })?
        .pop_if_empty()
        .extend(PACKAGE);
    let host = registry.host_str().unwrap_or_default().to_owned();
    match fetcher.get_json::<Version>(&page) {
        Ok((version, stops)) => {
            for stop in &stops {
                found.add_url(stop, &format!("a redirect of {host}"));
            }
            found.add_url(&parse_url(&version.dist.tarball, "npm")?, &format!("the tarballs of {host}"));
        }
        Err(error) if error.is_refusal() => {
            found.notes.push(format!("{error}: only this host is opened, not where its tarballs may lie"));
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

/// `registry` and every `@scope:registry` of `npm config list --json`: key and URL.
pub fn registries(listing: &str) -> Result<Vec<(String, String)>, DiscoverError> {
    let unclear = |what: String| DiscoverError::Unclear { tool: "npm", what };
    let all: BTreeMap<String, Value> =
        serde_json::from_str(listing).map_err(|error| unclear(format!("`npm config list --json` ({error})")))?;
    let found: Vec<(String, String)> = all
        .into_iter()
        .filter(|(key, _)| key == "registry" || (key.starts_with('@') && key.ends_with(":registry")))
        .filter_map(|(key, value)| value.as_str().map(|url| (key, url.to_owned())))
        .collect();
    if found.is_empty() { Err(unclear("`registry` in `npm config list --json`".to_owned())) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registry_and_scoped_ones_are_read() {
        let listing = r#"{"cache":"/x","registry":"https://r.example/","@acme:registry":"https://acme.example/npm/","save":true}"#;
        let found = registries(listing).unwrap();
        assert_eq!(found.iter().map(|(k, _)| k.as_str()).collect::<Vec<_>>(), ["@acme:registry", "registry"]);
        for wrong in ["", "[]", "{}", r#"{"registry":3}"#] {
            assert!(registries(wrong).is_err(), "{wrong}");
        }
    }
}
