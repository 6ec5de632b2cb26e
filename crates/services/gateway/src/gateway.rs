//! A gateway: started with sockets and a policy, changed while it runs, stopped.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, mpsc, mpsc::Receiver},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use audit_log::AuditLog;
use policy::{
    CompiledPolicy, Protocol,
    model::{Action, PolicySpec, RuleEnforcement},
};
use tokio::sync::mpsc as orders;
use values::{Labels, Revision, RuleName};

use crate::{
    ask::Approvals,
    dns::DnsContext,
    identify::Processes,
    in_force::{CurrentPolicy, InForce},
    rejudge::Share,
    resolve::Names,
    settings::{Question, SandboxSockets, Settings},
    shared::Shared,
    summary::{Summary, Tally},
    worker::{self, Order, Sockets},
};

/// Why a gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The policy needs what is not built.
    #[error(transparent)]
    NotBuilt(#[from] NotBuilt),
    /// A thread could not be started.
    #[error("the gateway can't start its {what}")]
    Thread {
        /// Which.
        what: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A socket could not be used.
    #[error("the gateway can't use the sandbox's sockets")]
    Socket(#[source] io::Error),
}

/// A rule that asks for what this build does not do; nothing of it is let through.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("rule {rule}: forwarding {protocol} is not built; the sandbox rejects all of it but DNS")]
pub struct NotBuilt {
    /// The rule.
    pub rule: RuleName,
    /// What it opens.
    pub protocol: &'static str,
}

/// What a change of policy did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// The revision in force.
    pub revision: Revision,
    /// Open connections that were judged again.
    pub rejudged: u64,
    /// Of these, cut.
    pub cut: u64,
    /// From the change to the last cut.
    pub took: Duration,
}

/// The data plane of one sandbox.
#[derive(Debug)]
pub struct Gateway {
    shared: Arc<Shared>,
    labels: Labels,
    workers: Vec<Handle>,
}

#[derive(Debug)]
struct Handle {
    orders: orders::UnboundedSender<Order>,
    thread: JoinHandle<()>,
}

impl Gateway {
    /// Starts the workers. When this returns, they listen.
    pub fn start(
        sockets: SandboxSockets,
        policy: Arc<CompiledPolicy>,
        labels: Labels,
        audit: AuditLog,
        questions: Option<orders::Sender<Question>>,
        settings: Settings,
    ) -> Result<Self, StartError> {
        check_built(policy.spec())?;
        let count = worker_count(&settings);
        let settings = Arc::new(settings);
        let tally = Arc::new(Tally::default());
        let names = Names::new(&settings, audit.clone(), Arc::clone(&tally));
        let current = Arc::new(CurrentPolicy::new(InForce::new(policy, &labels)));
        let processes = match (sockets.socket_diagnosis.as_ref(), sockets.init_pid) {
            (Some(diagnosis), Some(init)) => {
                let diagnosis = diagnosis.try_clone().map_err(StartError::Socket)?;
                let started = Processes::start(diagnosis, init);
                Some(started.map_err(|source| StartError::Thread { what: "process look-up", source })?)
            }
            (None, _) | (_, None) => None,
        };
        let dns = DnsContext::new(Arc::clone(&current), Arc::clone(&names), audit.clone(), Arc::clone(&tally));
        let shared = Arc::new(Shared {
            policy: current,
            audit,
            names,
            tally,
            settings,
            questions,
            approvals: Approvals::default(),
            processes,
            next_flow: 1.into(),
        });
        let mut gateway = Self { shared, labels, workers: Vec::new() };
        match gateway.start_workers(&sockets, &dns, count) {
            Ok(()) => Ok(gateway),
            Err(error) => {
                gateway.stop(Duration::ZERO);
                Err(error)
            }
        }
    }

    fn start_workers(
        &mut self,
        sockets: &SandboxSockets,
        dns: &Arc<DnsContext>,
        count: usize,
    ) -> Result<(), StartError> {
        let (ready, started) = mpsc::channel();
        for index in 0..count {
            let sockets = duplicate(sockets).map_err(StartError::Socket)?;
            let (sender, receiver) = orders::unbounded_channel();
            let (shared, dns, ready) = (Arc::clone(&self.shared), Arc::clone(dns), ready.clone());
            let thread = thread::Builder::new()
                .name(format!("gateway-{index}"))
                .spawn(move || worker::run(shared, dns, sockets, receiver, &ready))
                .map_err(|source| StartError::Thread { what: "workers", source })?;
            self.workers.push(Handle { orders: sender, thread });
        }
        // Each worker says once whether it listens; one that panicked says nothing.
        drop(ready);
        for _ in 0..count {
            let silent = || Err(io::Error::other("a worker ended before it listened"));
            started.recv().unwrap_or_else(|_| silent()).map_err(StartError::Socket)?;
        }
        Ok(())
    }

    /// Puts a policy into force: new decisions follow it at once, every open connection is judged again, and those that
    /// it denies are cut. Returns when all workers are done. One that needs what is not built changes nothing.
    pub fn apply(&self, policy: Arc<CompiledPolicy>) -> Result<Applied, NotBuilt> {
        check_built(policy.spec())?;
        let revision = policy.revision();
        let in_force = InForce::new(policy, &self.labels);
        let started = Instant::now();
        self.shared.policy.store(in_force);
        let (told, done): (_, Receiver<Share>) = mpsc::channel();
        for worker in &self.workers {
            // A worker that is gone has no connections.
            let _ = worker.orders.send(Order::GoOver(told.clone()));
        }
        drop(told);
        let mut applied = Applied { revision, rejudged: 0, cut: 0, took: Duration::ZERO };
        for share in done {
            applied.rejudged += share.rejudged;
            applied.cut += share.cut;
            let took = share.done.map_or(Duration::ZERO, |done| done.saturating_duration_since(started));
            applied.took = applied.took.max(took);
        }
        Ok(applied)
    }

    /// The revision in force.
    pub fn revision(&self) -> Revision {
        self.shared.policy.load().policy.revision()
    }

    /// What was decided so far.
    pub fn summary(&self) -> Summary {
        self.shared.tally.summary()
    }

    /// Takes no more connections, lets those that are open finish until the deadline, then cuts them.
    pub fn stop(self, deadline: Duration) -> Summary {
        for worker in &self.workers {
            // One that is gone has stopped.
            let _ = worker.orders.send(Order::Stop(deadline));
        }
        for worker in self.workers {
            if worker.thread.join().is_err() {
                tracing::error!("a worker of the gateway panicked");
            }
        }
        self.shared.tally.summary()
    }
}

/// Refuses, by name, a policy that opens what is not built.
pub fn check_built(spec: &PolicySpec) -> Result<(), NotBuilt> {
    for rule in &spec.rules {
        let opens = match rule.action {
            Action::Allow | Action::Ask => rule.enforcement != RuleEnforcement::Off,
            Action::Deny => false,
        };
        let protocol = match rule.protocol {
            Some(Protocol::Udp) => "UDP",
            Some(Protocol::Icmp) => "ICMP",
            Some(Protocol::Tcp) | None => continue,
        };
        if opens {
            return Err(NotBuilt { rule: rule.name.clone(), protocol });
        }
    }
    Ok(())
}

fn worker_count(settings: &Settings) -> usize {
    match settings.workers {
        0 => thread::available_parallelism().map_or(1, usize::from),
        count => count,
    }
}

fn duplicate(sockets: &SandboxSockets) -> io::Result<Sockets> {
    let all = |sockets: &[OwnedFd]| -> io::Result<Vec<OwnedFd>> {
        sockets.iter().map(|socket| socket.as_fd().try_clone_to_owned()).collect()
    };
    Ok(Sockets {
        transparent: all(&sockets.transparent)?,
        proxy: all(&sockets.proxy)?,
        dns_udp: all(&sockets.dns_udp)?,
        dns_tcp: all(&sockets.dns_tcp)?,
    })
}
