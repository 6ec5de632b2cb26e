//! Secrets on the wire: put into the requests that are bound to them, and kept out of what comes back.
//!
//! ```text
//! permit names a credential ─> obtain ─> record `credential.used` ─> attach ─> forward
//! response ─> decode ─> mask ─> sandbox
//! ```
//! A [`Carried`] is the proof that a secret may be attached: it is made from the `Permit` that names the credential and
//! the `Recorded` of its use, and `inspect::request` uses it up. Where a secret can't be had the request is refused; it
//! never goes on without.
//!
//! What comes back from a host that a credential is bound to is looked through for every secret of the run, whether the
//! request carried one or not: a server may keep what it was sent and tell it later. So that it can be looked through,
//! such requests ask for codings that can be undone and for whole answers (no `Range`), and their WebSockets have no
//! extensions; but for AWS signatures and client certificates, whose secrets stay here. Not found is what a server
//! changes otherwise than by the forms of `secret_swap`, and what it passes on to hosts that no credential is bound to.

/// A secret for one request: obtained, recorded, used up.
mod carried;
/// Why there is none.
mod no_secret;
/// Puts it into the request.
mod attach;
/// Places of a body.
mod body;
/// All secrets that were handed out, to be looked for.
mod masks;
/// What comes back, looked through.
mod echo;
/// WebSockets, looked through.
mod tunnel;
/// Content codings, undone.
mod coding;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use credentials::Credentials;
use policy::{
    HostName,
    model::{
        PolicySpec,
        credential::{Attach, Credential},
    },
};
use secret_swap::Placeholder;
use values::CredentialName;

use crate::settings::Secrets;

use attach::AttachError;
pub(crate) use body::RequestBody;
use body::Whole;
pub(crate) use carried::{Along, Carried, Wanted, obtain};
pub(crate) use echo::{Echo, EchoError, shield};
use masks::Masks;
pub(crate) use no_secret::NoSecret;
pub(crate) use tunnel::relay;

/// Where secrets come from, and what was handed out.
pub(crate) struct Keeper {
    pub(crate) credentials: Arc<Credentials>,
    pub(crate) placeholders: Arc<BTreeMap<CredentialName, Placeholder>>,
    pub(crate) masks: Arc<Masks>,
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keeper").finish_non_exhaustive()
    }
}

impl Keeper {
    /// What the program gave, where it gave anything.
    pub(crate) fn open(secrets: &Secrets, patience: Duration) -> Result<Option<Self>, ()> {
        let Some(credentials) = &secrets.credentials else { return Ok(None) };
        let masks = Masks::new(patience).ok_or(())?;
        let placeholders = Arc::clone(&secrets.placeholders);
        Ok(Some(Self { credentials: Arc::clone(credentials), placeholders, masks }))
    }

    /// How answers of this host are looked through, where any credential is bound to it.
    pub(crate) fn looking(&self, spec: &PolicySpec, host: &HostName) -> Option<Looking> {
        let bound = |known: &&Credential| known.bind.hosts.iter().any(|bound| bound.matches(host));
        let mut bound = spec.credentials.values().filter(bound).peekable();
        let thorough = if bound.peek().is_some() {
            // One that it was sent under a policy that is gone, it may tell under this one.
            bound.any(|known| stands_in_requests(&known.attach)) || self.masks.was_told(host)
        } else if self.masks.was_sent_to(host) {
            // Under a policy that is gone.
            true
        } else {
            return None;
        };
        Some(Looking { masks: Arc::clone(&self.masks), thorough, is_call: false })
    }
}

/// How answers are looked through.
#[derive(Clone)]
pub(crate) struct Looking {
    masks: Arc<Masks>,
    /// Whether they are asked for in a form that hides nothing, and decoded.
    thorough: bool,
    /// Whether a remote call was made, whose answer has messages.
    is_call: bool,
}

/// Whether the secret itself stands in requests, so that a server could send it back. Of AWS keys only the session token
/// does; that is looked for too, but objects of S3 are read in parts and kept encoded, and go on as they are.
fn stands_in_requests(attach: &Attach) -> bool {
    match attach {
        Attach::Bearer
        | Attach::Basic { .. }
        | Attach::Header { .. }
        | Attach::Query { .. }
        | Attach::Cookie { .. }
        | Attach::Placeholder { .. } => true,
        Attach::SigV4 { .. } | Attach::ClientCertificate => false,
    }
}
