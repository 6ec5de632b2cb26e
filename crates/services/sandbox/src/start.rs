//! From a plan to walls that stand, and from there to a running workload.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use init_protocol::{Channel, ChannelError, FromInit, Handed, MOST_DESCRIPTORS, Plan, Terminal, ToInit};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::error::StartError;
use crate::groups::{ControlGroup, GroupLimits};
use crate::identity::{Identity, Ids};
use crate::launch::{self, Child};
use crate::running::{Handle, Sandbox};
use crate::streams::{self, Streams};
use crate::{image, repository, standard, trees};

/// How long the walls may take. They take milliseconds.
const PATIENCE: Duration = Duration::from_secs(30);

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
    /// A NETLINK_SOCK_DIAG socket of the namespace.
    pub socket_diagnosis: OwnedFd,
}

/// Walls that stand, with nothing of the workload inside yet.
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

/// Builds the walls. When this returns, they all stand, or none of the workload has run and nothing is left.
pub fn start(spec: &Spec) -> Result<Started, StartError> {
    check(&spec.plan)?;
    let nothing = streams::nothing()?;
    let given = match &spec.streams {
        Streams::Given(given) => streams::borrow(given),
        Streams::Inherit => standard::own(),
    };
    let streams = match spec.plan.terminal {
        Terminal::New { streams: on_terminal, .. } => streams::without(given, on_terminal, &nothing),
        Terminal::Inherit => given,
    };
    streams::check(streams)?;
    let identity = Identity::choose()?;
    if let Identity::Reserved(ids) = identity {
        streams::give(streams, ids);
    }
    let inside = Ids { uid: spec.plan.uid, gid: spec.plan.gid };
    let group = ControlGroup::create(&spec.limits)?;
    let mut plan = spec.plan.clone();
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
    let (program, channel, child) = match make_child(streams, identity, inside) {
        Ok(made) => made,
        Err(error) => {
            held.release();
            group.remove();
            return Err(error);
        }
    };
    let handle = Handle::new(channel, child, group, held);
    match order(&handle, &program, &plan, identity, inside) {
        Ok(reply) => reply.into_started(handle),
        Err(error) => {
            handle.end();
            Err(error)
        }
    }
}

/// A child that waits for its program, and the socket to it.
fn make_child(
    streams: [BorrowedFd<'_>; 3],
    identity: Identity,
    inside: Ids,
) -> Result<(File, Channel, Child), StartError> {
    let program = image::place().map_err(StartError::Image)?;
    let (channel, inits_channel) = Channel::pair()?;
    let child = launch::launch(program.as_fd(), inits_channel.as_fd(), streams, identity, inside)?;
    // The child alone holds init's end from here on: when it dies, ours closes.
    Ok((program, channel, child))
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

/// Init's answer that the walls stand.
struct Reply {
    handed: Vec<Handed>,
    descriptors: Vec<OwnedFd>,
    enforced: Vec<String>,
    missing: Vec<String>,
}

fn order(handle: &Handle, program: &File, plan: &Plan, identity: Identity, inside: Ids) -> Result<Reply, StartError> {
    let child = handle.child();
    child.map_ids(identity, inside)?;
    handle.group().join(child.pid)?;
    image::fill(program).map_err(StartError::Image)?;
    child.release()?;
    // Meanwhile init starts, and sets up the network.
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
        Ok(()) | Err(ChannelError::Closed) => {}
        Err(error) => return Err(error.into()),
    }
    wait_for_reply(handle.channel(), child)
}

fn wait_for_reply(channel: &Channel, child: &Child) -> Result<Reply, StartError> {
    let patience = Timespec { tv_sec: PATIENCE.as_secs().cast_signed(), tv_nsec: 0 };
    loop {
        match poll(&mut [PollFd::new(channel, PollFlags::IN)], Some(&patience)) {
            Ok(0) => return Err(StartError::Slow { seconds: PATIENCE.as_secs() }),
            Ok(_) => break,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(ChannelError::Socket(errno).into()),
        }
    }
    match channel.receive::<FromInit>() {
        Ok((FromInit::Listeners { handed, enforced, missing }, descriptors)) => {
            Ok(Reply { handed, descriptors, enforced, missing })
        }
        Ok((FromInit::Failed { step, errno, hint }, _)) => {
            Err(StartError::Wall { step, source: std::io::Error::from_raw_os_error(errno), hint })
        }
        Ok((FromInit::NotRun { .. } | FromInit::Ended { .. }, _)) => {
            Err(StartError::Protocol { what: "an end before the start" })
        }
        Err(ChannelError::Closed) => {
            Err(child.failure().unwrap_or(StartError::Protocol { what: "nothing, and ended" }))
        }
        Err(error) => Err(error.into()),
    }
}

impl Reply {
    fn into_started(self, handle: Handle) -> Result<Started, StartError> {
        let (mut sockets, mut terminal, mut diagnosis) = ([const { Vec::new() }; 4], None, None);
        if self.handed.len() != self.descriptors.len() {
            handle.end();
            return Err(StartError::Protocol { what: "other descriptors than it named" });
        }
        let [transparent, dns_udp, dns_tcp, proxy] = &mut sockets;
        for (handed, descriptor) in self.handed.into_iter().zip(self.descriptors) {
            match handed {
                Handed::TransparentV4 | Handed::TransparentV6 => transparent.push(descriptor),
                Handed::DnsUdpV4 | Handed::DnsUdpV6 => dns_udp.push(descriptor),
                Handed::DnsTcpV4 | Handed::DnsTcpV6 => dns_tcp.push(descriptor),
                Handed::ProxyV4 => proxy.push(descriptor),
                Handed::SocketDiagnosis => diagnosis = Some(descriptor),
                Handed::TerminalMaster => terminal = Some(descriptor),
            }
        }
        let [transparent, dns_udp, dns_tcp, proxy] = sockets;
        let Some(socket_diagnosis) = diagnosis else {
            handle.end();
            return Err(StartError::Protocol { what: "no socket to identify processes by" });
        };
        let mut enforced = self.enforced;
        enforced.extend(handle.group().enforced());
        Ok(Started {
            sandbox: Sandbox::new(Arc::new(handle)),
            sockets: Sockets { transparent, dns_udp, dns_tcp, proxy, socket_diagnosis },
            terminal,
            enforced,
            missing: self.missing,
        })
    }
}
