//! A destination as it stands in CONNECT, SOCKS5, `Host` or a URL: a name or an address, never in doubt.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use crate::{
    address,
    host_name::{HostName, HostNameError},
};

/// A name or an address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// A host name.
    Name(HostName),
    /// An address, v4-mapped folded to IPv4.
    Address(IpAddr),
}

impl Target {
    /// Reads the host part (no port). An address is a canonical dotted quad, or IPv6 bare or in
    /// brackets; decimal, octal, hex and short forms, zone ids and double brackets are refused.
    pub fn parse(host: &str) -> Result<Self, HostNameError> {
        if let Some(inner) = host.strip_prefix('[') {
            let inner = inner.strip_suffix(']').ok_or(HostNameError::AddressForm)?;
            return inner.parse::<Ipv6Addr>().map(Self::from).map_err(|_| HostNameError::AddressForm);
        }
        if host.contains(':') {
            return host.parse::<Ipv6Addr>().map(Self::from).map_err(|_| HostNameError::AddressForm);
        }
        match host.parse::<Ipv4Addr>() {
            Ok(v4) => Ok(Self::Address(IpAddr::V4(v4))),
            Err(_) => HostName::parse(host).map(Self::Name),
        }
    }
}

impl From<Ipv6Addr> for Target {
    fn from(ip: Ipv6Addr) -> Self {
        Self::Address(address::canonical(IpAddr::V6(ip)))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Name(name) => name.fmt(f),
            Target::Address(IpAddr::V4(v4)) => v4.fmt(f),
            Target::Address(IpAddr::V6(v6)) => write!(f, "[{v6}]"),
        }
    }
}

#[cfg(test)]
mod tests;
