//! What TLS is opened with where a policy looks inside: a certificate authority, the run's own or the installation's,
//! whom servers are trusted by, and what the sandbox is given so that its programs trust that authority.
//!
//! ```text
//! the run's folder, until the walls stand        the sandbox
//! opening/{bundle.pem, run.pem, java.jks, …} ──▶ /etc/cofferdam/trust, and in place of the system's own bundles
//! the keys that sign: in this process's memory (the installation's also in its file, see `signer`)
//! ```
//! Prepared at the start or not at all: a program reads whom it trusts when it starts. So a policy that looks inside
//! can't come to a run that began without.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::{self, DirBuilder, OpenOptions, Permissions},
    io::{Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, ensure};
use certificates::{
    IssueError, Leaves, UpstreamRoots,
    trust::{self, Files, Form, SYSTEM_FILES, VARIABLES, Value},
};
use gateway::Inspection;
use policy::{
    CompiledPolicy, HostPattern,
    model::{Group, PolicySpec, Rule, To},
};
use sandbox::{Cover, Mount};

use super::{environment::Chosen, failed, signer::Signer};

/// Where the sandbox has the files.
const INSIDE: &str = "/etc/cofferdam/trust";
/// For how many names a certificate is kept.
const LEAVES: usize = 4096;
/// The largest bundle of the caller's that is read.
const BUNDLE_LIMIT: u64 = 16 << 20;
/// How many names of a rule are told.
const NAMED: usize = 4;
/// How many rules are told.
const RULES: usize = 8;

/// Everything that opening TLS takes.
#[derive(Debug)]
pub(super) struct Opening {
    pub(super) inspection: Inspection,
    signer: Signer,
    /// The files, for the sandbox: each by itself, so that it is there when its folder is gone.
    pub(super) mounts: Vec<Mount>,
    /// The system's own bundles.
    pub(super) covers: Vec<Cover>,
    /// What makes programs read the files.
    pub(super) variables: Vec<(String, OsString)>,
    /// The files, until the sandbox has them.
    files: Option<Laid>,
}

/// Files that are gone with this.
#[derive(Debug)]
struct Laid(PathBuf);

