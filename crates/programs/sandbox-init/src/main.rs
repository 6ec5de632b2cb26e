//! The first process in a sandbox: builds the walls, starts the workload, reaps.
//!
//! The host starts it in new namespaces, from a sealed file in memory, with its control socket on descriptor 3
//! (crate `init-protocol`). It has one thread, no network, no configuration. What it can't build it names, and then
//! nothing runs: a sandbox is never half a sandbox.

#![allow(unsafe_code)]
// Without the standard library's start, which looks into the stack's bounds and sets signal handlers: a fifth of a
// millisecond for what this program does not need.
#![cfg_attr(not(test), no_main)]

/// `/proc`, `/dev`, `/sys`.
mod base_mounts;
/// A wall that could not be built.
mod failure;
/// Landlock.
mod file_rights;
/// The rules that lead to the gateway.
mod firewall;
/// The sockets that the gateway holds.
mod listeners;
/// The kernel's mount calls, by descriptor.
mod mounting;
/// Netlink messages.
mod netlink;
/// Loopback, and every address local to it.
mod network;
/// Capabilities, limits, keys.
mod privileges;
/// Life as PID 1.
mod reaper;
/// The new file system.
mod root;
/// Seccomp.
mod system_calls;
/// A terminal of the sandbox's own.
mod terminal;
/// The start of the workload.
mod workload;

use std::collections::BTreeMap;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

use init_protocol::{CONTROL_FD, Channel, ChannelError, FromInit, Handed, Plan, Terminal, ToInit};
use rustix::io::{Errno, FdFlags, fcntl_setfd};

use crate::failure::{Failure, Step};
use crate::reaper::{ChildWatch, End};

/// What the host asked for.
struct Order {
    plan: Plan,
    trees: BTreeMap<usize, OwnedFd>,
}

/// What stands before there is a plan.
struct Foundations {
    families: network::Families,
    /// The gateway hears of what the firewall rejects.
    tells: bool,
    root: root::Root,
}

/// What stands when the walls do.
struct Walls {
    handed: Vec<(Handed, OwnedFd)>,
    enforced: Vec<String>,
    missing: Vec<String>,
    slave: Option<OwnedFd>,
}

/// Where libc enters.
#[cfg_attr(not(test), unsafe(no_mangle))]
extern "C" fn main(_: i32, _: *const *const libc::c_char) -> i32 {
    // SAFETY: the host put the control socket on this descriptor, and nothing else in this process uses it.
    let control = unsafe { OwnedFd::from_raw_fd(CONTROL_FD) };
    if fcntl_setfd(&control, FdFlags::CLOEXEC).is_err() {
        eprintln!("sandbox-init: this program is started by cofferdam, not by hand");
        return 125;
    }
    let channel = Channel::from_socket(control);
    let last_words = match run(&channel) {
        Ok(words) => words,
        Err(failure) => Some(failure.message()),
    };
    if let Some(words) = last_words {
        // A host that is gone needs no telling: the exit below ends the sandbox.
        let _ = channel.send(&words, &[]);
    }
    0
}

/// The whole life; what is left to say at its end.
fn run(channel: &Channel) -> Result<Option<FromInit>, Failure> {
    privileges::take_name();
    privileges::leave_keyring()?;
    // What needs no plan is done while the host still makes one.
    let Some(foundations) = lay(channel)? else { return Ok(None) };
    let Some(order) = receive_order(channel)? else { return Ok(None) };
    let plan = order.plan;
    if !plan.datagram_ports.is_empty() && hand_datagrams(channel, &plan.datagram_ports, foundations.families)?.is_none()
    {
        return Ok(None);
    }
    let mut walls = build(&plan, order.trees, foundations)?;
    let slave = walls.slave.take();
    let message = FromInit::Standing {
        handed: walls.handed.iter().map(|(handed, _)| *handed).collect(),
        enforced: walls.enforced,
        missing: walls.missing,
    };
    if channel.send(&message, &borrowed(&walls.handed)).is_err() || reaper::await_start(channel)?.is_none() {
        return Ok(None);
    }
    // Of the terminal init keeps its end, to know who is in front.
    let master = walls.handed.into_iter().find(|(handed, _)| *handed == Handed::TerminalMaster);
    let children = ChildWatch::new()?;
    let started = workload::start(&plan, slave)?;
    match reaper::watch(channel, &children, started.pid, master.as_ref().map(|(_, master)| master.as_fd()))? {
        End::Workload(code) => Ok(Some(match started.why_not_run() {
            Some((code, reason)) => FromInit::NotRun { code, reason },
            None => FromInit::Ended { code },
        })),
        End::HostGone => Ok(None),
    }
}

