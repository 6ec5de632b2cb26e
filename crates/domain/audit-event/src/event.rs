//! What happened: the closed list.
//!
//! Field names are the wire format (JSON Lines, stable). Text that comes from the workload is
//! bounded and cleaned by whoever makes the event, with `bounded`. Fields that may be erased later (see
//! [`crate::erasable`]) are nullable in the schema: `null` is what erasing leaves.

use std::{net::IpAddr, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who an event is about; the same for every event of one run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunContext {
    /// The sandbox: `run-` and the run's short id.
    pub sandbox: String,
    /// The thread of an agent.
    pub thread: Option<String>,
    /// The tool call.
    pub tool_call: Option<String>,
}

/// The process behind a flow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Process {
    /// Its id, seen from the host.
    pub pid: u32,
    /// Its executable, seen from the sandbox.
    pub exe: String,
    /// SHA-256 of the executable, where it was read.
    pub digest: Option<String>,
    /// Its command line, cut to 512 bytes.
    #[schemars(with = "Option<String>")]
    pub args: String,
}

/// Where a flow was going.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Destination {
    /// The name it was judged by.
    pub name: Option<String>,
    /// `sni`, `http-host`, `proxy-target`, `dns-binding` or `dns-question`.
    pub name_from: Option<String>,
    /// The address dialled.
    pub address: Option<IpAddr>,
    /// The address the client dialled.
    pub original_address: Option<IpAddr>,
    /// The port.
    pub port: u16,
}

/// What was seen of TLS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TlsSeen {
    /// `none`, `passthrough` or `inspect`.
    pub mode: String,
    /// The server name indication.
    pub sni: Option<String>,
    /// The protocols offered, joined by commas.
    pub alpn: Option<String>,
    /// `unverified` or `suspect` where the extension is there.
    pub ech: Option<String>,
}

/// What was seen of an HTTP request, plain or inside opened TLS. The query is redacted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HttpRequest {
    /// The method.
    pub method: String,
    /// The host.
    pub host: Option<String>,
    /// The path without its query.
    #[schemars(with = "Option<String>")]
    pub path: String,
    /// Whether the policy looked at requests here: then each one of the connection has a record. Absent where it did
    /// not, and the first one stands for all.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub judged: bool,
}

/// A watched match.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WouldRecord {
    /// The rule.
    pub rule: String,
    /// `would-allow`, `would-ask`, `would-deny` or `would-unknown`.
    pub verdict: String,
}

/// Bytes moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Transfer {
    /// From the sandbox.
    pub sent: u64,
    /// To the sandbox.
    pub received: u64,
}

/// A flow was judged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FlowDecided {
    /// The connection's number in this run; its end carries the same.
    pub flow: u64,
    /// The policy revision, as text.
    pub revision: String,
    /// `allowed`, `denied`, `asked` or `error`.
    pub verdict: String,
    /// `enforce` or `watch`.
    pub enforcement: String,
    /// The deciding rule.
    pub rule: String,
    /// `dns`, `ip`, `tls` or `http`.
    pub layer: String,
    /// Why, for people.
    pub reason: String,
    /// Watched matches.
    pub would: Vec<WouldRecord>,
    /// The process, where it was looked up before the decision.
    pub process: Option<Process>,
    /// Where it was going.
    pub destination: Destination,
    /// `tcp`, `udp` or `icmp`.
    pub protocol: String,
    /// The next hop's name; `None` is direct.
    pub route: Option<String>,
    /// TLS.
    pub tls: TlsSeen,
    /// Plain HTTP.
    pub http: Option<HttpRequest>,
    /// The credential's name; never a value.
    pub credential: Option<String>,
    /// Bytes so far.
    pub bytes: Transfer,
    /// From accept to decision, in microseconds.
    pub duration_us: u64,
    /// What failed, for verdict `error`.
    pub error: Option<String>,
}

/// What ended a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum EndedBy {
    /// The client closed or reset.
    Client,
    /// The server closed or reset.
    Server,
    /// Both directions ended in order.
    Finished,
    /// A new policy denies it.
    Policy,
    /// An idle or total bound.
    Bound,
    /// The gateway stopped.
    Shutdown,
    /// It could not be connected.
    Unreachable,
}

/// A flow ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FlowEnded {
    /// The number of its decision.
    pub flow: u64,
    /// The revision it was decided under.
    pub revision: String,
    /// The revision that ended it, where a new policy did.
    pub ended_revision: Option<String>,
    /// The rule that let it through, or that cut it.
    pub rule: String,
    /// What ended it.
    pub ended_by: EndedBy,
    /// The process, where it was found.
    pub process: Option<Process>,
    /// Where it went.
    pub destination: Destination,
    /// `tcp`, `udp` or `icmp`.
    pub protocol: String,
    /// Bytes moved.
    pub bytes: Transfer,
    /// From decision to end, in microseconds.
    pub duration_us: u64,
    /// What failed.
    pub error: Option<String>,
}

/// A DNS question was judged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DnsDecided {
    /// The policy revision, as text.
    pub revision: String,
    /// `allowed`, `denied`, `asked` or `error`.
    pub verdict: String,
    /// `enforce` or `watch`.
    pub enforcement: String,
    /// The deciding rule.
    pub rule: String,
    /// Why, for people.
    pub reason: String,
    /// Watched matches.
    pub would: Vec<WouldRecord>,
    /// The process, where it was found.
    pub process: Option<Process>,
    /// The name asked for, escaped and cut to 255 bytes.
    pub name: String,
    /// The record type: `A`, `AAAA`, `HTTPS` …
    pub record_type: String,
    /// The addresses answered.
    pub answers: Vec<IpAddr>,
    /// The response code: `NOERROR`, `NXDOMAIN`, `REFUSED`, `SERVFAIL` …; `UPSTREAM` in the record that is written
    /// before a query leaves.
    pub response: String,
    /// The route whose servers were asked.
    pub route: Option<String>,
    /// From question to answer, in microseconds.
    pub duration_us: u64,
    /// What failed.
    pub error: Option<String>,
}