impl Drop for Laid {
    fn drop(&mut self) {
        // What can't be removed is no secret, and lies where no sandbox sees it.
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Opening {
    /// Prepares it in `folder`, where the policy looks inside TLS. `given` are the variables that the workload has
    /// anyway: a bundle that one of them names goes on being trusted by what reads it.
    pub(super) fn of(
        policy: &CompiledPolicy,
        signer: impl FnOnce() -> Result<Signer>,
        given: &Chosen,
        folder: &Path,
    ) -> Result<Option<Self>> {
        if policy.spec().inspecting_rules().next().is_none() {
            return Ok(None);
        }
        let roots = UpstreamRoots::system().map_err(|error| failed(&error, None))?;
        let signer = signer()?;
        let issuer = signer.issuer(policy.inspects(), SystemTime::now()).map_err(|error| failed(&error, None))?;
        let anchors = trust::pem(issuer.anchors());
        // What reads the system's bundle goes on trusting it, wherever servers' certificates are looked up.
        let system = [roots.certificates(), &trust::installed()].concat();
        let bundle = trust::bundle(&system, issuer.anchors());
        let store = trust::java_store(trust::together(&system, issuer.anchors()));
        let files = Laid(folder.join("opening"));
        let folder = &files.0;
        public_folder(folder)?;
        write(folder, "bundle.pem", bundle.as_bytes())?;
        write(folder, "run.pem", anchors.as_bytes())?;
        write(folder, "java.jks", &store)?;
        let variables = variables(given, folder, &anchors)?;
        let leaves = Leaves::new(issuer, LEAVES).context("preparing to open TLS")?;
        let mounts = fs::read_dir(folder)?.map(|entry| Ok(shown(&entry?.path()))).collect::<Result<_>>()?;
        let covers = SYSTEM_FILES.iter().map(|file| {
            let with = match file.form {
                Form::Pem => folder.join("bundle.pem"),
                Form::Java => folder.join("java.jks"),
            };
            Cover { path: file.path.into(), with }
        });
        let covers = covers.collect();
        let inspection = Inspection { leaves: Arc::new(leaves), roots };
        Ok(Some(Self { inspection, signer, mounts, covers, variables, files: Some(files) }))
    }

    /// Sees to it that these names can be signed for, and no others where the signer bounds names.
    pub(super) fn sign_for<'a>(&self, names: impl Iterator<Item = &'a HostPattern>) -> Result<(), IssueError> {
        self.signer.sign_for(&self.inspection.leaves, names, SystemTime::now())
    }

    /// How often to see whether what signs is about to end; `None` where it outlives every run.
    pub(super) fn renewal(&self) -> Option<Duration> {
        self.signer.renewal()
    }

    /// The sandbox has the files mounted: nothing of them stays here.
    pub(super) fn is_mounted(&mut self) {
        self.files = None;
    }
}

/// A file as the sandbox has it.
fn shown(file: &Path) -> Mount {
    let target = Path::new(INSIDE).join(file.file_name().unwrap_or_default());
    Mount::Bind { source: file.to_owned(), target, writable: false, optional: false, owned: false }
}

/// The variables of [`VARIABLES`]. One that names a bundle of the caller's gets that bundle and ours.
fn variables(given: &Chosen, folder: &Path, anchors: &str) -> Result<Vec<(String, OsString)>> {
    let inside = |name: &str| Path::new(INSIDE).join(name);
    let files = Files { bundle: inside("bundle.pem"), anchors: inside("run.pem"), java: inside("java.jks") };
    let java = given.variables.get("JAVA_TOOL_OPTIONS").and_then(|options| options.to_str());
    let java = java.filter(|options| !options.contains("-Djavax.net.ssl.trustStore="));
    let mut made: BTreeMap<PathBuf, PathBuf> = BTreeMap::new();
    let mut chosen = Vec::new();
    for (variable, value) in VARIABLES.iter().zip(trust::environment(&files, java)) {
        let own = given.variables.get(variable.name).map(PathBuf::from);
        let own = own.filter(|path| variable.value != Value::JavaOptions && path.is_file());
        let value = match own {
            None => OsString::from(value.1),
            Some(path) => {
                let name = format!("caller-{}.pem", made.len() + 1);
                match made.get(&path) {
                    Some(known) => known.clone().into(),
                    None => {
                        let text = read_bundle(&path)?;
                        write(folder, &name, &[anchors.as_bytes(), &text].concat())?;
                        made.insert(path, inside(&name));
                        inside(&name).into()
                    }
                }
            }
        };
        chosen.push((variable.name.to_owned(), value));
    }
    Ok(chosen)
}

fn read_bundle(path: &Path) -> Result<Vec<u8>> {
    let reading = || format!("reading {}", path.display());
    let mut text = Vec::new();
    let file = crate::files::open_or_given(path).with_context(reading)?;
    file.take(BUNDLE_LIMIT + 1).read_to_end(&mut text).with_context(reading)?;
    ensure!(text.len() as u64 <= BUNDLE_LIMIT, "{} is too large for a bundle of certificates", path.display());
    Ok(text)
}

/// A folder that the sandbox's user may enter, below one that nobody else may.
fn public_folder(folder: &Path) -> Result<()> {
    DirBuilder::new().mode(0o755).create(folder).with_context(|| format!("making {}", folder.display()))?;
    fs::set_permissions(folder, Permissions::from_mode(0o755)).with_context(|| format!("making {}", folder.display()))
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let path = folder.join(name);
    let write = || -> std::io::Result<()> {
        let mut file = OpenOptions::new().create_new(true).write(true).mode(0o644).open(&path)?;
        file.write_all(bytes)?;
        // Whatever the umask says.
        file.set_permissions(Permissions::from_mode(0o644))
    };
    write().with_context(|| format!("writing {}", path.display()))
}

/// Why a live run can't take a policy with this rule.
pub(super) fn comes_too_late(rule: &Rule) -> String {
    format!(
        "rule {} looks inside TLS, and this run began without: its programs trust no certificate of this run; start a \
         new run with this policy, or write `tls: passthrough`",
        rule.name
    )
}

/// Which TLS is opened: `api.example.com (rule tools)`.
pub(super) fn said(spec: &PolicySpec) -> Option<String> {
    let rules: Vec<&Rule> = spec.inspecting_rules().take(RULES + 1).collect();
    let told: Vec<String> =
        rules.iter().take(RULES).map(|rule| format!("{} (rule {})", names(spec, rule), rule.name)).collect();
    let more = if rules.len() > RULES { ", and by more rules" } else { "" };
    (!told.is_empty()).then(|| format!("{}{more}", told.join(", ")))
}

/// Where a rule looks inside, in a few words.
fn names(spec: &PolicySpec, rule: &Rule) -> String {
    let group = match &rule.to {
        To::Any => return "any destination".to_owned(),
        To::Group(name) => spec.groups.get(name),
        To::Inline(group) => Some(group),
    };
    let Some(Group { hosts, urls, cidrs, feed, service_tag, .. }) = group else { return "nothing".to_owned() };
    let mut all: Vec<String> = hosts.iter().map(ToString::to_string).collect();
    all.extend(urls.iter().filter(|url| url.tls).map(|url| url.host.to_string()));
    all.extend(cidrs.iter().map(ToString::to_string));
    all.extend(feed.iter().map(|feed| feed.path.clone()));
    all.extend(service_tag.iter().map(|tag| tag.name.clone()));
    all.dedup();
    let more = all.len().saturating_sub(NAMED);
    all.truncate(NAMED);
    match more {
        0 => all.join(" "),
        more => format!("{} and {more} more", all.join(" ")),
    }
}
