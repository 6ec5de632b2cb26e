//! What a policy would have done to recorded traffic.
//!
//! Each decision of a record is made again, from the facts that the record holds and in the gateway's order.
//! Only what comes out differently is told. What a record does not hold is not guessed: where the policy needs
//! it, the outcome is [`Outcome::Unknown`]. One exception: where a name was never resolved, because it was
//! denied first, a neutral public address stands for it, so that a newly allowed name shows as allowed.

use std::{collections::BTreeMap, fmt, net::SocketAddr};

use audit_event::{DnsDecided, Event, FlowDecided, Traffic};
use jiff::Timestamp;
use policy::{
    CompiledPolicy, EchState, Fact, HostName, HttpFacts, Missing, NameAnswer, NameSource, NamedHost, ProcessFacts,
    Protocol, QueryType, TlsFacts, Verdict, http_path,
};
use serde::Serialize;
use values::Labels;

use crate::flow::{NEUTRAL_ADDRESS, SupposedFlow};

/// What came or would come of a flow or question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It goes on.
    Allowed,
    /// A person is asked.
    Asked,
    /// It is refused.
    Denied,
    /// It depends on a fact that the record does not hold.
    Unknown,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Outcome::Allowed => "allowed",
            Outcome::Asked => "asked",
            Outcome::Denied => "denied",
            Outcome::Unknown => "unknown",
        })
    }
}

impl From<Verdict> for Outcome {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Allowed => Outcome::Allowed,
            Verdict::Asked => Outcome::Asked,
            Verdict::Denied => Outcome::Denied,
        }
    }
}

/// An outcome and what decided it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Judged {
    /// What comes of it.
    pub outcome: Outcome,
    /// The rule; where the outcome is unknown, the fact that is missing.
    pub rule: String,
    /// The credential that the request carries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
}

/// The rule, and the credential that it attaches.
impl fmt::Display for Judged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.credential {
            Some(credential) => write!(f, "{} with credential {credential}", self.rule),
            None => f.write_str(&self.rule),
        }
    }
}

/// Decisions that would come out differently in the same way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Whether these are DNS questions; else flows.
    pub dns: bool,
    /// As recorded.
    pub from: Judged,
    /// As this policy decides.
    pub to: Judged,
    /// How many.
    pub count: u64,
    /// The first one.
    pub example: String,
    /// How many for each destination.
    pub destinations: BTreeMap<String, u64>,
}

/// What a replay found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Replay {
    /// Decisions that were made again.
    pub judged: u64,
    /// Of these, how many come out the same.
    pub unchanged: u64,
    /// Decisions that no policy makes (malformed, a binding, a bound, an error) or that can't be read any more.
    pub passed_over: u64,
    /// What comes out differently: verdicts first, most frequent first.
    pub changes: Vec<Change>,
}

/// Judges recorded decisions again, for a sandbox with these labels and as if they were made at `now`.
pub fn replay<'e>(
    policy: &CompiledPolicy,
    from: &Labels,
    now: Timestamp,
    events: impl IntoIterator<Item = &'e Event>,
) -> Replay {
    let mut replayed = Replay::default();
    let mut changes: BTreeMap<(bool, Judged, Judged), Change> = BTreeMap::new();
    for event in events {
        let again = match event.traffic() {
            Some(Traffic::Decided(flow)) => again_flow(policy, from, now, flow),
            Some(Traffic::Question(question)) => again_question(policy, from, now, question),
            Some(Traffic::Ended(_)) | None => continue,
        };
        let Some(again) = again else {
            replayed.passed_over += 1;
            continue;
        };
        replayed.judged += 1;
        if again.same() {
            replayed.unchanged += 1;
            continue;
        }
        let key = (again.dns, again.recorded.clone(), again.decided.clone());
        let change = changes.entry(key).or_insert_with(|| Change {
            dns: again.dns,
            from: again.recorded.clone(),
            to: again.decided.clone(),
            count: 0,
            example: again.example.clone(),
            destinations: BTreeMap::new(),
        });
        change.count += 1;
        *change.destinations.entry(again.destination).or_default() += 1;
    }
    replayed.changes = changes.into_values().collect();
    replayed.changes.sort_by_key(|change| (change.from.outcome == change.to.outcome, std::cmp::Reverse(change.count)));
    replayed
}

/// One decision, twice.
struct Again {
    dns: bool,
    recorded: Judged,
    decided: Judged,
    destination: String,
    example: String,
}

impl Again {
    /// An asked flow is recorded with the person's answer: the same rule asking again is no change.
    fn same(&self) -> bool {
        let asks_again = self.decided.outcome == Outcome::Asked && self.decided.rule == self.recorded.rule;
        asks_again || self.decided == self.recorded
    }
}

/// What was recorded, where a policy decided it.
fn recorded(verdict: &str, rule: &str, credential: Option<&String>) -> Option<Judged> {
    // These come of the bytes, of bindings and of bounds; the policy has no say.
    const BEYOND_POLICY: [&str; 3] = ["guard:malformed", "guard:binding", "guard:dns-limit"];
    let outcome = match verdict {
        "allowed" => Outcome::Allowed,
        "asked" => Outcome::Asked,
        "denied" => Outcome::Denied,
        _ => return None,
    };
    let own = ["local:", "metadata-service:"].iter().any(|prefix| rule.starts_with(prefix));
    let credential = credential.filter(|_| outcome != Outcome::Denied).cloned();
    (!own && !BEYOND_POLICY.contains(&rule)).then(|| Judged { outcome, rule: rule.to_owned(), credential })
}

