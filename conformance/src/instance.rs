//! One run of one case, with everything filled in.

use std::{collections::BTreeMap, path::PathBuf};

use network_lab::{Lab, addresses};

use crate::{
    adapter::Kind,
    case::{Case, Family, Purpose, Setting, Via},
    mark::{Mark, Words},
    secret,
};

/// One run.
#[derive(Debug, Clone)]
pub(crate) struct Instance<'case> {
    /// Its case.
    pub(crate) case: &'case Case,
    /// How it dials.
    pub(crate) via: Via,
    /// What `{each}` was.
    pub(crate) each: Option<String>,
    /// In which setting.
    pub(crate) setting: Setting,
    /// Under which of its policies.
    pub(crate) family: Family,
    /// What only this run sends.
    pub(crate) words: Words,
    /// The command.
    pub(crate) command: Vec<String>,
    /// What proves it.
    pub(crate) marks: Vec<Mark>,
}

/// Where the files of a run stand; the same inside and outside.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    /// The working directory: probes, the CA, the Go client.
    pub(crate) work: PathBuf,
    /// The policies. No sandbox has this folder.
    pub(crate) policies: PathBuf,
    /// Cofferdam's own state and the records. No sandbox has this folder.
    pub(crate) state: PathBuf,
    /// The Python to use.
    pub(crate) python: PathBuf,
}

/// Whose certificates a probe meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trust {
    /// The servers' own.
    Servers,
    /// Those of the gateway, where its policy opens TLS.
    Gateway,
}

impl<'case> Instance<'case> {
    /// Every run of a case in a setting.
    ///
    /// A peer that has no transparent way is asked for what must work by its proxy.
    pub(crate) fn all(
        case: &'case Case,
        setting: Setting,
        adapter: Kind,
        lab: &Lab,
        places: &Places,
        run: &mut u64,
    ) -> Vec<Self> {
        let explicit = matches!(adapter, Kind::Squid | Kind::Tinyproxy) && case.purpose() == Purpose::Benign;
        let mut ways = case.via.clone();
        if explicit {
            ways.retain(|via| *via != Via::Socks);
            ways.iter_mut().for_each(|via| *via = Via::Connect);
            ways.dedup();
        }
        let each: Vec<Option<String>> =
            if case.each.is_empty() { vec![None] } else { case.each.iter().cloned().map(Some).collect() };
        let mut instances = Vec::new();
        let ways = case.under.iter().flat_map(|family| ways.iter().map(move |via| (*family, *via)));
        let ways: Vec<(Family, Via)> = ways.filter(|(family, _)| exists(case, *family, adapter)).collect();
        for each in &each {
            for (family, via) in &ways {
                *run += 1;
                let secret = format!("s3cr3t{run:05}Qx8Lm2Vt9Kw4Zr");
                let words = Words { canary: format!("canary{run:05}x"), forms: secret::forms(&secret), secret };
                let mut values = values(lab, places, &words);
                values.insert("policy", policy(case, *family, setting, places).display().to_string());
                let inner = each.as_deref().map(|text| fill(text, &values));
                let fill_all = |text: &str| {
                    let text = inner.as_deref().map_or_else(|| text.to_owned(), |each| text.replace("{each}", each));
                    fill(&text, &values)
                };
                instances.push(Instance {
                    case,
                    via: *via,
                    family: *family,
                    each: each.clone(),
                    setting,
                    command: command(case.probe.iter().map(|part| fill_all(part)).collect(), places),
                    marks: case.reaches.iter().map(|mark| mark.filled(fill_all)).collect(),
                    words,
                });
            }
        }
        instances
    }

    /// Its name in tables.
    pub(crate) fn name(&self) -> String {
        let via = match self.via {
            Via::Direct => "",
            Via::Connect => " connect",
            Via::Socks => " socks",
        };
        let each = self.each.as_deref().map(|each| {
            let shown: String = each.escape_debug().take(60).collect();
            format!(" [{shown}]")
        });
        let family = match self.family {
            Family::Plain => "",
            Family::Inspected => " inspected",
            Family::Credentials => " credentials",
        };
        format!("{}{family}{via}{}", self.case.id, each.unwrap_or_default())
    }

