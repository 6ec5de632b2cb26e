//! The lab's address plan: documentation ranges for what stands for the public internet, and the real special
//! addresses (metadata, private ranges), which exist here only inside the lab's own namespaces.

/// The host's address on its link to the internet.
pub const HOST: &str = "192.0.2.130";
/// The internet's end of that link.
pub const HOST_GATEWAY: &str = "192.0.2.129";
/// The host's IPv6 address on that link.
pub const HOST_V6: &str = "2001:db8:ffff::2";
/// The internet's end of that link, IPv6.
pub const HOST_GATEWAY_V6: &str = "2001:db8:ffff::1";
/// The host's address in the corporate network.
pub const HOST_CORPORATE: &str = "10.20.0.2";
/// The host's IPv6 address in the corporate network.
pub const HOST_CORPORATE_V6: &str = "2001:db8:20::2";
/// The host's interface towards the internet.
pub const HOST_INTERFACE: &str = "up0";
/// The host's interface towards the corporate network.
pub const CORPORATE_INTERFACE: &str = "corp0";

/// The internet's DNS server; the host's `resolv.conf` names it.
pub const DNS: &str = "203.0.113.53";
/// A second public resolver that nobody was told to use.
pub const OTHER_DNS: &str = "198.51.100.53";
/// The web server `allowed.test`.
pub const ALLOWED: &str = "203.0.113.10";
/// The same, IPv6.
pub const ALLOWED_V6: &str = "2001:db8:1::10";
/// A second address of `allowed.test`-like names: `second.test`.
pub const SECOND: &str = "203.0.113.11";
/// A CDN with two tenants, `cdn-a.test` and `cdn-b.test`, on one address.
pub const CDN: &str = "203.0.113.20";
/// The web server `denied.test`.
pub const DENIED: &str = "203.0.113.30";
/// Plain TCP and UDP services: echo on 7, an SSH-like banner on 22.
pub const PLAIN: &str = "203.0.113.40";
/// `git.test`.
pub const GIT: &str = "203.0.113.50";
/// `relay.test`: a proxy on the internet that anyone may use, ports 80, 443 and 3128.
pub const RELAY: &str = "203.0.113.60";
/// An API that wants a credential, `api.test`, and another tenant beside it, `tenant.test`.
pub const API: &str = "203.0.113.70";
/// `mutual.test`, whose clients show a certificate.
pub const MUTUAL: &str = "203.0.113.71";
/// `login.test`, where tokens are given out.
pub const LOGIN: &str = "203.0.113.72";
/// The attacker, who answers to everything and records it.
pub const ATTACKER: &str = "198.51.100.66";
/// The attacker, IPv6.
pub const ATTACKER_V6: &str = "2001:db8:66::66";
/// An address that nobody answers at: packets to it vanish.
pub const BLACKHOLE: &str = "203.0.113.99";

/// Cloud metadata services.
pub const METADATA: [&str; 10] = [
    "169.254.169.254",
    "169.254.170.2",
    "169.254.170.23",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "fd00:ec2::254",
    "fd20:ce::254",
    "fd00:c1::a9fe:a9fe",
    "fd00:42::42",
];
/// Private neighbours of the host, by its direct link.
pub const PRIVATE: [&str; 6] = ["10.0.0.8", "172.16.0.8", "192.168.1.8", "100.64.0.8", "100.127.255.8", "fd12:3456::8"];
/// The two sides of carrier-grade NAT's boundary (RFC 6598): public.
pub const BESIDE_CGNAT: [&str; 2] = ["100.63.255.8", "100.128.0.8"];

/// The corporate network's gateway.
pub const CORPORATE_GATEWAY: &str = "10.20.0.1";
/// The corporate CONNECT proxy, port 3128.
pub const CORPORATE_PROXY: &str = "10.20.0.3";
/// The corporate SOCKS proxy, port 1080.
pub const CORPORATE_SOCKS: &str = "10.20.0.4";
/// The corporate DNS server.
pub const CORPORATE_DNS: &str = "10.20.0.53";
/// The corporate web server `intranet.corp.test`.
pub const INTRANET: &str = "10.20.0.80";

/// The port of the recorder on the host's loopback and interfaces.
pub const HOST_SERVICE_PORT: u16 = 8200;
/// The port of the host's unfiltered proxy, for trying an attack with nothing in its way.
pub const OPEN_PROXY_PORT: u16 = 3199;
/// A container engine's socket on the host, recorded.
pub const ENGINE_SOCKET: &str = "/run/docker.sock";
/// What carries this firewall mark leaves the host by the corporate network; the table's number, too.
pub const CORPORATE_MARK: u32 = 77;
