//! Cases, read from their files.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use crate::mark::Mark;

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
    /// What it does to a system around a language model, by OWASP's list.
    pub(crate) owasp: Owasp,
    /// An attack, or what must simply work.
    #[serde(default)]
    pub(crate) kind: Option<Purpose>,
    /// How the probe dials; one run each.
    #[serde(default = "direct_only")]
    pub(crate) via: Vec<Via>,
    /// Fills `{each}`; one run each.
    #[serde(default)]
    pub(crate) each: Vec<String>,
    /// Another case, whose `each` and `unproven` it takes.
    #[serde(default)]
    pub(crate) each_of: Option<String>,
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
    /// Under which of the settings' policies it runs; one run each.
    #[serde(default = "plain_only")]
    pub(crate) under: Vec<Family>,
    /// What the record of its denial must say.
    #[serde(default)]
    pub(crate) says: Option<String>,
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

/// The policies of a setting: the same list, with more done to what it lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Family {
    /// TLS passes through.
    Plain,
    /// TLS is opened.
    Inspected,
    /// TLS is opened, and one host's requests carry a credential.
    Credentials,
}

/// A class of the OWASP Top 10 for LLM applications, 2025.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Owasp {
    /// Prompt injection.
    #[serde(rename = "LLM01")]
    PromptInjection,
    /// Sensitive information disclosure.
    #[serde(rename = "LLM02")]
    Disclosure,
    /// Supply chain.
    #[serde(rename = "LLM03")]
    SupplyChain,
    /// Improper output handling.
    #[serde(rename = "LLM05")]
    OutputHandling,
    /// Excessive agency.
    #[serde(rename = "LLM06")]
    Agency,
    /// Unbounded consumption.
    #[serde(rename = "LLM10")]
    Consumption,
}

impl Owasp {
    /// Its number in the list.
    pub(crate) fn number(self) -> &'static str {
        match self {
            Owasp::PromptInjection => "LLM01",
            Owasp::Disclosure => "LLM02",
            Owasp::SupplyChain => "LLM03",
            Owasp::OutputHandling => "LLM05",
            Owasp::Agency => "LLM06",
            Owasp::Consumption => "LLM10",
        }
    }
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

fn direct_only() -> Vec<Via> {
    vec![Via::Direct]
}

fn plain_only() -> Vec<Family> {
    vec![Family::Plain]
}

fn half_a_minute() -> u64 {
    30
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
    take_from_others(&mut cases)?;
    Ok(cases)
}

/// Fills in what `each_of` refers to.
fn take_from_others(cases: &mut [Case]) -> Result<()> {
    let known: BTreeMap<String, (Vec<String>, Vec<String>)> =
        cases.iter().map(|case| (case.id.clone(), (case.each.clone(), case.unproven.clone()))).collect();
    for case in cases {
        if let Some(other) = &case.each_of {
            let (each, unproven) = known.get(other).with_context(|| format!("{}: no case {other}", case.id))?;
            case.each.clone_from(each);
            case.unproven.extend(unproven.iter().cloned());
        }
    }
    Ok(())
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

#[cfg(test)]
mod tests;
