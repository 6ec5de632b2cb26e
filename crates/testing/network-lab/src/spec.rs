//! What a lab is made of: servers, scripted names.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
};

use serde::{Deserialize, Serialize};

/// A whole lab.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LabSpec {
    /// Servers on the host itself.
    pub host: Vec<Server>,
    /// Servers on the internet. Their addresses may be any: they exist only there.
    pub internet: Vec<Server>,
    /// Servers in the corporate network, 10.20.0.0/16.
    pub corporate: Vec<Server>,
}

/// One server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Server {
    /// Its name in what [`crate::Lab::reached`] tells.
    pub name: String,
    /// Where it listens; an unspecified address is every address.
    pub addresses: Vec<IpAddr>,
    /// The ports it listens at.
    pub ports: Vec<u16>,
    /// What it does there.
    pub service: Service,
}

/// What a server does. Each records what reached it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Service {
    /// Speaks TLS where the first byte says so, then HTTP/2 or HTTP/1.1 (see `crate::server::http1` for the paths);
    /// anything else is read, recorded and echoed.
    Web(Identity),
    /// The same without HTTP/2, which git's back end does not speak here.
    WebHttp1(Identity),
    /// The same, and its clients show a certificate that the lab's CA signed; `client.pem` and `client.key` in the lab's
    /// folder are such a one.
    WebMutual(Identity),
    /// Sends back what it gets.
    Echo,
    /// Speaks first, then echoes.
    Banner(String),
    /// Sends datagrams back.
    UdpEcho,
    /// Answers DNS by script, over UDP and TCP.
    Dns(BTreeMap<String, DnsName>),
    /// An unfiltered proxy: CONNECT, absolute-form and SOCKS5 (names and addresses), from its own namespace.
    OpenProxy,
    /// A Unix socket that records what is written to it and answers with an HTTP 200. `@name` is an abstract one;
    /// a relative path stands in the lab's folder.
    Socket(PathBuf),
}

impl Service {
    /// The names that it answers for, where it is a DNS server.
    pub fn names(&self) -> Option<&BTreeMap<String, DnsName>> {
        match self {
            Service::Dns(names) => Some(names),
            Service::Web(_)
            | Service::WebHttp1(_)
            | Service::WebMutual(_)
            | Service::Echo
            | Service::Banner(_)
            | Service::UdpEcho
            | Service::OpenProxy
            | Service::Socket(_) => None,
        }
    }
}

/// Who a TLS server is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Identity {
    /// A certificate of the lab's CA for these names (`*.x` allowed).
    Trusted(Vec<String>),
    /// A certificate for these names that nobody trusts.
    Untrusted(Vec<String>),
    /// The chain and key to use, in PEM: what the other two become when the lab starts.
    Issued {
        /// The certificate.
        certificate: String,
        /// Its key.
        key: String,
    },
}

/// What a DNS server does with one name. A name `*.x` stands for every sub-name of `x` that is not listed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DnsName {
    /// The n-th question of one type gets the n-th answer; the last one stays.
    pub answers: Vec<DnsAnswer>,
    /// How long it waits before each answer.
    pub delay_ms: u64,
}

/// One scripted answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum DnsAnswer {
    /// Those of these records that the question's type asks for; a CNAME always.
    Records(Vec<DnsRecord>),
    /// Empty with TC set over UDP, the records over TCP.
    Truncated(Vec<DnsRecord>),
    /// This response code and nothing else.
    Code(u8),
    /// No answer at all.
    Silence,
    /// The records under a wrong message id.
    WrongId(Vec<DnsRecord>),
    /// The records as an answer to another question.
    WrongQuestion(Vec<DnsRecord>),
    /// These bytes behind the right id.
    Garbage(Vec<u8>),
}

/// One record of an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DnsRecord {
    /// Its owner; `None` is the name asked for.
    pub owner: Option<String>,
    /// The type's number.
    pub kind: u16,
    /// Time to live, in seconds.
    pub ttl: u32,
    /// The data, as on the wire.
    pub data: Vec<u8>,
}

