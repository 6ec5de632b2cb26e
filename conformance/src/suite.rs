//! All runs, in order: some labs beside each other, each run alone in its lab.

use std::{
    fs,
    num::NonZero,
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result, bail};
use network_lab::{DnsName, Lab, LabSpec, Place, Privilege};

use crate::{
    adapter::{Adapter, Kind},
    arguments::Arguments,
    case::{self, Case, Purpose, Setting},
    change::{self, Asked},
    crosscheck,
    instance::{Instance, Places},
    outcome::{Evidence, Verdict},
    record::Record,
    report::{Report, Run},
    secret,
};

/// Labs beyond one for each processor: most runs wait for something.
const LABS_MORE: usize = 1;
/// The most labs at the same time: each has servers of its own.
const LABS_MOST: usize = 5;
/// What a run may take beyond its own time before it is killed.
const GRACE: Duration = Duration::from_secs(15);

/// Runs what the arguments ask for.
pub(crate) fn run(arguments: &Arguments) -> Result<Report> {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let cases: Vec<Case> =
        case::read_all(&home.join("cases"))?.into_iter().filter(|case| chosen(case, arguments)).collect();
    if cases.is_empty() {
        bail!("no case is called so");
    }
    if arguments.list {
        for case in &cases {
            println!("{:<22} {} {} ({})", case.id, case.owasp.number(), case.title, case.source);
        }
        return Ok(Report::empty());
    }
    let mut report = Report::new(arguments);
    for kind in &arguments.adapter {
        let units = units(*kind, &cases, arguments);
        let units = Mutex::new(units.into_iter());
        let runs = Mutex::new(Vec::new());
        thread::scope(|scope| {
            let labs = thread::available_parallelism().map_or(1, NonZero::get) + LABS_MORE;
            let workers: Vec<_> = (0..labs.min(LABS_MOST))
                .map(|number| {
                    let (units, runs) = (&units, &runs);
                    scope.spawn(move || work(*kind, number, arguments, units, runs))
                })
                .collect();
            workers.into_iter().try_for_each(|worker| worker.join().unwrap_or_else(|_| bail!("a worker panicked")))
        })?;
        report.add(*kind, &cases, runs.into_inner().unwrap_or_else(PoisonError::into_inner));
    }
    Ok(report)
}

fn chosen(case: &Case, arguments: &Arguments) -> bool {
    let begins = |front: &String| case.id.starts_with(front.as_str());
    (arguments.case.is_empty() || arguments.case.iter().any(begins)) && !arguments.skip.iter().any(begins)
}

/// Each case in each setting that both the adapter and the case have.
fn units<'case>(kind: Kind, cases: &'case [Case], arguments: &Arguments) -> Vec<(usize, &'case Case, Setting)> {
    let wanted = |setting: &Setting| arguments.setting.is_empty() || arguments.setting.contains(setting);
    let settings: Vec<Setting> = kind.settings().iter().copied().filter(wanted).collect();
    let all = cases.iter().enumerate();
    all.flat_map(|(place, case)| settings.iter().map(move |setting| (place, case, *setting)))
        .filter(|(_, case, setting)| match kind {
            // What a gateway alone can do is not asked of nothing.
            Kind::None => case.purpose() == Purpose::Attack || case.expect.is_none(),
            Kind::Cofferdam | Kind::Squid | Kind::Tinyproxy => case.expected(*setting).is_some(),
        })
        .collect()
}

type Units<'case> = Mutex<std::vec::IntoIter<(usize, &'case Case, Setting)>>;

