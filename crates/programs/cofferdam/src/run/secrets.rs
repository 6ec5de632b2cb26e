//! The credentials of a run: kept here, placeholders inside. What a credential is read from never gets in: not by a variable,
//! and no file of one without being named.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Result, ensure};
use credentials::{Credentials, Surroundings};
use gateway::Secrets;
use policy::model::{
    PolicySpec, Unopened,
    credential::{Expose, Format},
};
use rustix::rand::{GetRandomFlags, getrandom};
use secret_swap::Placeholder;
use values::CredentialName;

use super::{
    arguments::Variable,
    environment::{Chosen, Environment},
    failed, told,
};
use crate::{
    failure::{Failure, code},
    source::{Refusal, Source},
};

/// Where a credential comes from, on this machine.
mod origins;

use origins::origins;

/// How long a secret is that is looked for within other values: a shorter one stands in many by chance.
const TELLING: usize = 8;
/// How long what was minted may take to be revoked at the end.
const REVOKING: Duration = Duration::from_secs(5);

/// What the run keeps of its credentials.
#[derive(Debug)]
pub(super) struct Kept {
    credentials: Arc<Credentials>,
    pub(super) secrets: Secrets,
    /// Variables with placeholders, for the sandbox.
    pub(super) variables: Vec<(String, OsString)>,
    exposed: BTreeMap<CredentialName, Expose>,
    folder: PathBuf,
    /// What the workload has of the caller's environment.
    passed: Environment,
    /// Rules by which a secret may come back unseen.
    unopened: Vec<Unopened>,
}

impl Kept {
    /// Opens them, and makes the placeholders. `windows` are the folders that the workload may write.
    pub(super) fn of(spec: &PolicySpec, folder: &Path, windows: &[PathBuf], passed: Environment) -> Result<Self> {
        let surroundings = Surroundings::of_this_process(folder.to_owned(), windows.to_vec());
        let credentials = Credentials::open(&spec.credentials, surroundings).map_err(|error| failed(&error, None))?;
        let credentials = Arc::new(credentials);
        let exposed = exposed(spec);
        let (mut placeholders, mut variables) = (BTreeMap::new(), Vec::new());
        for (name, expose) in &exposed {
            let placeholder = placeholder(expose.format)?;
            variables.extend(shown(expose, &placeholder));
            placeholders.insert(name.clone(), placeholder);
        }
        let secrets = Secrets { credentials: Some(Arc::clone(&credentials)), placeholders: Arc::new(placeholders) };
        Ok(Self {
            credentials,
            secrets,
            variables,
            exposed,
            folder: folder.to_owned(),
            passed,
            unopened: spec.unopened(),
        })
    }

    /// Where programs find placeholders, and where secrets are not looked for; for people.
    pub(super) fn said(&self) -> Vec<String> {
        let names: Vec<&str> = self.variables.iter().map(|(name, _)| name.as_str()).collect();
        let placeholders = (!names.is_empty())
            .then(|| format!("placeholders, for which the gateway puts the secrets in: {}", names.join(", ")));
        placeholders.into_iter().chain(self.unopened.iter().map(Unopened::to_string)).collect()
    }

    /// Takes over a new policy's credentials. A placeholder that the sandbox would need can't come to it any more.
    pub(super) fn apply(&self, fresh: &Source) -> Result<(), Refusal> {
        let spec = &fresh.file.spec;
        if let Some((name, _)) = exposed(spec).iter().find(|(name, expose)| self.exposed.get(*name) != Some(*expose)) {
            let what =
                format!("credential {name}: its placeholder is not in the sandbox; start a new run with this policy");
            return Err(fresh.refusal(&[what]));
        }
        if let Some(Held { credential, source, variable }) = held(spec, &self.passed).into_iter().next() {
            let what = format!(
                "credential {credential}: the sandbox holds {source}, as {variable}; start a new run with this policy"
            );
            return Err(fresh.refusal(&[what]));
        }
        if !spec.credentials.is_empty() && !fresh.lies_in(&self.folder) {
            let what =
                format!("it names credentials, and those are looked for from {}: keep it there", self.folder.display());
            return Err(fresh.refusal(&[what]));
        }
        self.credentials.apply(&spec.credentials).map_err(|error| fresh.refusal(&[error.to_string()]))
    }

