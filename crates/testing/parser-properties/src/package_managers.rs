//! What package managers and their indexes say: any text gives hosts or an error.

use package_managers::answers;
use url::Url;

/// Any text as the answer of each tool and index.
pub(crate) fn answers(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = answers::pip_settings(text);
    if let Ok(index) = answers::pip_default_index(text) {
        assert!(index.starts_with("http") && text.split_whitespace().collect::<String>().contains(&squeezed(&index)));
    }
    let base = Url::parse("https://index.example/simple/").expect("a URL");
    for link in answers::pip_links(text, &base) {
        assert_eq!(Url::parse(link.as_str()).as_ref(), Ok(&link));
    }
    for (key, _) in answers::npm_registries(text).unwrap_or_default() {
        assert!(key == "registry" || key.starts_with('@'));
    }
    for source in answers::nuget_sources(text) {
        assert!(source.starts_with("http") && text.contains(source));
    }
    if let Ok(index) = answers::cargo_wanted_index(text) {
        let base = index.strip_prefix("sparse+").expect("a sparse index");
        assert!(base.starts_with("https://") && text.contains(base));
    }
    let (proxies, database) = text.split_once('\n').unwrap_or((text, ""));
    if let Ok(found) = answers::go_environment(proxies, database) {
        for endpoint in &found.endpoints {
            assert_eq!(endpoint.host, endpoint.host.to_ascii_lowercase());
            let alike =
                found.endpoints.iter().filter(|other| (&other.host, other.port) == (&endpoint.host, endpoint.port));
            assert_eq!(alike.count(), 1, "each host once");
        }
    }
}

fn squeezed(text: &str) -> String {
    text.split_whitespace().collect()
}
