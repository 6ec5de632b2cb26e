//! Lists in the shapes in which they are published, and broken ones.

use policy::model::{FeedFormat, Provider, ServiceTag};
use proptest::prelude::*;

use super::{ListError, ListLimits, ListRead, read_feed, read_feed_within, read_service_tag};

fn shown(read: &ListRead) -> Vec<String> {
    let hosts = read.content.hosts.iter().map(|host| match host {
        policy::HostPattern::Domain(name) => format!("+{name}"),
        other => other.to_string(),
    });
    hosts.chain(read.content.cidrs.iter().map(ToString::to_string)).collect()
}

#[test]
fn each_format_of_a_feed() {
    let cases: [(FeedFormat, &str, &[&str]); 6] = [
        (
            FeedFormat::Hosts,
            "# comment\r\n127.0.0.1 localhost\n::1 ip6-localhost ip6-loopback\nfe80::1%lo0 localhost\n0.0.0.0 0.0.0.0\n\
             0.0.0.0 Bad.example.  # why\n127.0.0.1\ta.bad.example b.bad.example\n0.0.0.0 bad.example\n",
            &["a.bad.example", "b.bad.example", "bad.example"],
        ),
        (
            FeedFormat::Domains,
            "! title\n[Adblock]\nbad.example\n*.worse.example\n.worst.example # x\n||block.example^\n192.0.2.9\nbücher.example\n",
            &[
                "+bad.example",
                "+block.example",
                "+worse.example",
                "+worst.example",
                "+xn--bcher-kva.example",
                "192.0.2.9/32",
            ],
        ),
        (
            FeedFormat::Cidrs,
            "192.0.2.0/24 # x\n198.51.100.7\n2001:db8::/32\n; y\n",
            &["192.0.2.0/24", "198.51.100.7/32", "2001:db8::/32"],
        ),
        (
            FeedFormat::SpamhausDrop,
            "; Spamhaus DROP List 2026/11/21\n; Expires: x\n1.10.16.0/20 ; SBL256894\n1.19.0.0/16 ; SBL434604\n",
            &["1.10.16.0/20", "1.19.0.0/16"],
        ),
        (
            FeedFormat::SpamhausDrop,
            "{\"cidr\":\"1.10.16.0/20\",\"sblid\":\"SBL256894\",\"rir\":\"apnic\"}\n{\"cidr\":\"2001:db8::/32\",\"sblid\":\"S\",\"rir\":\"x\"}\n\
             {\"type\":\"metadata\",\"timestamp\":1763700000,\"size\":92,\"records\":2,\"copyright\":\"c\",\"terms\":\"t\"}\n",
            &["1.10.16.0/20", "2001:db8::/32"],
        ),
        (FeedFormat::Domains, "\u{feff}bad.example\n", &["+bad.example"]),
    ];
    for (format, text, expected) in cases {
        let read = read_feed(format, text.as_bytes()).unwrap_or_else(|error| panic!("{format:?}: {error}"));
        assert_eq!(shown(&read), expected, "{format:?}");
        assert_eq!(read.bad, 0, "{format:?}: {:?}", read.first_bad);
    }
}

#[test]
fn one_bad_line_in_ten_is_skipped_and_counted_more_are_refused() {
    let good = |count: usize| (0..count).map(|n| format!("h{n}.example\n")).collect::<String>();
    let read = read_feed(FeedFormat::Domains, (good(9) + "not..a..name\n").as_bytes()).expect("tolerated");
    assert_eq!((read.records, read.bad), (10, 1));
    assert_eq!(read.first_bad, Some((10, "not..a..name".to_owned())));
    let refused = read_feed(FeedFormat::Domains, (good(8) + "a..b\n" + "c..d\n").as_bytes());
    let Err(ListError::TooManyBad { bad: 2, records: 10, number: 9, text }) = refused else { panic!("{refused:?}") };
    assert_eq!(text, "a..b");
}

#[test]
fn entries_too_wide_to_be_meant_are_bad_lines() {
    for (format, text) in [
        (FeedFormat::Cidrs, "0.0.0.0/0\n"),
        (FeedFormat::Cidrs, "::/0\n"),
        (FeedFormat::Cidrs, "10.0.0.1/8\n"),
        (FeedFormat::Domains, "com\n"),
        (FeedFormat::Hosts, "0.0.0.0 com\n"),
        (FeedFormat::Domains, "<html><body>Not found</body></html>\n"),
        (FeedFormat::Domains, "\u{0}\u{1}\n"),
    ] {
        assert!(matches!(read_feed(format, text.as_bytes()), Err(ListError::TooManyBad { .. })), "{text:?}");
    }
    assert!(matches!(read_feed(FeedFormat::Domains, b"\xff\xfe\n"), Err(ListError::TooManyBad { .. })));
}

#[test]
fn empty_cut_off_and_endless_lists_are_refused() {
    assert_eq!(read_feed(FeedFormat::Hosts, b""), Err(ListError::Empty));
    assert_eq!(read_feed(FeedFormat::Cidrs, b"# only a comment\n"), Err(ListError::Empty));
    assert_eq!(read_feed(FeedFormat::Domains, b"bad.example\nbad.exam"), Err(ListError::CutOff));
    let cut = "{\"cidr\":\"1.10.16.0/20\"}\n{\"type\":\"metadata\",\"records\":2}\n";
    assert_eq!(
        read_feed(FeedFormat::SpamhausDrop, cut.as_bytes()),
        Err(ListError::Truncated { announced: 2, found: 1 })
    );
    let endless = vec![b'\n'; 10_000_002];
    assert_eq!(read_feed(FeedFormat::Domains, &endless), Err(ListError::TooManyLines(10_000_000)));
    let limits = ListLimits { lines: 1000, entries: 10 };
    let many: String = (0..11).map(|n| format!("h{n}.example\n")).collect();
    assert_eq!(read_feed_within(FeedFormat::Domains, many.as_bytes(), limits), Err(ListError::TooManyEntries(10)));
}

