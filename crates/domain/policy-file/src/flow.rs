//! A flow that nobody opened: facts made from a few words.
//!
//! Tests of a policy, `policy explain` and replay all ask "what would happen to …?" and must give the
//! answer that the wire gives. So they go through one builder, and through one loop ([`SupposedFlow::decide`])
//! that hands facts over in the gateway's order: a fact is shown only when the policy asks for it.
//!
//! What a destination looks like on the wire follows from how it is written:
//!
//! | written | on the wire |
//! | --- | --- |
//! | `http://HOST/path`, `HOST:80` | a plain HTTP request, GET unless a method is given |
//! | `https://HOST/path`, `HOST:443` | TLS with that server name; method and path can't be seen |
//! | `HOST:PORT`, `tcp://HOST:PORT` | bytes; the name comes from the gateway's own DNS answer |
//! | `udp://HOST:PORT`, `icmp://HOST` | the same over UDP or ICMP |
//! | `ADDRESS:PORT` and the above with an address | no name |

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use jiff::Timestamp;
use policy::{
    CompiledPolicy, Decision, Explanation, Fact, Facts, HostNameError, HttpFacts, Missing, NameSource, NamedHost,
    ProcessFacts, Protocol, Source, Step, Target, TlsFacts, Verdict, http_path, model::ProcessMatch,
};
use values::Labels;

use crate::convert::parts;

/// The address that a name is taken to resolve to where none is given: TEST-NET-1 (RFC 5737), which no guard covers.
pub const NEUTRAL_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// The name of the host's own loopback, which the gateway answers itself.
const HOST: &str = "host.cofferdam.internal";

/// Why a text is no destination.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DestinationError {
    /// The host is no name and no address.
    #[error("{0}")]
    Host(#[from] HostNameError),
    /// There is no port, and no scheme that says one.
    #[error("the port is missing")]
    NoPort,
    /// The port is no number from 1 to 65535.
    #[error("{0:?} is no port")]
    Port(String),
    /// The scheme is not known.
    #[error("{0:?} is no scheme: http, https, tcp, udp or icmp")]
    Scheme(String),
    /// A user name stands in it.
    #[error("a user name has no place in it")]
    UserName,
}

/// What the bytes of a flow look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// A plain HTTP request.
    Http,
    /// TLS.
    Tls,
    /// Anything else.
    Bytes,
}

/// Where a flow goes, read from text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// The name or address.
    pub target: Target,
    /// The port; 0 for ICMP.
    pub port: u16,
    /// The transport protocol.
    pub protocol: Protocol,
    /// What its bytes look like.
    pub form: Form,
    /// The path of a URL, as written, without query.
    pub path: String,
    /// The query of a URL, as written.
    pub query: Option<String>,
}

impl Destination {
    /// Reads `HOST:PORT`, `ADDRESS:PORT`, or a URL with scheme http, https, tcp, udp or icmp.
    pub fn parse(text: &str) -> Result<Self, DestinationError> {
        let Some((scheme, rest)) = text.split_once("://") else {
            let (host, port) = split_port(text)?;
            let port = port.ok_or(DestinationError::NoPort)?;
            return Self::new(Target::parse(host)?, port, Protocol::Tcp, None, "");
        };
        let (protocol, form, default) = match scheme.to_ascii_lowercase().as_str() {
            "http" => (Protocol::Tcp, Some(Form::Http), Some(80)),
            "https" => (Protocol::Tcp, Some(Form::Tls), Some(443)),
            "tcp" => (Protocol::Tcp, None, None),
            "udp" => (Protocol::Udp, Some(Form::Bytes), None),
            "icmp" => (Protocol::Icmp, Some(Form::Bytes), Some(0)),
            _ => return Err(DestinationError::Scheme(scheme.to_owned())),
        };
        let (authority, path) = rest.find(['/', '?', '#']).map_or((rest, ""), |end| rest.split_at(end));
        if authority.contains('@') {
            return Err(DestinationError::UserName);
        }
        let (host, port) = split_port(authority)?;
        let port = port.or(default).ok_or(DestinationError::NoPort)?;
        Self::new(Target::parse(host)?, port, protocol, form, path)
    }

