//! Every way a packet could go, from within: it reaches the gateway's sockets, the sandbox's own servers, or nothing.

use crate::bench::{Bench, as_anybody};
use crate::privileges::answers;

#[test]
fn everything_leads_to_the_gateway_or_is_refused_at_once() {
    as_anybody(|| {
        let outcome = Bench::inside("network").run();
        let heard = outcome.heard.clone();
        let output = outcome.good();
        let answers = answers(&output);
        let refused = libc::ECONNREFUSED.to_string();
        let expected = [
            ("tcp 93.184.216.34:443", "to 93.184.216.34:443"),
            ("tcp [2606:2800::1]:443", "to [2606:2800::1]:443"),
            ("tcp 10.0.0.8:5432", "to 10.0.0.8:5432"),
            ("tcp 8.8.8.8:53", "dns by tcp"),
            ("tcp [2001:4860::8888]:53", "dns by tcp"),
            ("proxy", "proxy"),
            ("direct 127.0.0.1:15001", &refused),
            ("direct 127.0.0.1:15053", &refused),
            ("direct [::1]:15001", &refused),
            ("dns 8.8.8.8:53", "dns answer"),
            ("dns 127.0.0.53:53", "dns answer"),
            ("dns [2001:4860::8888]:53", "dns answer"),
            ("dns [::1]:53", "dns answer"),
            ("udp 9.9.9.9:443", "refused"),
            ("udp 224.0.0.251:5353", "refused"),
            ("udp 255.255.255.255:67", "refused"),
            ("udp [2620:fe::9]:443", "refused"),
            ("udp [ff02::fb]:5353", "refused"),
            ("own server", "true"),
        ];
        for (what, answer) in expected {
            assert_eq!(answers.get(what), Some(&answer), "{what} in {output}");
        }
        assert_eq!(answers.len(), expected.len(), "{output}");
        for told in ["tcp 93.184.216.34:443", "tcp [2606:2800::1]:443", "dns udp who", "dns tcp", "proxy"] {
            assert!(heard.iter().any(|line| line == told), "{told} in {heard:?}");
        }
    });
}

#[test]
fn a_name_is_looked_up_at_the_gateway() {
    as_anybody(|| {
        let outcome = Bench::bash("getent hosts example.test || true; getent hosts localhost").run();
        let asked = outcome.heard.iter().any(|line| line.starts_with("dns udp") && line.contains("example"));
        assert!(asked, "{outcome:?}");
        assert!(outcome.good().contains("localhost"));
    });
}
