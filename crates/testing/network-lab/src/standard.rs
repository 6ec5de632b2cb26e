//! The internet that most tests want.
//!
//! | name | what |
//! | --- | --- |
//! | `allowed.test`, `*.allowed.test` | a web server, ports 80, 443, 8080, 8443; IPv4 and IPv6 |
//! | `second.test` | another web server; `second.allowed.test` is its alias |
//! | `denied.test` | a web server nobody should need |
//! | `cdn-a.test`, `cdn-b.test` | two tenants of one CDN on one address |
//! | `*.wild.test` | the CDN too; `wild.test` and `notwild.test` are the attacker's |
//! | `paths.test`, `methods.test`, `pinned.test` | `second.test`'s server |
//! | `api.test`, `*.api.test`, `tenant.test` | an API that wants a credential, and another tenant of its address |
//! | `mutual.test`, `own.mutual.test` | a web server whose clients show a certificate |
//! | `login.test` | `/token` gives out tokens |
//! | `relay.test` | an open proxy on the internet |
//! | `git.test` | git over HTTPS |
//! | `plain.test` | TCP echo 7, UDP echo 7, an SSH-like banner on 22 and 443 |
//! | `attacker.test`, `*.attacker.test` | the attacker; any record type |
//! | `internal.test`, `loopback.test`, `metadata.test` … | names whose addresses are not public |
//! | `rebind.test` | first `allowed.test`'s address, then the metadata service's |
//! | `intranet.corp.test` | only the corporate DNS knows it |

use std::{collections::BTreeMap, net::IpAddr};

use crate::{
    addresses as at,
    spec::{DnsAnswer, DnsName, DnsRecord, Identity, LabSpec, Server, Service},
};

const WEB: [u16; 4] = [80, 443, 8080, 8443];
/// What the attacker listens at: what common protocols use.
const ATTACKER_PORTS: [u16; 24] = [
    21, 22, 23, 25, 70, 80, 110, 143, 443, 465, 554, 587, 853, 993, 1080, 3128, 3306, 4444, 5432, 6379, 8080, 8443,
    9418, 50051,
];

impl LabSpec {
    /// The internet that most tests want: the names and servers listed in this crate's `standard` module.
    pub fn standard() -> Self {
        Self { host: host(), internet: internet(), corporate: corporate() }
    }
}

fn addresses(list: &[&str]) -> Vec<IpAddr> {
    list.iter().filter_map(|address| address.parse().ok()).collect()
}

fn server(name: &str, list: &[&str], ports: &[u16], service: Service) -> Server {
    Server { name: name.to_owned(), addresses: addresses(list), ports: ports.to_vec(), service }
}

fn web(name: &str, list: &[&str], ports: &[u16], names: &[&str]) -> Server {
    let mut names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    names.extend(list.iter().map(|&address| address.to_owned()));
    server(name, list, ports, Service::Web(Identity::Trusted(names)))
}

fn host() -> Vec<Server> {
    vec![
        web(
            "host-service",
            &["127.0.0.1", "::1", at::HOST, at::HOST_V6, at::HOST_CORPORATE, at::HOST_CORPORATE_V6],
            &[at::HOST_SERVICE_PORT],
            &["localhost"],
        ),
        server("open-proxy", &["127.0.0.1"], &[at::OPEN_PROXY_PORT], Service::OpenProxy),
        server("engine", &[], &[], Service::Socket(at::ENGINE_SOCKET.into())),
        server("engine", &[], &[], Service::Socket("host.sock".into())),
        server("abstract", &[], &[], Service::Socket("@lab-abstract".into())),
    ]
}

