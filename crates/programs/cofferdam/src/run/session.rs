//! From the sandbox's sockets to the end of the workload: the gateway starts, the workload runs, signals, new policies,
//! lists and time are served until it ends.

use std::{
    path::PathBuf,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use audit_log::AuditLog;
use gateway::{Gateway, Summary};
use policy::CompiledPolicy;
use sandbox::{Building, Console, Exit, Outside, Passed, Remote, Standing};
use tokio::{
    signal::unix::SignalKind,
    sync::{mpsc, oneshot},
};
use values::Labels;

use super::{
    Bundles, Found, Guard, failed,
    inspection::Opening,
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
    runs::Run,
    source::{ListReader, Source},
};

/// New policies and new lists.
mod renewal;
/// What the record says about the run itself.
mod records;

/// How long open connections may end in order when the workload is gone.
const DRAIN: Duration = Duration::from_millis(500);
/// How long the workload may take to end after `stop` or a second Ctrl-C.
const GRACE: Duration = Duration::from_secs(5);

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
    /// What the bundles of roots that its rules name hold, and where relative ones are looked for.
    pub(crate) bundles: Bundles,
    pub(crate) folder: PathBuf,
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
                self.folder.clone(),
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
        let mut renewal = ticks(self.opening.as_ref().and_then(Opening::renewal));
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
                () = tick(&mut renewal) => self.renew_issuer(),
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
