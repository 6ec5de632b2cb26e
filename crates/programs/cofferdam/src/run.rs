//! `run`: a command, contained.
//!
//! ```text
//! flags ─▶ guard (fork) ─▶ begin a sandbox ┬▶ its network, /proc, /dev ──────────────┬▶ its files, privileges ─┬▶ workload
//!                                          └▶ choose policy, mounts, environment ─▶ plan ▶ record, policy, gateway ┘  │
//!          exit code ◀─ summary ◀─ record the end ◀─ stop the gateway ◀───────────────────── wait, answer, apply ─┘
//! ```
//! The first process only waits: where the one that holds the gateway dies, it exits with 125 and the kernel kills the
//! sandbox. Nothing of ours goes to standard output.

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context as _, Result};
use audit_event::RunContext;
use audit_log::AuditLog;
use jiff::Timestamp;
use sandbox::{
    Building, Foundations, GatewayPorts, GroupLimits, Outset, Outside, Passed, PlanRequest, Planned, Standard,
    StartError, Terminal,
};
use values::{Labels, Revision};

use crate::{
    ask,
    config::{self, Config, Durability},
    failure::{Failure, code},
    output::note,
    runs::{Run, RunRecord, Runs},
    source,
};

/// `run`'s flags, and the small grammars in them.
mod arguments;
/// The file that `always` answers write into.
mod ask_file;
/// The bundles of roots that rules name.
mod bundles;
/// Which policy a run gets.
mod choose_policy;
/// How many descriptors the gateway may have.
mod descriptors;
/// The environment of the workload.
mod environment;
/// What no workload may see or change.
mod guarded;
/// What is held read-only for the time of a run.
mod held;
/// What to do about what was denied.
mod hints;
/// What the workload sees of the caller's files.
mod mounts;
/// What is said on standard error at the start.
mod opening;
/// What TLS is opened with.
mod inspection;
/// Who signs for opened TLS.
mod signer;
/// What a policy says that does not do what it seems to.
mod doubts;
/// What changed by the end that would act on the host.
mod found;
/// Flags as a policy file.
mod policy_text;
/// What is decided before anything starts.
mod prepared;
/// The credentials that the gateway attaches.
mod secrets;
/// From standing walls to the end of the workload.
mod session;
/// The line at the end.
mod summary;
/// What a gateway is started with.
mod surroundings;
/// What the parts say meanwhile.
mod told;
/// What a run waits for beside its workload.
mod waiting;

pub(crate) use arguments::Arguments;
pub(crate) use bundles::Bundles;
pub(crate) use doubts::doubts;
pub(crate) use found::{Found, not_compared};
pub(crate) use held::{Guard, Replaced};
use prepared::Prepared;

/// The longest line that is said about paths that others chose.
const LONGEST_NOTE: usize = 4096;

