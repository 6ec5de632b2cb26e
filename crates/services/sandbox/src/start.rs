//! From nothing to walls that stand, and from there to a running workload.
//!
//! Most of what takes time needs no plan: the namespaces, the network and its rules, `/proc` and `/dev`. So it is
//! begun first ([`lay`]), and goes on while the caller reads policies and makes the plan ([`Foundations::build`]).
//! While the plan's walls are built in turn, the gateway can take its sockets ([`Building::sockets`]). The workload
//! runs when every wall stands ([`Building::finish`]), not before. Whatever is dropped on the way is gone, with all
//! that it began.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use init_protocol::{Channel, ChannelError, FromInit, GatewayPorts, Handed, MOST_DESCRIPTORS, Plan, Terminal, ToInit};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::error::StartError;
use crate::groups::{ControlGroup, GroupLimits};
use crate::identity::{self, Identity, Ids};
use crate::launch::{self, Child};
use crate::running::{Handle, Sandbox};
use crate::streams::{self, Streams};
use crate::{image, repository, standard, trees};

/// How long the walls may take. They take milliseconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is known before there is a plan.
#[derive(Debug)]
pub struct Outset {
    /// Where the workload reads and writes.
    pub streams: Streams,
    /// The terminal that the plan gives it.
    pub terminal: Terminal,
    /// The gateway's ports inside: those that the plan names.
    pub ports: GatewayPorts,
}

/// What to start.
#[derive(Debug)]
pub struct Spec {
    /// What init builds and runs.
    pub plan: Plan,
    /// Limits on the whole sandbox that the caller asked for. One that can't be enforced refuses the start.
    pub limits: GroupLimits,
    /// Where the workload reads and writes.
    pub streams: Streams,
}

/// The sockets that lead out of a sandbox, opened inside its network namespace.
#[derive(Debug)]
pub struct Sockets {
    /// Redirected TCP: IPv4, and IPv6 where the kernel has it. Non-blocking, listening.
    pub transparent: Vec<OwnedFd>,
    /// DNS over UDP.
    pub dns_udp: Vec<OwnedFd>,
    /// DNS over TCP.
    pub dns_tcp: Vec<OwnedFd>,
    /// The explicit proxy's listener.
    pub proxy: Vec<OwnedFd>,
    /// UDP sockets of the plan's ports.
    pub datagrams: Vec<OwnedFd>,
    /// A NETLINK_SOCK_DIAG socket of the namespace.
    pub socket_diagnosis: OwnedFd,
    /// A NETLINK_NETFILTER socket that hears of each packet that the sandbox's own rules reject (nfnetlink_log), where the
    /// kernel can tell.
    pub rejections: Option<OwnedFd>,
}

/// Walls that stand, with nothing of the workload inside yet, and the sockets that lead out.
#[derive(Debug)]
pub struct Started {
    /// To run the workload in, or to let go.
    pub sandbox: Sandbox,
    /// For the gateway.
    pub sockets: Sockets,
    /// The master of the workload's terminal, where the plan asks for one.
    pub terminal: Option<OwnedFd>,
    /// What is enforced, by name.
    pub enforced: Vec<String>,
    /// What this machine could not give and the plan can do without.
    pub missing: Vec<String>,
}

/// Walls that stand, with nothing of the workload inside yet.
#[derive(Debug)]
pub struct Standing {
    /// To run the workload in, or to let go.
    pub sandbox: Sandbox,
    /// The master of the workload's terminal, where the plan asks for one.
    pub terminal: Option<OwnedFd>,
    /// What is enforced, by name.
    pub enforced: Vec<String>,
    /// What this machine could not give and the plan can do without.
    pub missing: Vec<String>,
}

/// Namespaces whose first process builds what needs no plan, and then waits for one.
#[derive(Debug)]
pub struct Foundations {
    child: Unborn,
    channel: Channel,
    identity: Identity,
    inside: Ids,
    terminal: Terminal,
    ports: GatewayPorts,
}

/// Walls that are being built.
#[derive(Debug)]
pub struct Building {
    handle: Option<Handle>,
    /// Whether the plan has UDP ports.
    has_datagrams: bool,
}

/// Builds the walls. When this returns, they all stand, or none of the workload has run and nothing is left.
pub fn start(spec: &Spec) -> Result<Started, StartError> {
    check(&spec.plan)?;
    let foundations = begin(&spec.streams, spec.plan.terminal, spec.plan.ports)?;
    let mut building = foundations.build(&spec.plan, &spec.limits)?;
    let sockets = building.sockets()?;
    let Standing { sandbox, terminal, enforced, missing } = building.finish()?;
    Ok(Started { sandbox, sockets, terminal, enforced, missing })
}

