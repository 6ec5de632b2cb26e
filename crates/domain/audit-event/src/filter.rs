//! Which events are wanted: the flags of `observe`.
//!
//! The same flag twice is OR, different flags are AND, and `--not` before a flag takes away what it matches:
//!
//! ```text
//! --verdict denied --verdict error --host '*.example.com' --not --port 443
//!   (denied OR error) AND host matches AND NOT port 443
//! ```

/// What one condition looks at in an entry.
mod view;
/// The words that filters know, and what else people call them.
mod words;

use std::net::IpAddr;

use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};
use regex::Regex;

use crate::parse::{EVENT_KINDS, Entry};
use view::View;

/// A flag of `observe`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Flag {
    /// `allowed`, `denied`, `asked`, `error`, `watched`, `would-deny` …, or another tool's word for one.
    Verdict,
    /// A name, with `*` for any run of characters.
    Host,
    /// An address or a range.
    Ip,
    /// A port or `from-to`.
    Port,
    /// `tcp`, `udp`, `icmp`, `dns`, `tls`, `http`.
    Protocol,
    /// An executable's path or file name, with `*`; or a process id.
    Process,
    /// A rule's name, with `*`; the watched ones count too.
    Rule,
    /// A kind of event: `flow.decided`, or `flow` for all of them.
    Type,
    /// An HTTP method.
    HttpMethod,
    /// A regular expression found in the path of an HTTP request.
    HttpPath,
    /// A sandbox, with `*`.
    Sandbox,
    /// A thread, with `*`.
    Thread,
    /// A tool call, with `*`.
    ToolCall,
    /// From then on: a time, or how long ago.
    Since,
    /// Up to then: a time, or how long ago.
    Until,
}

impl Flag {
    /// The words that it knows, where there is a list of them.
    pub fn words(self) -> &'static [&'static str] {
        match self {
            Flag::Verdict => &words::VERDICTS,
            Flag::Protocol => &words::PROTOCOLS,
            Flag::Type => &EVENT_KINDS,
            Flag::Host
            | Flag::Ip
            | Flag::Port
            | Flag::Process
            | Flag::Rule
            | Flag::HttpMethod
            | Flag::HttpPath
            | Flag::Sandbox
            | Flag::Thread
            | Flag::ToolCall
            | Flag::Since
            | Flag::Until => &[],
        }
    }
}

/// A flag's value can't be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is no {expected}{}", nearest.as_ref().map(|word| format!("; did you mean {word:?}?")).unwrap_or_default())]
pub struct FilterError {
    /// What was given.
    pub value: String,
    /// What a value looks like.
    pub expected: String,
    /// The known word nearest to it.
    pub nearest: Option<String>,
}

/// A name in which `*` stands for any run of characters; case makes no difference.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Glob(Vec<String>);

impl Glob {
    fn new(pattern: &str) -> Self {
        Self(pattern.to_ascii_lowercase().split('*').map(str::to_owned).collect())
    }

    fn matches(&self, text: &str) -> bool {
        let text = text.to_ascii_lowercase();
        let (Some(first), Some(last)) = (self.0.first(), self.0.last()) else { return false };
        if self.0.len() == 1 {
            return text == *first;
        }
        let Some(mut rest) = text.strip_prefix(first.as_str()) else { return false };
        let middle = self.0.iter().skip(1).take(self.0.len() - 2);
        for part in middle {
            match rest.split_once(part.as_str()) {
                Some((_, behind)) => rest = behind,
                None => return false,
            }
        }
        rest.ends_with(last.as_str())
    }
}

/// One condition on an event.
#[derive(Debug, Clone)]
pub struct Condition {
    flag: Flag,
    test: Test,
}

#[derive(Debug, Clone)]
enum Test {
    Verdict(&'static str),
    Glob(Glob),
    Net(IpNet),
    Ports(u16, u16),
    Word(String),
    Process(Glob, Option<u32>),
    Path(Regex),
    Time(Timestamp),
}

impl Condition {
    /// Reads a flag's value. Durations count back from `now`.
    pub fn parse(flag: Flag, value: &str, now: Timestamp) -> Result<Condition, FilterError> {
        let error =
            |expected: &str| FilterError { value: value.to_owned(), expected: expected.to_owned(), nearest: None };
        let unknown = |what: &str, known: &[&str]| FilterError {
            nearest: words::nearest(value, known),
            ..error(&format!("{what} ({})", known.join(", ")))
        };
        if value.is_empty() {
            return Err(error("value: it is empty"));
        }
        let test = match flag {
            Flag::Verdict => Test::Verdict(words::verdict(value).ok_or_else(|| unknown("verdict", &words::VERDICTS))?),
            Flag::Host => Test::Glob(Glob::new(value.trim_end_matches('.'))),
            Flag::Rule | Flag::Sandbox | Flag::Thread | Flag::ToolCall => Test::Glob(Glob::new(value)),
            Flag::Ip => Test::Net(net(value).ok_or_else(|| error("address or range such as 10.0.0.0/8"))?),
            Flag::Port => {
                let (from, to) = ports(value).ok_or_else(|| error("port or range such as 8000-8999"))?;
                Test::Ports(from, to)
            }
            Flag::Protocol => {
                Test::Word(words::protocol(value).ok_or_else(|| unknown("protocol", &words::PROTOCOLS))?.to_owned())
            }
            Flag::Process => Test::Process(Glob::new(value), value.parse().ok()),
            Flag::Type => Test::Word(words::kind(value).ok_or_else(|| unknown("kind of event", &EVENT_KINDS))?),
            Flag::HttpMethod => Test::Word(value.to_ascii_uppercase()),
            Flag::HttpPath => {
                Test::Path(Regex::new(value).map_err(|problem| error(&format!("regular expression: {problem}")))?)
            }
            Flag::Since | Flag::Until => Test::Time(
                moment(value, now).ok_or_else(|| error("time such as 2026-11-21T09:00:00Z or 90s, 15m, 2h, 3d"))?,
            ),
        };
        Ok(Condition { flag, test })
    }

