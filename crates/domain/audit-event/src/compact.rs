//! A line for people: one event, one line, the verdict first.
//!
//! ```text
//! 09:00:00.123 run-7f3a denied   tcp  curl[4711] → db.internal:80 (10.0.0.8)  rule deny-east-west@3: destination in group private
//! ```
//!
//! Every text is escaped again here: a file may come from elsewhere, and a line must not move a terminal's cursor.

use std::fmt::Write as _;

use jiff::{Timestamp, tz::Offset};
use serde_json::Value;

use crate::{
    event::{
        Destination, DnsDecided, EndedBy, Event, FlowDecided, FlowEnded, Process, SandboxChanged, Transfer, WouldRecord,
    },
    parse::{Body, Entry},
    text::bounded,
};

/// The most bytes of one text in a line.
const TEXT: usize = 256;

/// How a line looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Style {
    /// With ANSI colours.
    pub colour: bool,
    /// With the date before the time.
    pub date: bool,
}

/// One line for an event, without a line feed.
pub fn compact_line(entry: &Entry, style: Style) -> String {
    let mut line = Line { text: String::new(), style };
    line.time(entry.envelope.time);
    line.word(&entry.envelope.sandbox);
    if let Some(tool_call) = &entry.envelope.tool_call {
        line.word(&format!("[{tool_call}]"));
    }
    match &entry.body {
        Body::Known(event) => line.event(event),
        Body::Unknown(fields) => {
            line.coloured(Colour::Dim, &entry.envelope.event);
            line.text.push(' ');
            line.word(&Value::Object(fields.clone()).to_string());
        }
    }
    line.text.truncate(line.text.trim_end().len());
    line.text
}

#[derive(Clone, Copy)]
enum Colour {
    Red,
    Green,
    Yellow,
    Dim,
}

impl Colour {
    fn code(self) -> &'static str {
        match self {
            Self::Red => "31",
            Self::Green => "32",
            Self::Yellow => "33",
            Self::Dim => "2",
        }
    }

    fn of_verdict(verdict: &str) -> Self {
        match verdict {
            "allowed" => Self::Green,
            "denied" => Self::Red,
            _ => Self::Yellow,
        }
    }
}

struct Line {
    text: String,
    style: Style,
}

impl Line {
    fn time(&mut self, time: Timestamp) {
        let utc = Offset::UTC.to_datetime(time);
        let text = match self.style.date {
            true => utc.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
            false => utc.strftime("%H:%M:%S%.3f").to_string(),
        };
        self.coloured(Colour::Dim, &text);
        self.text.push(' ');
    }

    fn word(&mut self, text: &str) {
        self.text.push_str(&bounded(text, TEXT));
        self.text.push(' ');
    }

    fn coloured(&mut self, colour: Colour, text: &str) {
        let text = bounded(text, TEXT);
        // Writing to a String can't fail.
        let _ = match self.style.colour {
            true => write!(self.text, "\x1b[{}m{text}\x1b[0m", colour.code()),
            false => write!(self.text, "{text}"),
        };
    }

    /// What happened, in a column.
    fn headline(&mut self, colour: Colour, word: &str, protocol: &str) {
        self.coloured(colour, &format!("{word:<8}"));
        self.text.push(' ');
        self.word(&format!("{protocol:<4}"));
    }

    fn event(&mut self, event: &Event) {
        match event {
            Event::FlowDecided(flow) => self.flow_decided(flow),
            Event::FlowEnded(flow) => self.flow_ended(flow),
            Event::DnsDecided(dns) => self.dns_decided(dns),
            Event::CredentialUsed(used) => {
                self.headline(Colour::Green, "attached", "secret");
                self.word(&format!("{} ({}) → {}", used.credential, used.attach, used.host));
                self.word(&format!(" flow {} token {} revision {}", used.flow, used.token, used.revision));
            }
            Event::PolicyApplied(policy) => {
                self.headline(Colour::Green, "applied", "policy");
                self.word(&format!("{} revision {}", policy.name, policy.revision));
                self.word(&format!("({} judged again, {} cut)", count(policy.rejudged, "connection"), policy.cut));
            }
            Event::PolicyRefused(policy) => {
                self.headline(Colour::Red, "refused", "policy");
                self.word(&format!("revision {} stays: {}", policy.revision, policy.reason));
            }
            Event::SandboxStarted(sandbox) => self.sandbox("started", sandbox),
            Event::SandboxEnded(sandbox) => self.sandbox("ended", sandbox),
            Event::ApprovalAnswered { flow, answer, by } => {
                let yes = matches!(answer.as_str(), "once" | "run" | "always");
                let colour = if yes { Colour::Green } else { Colour::Red };
                self.headline(colour, answer, "ask");
                self.word(&format!("flow {flow} by {}", by.as_deref().unwrap_or("nobody")));
            }
            Event::AuditCheckpoint { file, events } => {
                self.headline(Colour::Dim, "closed", "audit");
                self.word(&format!("{file} with {}", count(*events, "event")));
            }
            Event::AuditRecovered { file, bytes } => {
                self.headline(Colour::Yellow, "torn", "audit");
                self.word(&format!("{} of an unfinished line moved to {file}", count(*bytes, "byte")));
            }
        }
    }