fn borrowed(handed: &[(Handed, OwnedFd)]) -> Vec<BorrowedFd<'_>> {
    handed.iter().map(|(_, descriptor)| descriptor.as_fd()).collect()
}

/// Builds what needs no plan, and hands over the sockets; `None` where the host is gone.
fn lay(channel: &Channel) -> Result<Option<Foundations>, Failure> {
    let ports = match channel.receive::<ToInit>() {
        Ok((ToInit::Begin { ports }, _)) => ports,
        Ok((ToInit::Build { .. } | ToInit::Start | ToInit::Signal(_), _)) => return Err(broken("begin")),
        Err(_) => return Ok(None),
    };
    let families = network::build()?;
    let rejections = firewall::build(ports)?;
    privileges::tune_network();
    let mut handed = listeners::open(ports, families)?;
    let tells = rejections.is_some();
    handed.extend(rejections.map(|socket| (Handed::Rejections, socket)));
    let message = FromInit::Listeners { handed: handed.iter().map(|(handed, _)| *handed).collect() };
    if channel.send(&message, &borrowed(&handed)).is_err() {
        return Ok(None);
    }
    // The sockets are the gateway's alone from here on.
    drop(handed);
    Ok(Some(Foundations { families, tells, root: root::Root::begin()? }))
}

/// Opens UDP ports and hands their sockets over; `None` where the host is gone.
fn hand_datagrams(channel: &Channel, ports: &[u16], families: network::Families) -> Result<Option<()>, Failure> {
    firewall::open_datagrams(ports)?;
    let sockets = listeners::datagrams(ports, families)?;
    let beside: Vec<BorrowedFd<'_>> = sockets.iter().map(AsFd::as_fd).collect();
    Ok(channel.send(&FromInit::Datagrams, &beside).ok())
}

/// The other half of cofferdam said something else than it should.
fn broken(step: &str) -> Failure {
    const HINT: &str = "the two halves of cofferdam do not fit each other; install it again";
    Failure::new(step, Errno::PROTO, HINT)
}

/// Waits for the plan; `None` where the host is gone.
fn receive_order(channel: &Channel) -> Result<Option<Order>, Failure> {
    let broken = || broken("read the plan");
    let (message, beside) = match channel.receive::<ToInit>() {
        Ok(received) => received,
        Err(ChannelError::Closed) => return Ok(None),
        Err(_) => return Err(broken()),
    };
    let mut beside = beside.into_iter();
    let (ToInit::Build { trees }, Some(file)) = (message, beside.next()) else { return Err(broken()) };
    if trees.len() != beside.len() {
        return Err(broken());
    }
    let mut text = Vec::new();
    std::fs::File::from(file).read_to_end(&mut text).map_err(|_| broken())?;
    let plan = serde_json::from_slice(&text).map_err(|_| broken())?;
    Ok(Some(Order { plan, trees: trees.into_iter().zip(beside).collect() }))
}

/// Builds the walls that are left; the workload's process inherits them all.
fn build(plan: &Plan, trees: BTreeMap<usize, OwnedFd>, foundations: Foundations) -> Result<Walls, Failure> {
    const HINT: &str = "the kernel refused a setting of the new namespaces; run `cofferdam doctor`";
    let mut enforced: Vec<String> =
        ["user namespace", "network namespace", "firewall", "file system"].map(str::to_owned).to_vec();
    let (mut handed, mut missing) = (Vec::new(), Vec::new());
    if !foundations.families.ipv6 {
        missing.push("IPv6: this kernel has none, so the sandbox has none".to_owned());
    }
    if !foundations.tells {
        let what = "records of rejected UDP and ICMP: this kernel has no nfnetlink_log";
        missing.push(what.to_owned());
    }
    foundations.root.furnish(&plan.mounts, trees)?;
    rustix::system::sethostname(plan.hostname.as_bytes()).step("set the host name", HINT)?;
    let slave = match plan.terminal {
        Terminal::Inherit => None,
        Terminal::New { rows, columns, streams: _ } => {
            let terminal = terminal::open(rows, columns)?;
            handed.push((Handed::TerminalMaster, terminal.master));
            Some(terminal.slave)
        }
    };
    privileges::limit(plan.limits)?;
    privileges::drop_all()?;
    match file_rights::restrict(plan)? {
        file_rights::Given::Version(version) => enforced.push(format!("Landlock (version {version})")),
        file_rights::Given::Nothing => missing.push("Landlock: this kernel has none, or it is off".to_owned()),
    }
    system_calls::restrict()?;
    enforced.extend(["no capabilities", "seccomp"].map(str::to_owned));
    Ok(Walls { handed, enforced, missing, slave })
}
