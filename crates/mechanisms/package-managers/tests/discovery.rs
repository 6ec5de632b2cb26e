//! Discovery through its door: tools that are scripts of the test, an index that is a loopback server of the test.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    thread,
};

use anyhow::Result;
use package_managers::{Caller, DiscoverError, Fetcher, Found, Manager, ToolError, discover};

/// A server that answers each path with its text, else 404, until the test process ends.
fn serve(pages: Vec<(&'static str, String)>) -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(stream);
            let mut request = String::new();
            let mut line = String::new();
            let _ = reader.read_line(&mut request);
            while reader.read_line(&mut line).is_ok_and(|n| n > 2) {
                line.clear();
            }
            let path = request.split(' ').nth(1).unwrap_or_default();
            let page = pages.iter().find(|(known, _)| *known == path);
            let (status, body) = page.map_or(("404 Not Found", ""), |(_, body)| ("200 OK", body.as_str()));
            let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
            let _ = reader.get_mut().write_all(format!("{head}{body}").as_bytes());
        }
    });
    Ok(port)
}

fn tool(folder: &Path, name: &str, script: &str) -> Result<()> {
    let path = folder.join(name);
    fs::write(&path, format!("#!/bin/sh\n{script}\n"))?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o755))?)
}

fn caller(folder: &Path, writable: Vec<PathBuf>) -> Caller {
    let environment = BTreeMap::from([
        (OsString::from("PATH"), format!("{}:/usr/bin:/bin", folder.display()).into()),
        (OsString::from("HOME"), folder.join("home").into()),
    ]);
    Caller { environment, writable_by_workload: writable }
}

fn hosts(found: &Found) -> Vec<String> {
    found.endpoints.iter().map(|endpoint| endpoint.host.clone()).collect()
}

#[test]
fn pip_names_its_index_and_the_index_its_files() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let files = r#"{"files":[{"url":"https://files.example/pip.whl"},{"url":"../../packages/x.whl"}]}"#;
    let port = serve(vec![("/simple/pip/", files.to_owned())])?;
    tool(
        folder.path(),
        "pip",
        &format!("[ \"$2\" = list ] && echo \"global.index-url='http://user:word@127.0.0.1:{port}/simple'\""),
    )?;
    let found = discover(Manager::Pip, &caller(folder.path(), vec![]), &Fetcher::default())?;
    assert_eq!(hosts(&found), ["127.0.0.1", "files.example"]);
    assert!(!format!("{found:?}").contains("word"), "a password is never kept");
    Ok(())
}

#[test]
fn an_index_that_refuses_the_question_opens_its_own_host_alone() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let port = serve(vec![])?;
    tool(folder.path(), "npm", &format!("echo '{{\"registry\":\"http://127.0.0.1:{port}/\"}}'"))?;
    let found = discover(Manager::Npm, &caller(folder.path(), vec![]), &Fetcher::default())?;
    assert_eq!((hosts(&found), found.notes.len()), (vec!["127.0.0.1".to_owned()], 1));
    Ok(())
}

#[test]
fn npm_tarballs_may_lie_elsewhere() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let version = r#"{"dist":{"tarball":"https://tarballs.example/semver.tgz"}}"#;
    let port = serve(vec![("/semver/latest", version.to_owned())])?;
    tool(folder.path(), "npm", &format!("echo '{{\"registry\":\"http://127.0.0.1:{port}\"}}'"))?;
    let found = discover(Manager::Npm, &caller(folder.path(), vec![]), &Fetcher::default())?;
    assert_eq!(hosts(&found), ["127.0.0.1", "tarballs.example"]);
    Ok(())
}

#[test]
fn cargo_reads_the_users_configuration_and_the_index() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let port = serve(vec![("/index/config.json", r#"{"dl":"https://crates.example/{crate}"}"#.to_owned())])?;
    let home = folder.path().join("home/.cargo");
    fs::create_dir_all(&home)?;
    let text = "[source.crates-io]\nreplace-with = 'mirror'\n[source.mirror]\nregistry = ";
    fs::write(home.join("config.toml"), format!("{text}'sparse+http://127.0.0.1:{port}/index/'\n"))?;
    tool(folder.path(), "cargo", "exit 1")?;
    let found = discover(Manager::Cargo, &caller(folder.path(), vec![]), &Fetcher::default())?;
    assert_eq!(hosts(&found), ["127.0.0.1", "crates.example"]);
    Ok(())
}

#[test]
fn a_bare_cargo_says_where_it_would_go() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let port = serve(vec![])?;
    // The index of this cargo can't be reached: what is checked is that its name was understood.
    let wanted = format!("https://127.0.0.1:{port}/config.json");
    tool(
        folder.path(),
        "cargo",
        &format!("[ -d \"$CARGO_HOME\" ] && echo 'failed to download from `{wanted}`' >&2; exit 101"),
    )?;
    let error = discover(Manager::Cargo, &caller(folder.path(), vec![]), &Fetcher::default()).unwrap_err();
    assert!(matches!(&error, DiscoverError::Fetch(_)), "{error}");
    assert!(error.to_string().starts_with("127.0.0.1 could not be read"), "{error}");
    Ok(())
}

#[test]
fn apt_and_go_need_no_index() -> Result<()> {
    let folder = tempfile::tempdir()?;
    tool(folder.path(), "apt-get", "printf 'http://deb.example\\nhttp://deb.example\\ncdrom:x\\n'")?;
    tool(folder.path(), "go", "printf 'https://proxy.example,direct\\nsum.example\\n'")?;
    let caller = caller(folder.path(), vec![]);
    assert_eq!(hosts(&discover(Manager::Apt, &caller, &Fetcher::default())?), ["deb.example"]);
    assert_eq!(hosts(&discover(Manager::Go, &caller, &Fetcher::default())?), ["proxy.example", "sum.example"]);
    Ok(())
}

#[test]
fn a_tool_that_the_workload_could_have_written_is_not_run() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mark = folder.path().join("was-run");
    tool(folder.path(), "dotnet", &format!("touch {}", mark.display()))?;
    let caller = caller(folder.path(), vec![folder.path().to_owned()]);
    let error = discover(Manager::Nuget, &caller, &Fetcher::default()).unwrap_err();
    assert!(matches!(error, DiscoverError::Tool(ToolError::Missing { .. })), "{error}");
    assert!(!mark.exists());
    Ok(())
}

#[test]
fn a_tool_that_fails_says_why() -> Result<()> {
    let folder = tempfile::tempdir()?;
    tool(folder.path(), "go", "echo 'go: broken' >&2; exit 2")?;
    let error = discover(Manager::Go, &caller(folder.path(), vec![]), &Fetcher::default()).unwrap_err();
    assert_eq!(error.to_string(), "go env GOPROXY GOSUMDB failed: go: broken");
    Ok(())
}