    fn flow_decided(&mut self, flow: &FlowDecided) {
        self.headline(Colour::of_verdict(&flow.verdict), &flow.verdict, &flow.protocol);
        self.process(flow.process.as_ref());
        self.destination(&flow.destination);
        if let Some(http) = &flow.http {
            self.word(&format!("{} {}", http.method, http.path));
        }
        if let Some(route) = &flow.route {
            self.word(&format!("via {route}"));
        }
        self.why(&flow.rule, &flow.revision, &flow.reason, &flow.would, flow.error.as_deref());
    }

    fn flow_ended(&mut self, flow: &FlowEnded) {
        self.headline(Colour::Dim, "ended", &flow.protocol);
        self.process(flow.process.as_ref());
        self.destination(&flow.destination);
        let Transfer { sent, received } = flow.bytes;
        self.word(&format!("{sent} B out, {received} B in, {}", seconds(flow.duration_us)));
        let by = match flow.ended_by {
            EndedBy::Client => "closed by the client",
            EndedBy::Server => "closed by the server",
            EndedBy::Finished => "finished",
            EndedBy::Policy => "cut by a new policy",
            EndedBy::Bound => "a time bound was reached",
            EndedBy::Shutdown => "the gateway stopped",
            EndedBy::Unreachable => "could not be connected",
        };
        let revision = flow.ended_revision.as_ref().unwrap_or(&flow.revision);
        self.why(&flow.rule, revision, by, &[], flow.error.as_deref());
    }

    fn dns_decided(&mut self, dns: &DnsDecided) {
        self.headline(Colour::of_verdict(&dns.verdict), &dns.verdict, "dns");
        self.process(dns.process.as_ref());
        self.word(&format!("{} {}", dns.record_type, dns.name));
        self.word(&answer(dns));
        self.why(&dns.rule, &dns.revision, &dns.reason, &dns.would, dns.error.as_deref());
    }

    fn sandbox(&mut self, word: &str, sandbox: &SandboxChanged) {
        self.headline(Colour::Green, word, "run");
        self.word(&sandbox.command);
        if let Some(code) = sandbox.exit_code {
            self.word(&format!("exit {code}"));
        }
        for (label, list) in [("without", &sandbox.missing), ("opened", &sandbox.opened), ("found", &sandbox.findings)]
        {
            if !list.is_empty() {
                self.word(&format!("{label} {}", list.join(", ")));
            }
        }
    }

    fn process(&mut self, process: Option<&Process>) {
        if let Some(process) = process {
            let name = process.exe.rsplit('/').next().unwrap_or(&process.exe);
            self.word(&format!("{name}[{}]", process.pid));
        }
    }

    fn destination(&mut self, to: &Destination) {
        let address = to.address.or(to.original_address);
        let host = match (&to.name, address) {
            (Some(name), _) => name.clone(),
            (None, Some(address)) if address.is_ipv6() => format!("[{address}]"),
            (None, Some(address)) => address.to_string(),
            (None, None) => "?".into(),
        };
        self.word(&format!("→ {host}:{}", to.port));
        if let (Some(_), Some(address)) = (&to.name, address) {
            self.word(&format!("({address})"));
        }
    }

    fn why(&mut self, rule: &str, revision: &str, reason: &str, would: &[WouldRecord], error: Option<&str>) {
        self.word(&format!(" rule {rule}@{revision}: {reason}"));
        for would in would {
            self.coloured(Colour::Yellow, &format!("{} by {}", would.verdict, would.rule));
            self.text.push(' ');
        }
        if let Some(error) = error {
            self.coloured(Colour::Red, &format!("error: {error}"));
        }
    }
}

fn count(number: u64, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

/// What came of a question, in words: the code alone doesn't tell a refusal of ours from an answer of a server.
fn answer(dns: &DnsDecided) -> String {
    let response = dns.response.as_str();
    match (dns.verdict.as_str(), response) {
        ("error", _) => format!("could not be resolved upstream ({response})"),
        ("denied", _) => format!("refused ({response})"),
        (_, "UPSTREAM") => "is asked upstream".to_owned(),
        (_, "NXDOMAIN") => "does not exist, as upstream says (NXDOMAIN)".to_owned(),
        (_, "NOERROR") if dns.answers.is_empty() => "has no such record (NOERROR)".to_owned(),
        (_, "NOERROR") => {
            let answers: Vec<String> = dns.answers.iter().map(ToString::to_string).collect();
            format!("= {}", answers.join(","))
        }
        _ => format!("= {response}"),
    }
}

fn seconds(micros: u64) -> String {
    format!("{}.{:03} s", micros / 1_000_000, micros / 1_000 % 1_000)
}
