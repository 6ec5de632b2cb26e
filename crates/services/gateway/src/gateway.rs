//! A gateway: started with sockets and a policy, changed while it runs, stopped.

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
    sync::{Arc, mpsc, mpsc::Receiver},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use audit_log::AuditLog;
use certificates::UpstreamRoots;
use policy::{
    CompiledPolicy, Protocol,
    model::{Action, Hop, PolicySpec, Rule, RuleEnforcement, TlsMode},
};
use socket2::SockRef;
use tokio::sync::mpsc as orders;
use values::{Labels, Revision, RuleName};

use crate::{
    ask::Approvals,
    credential::Keeper,
    crowd::Crowd,
    dns::DnsContext,
    identify::Processes,
    in_force::{CurrentPolicy, InForce},
    inspect::Inspector,
    metadata::Metadata,
    rejudge::Share,
    report::report,
    resolve::Names,
    settings::{Question, SandboxSockets, Settings},
    shared::Shared,
    summary::{Summary, Tally},
    worker::{self, Order, Sockets},
};

/// The port of DNS.
const DNS: u16 = 53;
/// The most UDP ports that a policy may open: each has a socket for each address family, handed over in one message.
pub const DATAGRAM_PORT_LIMIT: usize = 64;

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
    /// What comes back could not be looked through for secrets.
    #[error("the search for secrets can't be set up")]
    Masks,
    /// No placeholder can be made.
    #[error("the system gives no random bytes")]
    Random,
}

/// A rule that asks for what this build, or this run, does not do; nothing of it is let through.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("rule {rule}: {reason}")]
pub struct NotBuilt {
    /// The rule.
    pub rule: RuleName,
    /// What can't be done, and what to do.
    pub reason: String,
}

impl NotBuilt {
    fn new(rule: &Rule, reason: impl Into<String>) -> Self {
        Self { rule: rule.name.clone(), reason: reason.into() }
    }
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
    /// When it came into force.
    pub since: Instant,
    /// From then to the last cut.
    pub took: Duration,
}