    fn new(
        target: Target,
        port: u16,
        protocol: Protocol,
        form: Option<Form>,
        rest: &str,
    ) -> Result<Self, DestinationError> {
        let form = form.unwrap_or(match port {
            80 => Form::Http,
            443 => Form::Tls,
            _ => Form::Bytes,
        });
        let rest = rest.split_once('#').map_or(rest, |(rest, _)| rest);
        let (path, query) = rest.split_once('?').map_or((rest, None), |(path, query)| (path, Some(query.to_owned())));
        let path = if path.is_empty() { "/" } else { path };
        Ok(Self { target, port, protocol, form, path: path.to_owned(), query })
    }
}

fn split_port(authority: &str) -> Result<(&str, Option<u16>), DestinationError> {
    let after_bracket = authority.rfind(']').map_or(0, |end| end + 1);
    let (front, tail) = authority.split_at(after_bracket);
    let Some((name, port)) = tail.rsplit_once(':') else { return Ok((authority, None)) };
    // A bare IPv6 address, such as ::1, has no port.
    if front.is_empty() && name.contains(':') {
        return Ok((authority, None));
    }
    let host = authority.get(..front.len() + name.len()).unwrap_or(authority);
    parts::decimal_port(port).map(|port| (host, Some(port))).ok_or_else(|| DestinationError::Port(port.to_owned()))
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let query = || self.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
        match (self.form, self.protocol) {
            (Form::Http, _) => write!(f, "http://{}:{}{}{}", self.target, self.port, self.path, query()),
            (Form::Tls, _) => write!(f, "https://{}:{}{}{}", self.target, self.port, self.path, query()),
            (Form::Bytes, Protocol::Tcp) => write!(f, "{}:{}", self.target, self.port),
            (Form::Bytes, Protocol::Udp) => write!(f, "udp://{}:{}", self.target, self.port),
            (Form::Bytes, Protocol::Icmp) => write!(f, "icmp://{}", self.target),
        }
    }
}

/// A flow as supposed, with every fact that the wire would show.
#[derive(Debug, Clone)]
pub struct SupposedFlow {
    source: Source,
    protocol: Protocol,
    port: u16,
    original_address: Option<SocketAddr>,
    /// `None` where the caller does not know it; the decision then says what it lacked.
    pub(crate) address: Option<Fact<IpAddr>>,
    pub(crate) name: Fact<NamedHost>,
    pub(crate) tls: Fact<TlsFacts>,
    pub(crate) http: Option<Fact<HttpFacts>>,
    pub(crate) process: Option<Fact<ProcessFacts>>,
    now: Timestamp,
}

/// Makes the facts of a supposed flow.
///
/// `address` is what the name resolves to ([`NEUTRAL_ADDRESS`] where `None`, loopback for the host's own); it means nothing for a
/// destination that is an address. `method` makes an HTTP request of what would be bytes. A request inside TLS is shown
/// to a policy that looks into the flow, and to no other.
pub fn facts_from(
    policy: &CompiledPolicy,
    to: &Destination,
    from: &Labels,
    method: Option<&str>,
    process: Option<&ProcessMatch>,
    address: Option<IpAddr>,
    now: Timestamp,
) -> SupposedFlow {
    let form =
        if method.is_some() && to.form == Form::Bytes && to.protocol == Protocol::Tcp { Form::Http } else { to.form };
    let (name, address) = match &to.target {
        Target::Name(name) => {
            let source = match form {
                Form::Http => NameSource::HttpHost,
                Form::Tls => NameSource::Sni,
                Form::Bytes => NameSource::DnsBinding,
            };
            (
                Fact::Known(NamedHost { name: name.clone(), source }),
                address.unwrap_or(if name.as_str() == HOST { Ipv4Addr::LOCALHOST.into() } else { NEUTRAL_ADDRESS }),
            )
        }
        Target::Address(address) => (Fact::Absent, *address),
    };
    let http = match form {
        Form::Http | Form::Tls => {
            let method = method.unwrap_or("GET").to_owned();
            let (path, query) = (http_path::normalise(&to.path), to.query.clone());
            Fact::Known(HttpFacts { method, path, query, headers: Vec::new() })
        }
        Form::Bytes => Fact::Absent,
    };
    SupposedFlow {
        source: policy.source(from),
        protocol: to.protocol,
        port: to.port,
        original_address: Some(SocketAddr::new(address, to.port)),
        address: Some(Fact::Known(address)),
        name,
        tls: if form == Form::Tls { Fact::Known(TlsFacts::default()) } else { Fact::Absent },
        http: Some(http),
        process: Some(process.map_or(Fact::Absent, |process| Fact::Known(process_facts(process)))),
        now,
    }
}

