//! What makes a credential, or a rule that names one, impossible.

use crate::{
    facts::Protocol,
    host_name::HostPattern,
    http_path::{PathGlob, PathGlobError},
    model::{
        Action, Group, PolicySpec, Rule, TlsMode,
        credential::{Attach, Credential, Expose, Format, Source},
        header_fields,
        metadata_service::Cloud,
    },
};

/// Where the value stands in a header's `format`.
const VALUE: &str = "{value}";

/// What is wrong with a credential in itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CredentialProblem {
    /// It could go anywhere.
    #[error("it is bound to no host")]
    NoHosts,
    /// A pattern that covers hosts of many owners.
    #[error("{0} covers hosts of many owners, and each of them would be given the secret")]
    TooWide(HostPattern),
    /// A path glob that is none.
    #[error("{glob:?}: {source}")]
    PathGlob {
        /// The glob.
        glob: String,
        /// What is wrong.
        source: PathGlobError,
    },
    /// SigV4 with what is no AWS keys.
    #[error("SigV4 signs with AWS keys, and this source gives none")]
    NoKeys,
    /// AWS keys that are not signed with.
    #[error("AWS keys are never sent: requests are signed with them, by `sigv4`")]
    KeysSent,
    /// A client certificate where there is none.
    #[error("a client certificate comes from the source `certificate` alone")]
    NoCertificate,
    /// A certificate that is attached otherwise.
    #[error("a certificate and its key are attached as `clientCertificate` alone")]
    CertificateSent,
    /// A placeholder that nobody gets.
    #[error("a placeholder is swapped where the sandbox holds one, and `expose` gives it none")]
    NoPlaceholder,
    /// A placeholder that is swapped nowhere.
    #[error("the placeholder is swapped nowhere: name header fields or fields of requests")]
    NowhereToSwap,
    /// A place that no request has.
    #[error("the path {0:?} of a placeholder's field is not in normal form, or has no segment `{{placeholder}}`")]
    FieldPath(String),
    /// A header field that frames or routes the request.
    #[error("the header field {0:?} frames or routes a request, and is never set")]
    Header(String),
    /// A format without its value, or that would break the header.
    #[error("{0:?} is no format of a header field: it holds `{{value}}` once, and printable ASCII")]
    Format(String),
    /// A certificate has no stand-in.
    #[error("there is no placeholder for a certificate")]
    ExposedCertificate,
    /// Keys and a placeholder of another shape.
    #[error("tools of AWS read two variables: `expose: {{ format: aws }}`, without `env`, belongs to AWS keys alone")]
    ExposedKeys,
    /// A placeholder that no variable holds.
    #[error("`expose` needs `env`, the variable that holds the placeholder")]
    ExposedNowhere,
}

/// Why a rule can't use its credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CredentialMisuse {
    /// It denies.
    #[error("a rule that denies attaches nothing")]
    Denies,
    /// It is not for TCP.
    #[error("a credential is attached to requests inside TLS over TCP")]
    Protocol,
    /// It passes TLS through.
    #[error("`tls: passthrough` looks at no request, and a credential is attached to requests inside TLS")]
    Passthrough,
    /// It is for plain HTTP alone.
    #[error("a credential is sent inside TLS alone, and port 80 is plain HTTP")]
    Plain,
    /// Its destinations are not those of the credential.
    #[error("the credential is bound to none of the hosts that the rule goes to")]
    Hosts,
    /// Its ports are not those of the credential.
    #[error("the credential is bound to none of the ports that the rule lists")]
    Ports,
    /// Its methods are not those of the credential.
    #[error("the credential is bound to none of the methods that the rule is about")]
    Methods,
}

impl Credential {
    /// Everything that is wrong with it in itself; the endpoints and paths of its source are the file's to check.
    pub fn problems(&self) -> Vec<CredentialProblem> {
        let mut found = Vec::new();
        if self.bind.hosts.is_empty() {
            found.push(CredentialProblem::NoHosts);
        }
        found.extend(self.bind.hosts.iter().filter(|host| is_wide(host)).cloned().map(CredentialProblem::TooWide));
        found.extend(self.bind.paths.iter().filter_map(|glob| {
            let source = PathGlob::parse(glob).err()?;
            Some(CredentialProblem::PathGlob { glob: glob.clone(), source })
        }));
        found.extend(self.attach_problems());
        found.extend(self.expose.as_ref().and_then(|expose| self.expose_problem(expose)));
        found
    }