/// A policy revision is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyApplied {
    /// The revision.
    pub revision: String,
    /// The policy's name.
    pub name: String,
    /// SHA-256 of its source, lower-case hex.
    pub digest: String,
    /// Open connections judged again.
    pub rejudged: u64,
    /// Of these, cut.
    pub cut: u64,
}

/// A policy revision was refused; the one before stays in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyRefused {
    /// The revision in force.
    pub revision: String,
    /// Why, with the line where there is one.
    pub reason: String,
}

/// A secret is about to be attached to a request: written before it is. No value is in here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CredentialUsed {
    /// The number of the request's decision.
    pub flow: u64,
    /// The policy revision that binds it, as text.
    pub revision: String,
    /// The credential's name.
    pub credential: String,
    /// The host that it is sent to.
    pub host: String,
    /// How it is attached: `bearer`, `basic`, `header`, `query`, `cookie`, `sigv4`, `client-certificate` or
    /// `placeholder`.
    pub attach: String,
    /// Stands for the secret: in one run the same exactly where the secret is, and of no use for guessing it.
    pub token: String,
}

/// The sandbox started or ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SandboxChanged {
    /// The command line, cut to 512 bytes.
    #[schemars(with = "Option<String>")]
    pub command: String,
    /// The exit code, at the end.
    pub exit_code: Option<i32>,
    /// What the sandbox enforces, by name: `user-namespace`, `landlock`, `seccomp`, `cgroup-memory` …
    pub enforced: Vec<String>,
    /// What this machine can't enforce and the run goes without.
    pub missing: Vec<String>,
    /// What was opened on purpose: mounts, presets, environment variables (names only).
    pub opened: Vec<String>,
    /// What the end found changed in the writable folders that would have acted on the host: settings and hooks of
    /// git, protected files that were replaced. Absent where there is nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<String>,
}

/// Everything that can be recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event")]
pub enum Event {
    /// A flow was judged.
    #[serde(rename = "flow.decided")]
    FlowDecided(Box<FlowDecided>),
    /// A flow ended.
    #[serde(rename = "flow.ended")]
    FlowEnded(Box<FlowEnded>),
    /// A DNS question was judged.
    #[serde(rename = "dns.decided")]
    DnsDecided(Box<DnsDecided>),
    /// A secret is about to be attached to a request.
    #[serde(rename = "credential.used")]
    CredentialUsed(CredentialUsed),
    /// A policy revision is in force.
    #[serde(rename = "policy.applied")]
    PolicyApplied(PolicyApplied),
    /// A policy revision was refused.
    #[serde(rename = "policy.refused")]
    PolicyRefused(PolicyRefused),
    /// A sandbox started.
    #[serde(rename = "sandbox.started")]
    SandboxStarted(SandboxChanged),
    /// A sandbox ended.
    #[serde(rename = "sandbox.ended")]
    SandboxEnded(SandboxChanged),
    /// A person was asked and answered, or did not.
    #[serde(rename = "approval.answered")]
    ApprovalAnswered {
        /// The flow that waited.
        flow: u64,
        /// `once`, `run`, `always`, `denied`, `expired`, `withdrawn` (the flow went away) or `not-asked` (too many).
        answer: String,
        /// Who answered: the user's name on this machine.
        by: Option<String>,
    },
    /// A log file was closed and the chain goes on in the next one.
    #[serde(rename = "audit.checkpoint")]
    AuditCheckpoint {
        /// The file that was closed.
        file: String,
        /// How many events it holds.
        events: u64,
    },
    /// The writer before was stopped in the middle of a line; what it left was moved aside.
    #[serde(rename = "audit.recovered")]
    AuditRecovered {
        /// The file that the piece was moved to.
        file: String,
        /// How many bytes it has.
        bytes: u64,
    },
}

/// An event that tells of the workload's traffic.
#[derive(Debug, Clone, Copy)]
pub enum Traffic<'a> {
    /// A flow was judged.
    Decided(&'a FlowDecided),
    /// A flow ended.
    Ended(&'a FlowEnded),
    /// A DNS question was judged.
    Question(&'a DnsDecided),
}

impl Event {
    /// What it tells of the workload's traffic; `None` for one about the policy, the sandbox, a person or the record.
    pub fn traffic(&self) -> Option<Traffic<'_>> {
        match self {
            Event::FlowDecided(flow) => Some(Traffic::Decided(flow)),
            Event::FlowEnded(flow) => Some(Traffic::Ended(flow)),
            Event::DnsDecided(question) => Some(Traffic::Question(question)),
            Event::CredentialUsed(_)
            | Event::PolicyApplied(_)
            | Event::PolicyRefused(_)
            | Event::SandboxStarted(_)
            | Event::SandboxEnded(_)
            | Event::ApprovalAnswered { .. }
            | Event::AuditCheckpoint { .. }
            | Event::AuditRecovered { .. } => None,
        }
    }
}

/// A duration in whole microseconds, for `duration_us` fields.
pub fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