    /// Ends what was minted.
    pub(super) fn end(&self) {
        for unrevoked in self.credentials.revoke_all(REVOKING) {
            told::note(&unrevoked.to_string());
        }
    }
}

fn exposed(spec: &PolicySpec) -> BTreeMap<CredentialName, Expose> {
    let all = spec.credentials.iter();
    all.filter_map(|(name, credential)| Some((name.clone(), credential.expose.clone()?))).collect()
}

fn placeholder(format: Format) -> Result<Placeholder> {
    let mut works = true;
    let placeholder = Placeholder::make(format, |bytes| {
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match getrandom(rest, GetRandomFlags::empty()) {
                Ok(count) => filled += count,
                Err(_) => {
                    works = false;
                    return;
                }
            }
        }
    });
    ensure!(works, "this machine gives no random numbers");
    Ok(placeholder)
}

/// The variables in which a program finds a placeholder.
fn shown(expose: &Expose, placeholder: &Placeholder) -> Vec<(String, OsString)> {
    let secret = |name: &str| (name.to_owned(), OsString::from(placeholder.text()));
    match (&expose.env, placeholder.key_id()) {
        (Some(name), _) => vec![secret(name)],
        (None, Some(id)) => vec![("AWS_ACCESS_KEY_ID".to_owned(), id.into()), secret("AWS_SECRET_ACCESS_KEY")],
        (None, None) => Vec::new(),
    }
}

/// Keeps what credentials are read from out of the workload's environment, and refuses a flag that would pass it on.
pub(super) fn withhold(spec: &PolicySpec, chosen: &mut Chosen, flags: &[Variable]) -> Result<()> {
    for held in held(spec, &chosen.variables) {
        let Held { credential, source, variable } = held;
        if flags.iter().any(|flag| flag.name == variable) {
            let what = format!(
                "--env {variable}: the credential {credential} is read from {source}, which never enters the sandbox"
            );
            let hint = "leave the flag out: the gateway attaches the secret, and `expose` gives programs a placeholder";
            return Err(Failure::new(code::RUN_FAILED, what).hint(hint).into());
        }
        chosen.variables.remove(&variable);
        chosen.opened.retain(|opened| *opened != variable);
    }
    Ok(())
}

/// A variable of the workload's that holds what a credential is read from.
struct Held {
    credential: CredentialName,
    source: String,
    variable: String,
}

/// By value, alone or within a longer one: under another name it is the same secret, and another value under the same name
/// is none.
fn held(spec: &PolicySpec, variables: &Environment) -> Vec<Held> {
    let mut all = Vec::new();
    for (credential, written) in &spec.credentials {
        for source in origins(written).variables {
            let Some(value) = std::env::var_os(&source).filter(|value| !value.is_empty()) else { continue };
            let secret = value.as_bytes().trim_ascii();
            let holds = |held: &OsString| {
                *held == value
                    || (secret.len() >= TELLING && held.as_bytes().windows(secret.len()).any(|part| part == secret))
            };
            let found = variables.iter().filter(|(_, held)| holds(held));
            all.extend(found.map(|(variable, _)| Held {
                credential: credential.clone(),
                source: source.clone(),
                variable: variable.clone(),
            }));
        }
    }
    all
}

/// The files that the policy names for its credentials, each as it stands there; not those that a provider's tools have of
/// their own.
pub(super) fn written(spec: &PolicySpec) -> impl Iterator<Item = (&CredentialName, PathBuf)> {
    let all = spec.credentials.iter();
    all.flat_map(|(name, credential)| origins(credential).files.into_iter().map(move |path| (name, path)))
        .filter(|(_, path)| !path.starts_with("~"))
}

/// The files on this machine that credentials are read from.
pub(super) fn files(spec: &PolicySpec, folder: &Path, home: &Path) -> Vec<PathBuf> {
    let written = spec.credentials.values().flat_map(|credential| origins(credential).files);
    let mut files: Vec<PathBuf> = written
        .map(|path| match path.strip_prefix("~") {
            Ok(rest) => home.join(rest),
            Err(_) => folder.join(path),
        })
        .collect();
    files.sort();
    files.dedup();
    files
}