/// Runs a command, contained. Gives the command's own exit code, 125, 126 or 127.
pub(crate) fn run(arguments: Arguments) -> Result<ExitCode> {
    let config = Config::load()?;
    config.need_state()?;
    // Forks, so before anything makes a thread. Only the process that will hold the gateway returns.
    let front = sandbox::guard().map_err(|error| failed(&error, error.hint()))?;
    let begun = Begun::new()?;
    log_to_standard_error();
    let working_directory = working_directory(arguments.workdir.as_deref())?;
    guarded::refuse_home(&working_directory, arguments.allow_home)?;
    guarded::refuse_home_mounts(&arguments, &config)?;
    let runs = Runs::of(&config);
    runs.prepare()?;
    let mut prepared = Prepared::new(&arguments, &config, &working_directory)?;
    prepared.guarded.refuse_replaced(&runs.replaced()?)?;
    let run = runs.create()?;
    let events = match &arguments.events {
        Some(path) => std::path::absolute(path)?,
        None => run.events(),
    };
    let mut record = RunRecord {
        id: run.id.to_string(),
        command: arguments.command.iter().map(|word| as_text(word)).collect(),
        working_directory: working_directory.clone(),
        started: Timestamp::now(),
        ended: None,
        exit_code: None,
        policy: prepared.choice.origin.clone(),
        policy_folder: prepared.choice.source.folder.clone(),
        events: events.clone(),
        pid: std::process::id(),
        // Others that start now see what will be held.
        guard: prepared.guarded.live(&prepared.guarded.closed()),
    };
    let kept = run.lock().and_then(|lock| {
        run.write_policy(&prepared.choice.source.text)?;
        run.write(&record)?;
        Ok(lock)
    });
    // A folder that says nothing would stand as the newest run.
    let lock = kept.inspect_err(|_| runs.discard(&run))?;
    // Only now: of two that start at once, each has said what it protects before it looks at the other.
    let checked = prepared.guarded.add_live_runs(&runs, &run);
    front.leave_word(&found::not_compared(record.guard.windows()));
    let outcome = checked.and_then(|()| {
        Live { arguments: &arguments, config: &config, runs: &runs, run: &run, events: &events }.start(
            begun,
            prepared,
            &working_directory,
            &mut record,
        )
    });
    let code = match &outcome {
        Ok(code) => *code,
        Err(_) => code::RUN_FAILED,
    };
    record.ended = Some(Timestamp::now());
    record.exit_code = Some(i32::from(code));
    run.write(&record)?;
    runs.end(&run, &record)?;
    drop(lock);
    outcome.map(ExitCode::from)
}

/// What takes its time beside all that is read and decided.
struct Begun {
    /// Where it fails, that is told when it is needed.
    foundations: Result<Foundations, StartError>,
    terminal: Terminal,
    outside: Outside,
    asks: bool,
}

impl Begun {
    fn new() -> Result<Self> {
        let asks = ask::can_ask();
        let standard = Standard::of_this_process(asks).map_err(|error| failed(&error, error.hint()))?;
        let Standard { terminal, streams, outside, .. } = standard;
        let outset = Outset { streams, terminal, ports: GatewayPorts::default() };
        // The pipes in it are dropped here: their end is the end of the workload.
        Ok(Self { foundations: sandbox::lay(&outset), terminal, outside, asks })
    }
}

/// What the parts have to say about themselves: errors, or what `COFFERDAM_LOG` asks for.
fn log_to_standard_error() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("COFFERDAM_LOG");
    let filter = filter.unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("error"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| told::Told).init();
}

/// A word of the command line for people and records: a byte that is no text stands as `\xNN`.
fn as_text(word: &OsStr) -> String {
    word.to_str().map_or_else(|| audit_event::bounded_bytes(word.as_bytes(), usize::MAX), str::to_owned)
}

/// A library's error with its hint.
pub(crate) fn failed(error: &dyn std::error::Error, hint: Option<String>) -> Failure {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        message.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    let failure = Failure::new(code::RUN_FAILED, audit_event::bounded(&message, LONGEST_NOTE));
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// A path without symbolic links. Where the caller stands, the kernel says so without looking a path up: the workload
/// of another run may put a link there at any time.
fn working_directory(flag: Option<&Path>) -> Result<PathBuf> {
    let real = match flag {
        Some(flag) => std::fs::canonicalize(flag).with_context(|| format!("--workdir {}", flag.display()))?,
        None => std::env::current_dir().context("the current directory can't be read")?,
    };
    if !real.is_dir() {
        return Err(Failure::new(code::RUN_FAILED, format!("--workdir {} is no folder", real.display())).into());
    }
    if real.to_str().is_none() {
        let what = format!("the path of the working directory is not UTF-8 text: {}", real.display());
        return Err(Failure::new(code::RUN_FAILED, what).hint("rename it, or name another: --workdir DIR").into());
    }
    Ok(real)
}

/// A run that has its folder.
struct Live<'a> {
    arguments: &'a Arguments,
    config: &'a Config,
    runs: &'a Runs,
    run: &'a Run,
    events: &'a Path,
}

