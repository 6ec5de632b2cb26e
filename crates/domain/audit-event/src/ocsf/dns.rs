//! DNS questions: one event for the question and its answer.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::{Class, NETWORK, Severity, actor, control, source, status, together, would};
use crate::{event::DnsDecided, parse::Envelope};

pub(super) fn decided(dns: &DnsDecided, envelope: &Envelope) -> Class {
    let (rcode_id, rcode) = match dns.response.as_str() {
        "NOERROR" => (0, "NoError"),
        "FORMERR" => (1, "FormError"),
        "SERVFAIL" => (2, "ServError"),
        "NXDOMAIN" => (3, "NXDomain"),
        "NOTIMP" => (4, "NotImp"),
        "REFUSED" => (5, "Refused"),
        other => (99, other),
    };
    let asked = envelope.time.as_millisecond() - i64::try_from(dns.duration_us / 1_000).unwrap_or(0);
    let attributes = together([
        control(&dns.verdict, &dns.rule, Some("dns"), &dns.reason, &dns.revision),
        status(dns.error.as_deref()),
        json!({
            "actor": actor(dns.process.as_ref()),
            "src_endpoint": source(envelope),
            "query": { "hostname": dns.name, "type": dns.record_type, "class": "IN" },
            "answers": dns.answers.iter().map(answer).collect::<Vec<_>>(),
            "rcode_id": rcode_id,
            "rcode": rcode,
            "query_time": asked,
            "response_time": envelope.time.as_millisecond(),
            "duration": dns.duration_us / 1_000,
        }),
    ]);
    Class {
        uid: 4003,
        name: "DNS Activity",
        category: NETWORK,
        activity: (6, "Traffic".into()),
        severity: if dns.verdict == "denied" { Severity::Low } else { Severity::Informational },
        message: format!("{} {} {} by {}: {}", dns.verdict, dns.record_type, dns.name, dns.rule, dns.reason),
        attributes,
        unmapped: json!({
            "verdict": dns.verdict,
            "enforcement": dns.enforcement,
            "would": would(&dns.would),
            "route": dns.route,
            "process_digest": dns.process.as_ref().and_then(|process| process.digest.as_ref()),
            "duration_us": dns.duration_us,
        }),
    }
}

fn answer(address: &IpAddr) -> Value {
    json!({ "type": if address.is_ipv6() { "AAAA" } else { "A" }, "class": "IN", "rdata": address.to_string() })
}