fn work(kind: Kind, number: usize, arguments: &Arguments, units: &Units<'_>, runs: &Mutex<Vec<Run>>) -> Result<()> {
    let privilege = if arguments.rootless { Privilege::Rootless } else { Privilege::Own };
    let spec = LabSpec::standard();
    let lab = Lab::start_as(spec.clone(), privilege)?;
    let places = furnish(&lab, arguments)?;
    let adapter = kind.prepare(&lab, &places, arguments)?;
    let mut count = number as u64 * 10_000;
    loop {
        let next = units.lock().unwrap_or_else(PoisonError::into_inner).next();
        let Some((place, case, setting)) = next else { return Ok(()) };
        for instance in Instance::all(case, setting, kind, &lab, &places, &mut count) {
            let run = run_one(kind, &adapter, &lab, &places, &spec, place, &instance, arguments)
                .with_context(|| instance.name())?;
            runs.lock().unwrap_or_else(PoisonError::into_inner).push(run);
        }
    }
}

#[expect(clippy::too_many_arguments, reason = "one run's whole surroundings, used once")]
fn run_one(
    kind: Kind,
    adapter: &Adapter,
    lab: &Lab,
    places: &Places,
    spec: &LabSpec,
    place: usize,
    instance: &Instance<'_>,
    arguments: &Arguments,
) -> Result<Run> {
    let missing: Vec<&String> = instance.case.needs.iter().filter(|program| which(program).is_none()).collect();
    if !missing.is_empty() {
        let verdict = Verdict::not_applicable(format!("not installed: {missing:?}"));
        return Ok(Run::new(place, kind, instance, verdict, Vec::new()));
    }
    if instance.case.privileged && (arguments.user.is_some() || lab.is_rootless()) {
        let verdict = Verdict::not_applicable("only root may do this".to_owned());
        return Ok(Run::new(place, kind, instance, verdict, Vec::new()));
    }
    if let Some(name) = &instance.case.fresh {
        lab.script_name(Place::Internet, name, script(spec, name)?)?;
        lab.script_name(Place::Corporate, name, script(spec, name)?)?;
    }
    let record_path = places.state.join(format!("{}.jsonl", instance.words.canary));
    let command = adapter.command(lab, places, instance, &record_path)?;
    // What came late from the run before is not this one's.
    lab.reached()?;
    let (begun, since) = (Instant::now(), SystemTime::now());
    let time = Duration::from_secs(instance.case.time) + GRACE;
    let asked = match &instance.case.action {
        Some(action) => Some((action, Asked::new(places, instance)?)),
        None => None,
    };
    let (output, changed) = thread::scope(|scope| {
        let changing = asked.as_ref().map(|(action, asked)| {
            scope.spawn(move || change::when_asked(action, asked, adapter, lab, places, instance))
        });
        let output = lab.host().run(command, time);
        (output, changing.map(|changing| changing.join().unwrap_or_else(|_| bail!("the change panicked"))))
    });
    let output = output?;
    let reached = lab.reached()?;
    let record = if kind == Kind::Cofferdam { Record::read(&record_path) } else { Record::default() };
    let expected = instance.case.expected(instance.setting).unwrap_or(case::Expected::Any);
    let evidence = Evidence { adapter: kind, expected, reached: &reached, output: &output, record: &record };
    let verdict = match &changed {
        Some(Err(error)) => Verdict::broken(format!("{error:#}")),
        Some(Ok(_)) | None => Verdict::judge(instance, &evidence),
    };
    let leak = match kind {
        Kind::Cofferdam if instance.family == case::Family::Credentials => {
            secret::found(&instance.words, &output, places, since)
        }
        Kind::Cofferdam | Kind::None | Kind::Squid | Kind::Tinyproxy => None,
    };
    let verdict = verdict.unless_leaked(leak);
    let verdict = match kind {
        Kind::Cofferdam if verdict.good => {
            let killed = instance.case.action == Some(case::Action::KillGateway);
            verdict.unless(crosscheck::wrong(&record_path, &record, &reached, spec, killed))
        }
        Kind::Cofferdam | Kind::None | Kind::Squid | Kind::Tinyproxy => verdict,
    };
    let mut details = Vec::new();
    if !verdict.good || arguments.verbose {
        details.push(format!("command: {:?}", instance.command));
        details.push(format!("expected {expected:?}; exit {:?}", output.status.and_then(|status| status.code())));
        details.extend(changed.iter().flatten().map(|done| format!("changed: {done}")));
        details.extend(output.stdout.lines().chain(output.stderr.lines()).take(30).map(|line| format!("said: {line}")));
        details.extend(record.lines.iter().take(30).map(|line| format!("record: {line}")));
        details.extend(reached.iter().take(60).map(|one| format!("reached: {one}")));
    }
    let _kept_only_where_it_matters = fs::remove_file(&record_path);
    Ok(Run::new(place, kind, instance, verdict, details).lasting(begun.elapsed()))
}

