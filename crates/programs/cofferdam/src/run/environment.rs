//! The environment of the workload: a short allow-list of the caller's, what a preset passes, and `--env`.
//!
//! Nothing that may hold a secret is on the list. Variables that say where certificates lie are: they hold paths.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use anyhow::Result;

use super::arguments::Variable;
use crate::failure::{Failure, code};

/// Passed where the caller has them.
const PASSED: [&str; 17] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LANGUAGE",
    "TZ",
    "TERM",
    "COLORTERM",
    "TERM_PROGRAM",
    "NO_COLOR",
    "FORCE_COLOR",
    "CLICOLOR",
    "EDITOR",
    "VISUAL",
    "PAGER",
];

/// Where clients look for certificates: files and folders, passed where they exist.
const CERTIFICATES: [&str; 14] = [
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "PIP_CERT",
    "NODE_EXTRA_CA_CERTS",
    "GIT_SSL_CAINFO",
    "AWS_CA_BUNDLE",
    "NIX_SSL_CERT_FILE",
    "CARGO_HTTP_CAINFO",
    "DENO_CERT",
    "HTTPLIB2_CA_CERTS",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",
];

/// Variables by name. A value is any bytes, as for the kernel.
pub(crate) type Environment = BTreeMap<String, OsString>;

/// What the workload gets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Chosen {
    pub(crate) variables: Environment,
    /// Names that were passed on purpose: by a preset or by `--env`.
    pub(crate) opened: Vec<String>,
    /// Files that passed variables name: the workload must see them.
    pub(crate) certificates: Vec<PathBuf>,
}

/// Chooses from the caller's variables.
pub(crate) fn choose(
    caller: &Environment,
    by_preset: &[String],
    flags: &[Variable],
    proxy: Option<u16>,
) -> Result<Chosen> {
    let mut chosen = Chosen::default();
    for (name, value) in caller {
        if PASSED.contains(&name.as_str()) || name.starts_with("LC_") {
            chosen.variables.insert(name.clone(), value.clone());
        } else if CERTIFICATES.contains(&name.as_str())
            // What is mounted has a name that is text.
            && let Some(path) = value.to_str().map(Path::new).filter(|path| path.is_absolute() && path.exists())
        {
            chosen.certificates.push(path.to_owned());
            chosen.variables.insert(name.clone(), value.clone());
        } else if by_preset.contains(name) {
            chosen.opened.push(name.clone());
            chosen.variables.insert(name.clone(), value.clone());
        }
    }
    if let Some(port) = proxy {
        chosen.variables.extend(proxy_variables(port));
    }
    for flag in flags {
        let value = match &flag.value {
            Some(value) => value.clone(),
            None => caller.get(&flag.name).cloned().ok_or_else(|| {
                Failure::new(code::RUN_FAILED, format!("--env {}: you have no such variable", flag.name))
            })?,
        };
        chosen.variables.insert(flag.name.clone(), value);
        chosen.opened.push(flag.name.clone());
    }
    chosen.certificates.sort();
    chosen.certificates.dedup();
    Ok(chosen)
}

impl Chosen {
    /// Sets what makes programs trust the certificates of this run. What a flag gave stays; that is said.
    pub(crate) fn trust(&mut self, variables: &[(String, OsString)], flags: &[Variable]) -> Option<String> {
        let kept = self.put(variables, flags)?;
        Some(format!("--env {kept} stays yours: what reads it may not trust the certificates of opened TLS"))
    }

    /// Sets what programs find placeholders in. What a flag gave stays; that is said.
    pub(crate) fn expose(&mut self, variables: &[(String, OsString)], flags: &[Variable]) -> Option<String> {
        let kept = self.put(variables, flags)?;
        Some(format!("--env {kept} stays yours: a credential's placeholder is not there"))
    }