fn process_facts(process: &ProcessMatch) -> ProcessFacts {
    match process {
        ProcessMatch::Executable(path) => ProcessFacts { executable: path.clone(), ..ProcessFacts::default() },
        ProcessMatch::Digest(digest) => ProcessFacts { digest: Some(digest.clone()), ..ProcessFacts::default() },
    }
}

impl SupposedFlow {
    /// Of recorded parts: what a record does not hold is `None`.
    pub(crate) fn recorded(
        source: Source,
        protocol: Protocol,
        port: u16,
        original_address: Option<SocketAddr>,
        now: Timestamp,
    ) -> Self {
        let (name, tls) = (Fact::Absent, Fact::Absent);
        Self { source, protocol, port, original_address, address: None, name, tls, http: None, process: None, now }
    }

    /// Every fact at once, what is inside TLS included.
    pub fn facts(&self) -> Facts<'_> {
        Facts {
            address: self.address.unwrap_or_default(),
            http: self.http.clone().unwrap_or_default(),
            process: self.process.clone().unwrap_or_default(),
            name: self.name.clone(),
            tls: self.tls.clone(),
            ..self.first_facts()
        }
    }

    /// What is known when a flow begins: where it goes.
    fn first_facts(&self) -> Facts<'_> {
        Facts {
            source: &self.source,
            protocol: self.protocol,
            port: self.port,
            original_address: self.original_address,
            // A flow without a name goes where it was dialled.
            address: match (&self.name, &self.address) {
                (Fact::Absent, Some(address)) => *address,
                (Fact::Absent | Fact::Pending | Fact::Known(_), _) => Fact::Pending,
            },
            name: Fact::Pending,
            tls: Fact::Pending,
            http: Fact::Pending,
            process: Fact::Pending,
            now: self.now,
        }
    }

    /// Judges the flow as the gateway does, showing a fact only when the policy asks for it.
    /// An error names the fact that was asked for and is not known.
    pub fn decide(&self, policy: &CompiledPolicy) -> Result<Decision, Missing> {
        let mut facts = self.first_facts();
        loop {
            let missing = match policy.judge(&facts) {
                // Nothing leaves before the ClientHello was judged too (`guard:ech`).
                Step::Decided(decision)
                    if decision.verdict != Verdict::Denied && show(&mut facts.tls, Some(&self.tls)) =>
                {
                    continue;
                }
                Step::Decided(decision) => return Ok(decision),
                Step::Needs(missing) => missing,
            };
            let shown = match missing {
                // The first bytes tell the name, and whether it is TLS.
                Missing::Name => {
                    let news = facts.name == Fact::Pending;
                    facts.name = self.name.clone();
                    facts.tls = self.tls.clone();
                    news
                }
                Missing::Address => show(&mut facts.address, self.address.as_ref()),
                // A request is plain, or inside TLS: the first bytes tell.
                Missing::Http => show(&mut facts.tls, Some(&self.tls)) || show(&mut facts.http, self.http.as_ref()),
                Missing::Process => show(&mut facts.process, self.process.as_ref()),
            };
            if !shown {
                return Err(missing);
            }
        }
    }

    /// Every rule tried, and why it did or did not match.
    pub fn explain(&self, policy: &CompiledPolicy) -> Explanation {
        let mut facts = self.facts();
        if facts.tls.known().is_some() {
            // What is inside is seen only where the policy looks into the flow.
            let inside = std::mem::take(&mut facts.http);
            if let Step::Needs(Missing::Http) = policy.judge(&facts) {
                facts.http = inside;
            }
        }
        policy.explain(&facts)
    }
}

/// Shows a fact that is known; `false` where it is not, or was shown before.
fn show<T: Clone + PartialEq>(shown: &mut Fact<T>, known: Option<&Fact<T>>) -> bool {
    match known {
        Some(known) if *shown == Fact::Pending && *known != Fact::Pending => {
            *shown = known.clone();
            true
        }
        Some(_) | None => false,
    }
}

#[cfg(test)]
mod tests;
