//! An internet of its own for each test, in namespaces with no link outside.
//!
//! ```text
//!   host namespace                     internet namespace
//!   the program under test ── up0 ──── names, web servers, a CDN with two tenants, metadata
//!   (resolv.conf: the lab's) │         services, private ranges, an attacker that records
//!            │             corp0
//!            └──────────── corporate namespace ── (its own link to the internet)
//!                          internal web, internal DNS, a CONNECT proxy, a SOCKS proxy
//! ```
//!
//! [`Lab::start`] makes it as root or as an ordinary user; everything runs in a pid namespace of its own, whose
//! first process ends when the test's end of a pipe closes: no panic and no SIGKILL leaves anything behind.
//! What arrived anywhere, at a server or merely as a packet, is told by [`Lab::reached`], which first waits until
//! all that was sent has been read. A test judges by that, not by what a client claims.
//!
//! ```no_run
//! let lab = network_lab::Lab::start(network_lab::LabSpec::standard())?;
//! lab.host().command("curl").args(["-s", "http://allowed.test/"]).status()?;
//! assert!(lab.reached()?.iter().any(|reached| reached.server == "allowed"));
//! # anyhow::Ok(())
//! ```

/// The lab's address plan.
pub mod addresses;
/// The certificates of the lab's servers.
mod certificates;
/// The helper program, found or built.
mod helper;
/// A running lab.
mod lab;
/// What reached a server, or the lab's links.
mod reached;
/// The first process of a lab and its servers: the body of the helper program.
#[doc(hidden)]
pub mod server;
/// What a lab is made of: servers, scripted names.
mod spec;
/// The internet that most tests want.
mod standard;

pub use certificates::Certificates;
pub use lab::{Lab, Namespace, Output, Privilege};
pub use reached::{Place, Reached, What};
pub use spec::{DnsAnswer, DnsName, DnsRecord, Identity, LabSpec, Server, Service};