fn internet() -> Vec<Server> {
    let any = ["attacker.test".to_owned(), "*.attacker.test".to_owned(), "allowed.test".to_owned()];
    let mut servers = vec![
        server("dns", &[at::DNS], &[53], Service::Dns(public_names())),
        server("other-dns", &[at::OTHER_DNS], &[53], Service::Dns(public_names())),
        web("allowed", &[at::ALLOWED, at::ALLOWED_V6], &WEB, &["allowed.test", "*.allowed.test", "dual.test"]),
        web(
            "second",
            &[at::SECOND],
            &WEB,
            &["second.test", "second.allowed.test", "paths.test", "methods.test", "pinned.test"],
        ),
        web("denied", &[at::DENIED], &WEB, &["denied.test", "*.denied.test"]),
        web(
            "cdn",
            &[at::CDN],
            &[80, 443],
            &["cdn-a.test", "cdn-b.test", "*.wild.test", "a.b.c.wild.test", "cloudflare-ech.com"],
        ),
        server("git", &[at::GIT], &[80, 443], Service::WebHttp1(Identity::Trusted(vec!["git.test".to_owned()]))),
        web("api", &[at::API], &[80, 443], &["api.test", "*.api.test", "tenant.test"]),
        web("login", &[at::LOGIN], &[80, 443], &["login.test"]),
        server(
            "mutual",
            &[at::MUTUAL],
            &[443],
            Service::WebMutual(Identity::Trusted(vec!["mutual.test".to_owned(), "own.mutual.test".to_owned()])),
        ),
        server("relay", &[at::RELAY], &[80, 443, 3128], Service::OpenProxy),
        server("plain", &[at::PLAIN], &[7], Service::Echo),
        server("plain", &[at::PLAIN], &[7, 443], Service::UdpEcho),
        server("plain", &[at::PLAIN], &[22, 443], Service::Banner("SSH-2.0-Lab\r\n".to_owned())),
        server(
            "attacker",
            &[at::ATTACKER, at::ATTACKER_V6],
            &ATTACKER_PORTS,
            Service::Web(Identity::Untrusted(any.to_vec())),
        ),
        server("attacker", &[at::ATTACKER, at::ATTACKER_V6], &[53], Service::Dns(public_names())),
        server("attacker", &[at::ATTACKER, at::ATTACKER_V6], &[443, 853, 5353, 4433], Service::UdpEcho),
        web("beside-cgnat", &at::BESIDE_CGNAT, &[80, 443], &["beside.test"]),
    ];
    servers.push(web("metadata", &at::METADATA, &[80], &["metadata.test"]));
    servers.push(web("private", &at::PRIVATE, &[80, 443, 5432], &["internal.test"]));
    servers
}

fn corporate() -> Vec<Server> {
    let mut names = public_names();
    names.insert("intranet.corp.test".to_owned(), DnsName::addresses(&[at::INTRANET]));
    vec![
        server("corporate-dns", &[at::CORPORATE_DNS], &[53], Service::Dns(names)),
        server("corporate-proxy", &[at::CORPORATE_PROXY], &[3128], Service::OpenProxy),
        server("corporate-socks", &[at::CORPORATE_SOCKS], &[1080], Service::OpenProxy),
        web("intranet", &[at::INTRANET], &[80, 443], &["intranet.corp.test"]),
    ]
}

fn public_names() -> BTreeMap<String, DnsName> {
    let mut names = BTreeMap::new();
    let mut add = |name: &str, script: DnsName| names.insert(name.to_owned(), script);
    let list = [
        ("allowed.test", vec![at::ALLOWED]),
        ("*.allowed.test", vec![at::ALLOWED]),
        ("dual.test", vec![at::ALLOWED_V6, at::ALLOWED]),
        // Its IPv6 address does not answer: happy eyeballs.
        ("half.allowed.test", vec!["2001:db8:dead::1", at::ALLOWED]),
        ("second.test", vec![at::SECOND]),
        ("denied.test", vec![at::DENIED]),
        ("*.denied.test", vec![at::DENIED]),
        ("cdn-a.test", vec![at::CDN]),
        ("cdn-b.test", vec![at::CDN]),
        ("git.test", vec![at::GIT]),
        ("plain.test", vec![at::PLAIN]),
        ("relay.test", vec![at::RELAY]),
        ("paths.test", vec![at::SECOND]),
        ("methods.test", vec![at::SECOND]),
        ("pinned.test", vec![at::SECOND]),
        ("api.test", vec![at::API]),
        ("*.api.test", vec![at::API]),
        ("tenant.test", vec![at::API]),
        ("mutual.test", vec![at::MUTUAL]),
        ("own.mutual.test", vec![at::MUTUAL]),
        ("login.test", vec![at::LOGIN]),
        // Beside `*.wild.test`: its apex, a name that only ends alike, one that goes on. The sub-names are the CDN's.
        ("wild.test", vec![at::ATTACKER]),
        ("notwild.test", vec![at::ATTACKER]),
        ("*.wild.test", vec![at::CDN]),
        // `allowed.test` with a Cyrillic first letter.
        ("xn--llowed-2nf.test", vec![at::ATTACKER]),
        ("notallowed.test", vec![at::ATTACKER]),
        ("allowed.test.attacker.test", vec![at::ATTACKER]),
        ("blackhole.allowed.test", vec![at::BLACKHOLE]),
        ("internal.allowed.test", vec!["10.0.0.8"]),
        // Its certificate is for other names.
        ("blind.allowed.test", vec![at::DENIED]),
        ("intranet.allowed.test", vec![at::INTRANET]),
        ("loopback.allowed.test", vec!["127.0.0.1"]),
        ("loopback6.allowed.test", vec!["::1"]),
        ("mapped.allowed.test", vec!["::ffff:127.0.0.1"]),
        ("mapped-metadata.allowed.test", vec!["::ffff:169.254.169.254"]),
        ("nat64.allowed.test", vec!["64:ff9b::a9fe:a9fe"]),
        ("sixtofour.allowed.test", vec!["2002:a9fe:a9fe::1"]),
        ("metadata.allowed.test", vec!["169.254.169.254"]),
        ("linklocal.allowed.test", vec!["169.254.1.1"]),
        ("cgnat.allowed.test", vec!["100.64.0.8"]),
        ("host.allowed.test", vec![at::HOST]),
        ("unspecified.allowed.test", vec!["0.0.0.0"]),
        ("multicast.allowed.test", vec!["224.0.0.1"]),
        ("mixed.allowed.test", vec!["169.254.169.254", at::ALLOWED]),
        ("metadata.google.internal", vec!["169.254.169.254"]),
        ("host.docker.internal", vec![at::HOST]),
        ("host.containers.internal", vec![at::HOST]),
        ("gateway.docker.internal", vec![at::HOST]),
        ("host.cofferdam.internal", vec![at::HOST]),
    ];
    for (name, list) in list {
        add(name, DnsName::addresses(&list));
    }
    for (name, script) in odd_names() {
        add(name, script);
    }
    names
}

