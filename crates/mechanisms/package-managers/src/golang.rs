//! Go: the module proxies and the checksum database of `go env`. A proxy serves the files itself.

use url::Url;

use crate::{
    discover::{DiscoverError, Endpoint, Found, Manager, parse_url},
    tool::Caller,
};

pub(crate) fn discover(caller: &Caller) -> Result<Found, DiscoverError> {
    let said = caller.ask("go", &["env", "GOPROXY", "GOSUMDB"])?;
    let mut lines = said.lines().map(str::trim);
    read(lines.next().unwrap_or_default(), lines.next().unwrap_or_default())
}

/// `GOPROXY` is a list divided by commas and bars; `GOSUMDB` is `off`, or a name with key and URL behind it.
pub fn read(proxies: &str, database: &str) -> Result<Found, DiscoverError> {
    let mut found = Found::new(Manager::Go);
    for entry in proxies.split([',', '|']).map(str::trim).filter(|entry| !entry.is_empty()) {
        match entry {
            "off" => break,
            "direct" => found
                .notes
                .push("go may also fetch modules from their repositories: allow those hosts by name".to_owned()),
            _ => found.add_url(&parse_url(entry, "go")?, "go's GOPROXY"),
        }
    }
    let mut words = database.split_whitespace();
    let name = words.next().unwrap_or("off").split('+').next().unwrap_or("off");
    if name != "off" {
        match words.next_back() {
            Some(url) => found.add_url(&parse_url(url, "go")?, "go's GOSUMDB"),
            None => add_database(&mut found, name),
        }
    }
    Ok(found)
}

fn add_database(found: &mut Found, name: &str) {
    if let Some(host) = Url::parse(&format!("https://{name}/")).ok().and_then(|url| url.host_str().map(str::to_owned)) {
        found.add(Endpoint { host, port: 443, named_by: "go's GOSUMDB".to_owned() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_and_databases_are_read() {
        for (proxies, database, hosts, notes) in [
            ("https://p.example,direct", "sum.example", vec!["p.example:443", "sum.example:443"], 1),
            ("http://p.example:8080|off|https://never.example", "off", vec!["p.example:8080"], 0),
            ("off", "sum.example+key https://mirror.example/sum", vec!["mirror.example:443"], 0),
            ("direct", "off", vec![], 1),
        ] {
            let found = read(proxies, database).unwrap();
            let seen: Vec<String> = found.endpoints.iter().map(|e| format!("{}:{}", e.host, e.port)).collect();
            assert_eq!((seen, found.notes.len()), (hosts.into_iter().map(str::to_owned).collect(), notes), "{proxies}");
        }
    }
}
