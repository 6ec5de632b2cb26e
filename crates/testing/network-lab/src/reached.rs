//! What reached a server, or the lab's links.

use std::{fmt, net::SocketAddr};

use serde::{Deserialize, Serialize};

/// A namespace of the lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// Where the program under test runs.
    Host,
    /// Everything public.
    Internet,
    /// The user's own network.
    Corporate,
}

impl Place {
    /// All of them.
    pub const ALL: [Place; 3] = [Place::Host, Place::Internet, Place::Corporate];

    /// Its network namespace's name inside the lab.
    pub fn name(self) -> &'static str {
        match self {
            Place::Host => "host",
            Place::Internet => "internet",
            Place::Corporate => "corporate",
        }
    }
}

/// One thing that arrived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reached {
    /// Where.
    pub place: Place,
    /// The server's name in the spec; `link` for a packet that was seen on a link.
    pub server: String,
    /// The address it arrived at.
    pub local: Option<SocketAddr>,
    /// The address it came from.
    pub peer: Option<SocketAddr>,
    /// Numbers the connection within its place; 0 where there is none.
    pub connection: u64,
    /// What it was.
    #[serde(flatten)]
    pub what: What,
}

/// What arrived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum What {
    /// A TCP connection was accepted.
    Accepted,
    /// A TLS ClientHello was read whole.
    Hello {
        /// The server name it asked for.
        sni: Option<String>,
        /// The protocols it offered.
        alpn: Vec<String>,
    },
    /// A TLS handshake was completed.
    Handshake,
    /// An HTTP request's head was read whole.
    Request {
        /// The server name of its TLS connection.
        sni: Option<String>,
        /// `1.0`, `1.1` or `2`.
        version: String,
        /// The method.
        method: String,
        /// The target, as sent.
        target: String,
        /// The `Host` field or `:authority`.
        host: Option<String>,
        /// The other fields, as sent.
        headers: Vec<(String, String)>,
    },
    /// A connection ended, or was open when the test asked; what it had carried so far.
    Carried {
        /// The first 64 KiB received, after decryption where the server spoke TLS.
        #[serde(with = "hex")]
        data: Vec<u8>,
        /// How many bytes were received in all.
        received: u64,
        /// How many were sent in all.
        sent: u64,
    },
    /// A UDP datagram.
    Datagram {
        /// Its payload.
        #[serde(with = "hex")]
        data: Vec<u8>,
    },
    /// A DNS question.
    Query {
        /// `udp` or `tcp`.
        transport: String,
        /// The name asked for, lower case, without the last dot.
        name: String,
        /// The record type, as a number.
        record_type: u16,
        /// The whole message.
        #[serde(with = "hex")]
        message: Vec<u8>,
    },
    /// A packet on a link, towards an address of the lab: the first packet of a TCP connection, any UDP, any ICMP.
    Packet {
        /// The protocol's number: 6 TCP, 17 UDP, 1 ICMP, 58 ICMPv6.
        protocol: u8,
        /// Its payload, behind the transport header.
        #[serde(with = "hex")]
        data: Vec<u8>,
    },
    /// A Unix socket was written to.
    Local {
        /// What was written, the first 64 KiB.
        #[serde(with = "hex")]
        data: Vec<u8>,
    },
}

impl Reached {
    /// Whether `needle` stands in what arrived: in bytes, a name or a header. Case is ignored, since DNS ignores it.
    pub fn holds(&self, needle: &str) -> bool {
        let needle = needle.to_ascii_lowercase();
        let within = |data: &[u8]| {
            let needle = needle.as_bytes();
            data.windows(needle.len().max(1)).any(|window| window.eq_ignore_ascii_case(needle))
        };
        match &self.what {
            What::Accepted | What::Handshake => false,
            What::Hello { sni, alpn } => sni.iter().chain(alpn).any(|text| text.to_ascii_lowercase().contains(&needle)),
            What::Request { sni, method, target, host, headers, version: _ } => {
                let named = [Some(method), Some(target), sni.as_ref(), host.as_ref()];
                named.into_iter().flatten().any(|text| within(text.as_bytes()))
                    || headers.iter().any(|(name, value)| within(name.as_bytes()) || within(value.as_bytes()))
            }
            What::Query { name, message, .. } => within(name.as_bytes()) || within(message),
            What::Carried { data, .. } | What::Datagram { data } | What::Packet { data, .. } | What::Local { data } => {
                within(data)
            }
        }
    }

    /// The port it arrived at.
    pub fn port(&self) -> Option<u16> {
        self.local.map(|local| local.port())
    }
}

/// One line for people.
impl fmt::Display for Reached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.place.name(), self.server)?;
        if let (Some(peer), Some(local)) = (self.peer, self.local) {
            write!(f, " {peer} -> {local}")?;
        }
        let bytes = |data: &[u8]| String::from_utf8_lossy(data.get(..200).unwrap_or(data)).escape_debug().to_string();
        match &self.what {
            What::Accepted => write!(f, " accepted"),
            What::Hello { sni, alpn } => write!(f, " hello {sni:?} {alpn:?}"),
            What::Handshake => write!(f, " handshake"),
            What::Request { sni, version, method, target, host, .. } => {
                write!(f, " request {method} {target} HTTP/{version} host {host:?} sni {sni:?}")
            }
            What::Carried { data, received, sent } => {
                write!(f, " carried {received} received {sent} sent: {}", bytes(data))
            }
            What::Datagram { data } => write!(f, " datagram {}", bytes(data)),
            What::Query { transport, name, record_type, .. } => write!(f, " query {name} {record_type} by {transport}"),
            What::Packet { protocol, data } => write!(f, " packet of protocol {protocol}: {}", bytes(data)),
            What::Local { data } => write!(f, " local {}", bytes(data)),
        }
    }
}

/// Bytes as lower-case hex in JSON.
mod hex {
    use data_encoding::HEXLOWER;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(data: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&HEXLOWER.encode(data))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        HEXLOWER.decode(text.as_bytes()).map_err(D::Error::custom)
    }
}