fn again_flow(policy: &CompiledPolicy, from: &Labels, now: Timestamp, event: &FlowDecided) -> Option<Again> {
    let recorded = recorded(&event.verdict, &event.rule, event.credential.as_ref())?;
    let flow = flow_of(policy, from, now, event)?;
    let decided = match flow.decide(policy) {
        Ok(decision) => Judged {
            outcome: decision.verdict.into(),
            rule: decision.rule.to_string(),
            credential: decision.credential.map(|name| name.to_string()),
        },
        Err(missing) => {
            let rule = format!("needs the {}", missing_word(missing));
            Judged { outcome: Outcome::Unknown, rule, credential: None }
        }
    };
    let to = &event.destination;
    let address = to.address.or(to.original_address).map(|address| address.to_string());
    let host = to.name.clone().or(address).unwrap_or_else(|| "?".to_owned());
    let destination = match event.protocol.as_str() {
        "tcp" => format!("{host}:{}", to.port),
        other => format!("{other}://{host}:{}", to.port),
    };
    let request = event.http.as_ref().map(|http| format!("{} {} ", http.method, http.path)).unwrap_or_default();
    let process = event.process.as_ref().map(|process| format!(" by {}", process.exe)).unwrap_or_default();
    let example = format!("{request}{destination}{process}");
    Some(Again { dns: false, recorded, decided, destination, example })
}

fn missing_word(missing: Missing) -> &'static str {
    match missing {
        Missing::Name => "name",
        Missing::Address => "address",
        Missing::Http => "request",
        Missing::Process => "process",
    }
}

/// The facts of a recorded flow.
pub fn flow_of(policy: &CompiledPolicy, from: &Labels, now: Timestamp, event: &FlowDecided) -> Option<SupposedFlow> {
    let protocol = match event.protocol.as_str() {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "icmp" => Protocol::Icmp,
        _ => return None,
    };
    let to = &event.destination;
    let original = to.original_address.map(|address| SocketAddr::new(address, to.port));
    let mut flow = SupposedFlow::recorded(policy.source(from), protocol, to.port, original, now);
    if let Some(name) = &to.name {
        let source = name_source(to.name_from.as_deref());
        flow.name = Fact::Known(NamedHost { name: HostName::parse(name).ok()?, source });
        flow.address = Some(Fact::Known(to.address.unwrap_or(NEUTRAL_ADDRESS)));
    } else {
        flow.address = to.address.or(to.original_address).map(Fact::Known);
    }
    if event.tls.mode != "none" {
        let alpn = event.tls.alpn.iter().flat_map(|alpn| alpn.split(',')).map(str::to_owned).collect();
        flow.tls = Fact::Known(TlsFacts { alpn, ech: ech(event.tls.ech.as_deref()) });
    }
    if let Some(http) = &event.http {
        let path = http_path::normalise(&http.path);
        flow.http =
            Some(Fact::Known(HttpFacts { method: http.method.clone(), path, query: None, headers: Vec::new() }));
    }
    flow.process = event.process.as_ref().map(|process| {
        let (executable, digest) = (process.exe.clone(), process.digest.clone());
        Fact::Known(ProcessFacts { pid: process.pid, executable, digest })
    });
    Some(flow)
}

fn name_source(text: Option<&str>) -> NameSource {
    match text {
        Some("sni") => NameSource::Sni,
        Some("http-host") => NameSource::HttpHost,
        Some("proxy-target") => NameSource::ProxyTarget,
        Some("dns-question") => NameSource::DnsQuestion,
        Some(_) | None => NameSource::DnsBinding,
    }
}

fn ech(text: Option<&str>) -> EchState {
    match text {
        None => EchState::None,
        Some("unverified") => EchState::Unverified,
        // What is not known is taken for the worse.
        Some(_) => EchState::Suspect,
    }
}

fn again_question(policy: &CompiledPolicy, from: &Labels, now: Timestamp, event: &DnsDecided) -> Option<Again> {
    let recorded = recorded(&event.verdict, &event.rule, None)?;
    // The address of an answer was refused, not the question.
    if event.rule.starts_with("guard:") && event.rule != "guard:metadata" {
        return None;
    }
    let name = HostName::parse(&event.name).ok()?;
    let decision = policy.judge_name(&policy.source(from), &name, query_type(&event.record_type), now);
    let outcome = match decision.answer {
        NameAnswer::Resolve => Outcome::Allowed,
        NameAnswer::Synthetic => Outcome::Asked,
        NameAnswer::Refuse => Outcome::Denied,
    };
    let decided = Judged { outcome, rule: decision.rule.to_string(), credential: None };
    let example = format!("{} {name}", event.record_type);
    Some(Again { dns: true, recorded, decided, destination: name.to_string(), example })
}

/// The record type of a recorded question.
pub(crate) fn query_type(text: &str) -> QueryType {
    match text {
        "A" => QueryType::A,
        "AAAA" => QueryType::Aaaa,
        "CNAME" => QueryType::Cname,
        "HTTPS" => QueryType::Https,
        "SVCB" => QueryType::Svcb,
        "MX" => QueryType::Mx,
        "TXT" => QueryType::Txt,
        "SRV" => QueryType::Srv,
        // All others are refused alike; the number tells them apart for people only.
        _ => QueryType::Other(text.strip_prefix("TYPE").and_then(|number| number.parse().ok()).unwrap_or(u16::MAX)),
    }
}

#[cfg(test)]
mod tests;
