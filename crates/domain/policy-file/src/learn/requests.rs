//! Requests that the policy of the run looked at: each has a record of its own, so exactly these can be proposed.
//!
//! Which conditions looked at them is in no record, so nothing wider than a request itself is ever proposed for them:
//! not their host, and no glob. What can't be named exactly is left out, and listed.

use std::collections::BTreeMap;

use audit_event::FlowDecided;
use policy::http_path;

use super::seen::{Place, Reach, Seen, Transport};
use crate::convert::parts;

/// The most requests of one rule.
const OF_RULE: usize = 32;
/// The most requests that are proposed for one port of a destination.
const OF_PORT: usize = 512;

/// A request as a rule names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Request {
    pub(super) way: Way,
    pub(super) method: String,
    /// The normalised path; as a glob it stands for itself alone.
    pub(super) path: String,
}

/// A method and a path.
pub(super) type Asked = (String, String);

/// How requests were sent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Way {
    /// Inside TLS.
    pub(super) inside: bool,
    /// The credential that they carried.
    pub(super) credential: Option<String>,
}

/// The requests of one rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Requests {
    pub(super) way: Way,
    /// What they ask for.
    pub(super) asked: Vec<Asked>,
    /// Where they did not fit into one rule: how many there are in all, and the folder that all lie in.
    pub(super) part_of: Option<(usize, String)>,
}

impl Request {
    /// Whether a rule tells them apart: by how they were sent, method and path.
    pub(super) fn is_same(&self, other: &Request) -> bool {
        self.way.inside == other.way.inside && self.method == other.method && self.path == other.path
    }
}

impl Way {
    pub(super) fn scheme(&self) -> &'static str {
        if self.inside { "https" } else { "http" }
    }
}

impl Requests {
    /// In rules of a bounded size.
    pub(super) fn split(way: &Way, asked: Vec<Asked>) -> Vec<Requests> {
        let part_of = (asked.len() > OF_RULE).then(|| (asked.len(), common_folder(&asked)));
        let part = |asked: &[Asked]| Requests { way: way.clone(), asked: asked.to_vec(), part_of: part_of.clone() };
        asked.chunks(OF_RULE).map(part).collect()
    }

    /// Methods that were used with the same paths, and these paths.
    pub(super) fn by_paths(&self) -> BTreeMap<Vec<&str>, Vec<&str>> {
        let mut by_method: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (method, path) in &self.asked {
            by_method.entry(method).or_default().push(path);
        }
        let mut by_paths: BTreeMap<Vec<&str>, Vec<&str>> = BTreeMap::new();
        for (method, paths) in by_method {
            by_paths.entry(paths).or_default().push(method);
        }
        by_paths
    }
}

/// The deepest folder that all paths lie in, with its slash.
fn common_folder(asked: &[Asked]) -> String {
    let folders = asked.iter().map(|(_, path)| path.rsplit_once('/').map_or("", |(folder, _)| folder));
    let common = folders.map(|folder| folder.split('/').collect::<Vec<_>>()).reduce(|common, folder| {
        common.into_iter().zip(folder).take_while(|(one, other)| one == other).map(|(one, _)| one).collect()
    });
    common.unwrap_or_default().join("/") + "/"
}

/// What of a flow's request was looked at.
#[derive(Debug)]
pub(super) enum Looked {
    /// Nothing: its destination decided.
    No,
    /// A request that a rule can name.
    Named(Request),
    /// Something that no rule can name exactly, for people.
    Unnamed(String),
}

impl Looked {
    pub(super) fn at(flow: &FlowDecided) -> Self {
        let inside = flow.tls.mode == "inspect";
        let Some(http) = flow.http.as_ref() else {
            return if inside { Looked::Unnamed("TLS without a request".to_owned()) } else { Looked::No };
        };
        if !inside && !http.judged {
            return Looked::No;
        }
        let method = (parts::is_token(&http.method) && !http.method.bytes().any(|byte| byte.is_ascii_lowercase()))
            .then(|| http.method.clone());
        // As a glob, a star would stand for more than itself.
        let path = http_path::normalise(&http.path).filter(|path| !path.contains('*'));
        let way = Way { inside, credential: flow.credential.clone() };
        match (method, path) {
            (Some(method), Some(path)) => Looked::Named(Request { way, method, path }),
            (None, _) | (_, None) => Looked::Unnamed(format!("{} {}", http.method, http.path)),
        }
    }

    pub(super) fn named(self) -> Option<Request> {
        match self {
            Looked::Named(request) => Some(request),
            Looked::No | Looked::Unnamed(_) => None,
        }
    }
}

impl Seen {
    /// Puts together what was seen of one port as a whole and by its requests.
    pub(super) fn settle_requests(&mut self) {
        let mut at_port: BTreeMap<Reach, Vec<Reach>> = BTreeMap::new();
        for reach in self.reaches.keys().filter(|reach| reach.request.is_some()) {
            at_port.entry(reach.whole()).or_default().push(reach.clone());
        }
        for (whole, requests) in at_port {
            match self.reaches.get(&whole).map(|sighting| sighting.passed) {
                // All of it was let through: a rule by request beside that would allow nothing more.
                Some(true) => {
                    for request in requests {
                        let sighting = self.reaches.remove(&request).unwrap_or_default();
                        self.reaches.entry(whole.clone()).or_default().join(&sighting);
                    }
                }
                Some(false) => {
                    let sighting = self.reaches.remove(&whole).unwrap_or_default();
                    self.leave_out(whole, "what is no request", &sighting);
                    self.bound(requests);
                }
                None => self.bound(requests),
            }
        }
        let reaches = &self.reaches;
        self.left_out.retain(|(whole, _), _| !reaches.contains_key(whole));
    }

    fn bound(&mut self, requests: Vec<Reach>) {
        for reach in requests.into_iter().skip(OF_PORT) {
            let sighting = self.reaches.remove(&reach).unwrap_or_default();
            let what = reach.request.as_ref().map(|asked| format!("{} {}", asked.method, asked.path));
            self.leave_out(reach.whole(), &what.unwrap_or_default(), &sighting);
        }
    }
}

/// The URL of a request, so that its path is read as it was.
pub(super) fn url(way: &Way, host: &str, port: u16, path: &str) -> String {
    let mut url = format!("{}://{host}:{port}", way.scheme());
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'.' | b'_' | b'~' => url.push(char::from(byte)),
            _ => url.push_str(&format!("%{byte:02X}")),
        }
    }
    url
}

impl Reach {
    /// The same place and port, whatever was asked for there.
    pub(super) fn whole(&self) -> Reach {
        Reach { request: None, ..self.clone() }
    }

    /// For people.
    pub(super) fn shown(&self) -> String {
        let place = match &self.place {
            Place::Name(name) => name.clone(),
            Place::Address(address) | Place::Private(address) => address.to_string(),
        };
        match self.transport {
            Transport::Tcp => format!("{place}:{}", self.port),
            Transport::Udp => format!("udp {place}:{}", self.port),
            Transport::Icmp => format!("icmp {place}"),
        }
    }
}