/// What the standard lab says of a name.
fn script(spec: &LabSpec, name: &str) -> Result<DnsName> {
    let script = spec.internet.iter().find_map(|server| server.service.names()?.get(name));
    script.cloned().with_context(|| format!("the lab has no name {name}"))
}

/// The program itself where `cargo` is a front that needs a home.
fn cargo() -> Option<PathBuf> {
    let asked = Command::new("rustup").args(["which", "cargo"]).output().ok().filter(|asked| asked.status.success());
    match asked {
        Some(asked) => Some(PathBuf::from(String::from_utf8(asked.stdout).ok()?.trim())),
        None => which("cargo"),
    }
}

/// Fills the working directory: probes, policies, the CA, a git repository, registries' packages, a Go client where
/// there is Go.
fn furnish(lab: &Lab, arguments: &Arguments) -> Result<Places> {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let work = lab.folder().join("work");
    let policies = lab.folder().join("policies");
    let state = lab.folder().join("state");
    for folder in [&state, &state.join("runtime"), &state.join("home")] {
        fs::create_dir_all(folder)?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
    }
    copy(&home.join("probes"), &work.join("probes"))?;
    copy(&home.join("policies"), &policies)?;
    fs::copy(lab.certificates().bundle(), work.join("ca.pem")).context("copy the CA")?;
    for name in ["client.pem", "client.key"] {
        fs::copy(lab.folder().join(name), work.join(name)).with_context(|| format!("copy {name}"))?;
    }
    fs::write(lab.folder().join("outside.txt"), "not for the sandbox\n")?;
    let repository = lab.folder().join("git/one.git");
    let git = |arguments: &[&str]| -> Result<()> {
        let status = Command::new("git").arg("-C").arg(&repository).args(arguments).status().context("run git")?;
        if status.success() { Ok(()) } else { bail!("git {arguments:?}: {status}") }
    };
    fs::create_dir_all(&repository)?;
    git(&["init", "-q", "--bare"])?;
    git(&["config", "http.receivepack", "true"])?;
    let python = which("python3").filter(|path| path.starts_with("/usr/")).unwrap_or("/usr/bin/python3".into());
    let made = Command::new(&python).arg(home.join("registries.py")).arg(lab.folder().join("files")).status();
    if !made.context("run registries.py")?.success() {
        bail!("registries.py failed");
    }
    if let Some(cargo) = cargo() {
        fs::copy(&cargo, work.join("cargo")).with_context(|| format!("copy {}", cargo.display()))?;
    }
    if which("go").is_some() {
        let built = Command::new("go")
            .args(["build", "-o"])
            .arg(work.join("fetch-go"))
            .arg(home.join("probes/fetch.go"))
            .envs([("CGO_ENABLED", "0"), ("GO111MODULE", "off"), ("GOPROXY", "off"), ("GOFLAGS", "")])
            .status()
            .context("run go")?;
        if !built.success() {
            bail!("go did not build the client: {built}");
        }
    }
    if let Some(user) = arguments.user {
        own(&work, user)?;
        own(&state, user)?;
    }
    Ok(Places { work, policies, state, python })
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o755))?;
    for entry in fs::read_dir(from).with_context(|| format!("read {}", from.display()))? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

fn own(path: &Path, user: u32) -> Result<()> {
    chown(path, Some(user), Some(user)).with_context(|| format!("give {} to {user}", path.display()))?;
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            own(&entry?.path(), user)?;
        }
    }
    Ok(())
}

fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|candidate| candidate.is_file())
}