/// The data plane of one sandbox.
#[derive(Debug)]
pub struct Gateway {
    shared: Arc<Shared>,
    labels: Labels,
    workers: Vec<Handle>,
    /// The UDP ports that have a socket.
    datagram_ports: Vec<u16>,
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
        check_built(&policy)?;
        let roots = read_roots(&policy, &settings)?;
        check_inspection(&policy, &settings)?;
        check_credentials(&policy, &settings)?;
        let count = worker_count(&settings);
        let settings = Arc::new(settings);
        let inspector = settings.inspection.as_ref();
        let inspector = inspector.map(|inspection| Inspector::new(inspection, settings.progress_timeout));
        let keeper = Keeper::open(&settings.secrets, settings.progress_timeout).map_err(|()| StartError::Masks)?;
        let tally = Arc::new(Tally::default());
        let names = Names::new(&settings, audit.clone(), Arc::clone(&tally));
        let current = Arc::new(CurrentPolicy::new(InForce::new(policy, &labels, roots)));
        let processes = match (sockets.socket_diagnosis.as_ref(), sockets.init_pid) {
            (Some(diagnosis), Some(init)) => {
                let diagnosis = diagnosis.try_clone().map_err(StartError::Socket)?;
                let started = Processes::start(diagnosis, init);
                Some(Arc::new(started.map_err(|source| StartError::Thread { what: "process look-up", source })?))
            }
            (None, _) | (_, None) => None,
        };
        let dns = DnsContext::new(
            Arc::clone(&current),
            Arc::clone(&names),
            audit.clone(),
            Arc::clone(&tally),
            processes.clone(),
        );
        let shared = Arc::new(Shared {
            policy: current,
            audit,
            names,
            tally,
            settings,
            questions,
            approvals: Approvals::default(),
            processes,
            inspector,
            keeper,
            metadata: Metadata::new().map_err(|_| StartError::Random)?,
            next_flow: 1.into(),
        });
        let datagram_ports = ports_of(&sockets.datagrams).map_err(StartError::Socket)?;
        let mut gateway = Self { shared, labels, workers: Vec::new(), datagram_ports };
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
        for (index, crowd) in Crowd::of(count).into_iter().enumerate() {
            let sockets = duplicate(sockets, index, count).map_err(StartError::Socket)?;
            let (sender, receiver) = orders::unbounded_channel();
            let (shared, dns, ready) = (Arc::clone(&self.shared), Arc::clone(dns), ready.clone());
            let thread = thread::Builder::new()
                .name(format!("gateway-{index}"))
                .spawn(move || worker::run(shared, dns, sockets, crowd, receiver, &ready))
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
    /// it denies are cut. Returns when all workers are done. One that needs what is not built changes nothing, nor does
    /// one that opens a UDP port which had no rule when the run started: its socket can't be made any more.
    pub fn apply(&self, policy: Arc<CompiledPolicy>) -> Result<Applied, NotBuilt> {
        for (port, rule) in datagram_ports(&policy)? {
            if !self.datagram_ports.contains(&port) {
                let reason = format!("UDP port {port} was not open when this run started; start a new run");
                return Err(NotBuilt::new(rule, reason));
            }
        }
        check_inspection(&policy, &self.shared.settings)?;
        check_credentials(&policy, &self.shared.settings)?;
        let revision = policy.revision();
        let roots = read_roots(&policy, &self.shared.settings)?;
        let in_force = InForce::new(policy, &self.labels, roots);
        let since = Instant::now();
        self.shared.policy.store(in_force);
        if let Some(inspector) = &self.shared.inspector {
            inspector.forget();
        }
        let (told, done): (_, Receiver<Share>) = mpsc::channel();
        for worker in &self.workers {
            // A worker that is gone has no connections.
            let _ = worker.orders.send(Order::GoOver(told.clone()));
        }
        drop(told);
        let mut applied = Applied { revision, rejudged: 0, cut: 0, since, took: Duration::ZERO };
        for share in done {
            applied.rejudged += share.rejudged;
            applied.cut += share.cut;
            let took = share.done.map_or(Duration::ZERO, |done| done.saturating_duration_since(since));
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
pub fn check_built(policy: &CompiledPolicy) -> Result<(), NotBuilt> {
    datagram_ports(policy).map(drop)
}

/// The UDP ports that a policy opens, each with the first rule that does: the sockets that a sandbox is to be started
/// with. A rule that opens what is not built, or what no socket can be made for, is refused by name. Watched rules count,
/// so that what they would do is seen.
pub fn datagram_ports(policy: &CompiledPolicy) -> Result<BTreeMap<u16, &Rule>, NotBuilt> {
    let mut ports = BTreeMap::new();
    for rule in policy.demanding_rules() {
        let opens = match rule.action {
            Action::Allow | Action::Ask => rule.enforcement != RuleEnforcement::Off,
            Action::Deny => false,
        };
        if opens && rule.transform.as_ref().is_some_and(|transform| transform.to_tls) {
            return Err(NotBuilt::new(rule, "plain requests are not sent on inside TLS; leave out `scheme`"));
        }
        match rule.protocol {
            Some(Protocol::Icmp) if opens => {
                return Err(NotBuilt::new(rule, "forwarding ICMP is not built; the sandbox rejects all of it"));
            }
            Some(Protocol::Udp) if opens => add_datagram_ports(policy.spec(), rule, &mut ports)?,
            Some(Protocol::Tcp | Protocol::Udp | Protocol::Icmp) | None => {}
        }
    }
    Ok(ports)
}

fn add_datagram_ports<'p>(
    spec: &PolicySpec,
    rule: &'p Rule,
    ports: &mut BTreeMap<u16, &'p Rule>,
) -> Result<(), NotBuilt> {
    if !rule.process.is_empty() {
        return Err(NotBuilt::new(rule, "a UDP flow's process is not looked up; leave out `process`"));
    }
    let route = rule.route.as_ref().or(spec.route.as_ref()).and_then(|name| spec.routes.get(name));
    if let Some(Hop::HttpProxy(_) | Hop::Socks5(_)) = route.map(|route| &route.hop) {
        return Err(NotBuilt::new(rule, "a proxy carries no UDP; give the rule another `route`"));
    }
    for (first, last) in &rule.ports {
        for port in *first..=*last {
            if port == DNS {
                return Err(NotBuilt::new(rule, "UDP port 53 is the gateway's own resolver"));
            }
            ports.entry(port).or_insert(rule);
            if ports.len() > DATAGRAM_PORT_LIMIT {
                let reason = format!("more than {DATAGRAM_PORT_LIMIT} UDP ports are open; name the exact ones");
                return Err(NotBuilt::new(rule, reason));
            }
        }
    }
    Ok(())
}

/// Refuses a rule that attaches a credential, where none are kept.
fn check_credentials(policy: &CompiledPolicy, settings: &Settings) -> Result<(), NotBuilt> {
    if settings.secrets.credentials.is_some() {
        return Ok(());
    }
    match policy.demanding_rules().find(|rule| rule.credential.is_some()) {
        Some(rule) => Err(NotBuilt::new(rule, "this run holds no credentials; start it with this policy")),
        None => Ok(()),
    }
}

/// Reads the bundles of roots that rules name. One that can't be read refuses the policy.
fn read_roots(policy: &CompiledPolicy, settings: &Settings) -> Result<BTreeMap<PathBuf, UpstreamRoots>, NotBuilt> {
    let mut roots = BTreeMap::new();
    for rule in policy.demanding_rules() {
        let Some(path) = &rule.upstream_ca else { continue };
        let Some(folder) = &settings.policy_folder else {
            return Err(NotBuilt::new(rule, "this run reads no bundles of roots; leave out `upstreamCa`"));
        };
        if !roots.contains_key(path) {
            let read = UpstreamRoots::from_bundle(&folder.join(path));
            roots.insert(path.clone(), read.map_err(|error| NotBuilt::new(rule, report(&error)))?);
        }
    }
    Ok(roots)
}

/// Refuses a rule that could only match inside TLS, where none is opened.
fn check_inspection(policy: &CompiledPolicy, settings: &Settings) -> Result<(), NotBuilt> {
    if settings.inspection.is_some() || !policy.needs_inspection() {
        return Ok(());
    }
    let spec = policy.spec();
    let inside = |rule: &&Rule| spec.inspects(rule) && (rule.tls == TlsMode::Inspect || !rule.needs_request());
    match spec.rules.iter().find(inside) {
        Some(rule) => Err(NotBuilt::new(rule, "this run opens no TLS, and the rule looks inside it")),
        None => Ok(()),
    }
}

fn worker_count(settings: &Settings) -> usize {
    match settings.workers {
        0 => thread::available_parallelism().map_or(1, usize::from),
        count => count,
    }
}

fn ports_of(sockets: &[OwnedFd]) -> io::Result<Vec<u16>> {
    let port = |socket: &OwnedFd| SockRef::from(socket).local_addr().map(|address| address.as_socket());
    sockets.iter().map(|socket| Ok(port(socket)?.map_or(0, |address| address.port()))).collect()
}

/// The sockets of one worker. All take connections from the same; a UDP port is one worker's, so that its flows have one
/// owner.
fn duplicate(sockets: &SandboxSockets, index: usize, workers: usize) -> io::Result<Sockets> {
    let all = |sockets: &[OwnedFd]| -> io::Result<Vec<OwnedFd>> {
        sockets.iter().map(|socket| socket.as_fd().try_clone_to_owned()).collect()
    };
    let own = sockets.datagrams.iter().skip(index).step_by(workers);
    let rejections = sockets.rejections.as_ref().filter(|_| index == 0);
    Ok(Sockets {
        transparent: all(&sockets.transparent)?,
        proxy: all(&sockets.proxy)?,
        dns_udp: all(&sockets.dns_udp)?,
        dns_tcp: all(&sockets.dns_tcp)?,
        datagrams: own.map(|socket| socket.as_fd().try_clone_to_owned()).collect::<io::Result<_>>()?,
        rejections: rejections.map(|socket| socket.as_fd().try_clone_to_owned()).transpose()?,
    })
}
