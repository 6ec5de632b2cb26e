//! Whether an encrypted ClientHello may hide another name (spec/egress.md, 5).
//!
//! A real one and GREASE look alike. It is suspect where the name's owner publishes a configuration,
//! where the name in the clear is the public name of a provider of ECH, or where the address belongs
//! to a delivery network that many tenants share. Else it passes, recorded as unverified.

use std::{net::IpAddr, sync::LazyLock};

use ipnet::IpNet;
use policy::{EchState, HostName};

/// Names that ECH providers put in the clear for whatever is inside.
const PUBLIC_NAMES: [&str; 5] =
    ["cloudflare-ech.com", "encryptedsni.com", "public.tls-ech.dev", "tls-ech.dev", "cover.defo.ie"];

/// Ranges of shared delivery networks, as their operators publish them.
const SHARED: &str = "
    173.245.48.0/20 103.21.244.0/22 103.22.200.0/22 103.31.4.0/22 141.101.64.0/18 108.162.192.0/18
    190.93.240.0/20 188.114.96.0/20 197.234.240.0/22 198.41.128.0/17 162.158.0.0/15 104.16.0.0/13
    104.24.0.0/14 172.64.0.0/13 131.0.72.0/22
    2400:cb00::/32 2606:4700::/32 2803:f800::/32 2405:b500::/32 2405:8100::/32 2a06:98c0::/29 2c0f:f248::/32
    23.235.32.0/20 43.249.72.0/22 103.244.50.0/24 103.245.222.0/23 103.245.224.0/24 104.156.80.0/20
    140.248.64.0/18 140.248.128.0/17 146.75.0.0/17 151.101.0.0/16 157.52.64.0/18 167.82.0.0/17
    167.82.128.0/20 167.82.160.0/20 167.82.224.0/20 172.111.64.0/18 185.31.16.0/22 199.27.72.0/21
    199.232.0.0/16 2a04:4e40::/32 2a04:4e42::/32";

static SHARED_RANGES: LazyLock<Vec<IpNet>> =
    LazyLock::new(|| SHARED.split_ascii_whitespace().filter_map(|text| text.parse().ok()).collect());

/// What the name and address alone tell about a hello that carries the extension.
pub(crate) fn state(name: Option<&HostName>, address: Option<IpAddr>) -> EchState {
    let public = name.is_some_and(|name| PUBLIC_NAMES.contains(&name.as_str()));
    let shared = address.is_some_and(|address| SHARED_RANGES.iter().any(|range| range.contains(&address)));
    if public || shared { EchState::Suspect } else { EchState::Unverified }
}

#[cfg(test)]
mod tests {
    use policy::{EchState, HostName};

    use super::{SHARED, SHARED_RANGES, state};

    #[test]
    fn providers_are_suspect_and_others_are_not() {
        assert_eq!(SHARED_RANGES.len(), SHARED.split_ascii_whitespace().count());
        let name = |text: &str| HostName::parse(text).unwrap();
        for (host, address, expected) in [
            ("cloudflare-ech.com", "192.0.2.1", EchState::Suspect),
            ("a.example", "104.16.1.1", EchState::Suspect),
            ("a.example", "2606:4700::1", EchState::Suspect),
            ("a.example", "192.0.2.1", EchState::Unverified),
        ] {
            assert_eq!(state(Some(&name(host)), Some(address.parse().unwrap())), expected, "{host} {address}");
        }
    }
}