/// Begins with what needs no plan.
pub fn lay(outset: &Outset) -> Result<Foundations, StartError> {
    begin(&outset.streams, outset.terminal, outset.ports)
}

fn begin(streams: &Streams, terminal: Terminal, ports: GatewayPorts) -> Result<Foundations, StartError> {
    let nothing = streams::nothing()?;
    let given = match streams {
        Streams::Given(given) => streams::borrow(given),
        Streams::Inherit => standard::own(),
    };
    let streams = match terminal {
        Terminal::New { streams: on_terminal, .. } => streams::without(given, on_terminal, &nothing),
        Terminal::Inherit => given,
    };
    streams::check(streams)?;
    let identity = Identity::choose()?;
    if let Identity::Reserved(ids) = identity {
        streams::give(streams, ids);
    }
    let inside = identity::inside();
    let program = image::place().map_err(StartError::Image)?;
    let (channel, inits_channel) = Channel::pair()?;
    // It lies there until init is there to read it.
    channel.send(&ToInit::Begin { ports }, &[])?;
    let child = Unborn(Some(launch::launch(program.as_fd(), inits_channel.as_fd(), streams, identity, inside)?));
    // The child alone holds init's end from here on: when it dies, ours closes.
    drop(inits_channel);
    child.get()?.map_ids(identity, inside)?;
    image::fill(&program).map_err(StartError::Image)?;
    child.get()?.release()?;
    Ok(Foundations { child, channel, identity, inside, terminal, ports })
}

/// A child that nobody but this knows of: dropped, it is killed and reaped.
#[derive(Debug)]
struct Unborn(Option<Child>);

impl Unborn {
    fn get(&self) -> Result<&Child, StartError> {
        self.0.as_ref().ok_or(StartError::Protocol { what: "nothing, and is gone" })
    }

    fn take(mut self) -> Result<Child, StartError> {
        self.0.take().ok_or(StartError::Protocol { what: "nothing, and is gone" })
    }
}

impl Drop for Unborn {
    fn drop(&mut self) {
        if let Some(child) = &self.0 {
            child.kill();
            child.reap();
        }
    }
}

impl Foundations {
    /// Gives the plan to the sandbox, which builds the walls that are left.
    pub fn build(self, plan: &Plan, limits: &GroupLimits) -> Result<Building, StartError> {
        check(plan)?;
        if (plan.terminal, plan.ports) != (self.terminal, self.ports)
            || (plan.uid, plan.gid) != (self.inside.uid, self.inside.gid)
        {
            return Err(StartError::OtherPlan);
        }
        let group = ControlGroup::create(limits)?;
        let mut plan = plan.clone();
        if let Some(most) = group.processes() {
            plan.limits.processes = Some(plan.limits.processes.map_or(most, |asked| asked.min(most)));
        }
        let held = match repository::hold(&mut plan.mounts) {
            Ok(held) => held,
            Err(error) => {
                group.remove();
                return Err(error);
            }
        };
        let handle = Handle::new(self.channel, self.child.take()?, group, held);
        let building = Building { handle: Some(handle), has_datagrams: !plan.datagram_ports.is_empty() };
        building.order(&plan, self.identity)?;
        Ok(building)
    }
}

impl Building {
    fn handle(&self) -> Result<&Handle, StartError> {
        self.handle.as_ref().ok_or(StartError::Protocol { what: "nothing, and is gone" })
    }

