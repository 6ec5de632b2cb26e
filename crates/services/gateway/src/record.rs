//! The record of a flow: its decision, written before anything is forwarded, and its end.

use std::time::Instant;

use audit_event::{
    Destination, EndedBy, Event, FlowDecided, FlowEnded, HttpRequest, TlsSeen, Transfer, WouldRecord, bounded,
    microseconds,
};
use audit_log::{RecordError, Recorded};
use policy::{Decision, NameSource, Protocol, Verdict};
use values::{Revision, RuleName};

use crate::{
    flow::{Flow, FlowFacts, OpenFlow, Seen, cut_query, ech_text},
    shared::Shared,
};

/// The longest path that is recorded.
const PATH_LIMIT: usize = 2048;
/// The longest method or host that is recorded.
const WORD_LIMIT: usize = 255;

/// What a record says beside the decision.
#[derive(Debug, Default)]
pub(crate) struct Said<'a> {
    /// The verdict, where it is not the decision's: `asked` before the answer, `error`.
    pub(crate) verdict: Option<&'a str>,
    /// The reason, where it is not the decision's.
    pub(crate) reason: Option<String>,
    /// What failed.
    pub(crate) error: Option<String>,
}

/// Records a decision and counts it. Without the [`Recorded`] nothing may leave.
pub(crate) async fn decided(
    shared: &Shared,
    flow: &Flow,
    decision: &Decision,
    revision: Revision,
    said: Said<'_>,
) -> Result<Recorded, RecordError> {
    match (said.verdict, &said.error) {
        (_, Some(error)) if flow.seen.inspected => shared.tally.failed(flow.what(), error),
        (_, Some(_)) => shared.tally.error(),
        (Some("asked"), None) => shared.tally.flow(Verdict::Asked, &flow.what(), decision.rule.as_str()),
        (Some("allowed"), None) => shared.tally.flow(Verdict::Allowed, &flow.what(), decision.rule.as_str()),
        (Some(_), None) => shared.tally.flow(Verdict::Denied, &flow.what(), decision.rule.as_str()),
        (None, None) => shared.tally.flow(decision.verdict, &flow.what(), decision.rule.as_str()),
    }
    let event = FlowDecided {
        flow: flow.id,
        revision: revision.to_string(),
        verdict: said.verdict.unwrap_or(decision.verdict.as_str()).to_owned(),
        enforcement: decision.enforcement.as_str().to_owned(),
        rule: decision.rule.to_string(),
        layer: decision.layer.as_str().to_owned(),
        reason: said.reason.unwrap_or_else(|| decision.reason.clone().into_owned()),
        would: would(decision),
        process: flow.process.clone(),
        destination: destination(&flow.facts),
        protocol: transport(flow.facts.protocol).to_owned(),
        route: decision.route.as_ref().map(ToString::to_string),
        tls: tls(&flow.facts, &flow.seen),
        http: http(flow),
        credential: decision.credential.as_ref().map(ToString::to_string),
        bytes: Transfer::default(),
        duration_us: microseconds(flow.accepted.elapsed()),
        error: said.error,
    };
    let event = Event::FlowDecided(Box::new(event));
    match &flow.together {
        Some(together) => together.record(&shared.audit, event).await,
        None => shared.audit.record(event).await,
    }
}

/// What ended a flow.
#[derive(Debug)]
pub(crate) struct End {
    /// Who.
    pub(crate) by: EndedBy,
    /// The revision and rule that cut it, where a policy did.
    pub(crate) cut: Option<(Revision, RuleName)>,
    /// Bytes.
    pub(crate) bytes: Transfer,
    /// What failed.
    pub(crate) error: Option<String>,
}

/// The event of a flow's end.
pub(crate) fn ended(flow: &OpenFlow, end: End) -> Event {
    let (ended_revision, rule) = match end.cut {
        Some((revision, rule)) => (Some(revision.to_string()), rule),
        None => (None, flow.rule.clone()),
    };
    Event::FlowEnded(Box::new(FlowEnded {
        flow: flow.id,
        revision: flow.revision.to_string(),
        ended_revision,
        rule: rule.to_string(),
        ended_by: end.by,
        process: flow.process.get().cloned(),
        destination: destination(&flow.facts),
        protocol: transport(flow.facts.protocol).to_owned(),
        bytes: end.bytes,
        duration_us: microseconds(Instant::now().saturating_duration_since(flow.decided)),
        error: end.error,
    }))
}

fn would(decision: &Decision) -> Vec<WouldRecord> {
    decision
        .would
        .iter()
        .map(|would| WouldRecord { rule: would.rule.to_string(), verdict: would.verdict.as_str().to_owned() })
        .collect()
}

fn destination(facts: &FlowFacts) -> Destination {
    let named = facts.name.known();
    Destination {
        name: named.map(|named| named.name.to_string()),
        name_from: named.map(|named| source(named.source).to_owned()),
        address: facts.address.known().copied(),
        original_address: facts.original.map(|original| original.ip()),
        port: facts.port,
    }
}

fn transport(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Icmp => "icmp",
    }
}

fn source(source: NameSource) -> &'static str {
    match source {
        NameSource::Sni => "sni",
        NameSource::HttpHost => "http-host",
        NameSource::ProxyTarget => "proxy-target",
        NameSource::DnsBinding => "dns-binding",
        NameSource::DnsQuestion => "dns-question",
    }
}

fn tls(facts: &FlowFacts, seen: &Seen) -> TlsSeen {
    match facts.tls.known() {
        Some(tls) => TlsSeen {
            mode: if seen.inspected { "inspect" } else { "passthrough" }.to_owned(),
            sni: seen.server_name.clone(),
            alpn: (!tls.alpn.is_empty()).then(|| bounded(&tls.alpn.join(","), WORD_LIMIT)),
            ech: ech_text(tls.ech).map(str::to_owned),
        },
        None => TlsSeen { mode: "none".to_owned(), sni: None, alpn: None, ech: None },
    }
}

fn http(flow: &Flow) -> Option<HttpRequest> {
    let (http, seen) = (flow.request.known()?, &flow.seen);
    let path = seen.path.as_deref().map(cut_query).or(http.path.as_deref()).unwrap_or_default();
    Some(HttpRequest {
        method: bounded(&http.method, WORD_LIMIT),
        host: seen.host.as_ref().map(|host| bounded(&host.to_string(), WORD_LIMIT)),
        path: bounded(path, PATH_LIMIT),
        judged: flow.judged_by_request,
    })
}
