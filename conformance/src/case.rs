//! Cases, read from their files.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context as _, Result, bail};
use network_lab::{Reached, What};
use serde::{Deserialize, Serialize};

/// One case.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    /// Unique; its front is the number in `egress-cases`, `S` the split matrix, `P` what must pass.
    pub(crate) id: String,
    /// What is tried.
    pub(crate) title: String,
    /// Where the class was seen.
    pub(crate) source: String,
    /// An attack, or what must simply work.
    #[serde(default)]
    pub(crate) kind: Option<Purpose>,
    /// How the probe dials; one run each.
    #[serde(default = "direct_only")]
    pub(crate) via: Vec<Via>,
    /// Fills `{each}`; one run each.
    #[serde(default)]
    pub(crate) each: Vec<String>,
    /// The command: a script of `probes/` or a program.
    pub(crate) probe: Vec<String>,
    /// An attack got out where any of these was seen; a benign case needs all of them.
    pub(crate) reaches: Vec<Mark>,
    /// What is expected; a benign case passes everywhere unless it says otherwise.
    #[serde(default)]
    pub(crate) expect: Option<Expect>,
    /// Whether a denial must be recorded.
    #[serde(default)]
    pub(crate) record: Recorded,
    /// Programs without which the case does not apply.
    #[serde(default)]
    pub(crate) needs: Vec<String>,
    /// Another policy than the settings': the case then runs in `limited` alone.
    #[serde(default)]
    pub(crate) policy: Option<String>,
    /// What the runner does to the gateway once the probe asks for it.
    #[serde(default)]
    pub(crate) action: Option<Action>,
    /// A scripted name that starts from its first answer in every run.
    #[serde(default)]
    pub(crate) fresh: Option<String>,
    /// Only root on the host may do what it asks the gateway for.
    #[serde(default)]
    pub(crate) privileged: bool,
    /// Seconds it may take.
    #[serde(default = "half_a_minute")]
    pub(crate) time: u64,
    /// Those of `each` that get nowhere in the lab even unhindered: kept, since another gateway may read them otherwise.
    #[serde(default)]
    pub(crate) unproven: Vec<String>,
}

/// What the runner does to a gateway in the middle of a run.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Action {
    /// Applies another of the policies.
    Apply(String),
    /// Kills it: the run must end with 125.
    KillGateway,
}

/// What a case is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Purpose {
    /// It must be stopped.
    Attack,
    /// It must work.
    Benign,
}

/// How a probe dials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Via {
    /// As if there were no gateway.
    Direct,
    /// By the explicit proxy's CONNECT.
    Connect,
    /// By the explicit proxy's SOCKS5.
    Socks,
}

/// The setting of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Setting {
    /// Only the guards and malformed traffic are denied.
    Unrestricted,
    /// An allow-list, enforced.
    Limited,
    /// The same list, watched.
    Watched,
    /// The same list, leaving by the corporate network.
    Routed,
}

/// What is to come of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Expected {
    /// Nothing gets out, and that is recorded.
    Held,
    /// It works, and that is recorded.
    Passes,
    /// It works, and is listed under `would`.
    Watched,
    /// Either: the setting does not bind it.
    Any,
}

/// Expectations, in short or for each setting; a setting that is not named is not tried.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(crate) enum Expect {
    /// In short.
    Short(Short),
    /// For each setting.
    Each(BTreeMap<Setting, Expected>),
}

/// Expectations in short.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Short {
    /// Held everywhere.
    Held,
    /// Held by the list, so it passes in `unrestricted` and is watched in `watched`.
    ByPolicy,
}

/// Whether a denial must stand in the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Recorded {
    /// It must.
    #[default]
    Denied,
    /// The kernel refuses before anything could be recorded, or what is denied is only a part of an answer.
    None,
}

/// What proves that something arrived. All conditions that are given must hold.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Mark {
    server: Option<String>,
    address: Option<String>,
    port: Option<u16>,
    /// The address it came from.
    peer: Option<String>,
    what: Option<Kind>,
    sni: Option<String>,
    host: Option<String>,
    method: Option<String>,
    version: Option<String>,
    /// A part of a request's target.
    target: Option<String>,
    /// A request has this field.
    header: Option<String>,
    /// The end of a name asked for in DNS.
    query: Option<String>,
    protocol: Option<u8>,
    /// A connection over which bytes came: a connection alone carries nothing.
    #[serde(default)]
    bytes: bool,
    /// The run's canary is in it.
    #[serde(default)]
    canary: bool,
    /// Only from so many on.
    #[serde(default = "one")]
    pub(crate) at_least: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    Accepted,
    Request,
    Query,
    Packet,
    Carried,
}

fn direct_only() -> Vec<Via> {
    vec![Via::Direct]
}

fn half_a_minute() -> u64 {
    30
}

fn one() -> usize {
    1
}