    fn attach_problems(&self) -> Vec<CredentialProblem> {
        let mut found = Vec::new();
        let keys = matches!(self.source, Source::Aws(_));
        let certificate = matches!(self.source, Source::Certificate { .. });
        match &self.attach {
            Attach::SigV4 { .. } if !keys => found.push(CredentialProblem::NoKeys),
            Attach::SigV4 { .. } => {}
            _ if keys => found.push(CredentialProblem::KeysSent),
            Attach::ClientCertificate if !certificate => found.push(CredentialProblem::NoCertificate),
            Attach::ClientCertificate => {}
            _ if certificate => found.push(CredentialProblem::CertificateSent),
            Attach::Bearer | Attach::Basic { .. } | Attach::Query { .. } | Attach::Cookie { .. } => {}
            Attach::Header { name, format } => {
                found.extend(header_problem(name));
                if !is_format(format) {
                    found.push(CredentialProblem::Format(format.clone()));
                }
            }
            Attach::Placeholder { headers, fields } => {
                if self.expose.is_none() {
                    found.push(CredentialProblem::NoPlaceholder);
                }
                if headers.is_empty() && fields.is_empty() {
                    found.push(CredentialProblem::NowhereToSwap);
                }
                found.extend(headers.iter().filter_map(|name| header_problem(name)));
                let wrong = fields.iter().filter(|field| !field.is_possible());
                found.extend(wrong.map(|field| CredentialProblem::FieldPath(field.path.clone())));
            }
        }
        found
    }

    fn expose_problem(&self, expose: &Expose) -> Option<CredentialProblem> {
        let keys = matches!(self.source, Source::Aws(_));
        let keys_shaped = expose.format == Format::Aws;
        if matches!(self.source, Source::Certificate { .. }) {
            Some(CredentialProblem::ExposedCertificate)
        } else if keys != keys_shaped || (keys && expose.env.is_some()) {
            Some(CredentialProblem::ExposedKeys)
        } else {
            (!keys && expose.env.is_none()).then_some(CredentialProblem::ExposedNowhere)
        }
    }
}

impl Credential {
    /// Whether it can stand behind the placeholder of this cloud's metadata service: AWS's are keys, the others' a token.
    pub fn stands_behind(&self, cloud: Cloud) -> bool {
        let keys = matches!(self.source, Source::Aws(_));
        let certificate = matches!(self.source, Source::Certificate { .. });
        match cloud {
            Cloud::Aws => keys,
            Cloud::Azure | Cloud::Gcp => !keys && !certificate,
        }
    }
}

impl PolicySpec {
    /// Why the rule can't use this credential, if it can't.
    pub fn credential_misuse(&self, rule: &Rule, credential: &Credential) -> Option<CredentialMisuse> {
        if rule.action == Action::Deny {
            return Some(CredentialMisuse::Denies);
        }
        if rule.protocol.is_some_and(|own| own != Protocol::Tcp) {
            return Some(CredentialMisuse::Protocol);
        }
        if rule.tls == TlsMode::Passthrough {
            return Some(CredentialMisuse::Passthrough);
        }
        if !rule.may_meet_tls() {
            return Some(CredentialMisuse::Plain);
        }
        let bind = &credential.bind;
        // What has no host was said already.
        if !bind.hosts.is_empty() && self.group_of(rule).is_some_and(|group| !meets_group(group, &bind.hosts)) {
            return Some(CredentialMisuse::Hosts);
        }
        let shared = |(first, last): &(u16, u16)| bind.ports.iter().any(|(from, to)| first <= to && from <= last);
        if !bind.ports.is_empty() && !rule.ports.is_empty() && !rule.ports.iter().any(shared) {
            return Some(CredentialMisuse::Ports);
        }
        let apart = |methods: &[String]| {
            !methods.is_empty() && !bind.methods.is_empty() && !methods.iter().any(|own| bind.methods.contains(own))
        };
        let all_apart = !rule.http.is_empty() && rule.http.iter().all(|entry| apart(&entry.methods));
        all_apart.then_some(CredentialMisuse::Methods)
    }
}

/// Whether some host may be in both; addresses and lists may have any name.
fn meets_group(group: &Group, hosts: &[HostPattern]) -> bool {
    if !group.cidrs.is_empty() || group.feed.is_some() || group.service_tag.is_some() {
        return true;
    }
    let urls = group.urls.iter().filter(|url| url.tls).map(|url| &url.host);
    group.hosts.iter().chain(urls).any(|own| hosts.iter().any(|host| own.meet(host).is_some()))
}

/// `*`, and everything under a public suffix, one of a company's (`*.github.io`) included.
fn is_wide(pattern: &HostPattern) -> bool {
    match pattern {
        HostPattern::Any => true,
        HostPattern::Exact(_) => false,
        HostPattern::Subnames(apex) | HostPattern::Domain(apex) => {
            let text = apex.as_str().as_bytes();
            psl::suffix(text).is_some_and(|suffix| suffix.typ().is_some() && suffix.as_bytes() == text)
        }
    }
}

fn header_problem(name: &str) -> Option<CredentialProblem> {
    header_fields::is_never_set(name).then(|| CredentialProblem::Header(name.to_owned()))
}

fn is_format(format: &str) -> bool {
    header_fields::is_value(format) && format.matches(VALUE).count() == 1
}
