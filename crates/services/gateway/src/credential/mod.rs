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
//! extensions. Not found is what a server changes otherwise than by the forms of `secret_swap`, and what it passes on to
//! hosts that no credential is bound to.

/// A secret for one request: obtained, recorded, used up.
mod carried;
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

use std::{collections::BTreeMap, sync::Arc};

use credentials::Credentials;
use policy::{HostName, model::PolicySpec};
use secret_swap::Placeholder;
use values::CredentialName;

use crate::settings::Secrets;

use attach::AttachError;
pub(crate) use body::RequestBody;
use body::Whole;
pub(crate) use carried::{Along, Carried, NoSecret, Wanted, obtain};
pub(crate) use echo::{Echo, shield};
pub(crate) use masks::Masks;
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
    pub(crate) fn open(secrets: &Secrets) -> Result<Option<Self>, ()> {
        let Some(credentials) = &secrets.credentials else { return Ok(None) };
        let masks = Masks::new().ok_or(())?;
        let placeholders = Arc::clone(&secrets.placeholders);
        Ok(Some(Self { credentials: Arc::clone(credentials), placeholders, masks }))
    }

    /// What answers of this host are looked through for, where any credential is bound to it.
    pub(crate) fn masks_for(&self, spec: &PolicySpec, host: &HostName) -> Option<Arc<Masks>> {
        let bound = spec.credentials.values().any(|known| known.bind.hosts.iter().any(|bound| bound.matches(host)));
        (bound || self.masks.was_sent_to(host)).then(|| Arc::clone(&self.masks))
    }
}
