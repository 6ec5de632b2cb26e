//! What is known of a flow when it is judged.

use std::net::{IpAddr, SocketAddr};

use crate::host_name::HostName;

/// One fact: not known yet, known to be absent, or known.
///
/// The difference between the first two decides whether the gateway reads on or judges with what it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fact<T> {
    /// Not known yet; more bytes, a resolution or a look-up may tell.
    #[default]
    Pending,
    /// There is none, and there will be none.
    Absent,
    /// It is this.
    Known(T),
}

impl<T> Fact<T> {
    /// The value, where it is known.
    pub fn known(&self) -> Option<&T> {
        match self {
            Fact::Known(value) => Some(value),
            Fact::Pending | Fact::Absent => None,
        }
    }
}

/// The transport protocol of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// TCP (RFC 9293).
    Tcp,
    /// UDP (RFC 768).
    Udp,
    /// ICMP or ICMPv6.
    Icmp,
}

/// Where the name of a flow came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NameSource {
    /// The TLS server name indication (RFC 6066).
    Sni,
    /// The `Host` header or absolute-form target of a plain HTTP request.
    HttpHost,
    /// The target of a CONNECT or SOCKS5 request.
    ProxyTarget,
    /// The gateway's own DNS answer that holds this address for this sandbox.
    DnsBinding,
    /// The question of a DNS query.
    DnsQuestion,
}

/// A name and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedHost {
    /// The normalised name.
    pub name: HostName,
    /// Which bytes said so.
    pub source: NameSource,
}

/// Whether the ClientHello carries an `encrypted_client_hello` extension (RFC 9849).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum EchState {
    /// No such extension.
    #[default]
    None,
    /// Present, and nothing says that it hides another name: GREASE looks like this.
    Unverified,
    /// Present where a real configuration is published for the name, the outer name is a
    /// provider's public name, or the address is a shared CDN's.
    Suspect,
}

/// What a ClientHello says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsFacts {
    /// The protocols offered (RFC 7301), in order.
    pub alpn: Vec<String>,
    /// The encrypted ClientHello extension.
    pub ech: EchState,
}

/// What one HTTP request head says, plain or seen inside TLS.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HttpFacts {
    /// The method, as sent; matching is case-sensitive (RFC 9110, 9.1).
    pub method: String,
    /// The path, decoded once, dot-segments resolved; `None` where it is ambiguous
    /// (encoded separators, double encoding, `;`): such a path matches no allow rule.
    pub path: Option<String>,
    /// The query, as sent, without the question mark; `None` where there is none. Read by [`crate::http_query`].
    pub query: Option<String>,
    /// Header fields with lower-case names.
    pub headers: Vec<(String, String)>,
}

/// The process that opened the flow.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProcessFacts {
    /// Its id, seen from the host.
    pub pid: u32,
    /// The executable's path inside the sandbox.
    pub executable: String,
    /// SHA-256 of the executable, lower-case hex, where it was read.
    pub digest: Option<String>,
}

/// Everything that is known of a flow.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    /// The sandbox the flow comes from, as this policy sees it: made once by [`crate::CompiledPolicy::source`].
    pub source: &'a crate::compile::Source,
    /// The transport protocol.
    pub protocol: Protocol,
    /// The destination port. For ICMP 0.
    pub port: u16,
    /// The address that the client dialled, where it dialled one.
    pub original_address: Option<SocketAddr>,
    /// The address that the gateway would dial. Pending until the name was resolved.
    pub address: Fact<IpAddr>,
    /// The destination's name.
    pub name: Fact<NamedHost>,
    /// The ClientHello; absent for what is not TLS.
    pub tls: Fact<TlsFacts>,
    /// The request head; absent for what is not HTTP. Where [`Facts::tls`] is known it is the request inside: pending
    /// while the flow can be opened, absent where it can't be (nothing inspects, no server name, no HTTP inside).
    pub http: Fact<HttpFacts>,
    /// The process.
    pub process: Fact<ProcessFacts>,
    /// Now, for rules that expire.
    pub now: jiff::Timestamp,
}