impl Live<'_> {
    fn quiet(&self) -> bool {
        self.arguments.quiet || self.config.quiet.value
    }

    fn start(&self, begun: Begun, prepared: Prepared, working_directory: &Path, record: &mut RunRecord) -> Result<u8> {
        let Prepared { choice, mut environment, mut opened, presets, mut guarded } = prepared;
        let mut lists = source::ListReader::new(choice.source.folder.clone());
        let compiled = self.compile(&choice, &mut lists)?;
        let whose = config::flag_over(self.arguments.authority, &self.config.authority).value;
        let signer = || signer::Signer::of(whose, &self.runs.authority(), &mut guarded.notes);
        let opening = inspection::Opening::of(&compiled, signer, &environment, self.run.folder())?;
        if let Some(opening) = &opening {
            guarded.notes.extend(environment.trust(&opening.variables, &self.arguments.env));
            opened.mounts.extend(opening.mounts.iter().cloned());
            opened.covered.clone_from(&opening.covers);
            opened.tls = inspection::said(compiled.spec());
        }
        let kept = self.keep_secrets(&choice, &opening, &mut guarded, &mut environment)?;
        // Before the plan: what is protected must be there.
        let audit = self.open_record(guarded.record_stays)?;
        let planned = self.plan(&environment, &opened, &guarded, working_directory, begun.terminal, &compiled)?;
        let building = self.build(begun.foundations, &planned)?;
        opened.closed = planned.closed.iter().map(|path| path.display().to_string()).collect();
        record.guard = guarded.live(&planned.closed);
        self.run.write(record)?;
        lists.guard(record.guard.clone());
        let folder = choice.source.folder.clone();
        let bundles = bundles::read(&choice.source, &compiled, &folder, &record.guard)
            .map_err(|refusal| refusal.into_failure(&choice.source.name, code::RUN_FAILED))?;
        let repositories = planned.repositories;
        let notes = [guarded.notes.clone(), planned.notes].concat();
        let said = opening::Said::new(&choice, &presets, &environment, &opened, &notes);
        if !self.quiet() {
            // Names of files in it may be an earlier workload's, and this is a terminal.
            said.notes().iter().for_each(|text| note(&audit_event::bounded(text, LONGEST_NOTE)));
        }
        let (chosen_by, asks) = (choice.by, begun.asks);
        let managed: Vec<String> = presets.iter().flat_map(|preset| preset.managed.clone()).collect();
        session::Session {
            audit,
            source: choice.source,
            opening,
            kept,
            policy: Arc::new(compiled),
            lists,
            bundles,
            folder,
            labels: Labels::from_pairs([("source", "run")]),
            run: self.run.clone(),
            socket: self.runs.socket(self.run),
            timeout: self.arguments.timeout,
            rule_file: self.arguments.ask_file.clone().or_else(|| self.arguments.policy.clone()),
            command: record.command.join(" "),
            opened: said.opened(),
            guard: record.guard.clone(),
            repositories: repositories.clone(),
            watch: self.arguments.watch,
            outside: begun.outside,
            passed: if self.arguments.unfiltered_terminal { Passed::All } else { Passed::Harmless },
            asks,
            config: self.config.clone(),
        }
        .live(building)
        .inspect_err(|_| Found::new(&repositories, &record.guard).say(self.quiet()))
        .map(|ended| self.report(&ended, &hints::Situation { chosen_by, asks, managed: &managed }))
    }

    /// Opens the credentials, and puts their placeholders where programs look for them.
    fn keep_secrets(
        &self,
        choice: &choose_policy::Choice,
        opening: &Option<inspection::Opening>,
        guarded: &mut guarded::Guarded,
        environment: &mut environment::Chosen,
    ) -> Result<Option<secrets::Kept>> {
        let (spec, folder) = (&choice.source.file.spec, &choice.source.folder);
        if opening.is_none() && spec.credentials.is_empty() {
            return Ok(None);
        }
        let kept = secrets::Kept::of(spec, folder, guarded.windows(), environment.variables.clone())?;
        guarded.notes.extend(kept.said());
        guarded.notes.extend(environment.expose(&kept.variables, &self.arguments.env));
        Ok(Some(kept))
    }

    fn build(&self, foundations: Result<Foundations, StartError>, planned: &Planned) -> Result<Building> {
        let limits = GroupLimits {
            cpus: self.arguments.cpus,
            memory: self.arguments.memory.map(|size| size.0),
            pids: self.arguments.pids,
        };
        let building = foundations.and_then(|foundations| foundations.build(&planned.plan, &limits));
        building.map_err(|error| failed(&error, error.hint()).into())
    }

    fn open_record(&self, in_one_file: bool) -> Result<AuditLog> {
        let context = RunContext { sandbox: format!("run-{}", self.run.id.short()), thread: None, tool_call: None };
        let durability = config::flag_over(self.arguments.durability, &self.config.durability).value;
        let options = audit_log::Options {
            durability: match durability {
                Durability::Written => audit_log::Durability::Written,
                Durability::Fsync => audit_log::Durability::Fsync,
            },
            rotate_bytes: if in_one_file { u64::MAX } else { audit_log::Options::default().rotate_bytes },
            ..audit_log::Options::default()
        };
        AuditLog::open(self.events, context, options).map_err(|error| failed(&error, None).into())
    }

    fn compile(
        &self,
        choice: &choose_policy::Choice,
        lists: &mut source::ListReader,
    ) -> Result<policy::CompiledPolicy> {
        let refused = |refusal: source::Refusal| refusal.into_failure(&choice.source.name, code::RUN_FAILED);
        let content = lists.read(&choice.source.file.spec).map_err(|errors| refused(choice.source.refusal(&errors)))?;
        let compiled = choice.source.compile_with(content, source::own_addresses(), Revision(1)).map_err(refused)?;
        // In watch mode the tests speak of another policy than the one in force.
        if !self.arguments.watch {
            choice.source.pass_tests(&compiled).map_err(refused)?;
        }
        Ok(compiled)
    }

    fn plan(
        &self,
        environment: &environment::Chosen,
        opened: &mounts::Opened,
        guarded: &guarded::Guarded,
        working_directory: &Path,
        terminal: Terminal,
        compiled: &policy::CompiledPolicy,
    ) -> Result<Planned> {
        let refused = |error: sandbox::PlanError| failed(&error, error.hint());
        let mut request = PlanRequest::new(&self.arguments.command, working_directory).map_err(refused)?;
        if request.working_directory != working_directory {
            let what = format!("{} became another folder during the start", working_directory.display());
            return Err(Failure::new(code::RUN_FAILED, what).hint("see who renames it: another run's command?").into());
        }
        request.environment = environment.variables.clone().into_iter().collect();
        request.environment.push(("PWD".to_owned(), working_directory.into()));
        request.mounts = opened.mounts.clone();
        request.hidden.clone_from(&guarded.hidden);
        request.closed = guarded.closed();
        request.covered.clone_from(&opened.covered);
        request.allow_host_sockets = self.arguments.allow_host_sockets;
        request.terminal = terminal;
        request.datagram_ports = gateway::datagram_ports(compiled)?.into_keys().collect();
        request.plan().map_err(|error| refused(error).into())
    }

    fn report(&self, ended: &session::Ended, situation: &hints::Situation<'_>) -> u8 {
        told::finish();
        ended.found.say(self.quiet());
        if let Some(reason) = &ended.reason {
            note(reason);
        }
        if !self.quiet() {
            note(&summary::line(&ended.summary));
            hints::hints(&self.run.id.short(), &ended.summary, situation).iter().for_each(|hint| note(hint));
        }
        ended.code
    }
}