/// Names whose answers are more than addresses.
fn odd_names() -> Vec<(&'static str, DnsName)> {
    let address = DnsRecord::address;
    // An ECHConfigList (RFC 9849, 4) of one X25519 configuration with public name `cloudflare-ech.com`.
    let mut ech = vec![0, 0x45, 0xfe, 0x0d, 0, 0x41, 1, 0, 0x20, 0, 0x20];
    ech.extend_from_slice(&[0x55; 32]);
    ech.extend_from_slice(&[0, 4, 0, 1, 0, 1, 0, 18]);
    ech.extend_from_slice(b"cloudflare-ech.com");
    ech.extend_from_slice(&[0, 0]);
    let answer = |text: &str| {
        DnsName::records(vec![
            address(at::ATTACKER),
            address(at::ATTACKER_V6),
            DnsRecord::text(text),
            DnsRecord {
                owner: None,
                kind: 15,
                ttl: 60,
                data: [&[0, 10], crate::spec::encode_name("mx.attacker.test").as_slice()].concat(),
            },
        ])
    };
    let chain = |length: usize| {
        let mut records = vec![DnsRecord::alias("c1.chain.test").of("chain.allowed.test")];
        records.extend(
            (1..length).map(|n| DnsRecord::alias(&format!("c{}.chain.test", n + 1)).of(&format!("c{n}.chain.test"))),
        );
        records.push(address(at::ALLOWED).of(&format!("c{length}.chain.test")));
        DnsName::records(records)
    };
    let others = (0..60).map(|n| address(&format!("203.0.113.{}", 100 + n)));
    let many = [address(at::ALLOWED)].into_iter().chain(others).collect();
    vec![
        ("attacker.test", answer("from the attacker")),
        ("*.attacker.test", answer("from the attacker")),
        (
            "second.allowed.test",
            DnsName::records(vec![DnsRecord::alias("second.test"), address(at::SECOND).of("second.test")]),
        ),
        (
            "alias-to-attacker.allowed.test",
            DnsName::records(vec![DnsRecord::alias("x.attacker.test"), address(at::ATTACKER).of("x.attacker.test")]),
        ),
        ("chain.allowed.test", chain(6)),
        ("loop.allowed.test", DnsName::records(vec![DnsRecord::alias("loop2.allowed.test")])),
        ("loop2.allowed.test", DnsName::records(vec![DnsRecord::alias("loop.allowed.test")])),
        (
            "rebind.allowed.test",
            DnsName::answers(vec![
                DnsAnswer::Records(vec![address(at::ALLOWED).with_ttl(0)]),
                DnsAnswer::Records(vec![address("169.254.169.254").with_ttl(0)]),
            ]),
        ),
        (
            "ech.allowed.test",
            DnsName::records(vec![
                address(at::ALLOWED),
                DnsRecord::https(&["h2", "h3"], at::ATTACKER.parse().ok(), Some(&ech)),
            ]),
        ),
        ("cloudflare-ech.com", DnsName::records(vec![address(at::CDN), DnsRecord::https(&["h2"], None, Some(&ech))])),
        ("truncated.allowed.test", DnsName::answers(vec![DnsAnswer::Truncated(many)])),
        ("slow.allowed.test", DnsName { delay_ms: 1500, ..DnsName::addresses(&[at::ALLOWED]) }),
        ("silent.allowed.test", DnsName::answers(vec![DnsAnswer::Silence])),
        ("wrong-id.allowed.test", DnsName::answers(vec![DnsAnswer::WrongId(vec![address(at::ATTACKER)])])),
        ("wrong-question.allowed.test", DnsName::answers(vec![DnsAnswer::WrongQuestion(vec![address(at::ATTACKER)])])),
        ("lying.allowed.test", DnsName::records(vec![address(at::ATTACKER).of("other.test"), address(at::ALLOWED)])),
        ("garbage.allowed.test", DnsName::answers(vec![DnsAnswer::Garbage(vec![0xff; 40])])),
        ("broken.allowed.test", DnsName::answers(vec![DnsAnswer::Code(2)])),
    ]
}