    fn order(&self, plan: &Plan, identity: Identity) -> Result<(), StartError> {
        let handle = self.handle()?;
        handle.group().join(handle.child().pid)?;
        let opened = match identity {
            Identity::Caller(_) => Vec::new(),
            Identity::Reserved(ids) => trees::open(&plan.mounts, ids)?,
        };
        let text = serde_json::to_vec(plan).map_err(ChannelError::Malformed)?;
        let file = image::data("cofferdam-plan", &text).map_err(StartError::Image)?;
        let beside: Vec<BorrowedFd<'_>> = std::iter::once(file.as_fd()).chain(trees::borrowed(&opened)).collect();
        let trees = opened.iter().map(|(index, _)| *index).collect();
        match handle.channel().send(&ToInit::Build { trees }, &beside) {
            // It may have ended before it read: its own report says why.
            Ok(()) | Err(ChannelError::Closed) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Init's process id, as the host sees it. The sandbox's processes are its descendants.
    pub fn init_pid(&self) -> u32 {
        self.handle.as_ref().map_or(0, |handle| handle.child().pid.unsigned_abs())
    }

    /// The sockets that lead out. Call it once.
    pub fn sockets(&mut self) -> Result<Sockets, StartError> {
        let other = StartError::Protocol { what: "something else than its sockets" };
        let (FromInit::Listeners { handed }, descriptors) = self.told()? else { return Err(other) };
        let mut sockets = Sockets::sort(handed, descriptors)?;
        if self.has_datagrams {
            let (FromInit::Datagrams, descriptors) = self.told()? else { return Err(other) };
            sockets.datagrams = descriptors;
        }
        Ok(sockets)
    }

    /// Waits until every wall stands.
    pub fn finish(mut self) -> Result<Standing, StartError> {
        let (mut enforced, missing, terminal) = match self.told()? {
            (FromInit::Standing { handed, enforced, missing }, descriptors) => {
                let terminal = match (handed.as_slice(), descriptors.len()) {
                    ([], 0) => None,
                    ([Handed::TerminalMaster], 1) => descriptors.into_iter().next(),
                    _ => return Err(StartError::Protocol { what: "other descriptors than it named" }),
                };
                (enforced, missing, terminal)
            }
            (
                FromInit::Failed { .. }
                | FromInit::Listeners { .. }
                | FromInit::Datagrams
                | FromInit::NotRun { .. }
                | FromInit::Ended { .. },
                _,
            ) => return Err(StartError::Protocol { what: "something else than that its walls stand" }),
        };
        let handle = self.handle.take().ok_or(StartError::Protocol { what: "nothing, and is gone" })?;
        enforced.extend(handle.group().enforced());
        Ok(Standing { sandbox: Sandbox::new(Arc::new(handle)), terminal, enforced, missing })
    }

    /// What init says next, unless it is that it failed.
    fn told(&self) -> Result<(FromInit, Vec<OwnedFd>), StartError> {
        let handle = self.handle()?;
        wait_for(handle.channel())?;
        match handle.channel().receive::<FromInit>() {
            Ok((FromInit::Failed { step, errno, hint }, _)) => {
                Err(StartError::Wall { step, source: std::io::Error::from_raw_os_error(errno), hint })
            }
            Ok(told) => Ok(told),
            Err(ChannelError::Closed) => {
                Err(handle.child().failure().unwrap_or(StartError::Protocol { what: "nothing, and ended" }))
            }
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for Building {
    fn drop(&mut self) {
        if let Some(handle) = &self.handle {
            handle.end();
        }
    }
}

impl Sockets {
    fn sort(handed: Vec<Handed>, descriptors: Vec<OwnedFd>) -> Result<Sockets, StartError> {
        let other = || StartError::Protocol { what: "other descriptors than it named" };
        if handed.len() != descriptors.len() {
            return Err(other());
        }
        let ([transparent, dns_udp, dns_tcp, proxy], mut diagnosis, mut rejections) =
            (&mut [const { Vec::new() }; 4], None, None);
        for (handed, descriptor) in handed.into_iter().zip(descriptors) {
            match handed {
                Handed::TransparentV4 | Handed::TransparentV6 => transparent.push(descriptor),
                Handed::DnsUdpV4 | Handed::DnsUdpV6 => dns_udp.push(descriptor),
                Handed::DnsTcpV4 | Handed::DnsTcpV6 => dns_tcp.push(descriptor),
                Handed::ProxyV4 => proxy.push(descriptor),
                Handed::SocketDiagnosis => diagnosis = Some(descriptor),
                Handed::Rejections => rejections = Some(descriptor),
                Handed::TerminalMaster => return Err(other()),
            }
        }
        let socket_diagnosis = diagnosis.ok_or(StartError::Protocol { what: "no socket to identify processes by" })?;
        Ok(Sockets {
            transparent: std::mem::take(transparent),
            dns_udp: std::mem::take(dns_udp),
            dns_tcp: std::mem::take(dns_tcp),
            proxy: std::mem::take(proxy),
            datagrams: Vec::new(),
            socket_diagnosis,
            rejections,
        })
    }
}

fn wait_for(channel: &Channel) -> Result<(), StartError> {
    let patience = Timespec { tv_sec: PATIENCE.as_secs().cast_signed(), tv_nsec: 0 };
    loop {
        match poll(&mut [PollFd::new(channel, PollFlags::IN)], Some(&patience)) {
            Ok(0) => return Err(StartError::Slow { seconds: PATIENCE.as_secs() }),
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(ChannelError::Socket(errno).into()),
        }
    }
}

fn check(plan: &Plan) -> Result<(), StartError> {
    if plan.command.is_empty() {
        return Err(StartError::NoCommand);
    }
    // One descriptor beside them is the plan.
    let most = MOST_DESCRIPTORS - 1;
    if plan.mounts.len() > most {
        return Err(StartError::TooManyMounts { count: plan.mounts.len(), most });
    }
    Ok(())
}