const AZURE: &str = r#"{
  "changeNumber": 390,
  "cloud": "Public",
  "values": [
    { "name": "AzureActiveDirectory", "id": "AzureActiveDirectory",
      "properties": { "changeNumber": 22, "region": "", "regionId": 0, "platform": "Azure", "systemService": "AzureAD",
        "addressPrefixes": ["20.20.32.0/19", "2603:1006:2000::/48"], "networkFeatures": ["API", "NSG", "UDR", "FW"] } },
    { "name": "Storage.WestEurope", "id": "Storage.WestEurope",
      "properties": { "changeNumber": 5, "region": "westeurope", "regionId": 18, "platform": "Azure", "systemService": "AzureStorage",
        "addressPrefixes": ["13.69.40.0/24"], "networkFeatures": [] } }
  ]
}"#;

const AWS: &str = r#"{
  "syncToken": "1763700000", "createDate": "2026-11-21-01-00-00",
  "prefixes": [
    { "ip_prefix": "3.4.12.4/32", "region": "eu-west-1", "service": "AMAZON", "network_border_group": "eu-west-1" },
    { "ip_prefix": "3.5.140.0/22", "region": "ap-northeast-2", "service": "S3", "network_border_group": "ap-northeast-2" },
    { "ip_prefix": "52.95.150.0/24", "region": "eu-west-2", "service": "S3", "network_border_group": "eu-west-2" }
  ],
  "ipv6_prefixes": [
    { "ipv6_prefix": "2600:1f60::/40", "region": "eu-west-2", "service": "S3", "network_border_group": "eu-west-2" }
  ]
}"#;

const GOOGLE_CLOUD: &str = r#"{
  "syncToken": "1763700000000", "creationTime": "2026-11-21T01:00:00.0",
  "prefixes": [
    { "ipv4Prefix": "34.1.208.0/20", "service": "Google Cloud", "scope": "africa-south1" },
    { "ipv6Prefix": "2600:1900:8000::/44", "service": "Google Cloud", "scope": "us-east1" }
  ]
}"#;

const GOOG: &str = r#"{ "syncToken": "1", "creationTime": "x",
  "prefixes": [{ "ipv4Prefix": "8.8.4.0/24" }, { "ipv6Prefix": "2001:4860::/32" }] }"#;

fn tag(provider: Provider, name: &str) -> ServiceTag {
    ServiceTag { provider, name: name.to_owned(), path: "x.json".to_owned() }
}

#[test]
fn the_range_files_as_they_are_published() {
    let cases: [(Provider, &str, &str, &[&str]); 8] = [
        (Provider::Azure, AZURE, "azureactivedirectory", &["20.20.32.0/19", "2603:1006:2000::/48"]),
        (Provider::Azure, AZURE, "Storage.WestEurope", &["13.69.40.0/24"]),
        (Provider::Aws, AWS, "S3", &["3.5.140.0/22", "52.95.150.0/24", "2600:1f60::/40"]),
        (Provider::Aws, AWS, "S3.eu-west-2", &["52.95.150.0/24", "2600:1f60::/40"]),
        (Provider::Google, GOOGLE_CLOUD, "Google Cloud", &["34.1.208.0/20", "2600:1900:8000::/44"]),
        (Provider::Google, GOOGLE_CLOUD, "Google Cloud.us-east1", &["2600:1900:8000::/44"]),
        (Provider::Google, GOOGLE_CLOUD, "us-east1", &["2600:1900:8000::/44"]),
        (Provider::Google, GOOG, "Google", &["8.8.4.0/24", "2001:4860::/32"]),
    ];
    for (provider, file, name, expected) in cases {
        let read =
            read_service_tag(&tag(provider, name), file.as_bytes()).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(shown(&read), expected, "{name}");
    }
}

#[test]
fn a_missing_tag_names_the_nearest_and_another_file_is_refused() {
    let error = read_service_tag(&tag(Provider::Azure, "AzureActiveDirectry"), AZURE.as_bytes()).expect_err("unknown");
    assert!(error.to_string().ends_with("did you mean \"AzureActiveDirectory\"?"), "{error}");
    for file in [AWS, "[]", "", "{\"values\": [{}]}", &AZURE[..200]] {
        let read = read_service_tag(&tag(Provider::Azure, "x"), file.as_bytes());
        assert!(matches!(read, Err(ListError::NotPublished { .. })), "{file}");
    }
}

proptest! {
    #[test]
    fn junk_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        for format in [FeedFormat::Hosts, FeedFormat::Domains, FeedFormat::Cidrs, FeedFormat::SpamhausDrop] {
            let _ = read_feed(format, &bytes);
        }
        for provider in [Provider::Azure, Provider::Aws, Provider::Google] {
            let _ = read_service_tag(&tag(provider, "x"), &bytes);
        }
    }

    #[test]
    fn every_range_of_a_list_is_kept(ranges in prop::collection::btree_set((any::<u32>(), 8u8..=32), 1..50)) {
        let nets: std::collections::BTreeSet<ipnet::IpNet> = ranges
            .into_iter()
            .filter_map(|(bits, length)| ipnet::Ipv4Net::new(bits.into(), length).ok())
            .map(|net| ipnet::IpNet::V4(net.trunc()))
            .collect();
        let text: String = nets.iter().map(|net| format!("{net}\n")).collect();
        let read = read_feed(FeedFormat::Cidrs, text.as_bytes()).expect("good lines");
        prop_assert_eq!(read.content.cidrs, nets.into_iter().collect::<Vec<_>>());
    }
}
