//! From the sandbox's sockets to the end of the workload: the gateway starts, the workload runs, signals, new policies,
//! lists and time are served until it ends.

use std::{
    path::PathBuf,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use audit_event::{Event, PolicyApplied, PolicyRefused, SandboxChanged, bounded};
use audit_log::AuditLog;
use gateway::{Gateway, Summary};
use policy::CompiledPolicy;
use sandbox::{Building, Console, Exit, Outside, Passed, Remote, Standing};
use tokio::{
    signal::unix::SignalKind,
    sync::{mpsc, oneshot},
};
use values::{Labels, Revision};

use super::{
    Found, Guard, choose_policy, failed,
    inspection::{self, Opening},
    secrets::Kept,
    surroundings::{handed_over, settings},
    told,
    waiting::{Signals, at, tick, ticks},
};
use crate::{
    ask::{self, SharedConsole},
    config::Config,
    control::{ControlSocket, Pending, Request, Response},
    failure::code,
    managed_path,
    runs::Run,
    source::{self, ListReader, Source},
};

/// How long open connections may end in order when the workload is gone.
const DRAIN: Duration = Duration::from_millis(500);
/// How long the workload may take to end after `stop` or a second Ctrl-C.
const GRACE: Duration = Duration::from_secs(5);
/// The longest command line in a record.
const COMMAND_LIMIT: usize = 512;

/// A run whose walls are being built.
pub(crate) struct Session {
    pub(crate) audit: AuditLog,
    pub(crate) source: Source,
    /// What TLS is opened with, where the policy of the start looks inside.
    pub(crate) opening: Option<Opening>,
    /// The credentials, where the policy of the start may attach some.
    pub(crate) kept: Option<Kept>,
    pub(crate) policy: Arc<CompiledPolicy>,
    pub(crate) lists: ListReader,
    pub(crate) labels: Labels,
    pub(crate) run: Run,
    pub(crate) socket: PathBuf,
    pub(crate) timeout: Option<Duration>,
    pub(crate) rule_file: Option<PathBuf>,
    pub(crate) command: String,
    pub(crate) opened: Vec<String>,
    pub(crate) guard: Guard,
    /// What git would run in the writable folders at the start.
    pub(crate) repositories: sandbox::RepositoryWatch,
    pub(crate) watch: bool,
    pub(crate) outside: Outside,
    pub(crate) passed: Passed,
    pub(crate) asks: bool,
    pub(crate) config: Config,
}

/// How it ended.
pub(crate) struct Ended {
    pub(crate) code: u8,
    /// What people must know about the end.
    pub(crate) reason: Option<String>,
    pub(crate) summary: Summary,
    /// What changed in the writable folders that would act on the host.
    pub(crate) found: Found,
}

impl Session {
    /// Lives it to the end.
    pub(crate) fn live(mut self, mut building: Building) -> Result<Ended> {
        let wall = |error: sandbox::StartError| failed(&error, error.hint());
        let sockets = building.sockets().map_err(wall)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the run")?;
        let console = SharedConsole::default();
        let questions = self.questions(&console)?;
        let init = building.init_pid();
        let gateway = Gateway::start(
            handed_over(sockets, init),
            Arc::clone(&self.policy),
            self.labels.clone(),
            self.audit.clone(),
            questions,
            settings(
                self.opening.as_ref().map(|opening| opening.inspection.clone()),
                self.kept.as_ref().map(|kept| kept.secrets.clone()).unwrap_or_default(),
                self.source.folder.clone(),
            ),
        )
        .map_err(|error| failed(&error, None))?;
        // What was in memory before the gateway (the policy's text, flags) is nobody's to dump either.
        sandbox::make_undumpable().context("protecting the gateway's memory")?;
        let _inside = runtime.enter();
        let control = ControlSocket::bind(&self.socket)?;
        let signals = Signals::new()?;
        let Standing { sandbox, terminal, enforced, missing } = building.finish().map_err(wall)?;
        self.opening.iter_mut().for_each(Opening::is_mounted);
        self.record_start(&enforced, &missing)?;
        let running = sandbox.run().map_err(|error| failed(&error, None))?;
        let outside = std::mem::take(&mut self.outside);
        let attached = Console::attach(outside, terminal, self.passed).map_err(|error| failed(&error, error.hint()))?;
        *console.blocking_lock() = Some(attached);
        let remote = running.remote();
        let (tell, exited) = oneshot::channel();
        let waiting = thread::Builder::new().name("wait".to_owned()).spawn(move || {
            // Nobody left to tell: then the run has failed already.
            let _ = tell.send(running.ended());
            running.clear();
        });
        let waiting = waiting.context("waiting for the workload")?;
        let (exit, reason) = runtime.block_on(async {
            let mut signals = signals;
            let (exit, reason) = self.serve(&gateway, control, &mut signals, &remote, exited).await;
            finish(&console, &mut signals, reason.is_some()).await;
            (exit, reason)
        });
        let summary = gateway.stop(DRAIN);
        self.kept.iter().for_each(Kept::end);
        if waiting.join().is_err() {
            anyhow::bail!("the wait for the workload panicked");
        }
        let (code, reason) = (ended_code(&exit, reason.is_some()), reason.or_else(|| why(&exit)));
        let found = Found::new(&self.repositories, &self.guard);
        self.record_end(code, &enforced, &missing, &found)?;
        Ok(Ended { code, reason, summary, found })
    }

    fn questions(&self, console: &SharedConsole) -> Result<Option<mpsc::Sender<gateway::Question>>> {
        if !self.asks {
            return Ok(None);
        }
        let (sender, receiver) = mpsc::channel(ask::QUESTIONS);
        ask::start(receiver, Arc::clone(console), self.rule_file.clone(), self.guard.clone())?;
        Ok(Some(sender))
    }

    /// Serves signals, requests, lists and time until the workload ends. Gives why, where we ended it.
    async fn serve(
        &mut self,
        gateway: &Gateway,
        control: ControlSocket,
        signals: &mut Signals,
        remote: &Remote,
        mut exited: oneshot::Receiver<Exit>,
    ) -> (Exit, Option<String>) {
        let (requests, mut pending) = mpsc::channel::<Pending>(8);
        let serving = tokio::spawn(control.serve(requests));
        let mut refresh = ticks(self.source.refresh());
        let mut end_at = self.timeout.map(|timeout| Instant::now() + timeout);
        let mut reason = None;
        let exit = loop {
            tokio::select! {
                exit = &mut exited => break exit.unwrap_or(Exit::Lost),
                number = signals.next() => {
                    // A second Ctrl-C does not wait for a program that ignores the first.
                    if signals.interrupted > 1 || remote.signal(number).is_err() {
                        remote.kill();
                    }
                }
                Some(Pending { request, answer }) = pending.recv() => match request {
                    Request::Apply { text, path } => {
                        let response = self.apply(gateway, &text, &path);
                        refresh = ticks(self.source.refresh());
                        let _ = answer.send(response);
                    }
                    Request::Stop => {
                        let _ = answer.send(Response::Stopping);
                        reason = Some("stopped by `cofferdam stop`".to_owned());
                        let _ = remote.signal(SignalKind::terminate().as_raw_value());
                        end_at = Some(Instant::now() + GRACE);
                    }
                },
                () = tick(&mut refresh) => self.refresh_lists(gateway),
                () = at(end_at) => {
                    end_at = None;
                    reason = reason.or_else(|| self.timeout.map(|timeout| format!("--timeout {timeout:?} was reached")));
                    remote.kill();
                }
            }
        };
        serving.abort();
        let _ = serving.await;
        (exit, reason)
    }

    /// A new policy from `policy apply`.
    fn apply(&mut self, gateway: &Gateway, text: &str, path: &std::path::Path) -> Response {
        match self.try_apply(gateway, text, path) {
            Ok(response) => response,
            Err(refusal) => {
                self.record_refusal(&refusal.drawing);
                Response::Refused { reason: refusal.drawing }
            }
        }
    }

    fn try_apply(
        &mut self,
        gateway: &Gateway,
        text: &str,
        path: &std::path::Path,
    ) -> Result<Response, source::Refusal> {
        let folder = path.parent().map_or_else(|| PathBuf::from("/"), std::path::Path::to_path_buf);
        let started = Instant::now();
        let mut fresh = parse_beside(&path.display().to_string(), text, folder)?;
        let parsed = Instant::now();
        managed_path::fill(Arc::make_mut(&mut fresh.file.spec), &self.config, self.guard.windows())
            .map_err(|error| source::Refusal { drawing: format!("{error:#}\n") })?;
        if self.watch {
            choose_policy::watch(Arc::make_mut(&mut fresh.file.spec));
        }
        if let (None, Some(rule)) = (&self.opening, fresh.file.spec.inspecting_rules().next()) {
            return Err(fresh.refusal(&[inspection::comes_too_late(rule)]));
        }
        let mut lists = ListReader::new(fresh.folder.clone());
        lists.guard(self.guard.clone());
        let content = lists.read(&fresh.file.spec).map_err(|errors| fresh.refusal(&errors))?;
        let compiled = fresh.compile_with(content, source::own_addresses(), self.next_revision())?;
        if !self.watch {
            fresh.pass_tests(&compiled)?;
        }
        self.kept.iter().try_for_each(|kept| kept.apply(&fresh))?;
        let (before, lists_before) =
            (std::mem::replace(&mut self.source, fresh), std::mem::replace(&mut self.lists, lists));
        let done = self.put_in_force(gateway, compiled, started, parsed);
        if done.is_err() {
            (self.source, self.lists) = (before, lists_before);
            // It was taken before; where it can't be now, no secret is to be had, and nothing leaves bare.
            self.kept.iter().for_each(|kept| drop(kept.apply(&self.source)));
        } else if let Err(error) = self.run.write_policy(text) {
            told::note(&format!("{error:#}"));
        }
        done
    }

    fn next_revision(&self) -> Revision {
        Revision(self.policy.revision().0 + 1)
    }

    /// `started` and `parsed` are when the reading of the policy's text began and ended.
    fn put_in_force(
        &mut self,
        gateway: &Gateway,
        compiled: CompiledPolicy,
        started: Instant,
        parsed: Instant,
    ) -> Result<Response, source::Refusal> {
        let compiled = Arc::new(compiled);
        let applied =
            gateway.apply(Arc::clone(&compiled)).map_err(|error| self.source.refusal(&[error.to_string()]))?;
        self.policy = compiled;
        self.record(Event::PolicyApplied(self.applied(applied.rejudged, applied.cut)));
        Ok(Response::Applied {
            revision: applied.revision.0,
            rejudged: applied.rejudged,
            cut: applied.cut,
            parsed_us: audit_event::microseconds(parsed.saturating_duration_since(started)),
            in_force_us: audit_event::microseconds(applied.since.saturating_duration_since(parsed)),
            took_us: audit_event::microseconds(applied.took),
        })
    }

    /// Reads lists again. What can't be read stays as it was; what changed makes a new revision.
    fn refresh_lists(&mut self, gateway: &Gateway) {
        let before = self.lists.last_good().clone();
        let (lists, errors) = self.lists.read_again(&self.source.file.spec);
        if !errors.is_empty() {
            self.record_refusal(&errors.join("; "));
        }
        if lists == before {
            return;
        }
        let parsed = Instant::now();
        let compiled = self.source.compile_with(lists, source::own_addresses(), self.next_revision());
        if let Err(refusal) = compiled.and_then(|compiled| self.put_in_force(gateway, compiled, parsed, parsed)) {
            self.record_refusal(&refusal.drawing);
        }
    }

    fn record_start(&self, enforced: &[String], missing: &[String]) -> Result<()> {
        let refused = |error: audit_log::RecordError| failed(&error, None);
        let started = self.changed(None, enforced, missing, Vec::new());
        self.audit.record_blocking(Event::SandboxStarted(started)).map_err(refused)?;
        self.audit.record_blocking(Event::PolicyApplied(self.applied(0, 0))).map_err(refused)?;
        Ok(())
    }

    fn record_end(&self, code: u8, enforced: &[String], missing: &[String], found: &Found) -> Result<()> {
        let ended = Event::SandboxEnded(self.changed(Some(i32::from(code)), enforced, missing, found.for_the_record()));
        self.audit.record_blocking(ended).map(drop).map_err(|error| failed(&error, None).into())
    }

    fn changed(
        &self,
        exit_code: Option<i32>,
        enforced: &[String],
        missing: &[String],
        findings: Vec<String>,
    ) -> SandboxChanged {
        SandboxChanged {
            command: bounded(&self.command, COMMAND_LIMIT),
            exit_code,
            enforced: enforced.to_vec(),
            missing: missing.to_vec(),
            opened: self.opened.clone(),
            findings,
        }
    }

    fn applied(&self, rejudged: u64, cut: u64) -> PolicyApplied {
        PolicyApplied {
            revision: self.policy.revision().to_string(),
            name: self.policy.spec().name.clone(),
            digest: self.source.digest(self.lists.last_good()),
            rejudged,
            cut,
        }
    }

    fn record_refusal(&self, reason: &str) {
        let revision = self.policy.revision().to_string();
        self.record(Event::PolicyRefused(PolicyRefused { revision, reason: bounded(reason, 2000) }));
    }

    /// What is recorded about the run itself lets nothing leave: where it can't be written, that is said.
    fn record(&self, event: Event) {
        if let Err(error) = self.audit.record_blocking(event) {
            told::note(&format!("the record can't be written: {error}"));
        }
    }
}

/// Parsed by a thread of its own: it leaves many small holes in the memory that it takes, and what comes after it would
/// have to clear them up.
fn parse_beside(name: &str, text: &str, folder: PathBuf) -> Result<Source, source::Refusal> {
    thread::scope(|scope| {
        let parsing = scope.spawn(|| source::parse(name, text.as_bytes(), folder));
        let panicked = |_| Err(source::Refusal { drawing: format!("{name}: the parser failed\n") });
        parsing.join().unwrap_or_else(panicked)
    })
}

/// Gives the terminal back, and waits until what the workload wrote was taken. Where we ended the run, or a signal
/// comes, that is not waited for long.
async fn finish(console: &SharedConsole, signals: &mut Signals, ended_by_us: bool) {
    // A prompt may hold it until it sees that its flow is gone; the front gives the terminal back in any case.
    let Ok(mut held) = tokio::time::timeout(GRACE, console.lock()).await else { return };
    let Some(console) = held.take() else { return };
    let (tell, finished) = oneshot::channel();
    let finishing = thread::Builder::new().name("finish".to_owned()).spawn(move || tell.send(console.finish()));
    if let Err(error) = finishing {
        told::note(&format!("the command's output could not be waited for: {error}"));
        return;
    }
    let grace = at(ended_by_us.then(|| Instant::now() + GRACE));
    tokio::select! {
        end = finished => {
            if let Ok(Err(error)) = end {
                told::note(&failed(&error, None).to_string());
            }
        }
        _ = signals.next() => {}
        () = grace => {}
    }
}

fn ended_code(exit: &Exit, ended_by_us: bool) -> u8 {
    // Also where the workload made a code of its own out of our signal: the run did not end by itself.
    if ended_by_us { code::RUN_FAILED } else { exit.code() }
}

fn why(exit: &Exit) -> Option<String> {
    match exit {
        Exit::Ended { .. } => None,
        Exit::NotRun { reason, .. } => Some(reason.clone()),
        Exit::Failed { step, errno, hint } => {
            Some(format!("{step}: {}; {hint}", std::io::Error::from_raw_os_error(*errno)))
        }
        Exit::Lost => Some("the sandbox was killed".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_of_ours_is_125() {
        assert_eq!(ended_code(&Exit::Ended { code: 0 }, true), 125);
        assert_eq!(ended_code(&Exit::Ended { code: 3 }, false), 3);
        assert_eq!(ended_code(&Exit::NotRun { code: 127, reason: String::new() }, false), 127);
    }
}