/// Every case of every file in a folder, in the files' order.
pub(crate) fn read_all(folder: &Path) -> Result<Vec<Case>> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .with_context(|| format!("read {}", folder.display()))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    files.sort();
    let mut cases: Vec<Case> = Vec::new();
    for file in files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "yaml")) {
        let text = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
        let read: Vec<Case> =
            serde_saphyr::from_str(&text).map_err(|error| anyhow::anyhow!("{}: {error}", file.display()))?;
        for case in read {
            if cases.iter().any(|known| known.id == case.id) {
                bail!("{}: {} is there twice", file.display(), case.id);
            }
            cases.push(case);
        }
    }
    Ok(cases)
}

impl Case {
    /// An attack unless it says otherwise or its id is of the passing half.
    pub(crate) fn purpose(&self) -> Purpose {
        self.kind.unwrap_or(if self.id.starts_with('P') { Purpose::Benign } else { Purpose::Attack })
    }

    /// What is expected in a setting; `None` where the case does not apply there.
    pub(crate) fn expected(&self, setting: Setting) -> Option<Expected> {
        if self.policy.is_some() && setting != Setting::Limited {
            return None;
        }
        match (&self.expect, self.purpose()) {
            (None, Purpose::Benign) => Some(Expected::Passes),
            (None, Purpose::Attack) | (Some(Expect::Short(Short::Held)), _) => Some(Expected::Held),
            (Some(Expect::Short(Short::ByPolicy)), _) => Some(match setting {
                Setting::Unrestricted => Expected::Passes,
                Setting::Limited | Setting::Routed => Expected::Held,
                Setting::Watched => Expected::Watched,
            }),
            (Some(Expect::Each(each)), _) => each.get(&setting).copied(),
        }
    }
}

impl Mark {
    /// With the placeholders of one run filled in.
    pub(crate) fn filled(&self, fill: impl Fn(&str) -> String) -> Mark {
        let fill = |text: &Option<String>| text.as_deref().map(&fill);
        Mark {
            address: fill(&self.address),
            peer: fill(&self.peer),
            target: fill(&self.target),
            query: fill(&self.query),
            sni: fill(&self.sni),
            host: fill(&self.host),
            ..self.clone()
        }
    }

    /// Whether this is it.
    pub(crate) fn matches(&self, reached: &Reached, canary: &str) -> bool {
        let same = |wanted: &Option<String>, have: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| have.is_some_and(|have| have.eq_ignore_ascii_case(wanted)))
        };
        let address = reached.local.map(|local| local.ip());
        same(&self.server, Some(&reached.server))
            && self.address.as_deref().is_none_or(|wanted| address.is_some() && wanted.parse().ok() == address)
            && self.port.is_none_or(|wanted| reached.port() == Some(wanted))
            && self
                .peer
                .as_deref()
                .is_none_or(|wanted| reached.peer.is_some_and(|peer| wanted.parse() == Ok(peer.ip().to_canonical())))
            && (!self.canary || reached.holds(canary))
            && (!self.bytes || matches!(reached.what, What::Carried { received: 1.., .. }))
            && self.what_matches(&reached.what)
    }

    fn what_matches(&self, what: &What) -> bool {
        let kind = match what {
            What::Accepted => Some(Kind::Accepted),
            What::Request { .. } => Some(Kind::Request),
            What::Query { .. } => Some(Kind::Query),
            What::Packet { .. } => Some(Kind::Packet),
            What::Carried { .. } => Some(Kind::Carried),
            What::Hello { .. } | What::Handshake | What::Datagram { .. } | What::Local { .. } => None,
        };
        let text = |wanted: &Option<String>, have: Option<&String>| {
            wanted.as_ref().is_none_or(|wanted| have.is_some_and(|have| have.eq_ignore_ascii_case(wanted)))
        };
        let (mut sni, mut host, mut method, mut version, mut target) = (None, None, None, None, None);
        let mut headers: &[(String, String)] = &[];
        let mut query = None;
        let mut protocol = None;
        match what {
            What::Hello { sni: said, .. } => sni = said.as_ref(),
            What::Request { sni: said, version: spoken, method: used, target: asked, host: named, headers: sent } => {
                (sni, host, method, version, target) =
                    (said.as_ref(), named.as_ref(), Some(used), Some(spoken), Some(asked));
                headers = sent;
            }
            What::Query { name, .. } => query = Some(name),
            What::Packet { protocol: number, .. } => protocol = Some(*number),
            What::Accepted | What::Handshake | What::Carried { .. } | What::Datagram { .. } | What::Local { .. } => {}
        }
        self.what.is_none_or(|wanted| kind == Some(wanted))
            && text(&self.sni, sni)
            && text(&self.host, host)
            && text(&self.method, method)
            && text(&self.version, version)
            && self.target.as_ref().is_none_or(|wanted| target.is_some_and(|target| target.contains(wanted.as_str())))
            && self
                .header
                .as_ref()
                .is_none_or(|wanted| headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(wanted)))
            && self
                .query
                .as_ref()
                .is_none_or(|wanted| query.is_some_and(|query| query.ends_with(&wanted.to_ascii_lowercase())))
            && self.protocol.is_none_or(|wanted| protocol == Some(wanted))
    }
}

#[cfg(test)]
mod tests;