    /// Sets variables, but for those that a flag gave: these are named.
    fn put(&mut self, variables: &[(String, OsString)], flags: &[Variable]) -> Option<String> {
        let mut kept = Vec::new();
        for (name, value) in variables {
            let given = self.variables.get(name).filter(|_| flags.iter().any(|flag| flag.name == *name));
            match given {
                Some(given) if !adds_to(value, given) => kept.push(name.clone()),
                Some(_) | None => {
                    self.variables.insert(name.clone(), value.clone());
                }
            }
        }
        (!kept.is_empty()).then(|| kept.join(", "))
    }
}

/// Whether a value is what was given and more: Java's options.
fn adds_to(value: &OsStr, given: &OsStr) -> bool {
    value.as_bytes().strip_prefix(given.as_bytes()).is_some_and(|more| more.starts_with(b" "))
}

/// The explicit proxy of the sandbox, in the spellings that clients look for.
fn proxy_variables(port: u16) -> Vec<(String, OsString)> {
    let proxy = format!("http://127.0.0.1:{port}");
    let names = ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"];
    let mut variables: Vec<_> = names.iter().map(|name| ((*name).to_owned(), proxy.clone().into())).collect();
    for name in ["ALL_PROXY", "all_proxy"] {
        variables.push((name.to_owned(), format!("socks5h://127.0.0.1:{port}").into()));
    }
    for name in ["NO_PROXY", "no_proxy"] {
        variables.push((name.to_owned(), "localhost,127.0.0.1,::1".into()));
    }
    variables
}

/// Values in which a URL carries a user name and password: credentials, to be named.
pub(crate) fn with_password(variables: &Environment) -> Vec<String> {
    let carries = |value: &str| {
        value.split_whitespace().any(|word| {
            word.split_once("://")
                .is_some_and(|(_, rest)| rest.split('/').next().is_some_and(|authority| authority.contains('@')))
        })
    };
    variables.iter().filter(|(_, value)| carries(&value.to_string_lossy())).map(|(name, _)| name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller() -> Environment {
        [
            ("PATH", "/usr/bin"),
            ("LC_ALL", "C.UTF-8"),
            ("AWS_SECRET_ACCESS_KEY", "x"),
            ("SSL_CERT_FILE", "/etc/passwd"),
            ("CURL_CA_BUNDLE", "/not/there"),
            ("MODEL", "large"),
            ("SSH_AUTH_SOCK", "/tmp/agent"),
        ]
        .map(|(name, value)| (name.to_owned(), value.into()))
        .into()
    }

    #[test]
    fn only_what_is_listed_or_asked_for_is_passed() {
        let flags = ["A=b", "AWS_SECRET_ACCESS_KEY"].map(|text| Variable::parse(text.as_ref()).unwrap());
        let chosen = choose(&caller(), &["MODEL".to_owned()], &[], None).unwrap();
        let names: Vec<&str> = chosen.variables.keys().map(String::as_str).collect();
        assert_eq!(names, ["LC_ALL", "MODEL", "PATH", "SSL_CERT_FILE"]);
        assert_eq!(chosen.opened, ["MODEL"]);
        assert_eq!(chosen.certificates, [PathBuf::from("/etc/passwd")]);
        let chosen = choose(&caller(), &[], &flags, Some(3128)).unwrap();
        assert_eq!(chosen.variables.get("A"), Some(&"b".into()));
        assert_eq!(chosen.variables.get("HTTPS_PROXY"), Some(&"http://127.0.0.1:3128".into()));
        assert_eq!(chosen.opened, ["A", "AWS_SECRET_ACCESS_KEY"]);
        assert!(choose(&caller(), &[], &[Variable::parse("NOT_SET".as_ref()).unwrap()], None).is_err());
    }

    #[test]
    fn a_password_in_a_url_is_found() {
        let variables = [("A", "https://user:word@host/"), ("B", "https://host/a@b"), ("C", "x https://u@h")];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.into())).into();
        assert_eq!(with_password(&variables), ["A", "C"]);
    }
}