    /// The file of its policy.
    pub(crate) fn policy(&self, places: &Places) -> PathBuf {
        policy(self.case, self.family, self.setting, places)
    }

    /// What the probe finds in its environment, besides what the adapter adds.
    ///
    /// Where TLS is opened the sandbox is told by cofferdam whom to trust, and nothing else may.
    pub(crate) fn environment(&self, places: &Places, trust: Trust) -> Vec<(String, String)> {
        let via = match self.via {
            Via::Direct => "direct",
            Via::Connect => "connect",
            Via::Socks => "socks",
        };
        let mut environment = match (trust, self.family) {
            (Trust::Servers, _) | (_, Family::Plain) => {
                network_lab::Certificates::environment(&places.work.join("ca.pem"))
            }
            (Trust::Gateway, Family::Inspected | Family::Credentials) => Vec::new(),
        };
        environment.push(("VIA".to_owned(), via.to_owned()));
        environment.push(("CANARY".to_owned(), self.words.canary.clone()));
        environment.push(("PYTHONDONTWRITEBYTECODE".to_owned(), "1".to_owned()));
        // Nothing that git could ask for.
        environment.push(("GIT_TERMINAL_PROMPT".to_owned(), "0".to_owned()));
        environment
    }
}

/// What only ours does is asked of nobody else, but that its attacks work unhindered.
fn exists(case: &Case, family: Family, adapter: Kind) -> bool {
    match (adapter, family) {
        (Kind::Cofferdam, _) | (_, Family::Plain) => true,
        (Kind::None, Family::Inspected | Family::Credentials) => case.under.first() == Some(&family),
        (Kind::Squid | Kind::Tinyproxy, Family::Inspected | Family::Credentials) => false,
    }
}

fn policy(case: &Case, family: Family, setting: Setting, places: &Places) -> PathBuf {
    let setting = match setting {
        Setting::Unrestricted => "unrestricted",
        Setting::Limited => "limited",
        Setting::Watched => "watched",
        Setting::Routed => "routed",
    };
    let name = match (&case.policy, family) {
        (Some(name), _) => name.clone(),
        (None, Family::Plain) => setting.to_owned(),
        (None, Family::Inspected) => format!("inspected-{setting}"),
        (None, Family::Credentials) => format!("credentials-{setting}"),
    };
    places.policies.join(format!("{name}.yaml"))
}

fn values(lab: &Lab, places: &Places, words: &Words) -> BTreeMap<&'static str, String> {
    BTreeMap::from([
        ("canary", words.canary.clone()),
        ("secret", words.secret.clone()),
        ("allowed", addresses::ALLOWED.to_owned()),
        ("denied", addresses::DENIED.to_owned()),
        ("cdn", addresses::CDN.to_owned()),
        ("plain", addresses::PLAIN.to_owned()),
        ("attacker", addresses::ATTACKER.to_owned()),
        ("attacker_v6", addresses::ATTACKER_V6.to_owned()),
        ("other_dns", addresses::OTHER_DNS.to_owned()),
        ("blackhole", addresses::BLACKHOLE.to_owned()),
        ("python", places.python.display().to_string()),
        ("work", places.work.display().to_string()),
        ("folder", lab.folder().display().to_string()),
    ])
}

/// Fills `{name}`; any other brace stays.
fn fill(text: &str, values: &BTreeMap<&'static str, String>) -> String {
    values.iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("{{{name}}}"), value))
}

/// A probe script runs with Python; `python` is the one that the sandbox has too.
fn command(mut words: Vec<String>, places: &Places) -> Vec<String> {
    let python = places.python.display().to_string();
    match words.first().map(String::as_str) {
        Some(first) if first.ends_with(".py") => {
            if let Some(script) = words.first_mut() {
                *script = format!("probes/{script}");
            }
            words.insert(0, python);
        }
        Some("python") => {
            if let Some(first) = words.first_mut() {
                *first = python;
            }
        }
        Some(_) | None => {}
    }
    words
}
