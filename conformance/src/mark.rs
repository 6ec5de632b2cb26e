//! What proves that something arrived.

use network_lab::{Reached, What};
use serde::Deserialize;

/// What only one run sends.
#[derive(Debug, Clone)]
pub(crate) struct Words {
    /// A word that its probe sends.
    pub(crate) canary: String,
    /// What its probe must never hold, where the policy has a credential.
    pub(crate) secret: String,
    /// The forms of it that count as it.
    pub(crate) forms: Vec<String>,
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
    /// The run's secret is in it.
    #[serde(default)]
    secret: bool,
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

fn one() -> usize {
    1
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
    pub(crate) fn matches(&self, reached: &Reached, words: &Words) -> bool {
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
            && (!self.canary || reached.holds(&words.canary))
            && (!self.secret || words.forms.iter().any(|form| reached.holds(form)))
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