impl LabSpec {
    /// The servers of one place.
    pub fn servers(&self, place: crate::Place) -> &[Server] {
        match place {
            crate::Place::Host => &self.host,
            crate::Place::Internet => &self.internet,
            crate::Place::Corporate => &self.corporate,
        }
    }

    /// Adds a name to the internet's DNS servers.
    pub fn add_name(&mut self, name: &str, scripted: &DnsName) {
        for server in &mut self.internet {
            if let Service::Dns(names) = &mut server.service {
                names.insert(name.to_owned(), scripted.clone());
            }
        }
    }
}

impl DnsName {
    /// The same records to every question.
    pub fn records(records: Vec<DnsRecord>) -> Self {
        Self::answers(vec![DnsAnswer::Records(records)])
    }

    /// These answers in turn.
    pub fn answers(answers: Vec<DnsAnswer>) -> Self {
        Self { answers, delay_ms: 0 }
    }

    /// A and AAAA records of these addresses.
    pub fn addresses(addresses: &[&str]) -> Self {
        Self::records(addresses.iter().map(|address| DnsRecord::address(address)).collect())
    }
}

impl DnsRecord {
    /// An A or AAAA record with a TTL of a minute.
    ///
    /// # Panics
    /// Where `address` is none: a mistake in the test.
    pub fn address(address: &str) -> Self {
        #[expect(clippy::expect_used, reason = "a literal of a test")]
        let (kind, data) = match address.parse().expect("an address") {
            IpAddr::V4(v4) => (1, Ipv4Addr::octets(&v4).to_vec()),
            IpAddr::V6(v6) => (28, Ipv6Addr::octets(&v6).to_vec()),
        };
        Self { owner: None, kind, ttl: 60, data }
    }

    /// A CNAME record.
    pub fn alias(target: &str) -> Self {
        Self { owner: None, kind: 5, ttl: 60, data: encode_name(target) }
    }

    /// A TXT record.
    pub fn text(text: &str) -> Self {
        let mut data = Vec::new();
        for chunk in text.as_bytes().chunks(255) {
            data.push(u8::try_from(chunk.len()).unwrap_or(u8::MAX));
            data.extend_from_slice(chunk);
        }
        Self { owner: None, kind: 16, ttl: 60, data }
    }

    /// An HTTPS record (RFC 9460) in service mode for the name itself: ALPN, address hints, ECH configuration.
    pub fn https(alpn: &[&str], ipv4_hint: Option<Ipv4Addr>, ech: Option<&[u8]>) -> Self {
        let mut data = vec![0, 1, 0];
        let mut parameter = |key: u16, value: &[u8]| {
            data.extend_from_slice(&key.to_be_bytes());
            data.extend_from_slice(&u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes());
            data.extend_from_slice(value);
        };
        let mut protocols = Vec::new();
        for protocol in alpn {
            protocols.push(u8::try_from(protocol.len()).unwrap_or(u8::MAX));
            protocols.extend_from_slice(protocol.as_bytes());
        }
        if !protocols.is_empty() {
            parameter(1, &protocols);
        }
        if let Some(hint) = ipv4_hint {
            parameter(4, &hint.octets());
        }
        if let Some(ech) = ech {
            parameter(5, ech);
        }
        Self { owner: None, kind: 65, ttl: 60, data }
    }

    /// With another TTL.
    pub fn with_ttl(mut self, ttl: u32) -> Self {
        self.ttl = ttl;
        self
    }

    /// Under another owner than the name asked for.
    pub fn of(mut self, owner: &str) -> Self {
        self.owner = Some(owner.to_owned());
        self
    }
}

/// A name as on the wire, without compression (RFC 1035, 3.1).
pub(crate) fn encode_name(name: &str) -> Vec<u8> {
    let mut wire = Vec::with_capacity(name.len() + 2);
    for label in name.trim_end_matches('.').split('.').filter(|label| !label.is_empty()) {
        let label = label.as_bytes().get(..63).unwrap_or(label.as_bytes());
        wire.push(u8::try_from(label.len()).unwrap_or(63));
        wire.extend_from_slice(label);
    }
    wire.push(0);
    wire
}
