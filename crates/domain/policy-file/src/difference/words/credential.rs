//! Credentials as words: where they come from, never what they are.

use policy::model::credential::{Attach, Credential, Source, Stored};

use super::{labels, list, ports};

/// The fields of a credential, the same for every one.
pub(in crate::difference) fn credential_fields(credential: &Credential) -> Vec<(&'static str, String)> {
    let bind = &credential.bind;
    let expose = credential.expose.as_ref().map(|expose| {
        let format = format!("{:?}", expose.format).to_lowercase();
        format!("{} ({format})", expose.env.as_deref().unwrap_or("the variables of AWS"))
    });
    vec![
        ("from", source(&credential.source)),
        ("attach", attach(&credential.attach)),
        ("hosts", list(&bind.hosts)),
        ("methods", list(&bind.methods)),
        ("paths", list(&bind.paths)),
        ("ports", list(bind.ports.iter().map(ports))),
        ("sandboxes", bind.sandboxes.as_ref().map(labels).unwrap_or_default()),
        ("expose", expose.unwrap_or_default()),
    ]
}

/// A credential in one line.
pub(in crate::difference) fn credential(credential: &Credential) -> String {
    let there = credential_fields(credential).into_iter().filter(|(_, words)| !words.is_empty() && words != "[]");
    let told: Vec<String> = there.map(|(field, words)| format!("{field} {words}")).collect();
    told.join("; ")
}

/// Every setting of a provider is told, so that none changes unseen; no value is among them.
fn source(source: &Source) -> String {
    match source {
        Source::Stored(stored) => self::stored(stored),
        Source::Vault(vault) => format!("{vault:?}"),
        Source::Aws(aws) => format!("{aws:?}"),
        Source::Azure(azure) => format!("{azure:?}"),
        Source::Gcp(gcp) => format!("{gcp:?}"),
        Source::Kubernetes(kubernetes) => format!("{kubernetes:?}"),
        Source::Oauth(oauth) => format!("{oauth:?}"),
        Source::GithubApp(app) => format!("{app:?}"),
        Source::Certificate { chain, key } => {
            format!("certificate {} with the key of {}", chain.display(), stored(key))
        }
    }
}

fn stored(stored: &Stored) -> String {
    match stored {
        Stored::File(path) => format!("file {}", path.display()),
        Stored::Command(words) => format!("command {words:?}"),
        Stored::Env(name) => format!("env {name}"),
        Stored::Keyring { service, account } => format!("keyring {service} {account}"),
    }
}

fn attach(attach: &Attach) -> String {
    match attach {
        Attach::Bearer => "bearer".to_owned(),
        Attach::Basic { username } => format!("basic for {username}"),
        Attach::Header { name, format } => format!("header {name}: {format}"),
        Attach::Query { name } => format!("query {name}"),
        Attach::Cookie { name } => format!("cookie {name}"),
        Attach::SigV4 { service, region } => format!("sigv4 for {service} in {region}"),
        Attach::ClientCertificate => "clientCertificate".to_owned(),
        Attach::Placeholder { headers, fields } => {
            let fields = fields.iter().map(|field| format!("{} {} {:?}", field.method, field.path, field.place));
            format!("placeholder in headers {} and fields {}", list(headers), list(fields))
        }
    }
}
