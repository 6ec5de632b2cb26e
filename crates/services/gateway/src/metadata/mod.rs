//! What a sandbox finds where cloud libraries look for a machine's identity.
//!
//! The addresses of clouds' metadata services are guarded: nothing of ours ever connects to the real ones. Where the policy
//! says so, the gateway answers there by itself, with placeholders that open nothing; the real credential is attached
//! outside, to the requests that it is bound to.
//!
//! ```text
//! connection to 169.254.169.254:80 … ─> serve: head (strict) ─> rate ─> service::answer ─> record ─> answer
//!                                                                       aws · azure · gcp
//! ```
//! `service` and what is below it are pure: they see a request, the policy's words, placeholders and the time, and no
//! secret could reach them. `serve` is the I/O around that. To each request the policy counts that is in force when it
//! comes; where a new one no longer answers, `open` closes what is open at once.

/// Where answers are given.
mod place;
/// What a request says.
mod asked;
/// What it is answered.
mod answer;
/// What stands in the sandbox for keys and tokens.
mod placeholders;
/// Session tokens of IMDSv2.
mod session;
/// Amazon Web Services.
mod aws;
/// Microsoft Azure.
mod azure;
/// Google Cloud.
mod gcp;
/// Which cloud a request is for.
mod service;
/// How often a sandbox may ask.
mod rate;
/// The connections that are answered here.
mod open;
/// One connection.
mod serve;

use std::net::IpAddr;

use aws_lc_rs::error::Unspecified;
use policy::{Decision, Fact, Guard, Step, Verdict, model::metadata_service::Cloud};
use values::RuleName;

use crate::in_force::InForce;

pub(crate) use open::Open;
pub(crate) use place::address_of;
pub(crate) use serve::{place, serve};

/// The rule under which the name of Google Cloud's service is answered.
pub(crate) fn name_rule() -> RuleName {
    service::rule(Cloud::Gcp)
}

/// Holds the guard over the real ones wherever the policy has answers given, whatever else it opens.
pub(crate) fn hold(in_force: &InForce, address: Fact<IpAddr>, step: Step) -> Step {
    let service = &in_force.policy.spec().metadata_service;
    match (step, address) {
        (Step::Decided(decision), Fact::Known(address))
            if decision.verdict != Verdict::Denied && place::leads_to(service, address) =>
        {
            let reason = "the gateway answers there itself, and nothing connects to the real one";
            Step::Decided(Decision::by_guard(Guard::Metadata, decision.layer, reason))
        }
        (step, _) => step,
    }
}

/// What the answers of one run have in common.
#[derive(Debug)]
pub(crate) struct Metadata {
    placeholders: placeholders::Placeholders,
    sessions: session::Sessions,
    rate: rate::Rate,
}

impl Metadata {
    /// With placeholders and keys of its own.
    pub(crate) fn new() -> Result<Self, Unspecified> {
        let (placeholders, sessions) = (placeholders::Placeholders::new()?, session::Sessions::new()?);
        Ok(Self { placeholders, sessions, rate: rate::Rate::default() })
    }
}

#[cfg(test)]
mod tests;
