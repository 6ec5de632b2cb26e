//! pip: its indexes from `pip config list`, its default from `pip install --help`, its download hosts from the index.

use url::Url;

use crate::{
    discover::{DiscoverError, Found, Manager, parse_url},
    fetch::Fetcher,
    tool::Caller,
};

/// A project that every full index has: pip itself.
const PROJECT: &str = "pip";
/// The simple API, in JSON where the index speaks it (PEP 691), else HTML (PEP 503).
const ACCEPT: &str = "application/vnd.pypi.simple.v1+json, text/html;q=0.5";

/// What `pip config list` says.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// `index-url`.
    pub index: Option<String>,
    /// `extra-index-url`.
    pub extra: Vec<String>,
    /// `find-links`.
    pub find_links: Vec<String>,
    /// `no-index`: only `find-links` count.
    pub no_index: bool,
}

pub(crate) fn discover(caller: &Caller, fetcher: &Fetcher) -> Result<Found, DiscoverError> {
    let tool = if caller.find("pip").is_ok() { "pip" } else { "pip3" };
    let settings = settings(&caller.ask(tool, &["config", "list"])?);
    let mut found = Found::new(Manager::Pip);
    for link in &settings.find_links {
        if let Ok(url) = Url::parse(link) {
            found.add_url(&url, "pip's find-links");
        }
    }
    if settings.no_index {
        return Ok(found);
    }
    let (index, named_by) = match settings.index {
        Some(index) => (index, "pip's index-url"),
        None => (default_index(&caller.ask(tool, &["install", "--help"])?)?, "pip's default index"),
    };
    add_index(&mut found, &parse_url(&index, "pip")?, named_by, fetcher)?;
    for extra in &settings.extra {
        add_index(&mut found, &parse_url(extra, "pip")?, "pip's extra-index-url", fetcher)?;
    }
    Ok(found)
}

fn add_index(found: &mut Found, index: &Url, named_by: &str, fetcher: &Fetcher) -> Result<(), DiscoverError> {
    if index.scheme() == "file" {
        return Ok(());
    }
    found.add_url(index, named_by);
    let mut page = index.clone();
    page.path_segments_mut()
        .map_err(|()| DiscoverError::Unclear { tool: "pip", what: "an index with a path".to_owned() })?
        .pop_if_empty()
        .extend([PROJECT, ""]);
    let host = index.host_str().unwrap_or_default().to_owned();
    match fetcher.get(&page, ACCEPT) {
        Ok(answer) => {
            let base = answer.stops.last().cloned().unwrap_or(page);
            for stop in &answer.stops {
                found.add_url(stop, &format!("a redirect of {host}"));
            }
            for url in links(&answer.body, &base) {
                found.add_url(&url, &format!("the files of {host}"));
            }
        }
        Err(error) if error.is_refusal() => {
            found.notes.push(format!("{error}: only this host is opened, not where its files may lie"));
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

/// The files of a project page, JSON or HTML.
pub fn links(body: &str, base: &Url) -> Vec<Url> {
    #[derive(serde::Deserialize)]
    struct Page {
        files: Vec<File>,
    }
    #[derive(serde::Deserialize)]
    struct File {
        url: String,
    }
    if let Ok(page) = serde_json::from_str::<Page>(body) {
        return page.files.iter().filter_map(|file| base.join(&file.url).ok()).collect();
    }
    body.split("href=")
        .skip(1)
        .filter_map(|rest| {
            let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
            rest.get(1..)?.split(quote).next()
        })
        .filter_map(|link| base.join(&link.replace("&amp;", "&")).ok())
        .collect()
}

/// Reads `section.key='value'` lines. The section `install` goes over `global`, the environment over both.
pub fn settings(listing: &str) -> Settings {
    let mut settings = Settings::default();
    let mut index_rank = 0;
    for line in listing.lines() {
        let Some((key, value)) = line.split_once('=') else { continue };
        let Some((section, name)) = key.rsplit_once('.') else { continue };
        let rank = match section {
            "global" => 1,
            "install" => 2,
            ":env:" => 3,
            _ => continue,
        };
        let value = value.trim().trim_matches(['\'', '"']).replace("\\n", " ");
        let words = || value.split_whitespace().map(str::to_owned);
        match name {
            "index-url" if rank > index_rank => {
                index_rank = rank;
                settings.index = Some(value.trim().to_owned());
            }
            "extra-index-url" => settings.extra.extend(words()),
            "find-links" => settings.find_links.extend(words()),
            "no-index" => {
                settings.no_index = matches!(value.to_ascii_lowercase().as_str(), "1" | "true" | "yes" | "on")
            }
            _ => {}
        }
    }
    settings
}

/// The default in `--index-url <url>  Base URL of the Python Package Index (default https://…). …`.
pub fn default_index(help: &str) -> Result<String, DiscoverError> {
    let words = help.split_whitespace().collect::<Vec<_>>().join(" ");
    words
        .split("--index-url")
        .skip(1)
        .find_map(|rest| rest.split("(default ").nth(1)?.split(')').next().map(str::to_owned))
        .filter(|url| url.starts_with("http"))
        .ok_or_else(|| DiscoverError::Unclear { tool: "pip", what: "the default in `pip install --help`".to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_by_rank() {
        let listing = "global.index-url='https://a.example/simple'\n:env:.index-url='https://b.example/simple'\n\
                       install.index-url='https://c.example'\nglobal.extra-index-url='https://d.example\\nhttps://e.example'\n\
                       download.index-url='https://no.example'\n:env:.find-links='/opt/wheels'\nglobal.no-index='false'";
        assert_eq!(
            settings(listing),
            Settings {
                index: Some("https://b.example/simple".to_owned()),
                extra: vec!["https://d.example".to_owned(), "https://e.example".to_owned()],
                find_links: vec!["/opt/wheels".to_owned()],
                no_index: false,
            }
        );
    }

    #[test]
    fn the_default_is_read_from_the_help() {
        let help =
            "  -i, --index-url <url>       Base URL of the Index (default\n      https://index.example/simple). This\n";
        assert_eq!(default_index(help).unwrap(), "https://index.example/simple");
        assert!(default_index("no such option").is_err());
    }

    #[test]
    fn links_of_both_page_forms() {
        let base = Url::parse("https://index.example/simple/pip/").unwrap();
        for (body, expected) in [
            (r#"{"files":[{"url":"https://files.example/a.whl"}]}"#, "https://files.example/a.whl"),
            (r#"<a href="https://files.example/a.whl#sha256=1">a</a>"#, "https://files.example/a.whl#sha256=1"),
            (r#"<a href='../../packages/a.whl'>a</a>"#, "https://index.example/packages/a.whl"),
        ] {
            assert_eq!(links(body, &base).first().map(Url::as_str), Some(expected), "{body}");
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_said_by_a_tool_or_index_panics(text in "\\PC{0,300}") {
            let base = Url::parse("https://index.example/").unwrap();
            let _ = (settings(&text), default_index(&text), links(&text, &base));
        }
    }
}
