//! What a credential is bound to, ready to be tried.

use values::{CredentialName, LabelSelector, Labels};

use crate::{
    facts::HttpFacts,
    host_name::{HostName, HostPattern},
    http_path::PathGlob,
    model::credential::{Bind, HTTPS_PORT},
};

/// A credential's name and the requests that may carry it.
#[derive(Debug)]
pub(crate) struct Binding {
    pub(crate) credential: CredentialName,
    hosts: Vec<HostPattern>,
    methods: Vec<String>,
    paths: Vec<PathGlob>,
    ports: Vec<(u16, u16)>,
    sandboxes: Option<LabelSelector>,
}

impl Binding {
    /// Of a credential without problems; a glob that is none was reported, and covers nothing here.
    pub(crate) fn new(credential: &CredentialName, bind: &Bind) -> Option<Self> {
        let paths: Result<Vec<PathGlob>, _> = bind.paths.iter().map(|glob| PathGlob::parse(glob)).collect();
        Some(Self {
            credential: credential.clone(),
            hosts: bind.hosts.clone(),
            methods: bind.methods.clone(),
            paths: paths.ok()?,
            ports: bind.ports.clone(),
            sandboxes: bind.sandboxes.clone(),
        })
    }

    pub(crate) fn covers_host(&self, name: &HostName) -> bool {
        self.hosts.iter().any(|host| host.matches(name))
    }

    /// Whether requests to this port may carry it; `chosen` says that the rule names the port. Where nobody does it is
    /// that of HTTPS alone: another service of the same host is another owner's.
    pub(crate) fn covers_port(&self, port: u16, chosen: bool) -> bool {
        if self.ports.is_empty() {
            chosen || port == HTTPS_PORT
        } else {
            self.ports.iter().any(|(first, last)| (*first..=*last).contains(&port))
        }
    }

    pub(crate) fn covers_sandbox(&self, labels: &Labels) -> bool {
        self.sandboxes.as_ref().is_none_or(|selector| selector.matches(labels))
    }

    pub(crate) fn covers_method(&self, request: &HttpFacts) -> bool {
        self.methods.is_empty() || self.methods.contains(&request.method)
    }

    /// Where a path can be read in two ways, no condition on it is met.
    pub(crate) fn covers_request(&self, request: &HttpFacts) -> bool {
        let path = |path: &String| self.paths.iter().any(|glob| glob.matches(path));
        self.covers_method(request) && (self.paths.is_empty() || request.path.as_ref().is_some_and(path))
    }
}