    fn matches(&self, view: &View<'_>) -> bool {
        match &self.test {
            Test::Verdict("watched") => view.would_verdicts().next().is_some(),
            Test::Verdict(word) if word.starts_with("would-") => view.would_verdicts().any(|would| would == *word),
            Test::Verdict(word) => view.verdict() == Some(word),
            Test::Net(net) => view.addresses().into_iter().any(|address| contains(net, address)),
            Test::Ports(from, to) => view.port().is_some_and(|port| (*from..=*to).contains(&port)),
            Test::Process(glob, pid) => view.process().is_some_and(|(exe, own)| {
                Some(own) == *pid || glob.matches(exe) || glob.matches(exe.rsplit('/').next().unwrap_or(exe))
            }),
            Test::Path(regex) => view.http().is_some_and(|http| regex.is_match(&http.path)),
            Test::Glob(glob) => self.texts(view).iter().any(|text| glob.matches(text)),
            Test::Word(word) => self.word_matches(view, word),
            Test::Time(at) => match self.flag {
                Flag::Until => view.entry.envelope.time <= *at,
                _ => view.entry.envelope.time >= *at,
            },
        }
    }

    fn texts<'a>(&self, view: &View<'a>) -> Vec<&'a str> {
        let envelope = &view.entry.envelope;
        match self.flag {
            Flag::Host => view.hosts(),
            Flag::Rule => view.rules(),
            Flag::Sandbox => vec![&envelope.sandbox],
            Flag::Thread => envelope.thread.as_deref().into_iter().collect(),
            Flag::ToolCall => envelope.tool_call.as_deref().into_iter().collect(),
            Flag::Verdict
            | Flag::Ip
            | Flag::Port
            | Flag::Protocol
            | Flag::Process
            | Flag::Type
            | Flag::HttpMethod
            | Flag::HttpPath
            | Flag::Since
            | Flag::Until => Vec::new(),
        }
    }

    fn word_matches(&self, view: &View<'_>, word: &str) -> bool {
        match self.flag {
            Flag::Protocol => view.protocols().contains(&word),
            Flag::HttpMethod => view.http().is_some_and(|http| http.method == word),
            Flag::Type => {
                let event = view.entry.envelope.event.as_str();
                event == word || event.strip_prefix(word).is_some_and(|rest| rest.starts_with('.'))
            }
            Flag::Verdict
            | Flag::Host
            | Flag::Ip
            | Flag::Port
            | Flag::Process
            | Flag::Rule
            | Flag::HttpPath
            | Flag::Sandbox
            | Flag::Thread
            | Flag::ToolCall
            | Flag::Since
            | Flag::Until => false,
        }
    }
}

/// Conditions together.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// One group per flag: any of it, all groups.
    wanted: Vec<Vec<Condition>>,
    /// None of these.
    unwanted: Vec<Condition>,
}

impl Filter {
    /// Adds a condition: `negated` is what stands behind `--not`.
    pub fn add(&mut self, condition: Condition, negated: bool) {
        if negated {
            self.unwanted.push(condition);
            return;
        }
        let same = self.wanted.iter_mut().find(|group| group.iter().any(|other| other.flag == condition.flag));
        match same {
            Some(group) => group.push(condition),
            None => self.wanted.push(vec![condition]),
        }
    }

    /// Whether an event is wanted. Without conditions all are.
    pub fn matches(&self, entry: &Entry) -> bool {
        let view = View { entry };
        self.wanted.iter().all(|group| group.iter().any(|condition| condition.matches(&view)))
            && !self.unwanted.iter().any(|condition| condition.matches(&view))
    }
}

fn net(value: &str) -> Option<IpNet> {
    value.parse().ok().or_else(|| value.parse::<IpAddr>().ok().map(IpNet::from))
}

/// A range holds an address in either spelling of an IPv4 address.
fn contains(net: &IpNet, address: IpAddr) -> bool {
    net.contains(&address) || net.contains(&address.to_canonical())
}

fn ports(value: &str) -> Option<(u16, u16)> {
    let (from, to) = value.split_once('-').unwrap_or((value, value));
    let (from, to) = (from.parse().ok()?, to.parse().ok()?);
    (from <= to).then_some((from, to))
}

/// A time, or one as long ago as a text such as `15m` or `1h30m` says.
fn moment(value: &str, now: Timestamp) -> Option<Timestamp> {
    if let Ok(time) = value.parse() {
        return Some(time);
    }
    let mut seconds: i64 = 0;
    let mut rest = value;
    while !rest.is_empty() {
        let unit_at = rest.find(|c: char| !c.is_ascii_digit())?;
        let (digits, behind) = rest.split_at_checked(unit_at)?;
        let mut characters = behind.chars();
        let each = match characters.next()? {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            'w' => 604_800,
            _ => return None,
        };
        seconds = digits.parse::<i64>().ok()?.checked_mul(each)?.checked_add(seconds)?;
        rest = characters.as_str();
    }
    now.checked_sub(SignedDuration::from_secs(seconds)).ok()
}
